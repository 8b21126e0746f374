use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// The name by which the config deserializer knows the marker.
pub(super) const MARKER: &str = "mesh_core::config::Unenforced";

/// A field that Istio has and that we read but do not enforce.
///
/// Takes any value. Where one is present, [`Document::decode`](super::Document::decode) warns with its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unenforced(bool);

impl Unenforced {
    /// Does the field stand in the document?
    #[must_use]
    pub fn is_set(self) -> bool {
        self.0
    }
}

impl<'de> Deserialize<'de> for Unenforced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(MARKER, Present)
    }
}

struct Present;

impl<'de> de::Visitor<'de> for Present {
    type Value = Unenforced;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Unenforced, E> {
        Ok(Unenforced(true))
    }

    /// Deserializers other than ours: take whatever stands there.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Unenforced, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Unenforced(true))
    }
}
