//! Configuration without a running mesh: for tools, and for teams that test their rules.

use std::{path::PathBuf, sync::Arc};

use mesh_core::config::{Document, Field, Issues};

use super::{Reader, Source, Store, Texts, model};

/// Configuration, read and checked as a mesh would, with nothing running: no socket, no task, no identity.
///
/// ```
/// let config = mesh::Config::from_texts([("reviews.yaml", "
/// apiVersion: networking.istio.io/v1
/// kind: VirtualService
/// metadata: {name: reviews}
/// spec:
///   hosts: [reviews]
///   http: [{route: [{destination: {host: reviews}}], timeout: 5}]
/// ")]);
/// assert!(config.issues().to_string().starts_with("reviews.yaml:7:"));
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    texts: Texts,
    store: Store,
    issues: Issues,
}

impl Config {
    /// Read files, and the `*.yaml`, `*.yml` and `*.json` of directories, as
    /// [`Builder::config_path`](crate::Builder::config_path) does. What cannot be read is an issue.
    #[must_use]
    pub fn read(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self::of(paths.into_iter().map(|path| Source::Path(path.into())).collect())
    }

    /// Take in texts of YAML documents, each under the name that issues call it by.
    #[must_use]
    pub fn from_texts<N: Into<Arc<str>>, T: Into<Arc<str>>>(texts: impl IntoIterator<Item = (N, T)>) -> Self {
        Self::of(texts.into_iter().map(|(name, text)| Source::Text(name.into(), text.into())).collect())
    }

    fn of(sources: Vec<Source>) -> Self {
        let texts = Reader { sources }.read();
        let mut issues = Issues::default();
        let store = Store::default().update(&texts, &mut issues);
        Self { texts, store, issues }
    }

    /// What is wrong with single objects, in the order of files and documents. A mesh does not start with an error
    /// among them.
    #[must_use]
    pub fn issues(&self) -> &Issues {
        &self.issues
    }

    /// Every document, of kinds that a mesh reads and of others, whether good or bad. Parsed anew at each call.
    #[must_use]
    pub fn documents(&self) -> Vec<Document> {
        let mut known = Issues::default();
        let readable = self.texts.0.iter().filter_map(|(name, text)| Some((name, text.as_ref().ok()?)));
        readable.flat_map(|(name, text)| Document::parse_all(name, text, &mut known)).collect()
    }

    /// Every kind that a mesh reads, with the fields that its YAML has.
    #[must_use]
    pub fn kinds() -> Vec<(&'static str, Vec<Field>)> {
        model::kinds()
    }

    /// What is wrong with one object alone: the checks that a mesh makes before it takes it in.
    #[must_use]
    pub fn check(document: &Document) -> Issues {
        let mut issues = Issues::default();
        model::read(document, &mut issues);
        issues
    }
}
