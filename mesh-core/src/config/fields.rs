//! Which fields a kind has: asked of the types that read it, so that no list of them can be wrong.
//!
//! A `Deserialize` implementation tells its deserializer the names of a struct's fields before it reads any. A
//! deserializer that goes down one path and then stops learns what is at its end; done for every path, this gives the
//! whole tree.

use std::{cell::RefCell, collections::HashMap};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, Visitor},
    forward_to_deserialize_any,
};

use super::{de::DecodeError, unenforced::MARKER};

/// A field of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Below `spec`; `[]` stands for each item of a list, `{}` for each value of a map: `http[].match[].uri.exact`.
    pub path: String,
    /// The fields below this one are those of another, listed there.
    pub same_as: Option<String>,
    /// Its value is not looked at, on purpose: nobody in Istio's data plane does.
    pub ignored: bool,
}

/// All fields of a type that [`Document::decode`](super::Document::decode) reads, parents before children.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Spec { hosts: Vec<Host> }
/// #[derive(serde::Deserialize)]
/// struct Host { name: String }
///
/// let fields = mesh_core::config::fields::<Spec>();
/// let paths: Vec<_> = fields.iter().map(|field| &*field.path).collect();
/// assert_eq!(paths, ["hosts", "hosts[].name"]);
/// ```
#[must_use]
pub fn fields<T: de::DeserializeOwned>() -> Vec<Field> {
    let mut listed = Vec::new();
    let mut seen = HashMap::new();
    below::<T>(&mut Vec::new(), "", &mut listed, &mut seen);
    listed
}

/// A struct's type, as far as a deserializer is told it.
type Shape = (&'static str, &'static [&'static str]);

fn below<T: de::DeserializeOwned>(
    steps: &mut Vec<&'static str>,
    path: &str,
    listed: &mut Vec<Field>,
    seen: &mut HashMap<Shape, String>,
) {
    let found = RefCell::new(Found::default());
    // It always fails: at the end of the path, on purpose.
    let _ = T::deserialize(Probe { steps, found: &found });
    let Found { shape, suffix, ignored } = found.into_inner();
    if let Some(field) = listed.last_mut() {
        field.ignored = ignored;
    }
    let Some(shape @ (_, names)) = shape else { return };
    let path = format!("{path}{suffix}");
    if let Some(first) = seen.get(&shape) {
        if let Some(field) = listed.last_mut() {
            field.same_as = Some(first.clone());
        }
        return;
    }
    seen.insert(shape, path.clone());
    for name in names {
        let child = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
        listed.push(Field { path: child.clone(), same_as: None, ignored: false });
        steps.push(name);
        below::<T>(steps, &child, listed, seen);
        steps.pop();
    }
}

/// What is at the end of a path.
#[derive(Default)]
struct Found {
    shape: Option<Shape>,
    /// The lists and maps between the last step and the struct.
    suffix: String,
    ignored: bool,
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    steps: &'a [&'static str],
    found: &'a RefCell<Found>,
}

impl Probe<'_> {
    fn stop<T>(self) -> Result<T, DecodeError> {
        Err(de::Error::custom("the end of the path"))
    }

    fn enter(self, what: &str) {
        if self.steps.is_empty() {
            self.found.borrow_mut().suffix.push_str(what);
        }
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = DecodeError;

    /// A value of a plain type.
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DecodeError> {
        self.stop()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DecodeError> {
        self.found.borrow_mut().ignored = true;
        self.stop()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name == MARKER { self.stop() } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.enter("[]");
        visitor.visit_seq(One { probe: self, key: None })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.enter("{}");
        visitor.visit_map(One { probe: self, key: Some("key") })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Some((step, rest)) = self.steps.split_first() else {
            self.found.borrow_mut().shape = Some((name, fields));
            return self.stop();
        };
        visitor.visit_map(One { probe: Probe { steps: rest, ..self }, key: Some(step) })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier
    }
}

/// A list or a map of one.
struct One<'a> {
    probe: Probe<'a>,
    key: Option<&'static str>,
}

impl<'de> de::SeqAccess<'de> for One<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        seed.deserialize(self.probe).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for One<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some(key) = self.key.take() else { return Ok(None) };
        seed.deserialize(de::value::StrDeserializer::<DecodeError>::new(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(self.probe)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{DurationText, Unenforced};

    #[derive(serde::Deserialize)]
    #[allow(dead_code, reason = "only their names are asked for")]
    struct Outer {
        name: Option<String>,
        inner: Option<Box<Inner>>,
        more: Vec<Option<Inner>>,
        named: BTreeMap<String, Option<Leaf>>,
        labels: BTreeMap<String, String>,
        later: Unenforced,
        never: Option<de::IgnoredAny>,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    #[allow(dead_code, reason = "only their names are asked for")]
    struct Inner {
        some_time: Option<DurationText>,
        leaf: Vec<Leaf>,
    }

    #[derive(serde::Deserialize)]
    #[allow(dead_code, reason = "only their names are asked for")]
    struct Leaf {
        x: u16,
    }

    #[test]
    fn every_field_is_listed_once_by_its_yaml_name() {
        let listed = fields::<Outer>();
        assert_eq!(listed.iter().filter(|f| f.ignored).map(|f| &*f.path).collect::<Vec<_>>(), ["never"]);
        let listed: Vec<_> = listed.iter().map(|f| (&*f.path, f.same_as.as_deref())).collect();
        let expected = [
            ("name", None),
            ("inner", None),
            ("inner.someTime", None),
            ("inner.leaf", None),
            ("inner.leaf[].x", None),
            ("more", Some("inner")),
            ("named", Some("inner.leaf[]")),
            ("labels", None),
            ("later", None),
            ("never", None),
        ];
        assert_eq!(listed, expected);
    }
}
