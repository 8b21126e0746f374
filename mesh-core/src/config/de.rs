//! A serde deserializer over [`Node`] that keeps the path, so that any error knows its place.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IntoDeserializer, Unexpected, Visitor},
    forward_to_deserialize_any,
};

use super::{Key, Node, Position, Value, unenforced::MARKER};

/// Decode a tree. On success also the fields that were read into [`Unenforced`](super::Unenforced).
pub(super) fn decode<T: de::DeserializeOwned>(node: &Node) -> Result<(T, Vec<Place>), DecodeError> {
    let context = Context::default();
    let decoded = T::deserialize(NodeDeserializer { node, context: &context })?;
    Ok((decoded, context.unenforced.into_inner()))
}

/// A field and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) position: Position,
}

#[derive(Debug)]
pub(super) struct DecodeError {
    pub(super) message: String,
    pub(super) place: Option<Place>,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), place: None }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let hint = match found {
            Unexpected::Signed(_) | Unexpected::Float(_) | Unexpected::Bool(_)
                if expected.to_string().contains("string") =>
            {
                " (quote it)"
            }
            _ => "",
        };
        Self::custom(format_args!("wrong type: found {found}, expected {}{hint}", plain(expected)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("invalid value: {found}, expected {}", plain(expected)))
    }
}

/// What is expected, to somebody who writes YAML and not Rust.
fn plain(expected: &dyn de::Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "i32" | "i64" => "an integer".into(),
        "u16" => "an integer from 0 to 65535".into(),
        "u32" | "u64" => "an integer, 0 or more".into(),
        "f64" => "a number".into(),
        "a sequence" => "a list".into(),
        _ => match expected.strip_prefix("struct ") {
            Some(_) => "an object".into(),
            None => expected,
        },
    }
}

#[derive(Default)]
struct Context {
    path: RefCell<String>,
    unenforced: RefCell<Vec<Place>>,
}

impl Context {
    fn place(&self, position: Position) -> Place {
        Place { path: self.path.borrow().clone(), position }
    }

    /// Run `f` with a segment added to the path.
    fn within<T>(&self, segment: impl FnOnce(&mut String), f: impl FnOnce() -> T) -> T {
        let length = self.path.borrow().len();
        segment(&mut self.path.borrow_mut());
        let result = f();
        self.path.borrow_mut().truncate(length);
        result
    }
}

fn push_field(path: &mut String, name: &str) {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if plain {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
    } else {
        let _ = write!(path, "[\"{name}\"]");
    }
}

fn push_index(path: &mut String, index: usize) {
    let _ = write!(path, "[{index}]");
}

#[derive(Clone, Copy)]
struct NodeDeserializer<'a> {
    node: &'a Node,
    context: &'a Context,
}

impl<'a> NodeDeserializer<'a> {
    /// The innermost value whose visitor failed gives an error its place.
    fn placed<T>(self, result: Result<T, DecodeError>) -> Result<T, DecodeError> {
        result.map_err(|mut error| {
            if error.place.is_none() {
                error.place = Some(self.context.place(self.node.position));
            }
            error
        })
    }

    fn unexpected(&self) -> Unexpected<'_> {
        match &self.node.value {
            Value::Null => Unexpected::Other("null"),
            Value::Bool(b) => Unexpected::Bool(*b),
            Value::Int(n) => Unexpected::Signed(*n),
            Value::Float(n) => Unexpected::Float(*n),
            Value::String(text) => Unexpected::Str(text),
            Value::Sequence(_) => Unexpected::Other("a list"),
            Value::Mapping(_) => Unexpected::Other("an object"),
        }
    }

    fn map<'de, V: Visitor<'de>>(self, visitor: V, skip_null: bool) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Mapping(entries) => {
                visitor.visit_map(Entries { entries: entries.iter(), current: None, context: self.context, skip_null })
            }
            _ => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
        }
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Int(n) => visitor.visit_i64(*n),
            Value::Float(n) => visitor.visit_f64(*n),
            Value::String(text) => visitor.visit_str(text),
            Value::Sequence(items) => {
                visitor.visit_seq(Items { items: items.iter().enumerate(), context: self.context })
            }
            Value::Mapping(_) => self.map(visitor, false),
        };
        self.placed(result)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A field set to null is a field not set, as in Kubernetes.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.placed(self.map(visitor, true))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let result = match &self.node.value {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
        };
        self.placed(result)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name == MARKER {
            self.context.unenforced.borrow_mut().push(self.context.place(self.node.position));
            return visitor.visit_bool(true);
        }
        visitor.visit_newtype_struct(self)
    }

    /// `100.0` is an integer too: YAML to JSON drops the fraction.
    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.value {
            Value::Float(n) if n.fract() == 0.0 && n.abs() < 9e15 =>
            {
                #[allow(clippy::cast_possible_truncation, reason = "whole and within range")]
                self.placed(visitor.visit_i64(n as i64))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        #[allow(clippy::cast_precision_loss, reason = "a number in a config file")]
        match self.node.value {
            Value::Int(n) => self.placed(visitor.visit_f64(n as f64)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i128 u8 u128 f32 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map identifier
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    context: &'a Context,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let deserializer = NodeDeserializer { node, context: self.context };
        self.context
            .within(|path| push_index(path, index), || deserializer.placed(seed.deserialize(deserializer)))
            .map(Some)
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Key, Node)>,
    current: Option<&'a (Key, Node)>,
    context: &'a Context,
    skip_null: bool,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let skip_null = self.skip_null;
        self.current = self.entries.by_ref().find(|(_, node)| !(skip_null && node.value == Value::Null));
        let Some((key, _)) = self.current else { return Ok(None) };
        // An unknown field fails here: the error is placed at the key.
        let result = seed.deserialize(de::value::StrDeserializer::<DecodeError>::new(&key.name));
        result.map(Some).map_err(|mut error| {
            let place = || Place { path: self.context.path.borrow().clone(), position: key.position };
            error.place.get_or_insert_with(place);
            error
        })
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        let (key, node) = self.current.ok_or_else(|| <DecodeError as de::Error>::custom("value before its key"))?;
        let deserializer = NodeDeserializer { node, context: self.context };
        self.context.within(|path| push_field(path, &key.name), || deserializer.placed(seed.deserialize(deserializer)))
    }
}
