//! Where workloads run, and what `localityLbSetting` makes of it.

mod setting;
mod zone_aware;

use std::{fmt, str::FromStr, sync::Arc};

pub use self::{
    setting::{Distribute, FailoverLabel, LocalityPattern, LocalitySetting, LocalitySpec, RegionFailover},
    zone_aware::{ZoneAwareSetting, ZoneAwareSpec},
};

/// A place: `region/zone/subzone`, the last parts or all of them unknown.
///
/// ```
/// use mesh_core::Locality;
/// let place: Locality = "eu/eu-1/rack-7".parse().unwrap();
/// assert_eq!((place.region(), place.zone(), place.subzone()), ("eu", "eu-1", "rack-7"));
/// assert_eq!("eu".parse::<Locality>().unwrap().zone(), "");
/// assert_eq!(
///     "eu/1/2/3".parse::<Locality>().unwrap_err().to_string(),
///     "invalid locality \"eu/1/2/3\": region/zone/subzone, the last two may be left out"
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality([Arc<str>; 3]);

/// Not `region/zone/subzone`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid locality {0:?}: region/zone/subzone, the last two may be left out")]
pub struct InvalidLocality(Box<str>);

impl Locality {
    /// The region; empty when nothing is known.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.0[0]
    }

    /// The zone; empty when not known.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.0[1]
    }

    /// The subzone; empty when not known.
    #[must_use]
    pub fn subzone(&self) -> &str {
        &self.0[2]
    }

    /// How far away another place is: 0 the same, 1 the same zone, 2 the same region, 3 elsewhere.
    ///
    /// istio util.LbPriority.
    #[must_use]
    pub fn distance(&self, other: &Self) -> u32 {
        let equal = self.0.iter().zip(&other.0).take_while(|(mine, theirs)| mine == theirs).count();
        3 - equal as u32
    }
}

impl FromStr for Locality {
    type Err = InvalidLocality;

    fn from_str(text: &str) -> Result<Self, InvalidLocality> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut place = Self::default();
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 || parts.iter().any(|part| part.is_empty() || part.contains(char::is_whitespace)) {
            return Err(InvalidLocality(text.into()));
        }
        place.0.iter_mut().zip(parts).for_each(|(known, part)| *known = part.into());
        Ok(place)
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.iter().take_while(|part| !part.is_empty());
        known.enumerate().try_for_each(|(index, part)| write!(f, "{}{part}", if index == 0 { "" } else { "/" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for text in ["", "a", "a/b", "a/b/c"] {
            assert_eq!(text.parse::<Locality>().unwrap().to_string(), text);
        }
        for text in ["/", "a/", "/b", "a//c", "a/b/c/d", "a/b c"] {
            assert!(text.parse::<Locality>().is_err(), "{text}");
        }
    }

    /// istio util.LbPriority: a zone of the same name in another region is elsewhere.
    #[test]
    fn distance_is_counted_from_the_region_down() {
        let place = |text: &str| text.parse::<Locality>().unwrap();
        for (a, b, distance) in
            [("r/z/s", "r/z/s", 0), ("r/z/s", "r/z/t", 1), ("r/z/s", "r/y/s", 2), ("r/z/s", "q/z/s", 3), ("", "", 0)]
        {
            assert_eq!(place(a).distance(&place(b)), distance, "{a} {b}");
        }
    }
}
