//! Labels of workloads and selectors over them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Kubernetes labels: sorted key-value pairs.
///
/// ```
/// use mesh_core::Labels;
/// let endpoint = Labels::from_iter([("app", "reviews"), ("version", "v1")]);
/// assert!(endpoint.contains_all(&Labels::from_iter([("version", "v1")])));
/// assert!(endpoint.contains_all(&Labels::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Does every label of `selector` stand here with the same value? The empty selector is in everything.
    ///
    /// istio networking/v1alpha3 Subset: "Labels apply a filter over the endpoints of a service in the service
    /// registry."
    #[must_use]
    pub fn contains_all(&self, selector: &Self) -> bool {
        selector.0.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    /// Set a label.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}
