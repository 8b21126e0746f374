//! The `subsetting` section of a MeshPolicy.

use std::num::NonZeroU32;

use mesh_core::config::{Document, Field, Issues, Value, fields};
use serde::Deserialize;

use super::Subsetting;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Section {
    size: Option<i64>,
    lot_size: Option<i64>,
}

impl Section {
    /// The settings. What is wrong goes to `refuse`: the path of the field, below `path`, and why.
    pub(crate) fn read(&self, path: &str, mut refuse: impl FnMut(String, String)) -> Option<Subsetting> {
        let mut good = true;
        let mut refuse = |field: &str, message: String| {
            good = false;
            refuse(format!("{path}.{field}"), message);
        };
        let mut positive = |field: &str, number: Option<i64>| {
            let read = u32::try_from(number?).ok().and_then(NonZeroU32::new);
            if read.is_none() {
                refuse(field, format!("{field} must be in range 1..{}", u32::MAX));
            }
            read
        };
        let (size, lot_size) = (positive("size", self.size), positive("lotSize", self.lot_size));
        if self.size.is_none() {
            refuse("size", "size is required".to_owned());
        }
        let read = Subsetting::new(size?);
        good.then(|| lot_size.map_or(read, |lot_size| read.with_lot_size(lot_size)))
    }
}

impl Subsetting {
    /// The field of a MeshPolicy that [`from_document`](Self::from_document) reads.
    pub const FIELD: &str = "subsetting";

    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<Section>()
    }

    /// The `subsetting` section of a MeshPolicy; `None` where there is none, and after an error, which is in `issues`.
    /// Fields of it:
    ///
    /// ```yaml
    /// subsetting:
    ///   size: 20       # endpoints of a service that a client uses, 1 or more; required
    ///   lotSize: 100   # for clients with an index: how many there are; default 10
    /// ```
    ///
    /// ```
    /// use {mesh_core::config::{Document, Issues}, mesh_lb::Subsetting};
    /// let yaml = "kind: MeshPolicy\nmetadata: {name: large}\nspec: {subsetting: {size: 20}}\n";
    /// let mut issues = Issues::default();
    /// let documents = Document::parse_all("large.yaml", yaml, &mut issues);
    /// let subsetting = Subsetting::from_document(&documents[0], &mut issues).unwrap();
    /// assert_eq!((subsetting.size().get(), subsetting.lot_size().get()), (20, 10));
    /// ```
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        if document.spec().and_then(|spec| spec.get(Self::FIELD)).is_none_or(|node| node.value == Value::Null) {
            return None;
        }
        let section: Section = document.decode_field(Self::FIELD, issues)?;
        section.read(Self::FIELD, |path, message| issues.push(document.error(path, message)))
    }
}
