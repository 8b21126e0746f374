//! `localityLbSetting`, as a DestinationRule and MeshConfig have it (istio networking/v1alpha3
//! LocalityLoadBalancerSetting).

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::Locality;

/// The block as YAML spells it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LocalitySpec {
    enabled: Option<bool>,
    distribute: Vec<DistributeSpec>,
    failover: Vec<FailoverSpec>,
    failover_priority: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DistributeSpec {
    from: String,
    to: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FailoverSpec {
    from: String,
    to: String,
}

/// How requests are spread over places: by shares, or by distance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalitySetting {
    /// `false` turns it off; not given is on.
    pub enabled: Option<bool>,
    /// Shares of places, by where the client is: the first entry whose `from` matches counts.
    pub distribute: Vec<Distribute>,
    /// Where a region's requests go when it has no healthy endpoints.
    pub failover: Vec<RegionFailover>,
    /// Labels that endpoints should have in common with the client, most important first.
    pub failover_priority: Vec<FailoverLabel>,
}

/// Shares of places for clients in one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Distribute {
    /// Where the client is.
    pub from: LocalityPattern,
    /// Shares in percent; they sum up to 100.
    pub to: Vec<(LocalityPattern, u32)>,
}

/// A region and the one that stands in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionFailover {
    /// The client's region.
    pub from: Arc<str>,
    /// The region that comes before all others.
    pub to: Arc<str>,
}

/// `key`: the value that the client has; `key=value`: this one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailoverLabel {
    /// The label.
    pub key: Arc<str>,
    /// Its value, where it is not the client's.
    pub value: Option<Arc<str>>,
}

/// A locality that may end in `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalityPattern([Arc<str>; 3]);

impl LocalityPattern {
    /// istio util.LocalityMatch: `*`, and a zone or subzone that is not given, stand for any.
    ///
    /// ```
    /// use mesh_core::{Locality, LocalityPattern};
    /// let place: Locality = "eu/eu-1/a".parse().unwrap();
    /// assert!(["*", "eu", "eu/*", "eu/eu-1/a"].iter().all(|text| LocalityPattern::new(text).matches(&place)));
    /// assert!(!LocalityPattern::new("eu/eu-2").matches(&place));
    /// ```
    #[must_use]
    pub fn matches(&self, locality: &Locality) -> bool {
        let any = |part: &str, index: usize| part == "*" || (part.is_empty() && index > 0);
        self.0.iter().zip(&locality.0).enumerate().all(|(index, (part, known))| any(part, index) || part == known)
    }

    /// From its text: up to three parts.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut parts = text.splitn(3, '/');
        Self(std::array::from_fn(|_| parts.next().unwrap_or_default().into()))
    }
}

impl LocalitySetting {
    /// Istio's default for the whole mesh: on, by distance.
    #[must_use]
    pub fn mesh_default() -> Self {
        Self { enabled: Some(true), ..Self::default() }
    }

    /// Is it on?
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled != Some(false)
    }

    /// Does it ask for endpoints to be ranked in its own words? That needs outlier detection.
    #[must_use]
    pub fn asks_for_failover(&self) -> bool {
        !self.failover.is_empty() || !self.failover_priority.is_empty()
    }

    /// Endpoints are preferred that have these labels' values in common with the client.
    #[must_use]
    pub fn preferring(labels: &[&str]) -> Self {
        let failover_priority = labels.iter().map(|key| FailoverLabel { key: (*key).into(), value: None }).collect();
        Self { enabled: Some(true), failover_priority, ..Self::default() }
    }
}

impl LocalitySpec {
    /// The setting, and what is wrong with it: `refuse` gets a path below the block and Istio's message.
    ///
    /// istio validateLocalityLbSetting.
    pub fn read(&self, refuse: &mut dyn FnMut(String, String)) -> LocalitySetting {
        if !self.distribute.is_empty() && !self.failover.is_empty() {
            refuse(String::new(), "can not simultaneously specify 'distribute' and 'failover'".into());
        }
        let sources: Vec<&str> = self.distribute.iter().map(|entry| entry.from.as_str()).collect();
        for (index, message) in overlaps(&sources) {
            refuse(format!(".distribute[{index}].from"), message);
        }
        for (index, entry) in self.distribute.iter().enumerate() {
            entry.check(index, refuse);
        }
        LocalitySetting {
            distribute: self.distribute.iter().map(DistributeSpec::model).collect(),
            ..tiers(self.enabled, &self.failover, &self.failover_priority, refuse)
        }
    }
}

/// A setting without `distribute`.
pub(super) fn tiers(
    enabled: Option<bool>,
    failover: &[FailoverSpec],
    failover_priority: &[String],
    refuse: &mut dyn FnMut(String, String),
) -> LocalitySetting {
    for (index, FailoverSpec { from, to }) in failover.iter().enumerate() {
        if from == to {
            let message = "locality lb failover settings must specify different regions";
            refuse(format!(".failover[{index}]"), message.into());
        }
        if from.contains('*') || to.contains('*') {
            let message = "locality lb failover region should not contain '*' wildcard";
            refuse(format!(".failover[{index}]"), message.into());
        }
    }
    LocalitySetting {
        enabled,
        distribute: Vec::new(),
        failover: failover.iter().map(FailoverSpec::model).collect(),
        failover_priority: failover_priority.iter().map(|text| label(text)).collect(),
    }
}

impl DistributeSpec {
    fn check(&self, index: usize, refuse: &mut dyn FnMut(String, String)) {
        let path = format!(".distribute[{index}].to");
        for (place, weight) in &self.to {
            if !(1..=100).contains(weight) {
                refuse(format!("{path}[\"{place}\"]"), "locality weight must be in range [1, 100]".into());
                return;
            }
        }
        let total: u64 = self.to.values().map(|weight| u64::from(*weight)).sum();
        if total != 100 {
            refuse(path, format!("total locality weight {total} != 100"));
            return;
        }
        let places: Vec<&str> = self.to.keys().map(String::as_str).collect();
        for (at, message) in overlaps(&places) {
            refuse(format!("{path}[\"{}\"]", places[at]), message);
        }
    }

    fn model(&self) -> Distribute {
        let to = self.to.iter().map(|(place, weight)| (LocalityPattern::new(place), *weight)).collect();
        Distribute { from: LocalityPattern::new(&self.from), to }
    }
}

impl FailoverSpec {
    fn model(&self) -> RegionFailover {
        RegionFailover { from: self.from.as_str().into(), to: self.to.as_str().into() }
    }
}

/// istio priorityLabelOverrides: a text with more than one `=` names the label alone.
fn label(text: &str) -> FailoverLabel {
    let mut parts = text.split('=');
    let key = parts.next().unwrap_or_default().into();
    let value = parts.next().filter(|_| parts.next().is_none());
    FailoverLabel { key, value: value.map(Into::into) }
}

/// istio validateLocalities: which of these places are no places, or lie within an earlier one.
fn overlaps(places: &[&str]) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let stars = place.matches('*').count();
        if stars > 1 || (stars == 1 && !(*place == "*" || place.ends_with("/*"))) {
            let message = format!("locality {place} wildcard '*' number can not exceed 1 and must be in the end");
            wrong.push((index, message));
        } else if place.split('/').count() > 3 || place.split('/').any(str::is_empty) {
            wrong.push((index, format!("locality {place} must not contain empty region/zone/subzone info")));
        } else if places[..index].iter().any(|earlier| within(place, earlier) || covers(place, earlier)) {
            wrong.push((index, format!("locality {place} overlap with previous specified ones")));
        }
    }
    wrong
}

/// Does it take in an earlier one? `*` in the end is for the rest.
fn covers(place: &str, earlier: &str) -> bool {
    place != "*" && within(earlier, place)
}

/// Is every place of `narrow` one of `wide`?
fn within(narrow: &str, wide: &str) -> bool {
    let narrow: Vec<&str> = narrow.split('/').take_while(|part| *part != "*").collect();
    let wide: Vec<&str> = wide.split('/').take_while(|part| *part != "*").collect();
    narrow.starts_with(&wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, Issues};

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Outer {
        setting: LocalitySpec,
    }

    fn read(yaml: &str) -> (LocalitySetting, Vec<String>) {
        let mut issues = Issues::default();
        let text = format!("kind: A\nmetadata: {{name: a}}\nspec:\n  setting: {yaml}\n");
        let documents = Document::parse_all("a.yaml", &text, &mut issues);
        let outer: Outer = documents[0].decode(&mut issues).unwrap_or_else(|| panic!("{issues}"));
        let mut wrong = Vec::new();
        let setting = outer.setting.read(&mut |path, message| wrong.push(format!("{path}: {message}")));
        (setting, wrong)
    }

    #[test]
    fn reads_every_field() {
        let (setting, wrong) = read("{enabled: true, failover: [{from: a, to: b}], failoverPriority: [x, y=z, p=q=r]}");
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(setting.is_enabled() && setting.asks_for_failover());
        assert_eq!(setting.failover, [RegionFailover { from: "a".into(), to: "b".into() }]);
        let labels: Vec<_> = setting.failover_priority.iter().map(|l| (&*l.key, l.value.as_deref())).collect();
        assert_eq!(labels, [("x", None), ("y", Some("z")), ("p", None)]);
        let (setting, wrong) =
            read("{distribute: [{from: a/*, to: {a/b: 60, 'a/c/*': 40}}, {from: b, to: {'*': 100}}]}");
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(setting.distribute[0].to[0], (LocalityPattern::new("a/b"), 60));
        assert!(setting.is_enabled() && !setting.asks_for_failover());
    }

    /// istio validateLocalityLbSetting and validateLocalities, message by message.
    #[test]
    fn says_what_istio_says() {
        for (yaml, expected) in [
            (
                "{distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}",
                ": can not simultaneously specify 'distribute' and 'failover'",
            ),
            ("{distribute: [{from: a, to: {a: 80, b: 25}}]}", ".distribute[0].to: total locality weight 105 != 100"),
            (
                "{distribute: [{from: a, to: {a: 0, b: 100}}]}",
                ".distribute[0].to[\"a\"]: locality weight must be in range [1, 100]",
            ),
            (
                "{distribute: [{from: a, to: {a: 101}}]}",
                ".distribute[0].to[\"a\"]: locality weight must be in range [1, 100]",
            ),
            (
                "{distribute: [{from: a, to: {a: 50, a/b: 50}}]}",
                ".distribute[0].to[\"a/b\"]: locality a/b overlap with previous specified ones",
            ),
            (
                "{distribute: [{from: a/b/c, to: {a: 100}}, {from: 'a/b/*', to: {a: 100}}]}",
                ".distribute[1].from: locality a/b/* overlap with previous specified ones",
            ),
            (
                "{distribute: [{from: a/*/c, to: {a: 100}}]}",
                ".distribute[0].from: locality a/*/c wildcard '*' number can not exceed 1 and must be in the end",
            ),
            (
                "{distribute: [{from: a//c, to: {a: 100}}]}",
                ".distribute[0].from: locality a//c must not contain empty region/zone/subzone info",
            ),
            (
                "{distribute: [{from: '*', to: {a: 100}}, {from: a, to: {a: 100}}]}",
                ".distribute[1].from: locality a overlap with previous specified ones",
            ),
            (
                "{failover: [{from: a, to: a}]}",
                ".failover[0]: locality lb failover settings must specify different regions",
            ),
            (
                "{failover: [{from: 'a*', to: b}]}",
                ".failover[0]: locality lb failover region should not contain '*' wildcard",
            ),
        ] {
            assert_eq!(read(yaml).1, [expected], "{yaml}");
        }
    }
}
