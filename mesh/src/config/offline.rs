//! Configuration without a running mesh: for tools, and for teams that test their rules.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use http::Request;
use mesh_core::{
    Workload,
    config::{Document, Field, Issues},
};
use mesh_lb::{Cluster, Clusters};
use mesh_routing::{Explanation, RouteTable};

use super::{Reader, Source, Store, Texts, compile, model};

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

    /// What it says to one client, compiled once.
    #[must_use]
    pub fn client(&self, workload: Workload) -> ClientView {
        let mut issues = self.issues.clone();
        let compiled = compile(&self.store.models(), &workload, &Clusters::new(), &mut issues);
        ClientView { routes: compiled.routes, issues }
    }

    /// Every document, of kinds that a mesh reads and of others, whether good or bad. Parsed anew at each call.
    #[must_use]
    pub fn documents(&self) -> Vec<Document> {
        let mut known = Issues::default();
        let readable = self.texts.0.iter().filter_map(|(name, text)| Some((name, text.as_ref().ok()?)));
        readable.flat_map(|(name, text)| Document::parse_all(name, text, &mut known)).collect()
    }

    /// Does a path that was read, a file or a directory, hold a document? One that cannot be read or parsed counts:
    /// it has an issue of its own.
    #[must_use]
    pub fn has_documents(&self, path: impl AsRef<Path>) -> bool {
        let mut below = self.texts.0.iter().filter(|(name, _)| Path::new(&**name).starts_with(path.as_ref()));
        below.any(|(name, text)| {
            let mut issues = Issues::default();
            text.as_ref()
                .map_or(true, |text| !Document::parse_all(name, text, &mut issues).is_empty() || !issues.is_empty())
        })
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

/// What a configuration says to one client: ask it what becomes of a request. Made by [`Config::client`].
///
/// Objects with errors are left out, where a mesh would not start: assert on [`issues`](Self::issues) first.
///
/// A team's unit test of its rules:
///
/// ```
/// use mesh::{Config, Workload, explain::Outcome};
/// # let config = || Config::from_texts([("mesh/reviews.yaml", "
/// # {apiVersion: v1, kind: Service, metadata: {name: reviews}, spec: {ports: [{port: 9080, name: http}]}}
/// # ---
/// # apiVersion: networking.istio.io/v1
/// # kind: DestinationRule
/// # metadata: {name: reviews}
/// # spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
/// # ---
/// # apiVersion: networking.istio.io/v1
/// # kind: VirtualService
/// # metadata: {name: reviews}
/// # spec:
/// #   hosts: [reviews]
/// #   http:
/// #   - match: [{headers: {end-user: {exact: jason}}}]
/// #     route: [{destination: {host: reviews, subset: v2}}]
/// #   - route:
/// #     - {destination: {host: reviews, subset: v1}, weight: 90}
/// #     - {destination: {host: reviews, subset: v2}, weight: 10}
/// # ")]);
///
/// // let config = || Config::read(["mesh/"]);
/// let client = config().client(Workload::new("default", "productpage"));
/// assert!(!client.issues().has_errors(), "{}", client.issues());
///
/// let request = http::Request::get("http://reviews:9080/reviews/0").header("end-user", "jason").body(()).unwrap();
/// let jason = client.explain(&request);
/// assert_eq!(jason.cluster.as_deref(), Some("outbound|9080|v2|reviews.default.svc.cluster.local"), "{jason}");
///
/// let request = http::Request::get("http://reviews:9080/reviews/0").body(()).unwrap();
/// let others = client.explain(&request);
/// assert_eq!(others.outcome, Outcome::Forward);
/// assert_eq!(others.destinations.iter().map(|to| to.weight).collect::<Vec<_>>(), [90, 10]);
/// assert_eq!(others.rejected[0].because, "header end-user: exact \"jason\", absent");
/// // One draw: the last tenth goes to v2.
/// assert!(client.explain_with_roll(&request, 0.9).cluster.unwrap().contains("|v2|"));
/// ```
#[derive(Clone, Debug)]
pub struct ClientView {
    routes: Arc<RouteTable<Cluster>>,
    issues: Issues,
}

impl ClientView {
    /// What becomes of a request, and why: what [`Mesh::explain`](crate::Mesh::explain) says where this configuration is
    /// in force.
    #[must_use]
    pub fn explain<B>(&self, request: &Request<B>) -> Explanation {
        self.routes.explain(request, None)
    }

    /// The same with one draw, from 0 up to 1, in the place of all that are made at random. See
    /// [`explain`](crate::explain).
    #[must_use]
    pub fn explain_with_roll<B>(&self, request: &Request<B>, roll: f64) -> Explanation {
        self.routes.explain(request, Some(roll))
    }

    /// What is wrong with single objects, and then with all of them together, for this client.
    #[must_use]
    pub fn issues(&self) -> &Issues {
        &self.issues
    }
}
