//! The `subsetting` section of a MeshPolicy.

use std::num::NonZeroU32;

use mesh_core::config::{Document, Field, Issues, Value, fields};
use serde::Deserialize;

use super::Subsetting;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Section {
    size: Option<i64>,
    lot_size: Option<i64>,
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
        let before = issues.errors().count();
        let mut positive = |field: &str, number: Option<i64>| {
            let read = u32::try_from(number?).ok().and_then(NonZeroU32::new);
            if read.is_none() {
                let path = format!("{}.{field}", Self::FIELD);
                issues.push(document.error(path, format!("{field} must be in range 1..{}", u32::MAX)));
            }
            read
        };
        let (size, lot_size) = (positive("size", section.size), positive("lotSize", section.lot_size));
        if section.size.is_none() {
            issues.push(document.error(format!("{}.size", Self::FIELD), "size is required"));
        }
        let read = Self::new(size?);
        (issues.errors().count() == before).then(|| lot_size.map_or(read, |lot_size| read.with_lot_size(lot_size)))
    }
}
