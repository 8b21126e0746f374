//! `subsetting` of an entry of MeshPolicy's `loadBalancing`.

use std::num::NonZeroU32;

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
