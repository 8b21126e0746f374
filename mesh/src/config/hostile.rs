//! What configuration that nobody vouches for may do: nothing.
//!
//! For tests that mutate good files and for fuzzers that make their own: [`World::change`] takes a change in as a running
//! mesh does, and panics where a promise is broken.
//!
//! 1. Nothing panics.
//! 2. Every issue has a place inside the file that it is about.
//! 3. A bad object keeps its last good version: the very model, and with it what becomes of requests.
//! 4. The security kinds stand or fall together.
//! 5. Once the file is good again, all of it is in force again.

use std::{fmt::Write as _, sync::Arc};

use http::Request;
use mesh_core::{
    Labels, Workload,
    config::{Document, Issue, Issues, Node, ObjectRef},
};
use mesh_lb::Clusters;
use mesh_routing::{Decision, RequestHead};

use super::{
    Compiled, Store, Texts, compile,
    model::{self, Read},
    reader::{self, Text},
};

/// A mesh's configuration, all of it good, to be changed.
#[derive(Debug)]
pub struct World {
    texts: Texts,
    store: Store,
    decisions: String,
    clusters: Clusters,
    workload: Workload,
}

/// What became of a change.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Changed {
    /// Errors found.
    pub errors: usize,
    /// Objects that kept the version they had because the new one is bad.
    pub kept: usize,
}

/// Requests that reach every kind of rule.
const PROBES: [&str; 16] = [
    "GET http://reviews:9080/api/x?q=abc",
    "GET http://reviews:9080/v1/a",
    "GET http://reviews:9080/old",
    "GET http://reviews:9080/teapot",
    "GET http://reviews:9080/delegated/x/y",
    "POST http://reviews:9080/",
    "GET http://REVIEWS.default:9080/",
    "GET http://reviews:9081/",
    "GET http://a.reviews.example.com/old",
    "GET http://10.0.0.7:9080/",
    "GET http://shop.example.com/",
    "GET http://img.cdn.example.com/",
    "GET http://ratings:9080/ratings/1?q=aa",
    "GET http://ratings:9080/other",
    "POST http://greeter:50051/hello.Greeter/SayHello",
    "GET http://nobody.example.com/",
];

impl World {
    /// Files by name.
    ///
    /// # Panics
    /// When they are not good.
    #[must_use]
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let texts = files.into_iter().map(|(name, text)| (Arc::from(name), Ok(Arc::from(text))));
        let texts = Texts(texts.collect(), Vec::new());
        let workload =
            Workload::new("default", "productpage").with_labels([("app", "productpage")].into_iter().collect());
        let clusters = Clusters::new();
        let mut issues = Issues::default();
        let store = Store::default().update(&texts, &mut issues);
        let decisions = decisions(&store, &clusters, &workload, &mut issues);
        assert!(!issues.has_errors(), "{issues}");
        Self { texts, store, decisions, clusters, workload }
    }

    /// Put these bytes in the place of a file, and then the good ones again.
    ///
    /// # Panics
    /// When a promise is broken.
    pub fn change(&self, file: &str, bytes: &[u8]) -> Changed {
        let text = reader::decode(bytes.to_vec());
        let mut texts = self.texts.clone();
        for (name, old) in &mut texts.0 {
            if **name == *file {
                *old = text.clone();
            }
        }
        let mut issues = Issues::default();
        let next = self.store.update(&texts, &mut issues);
        places(&issues, &texts);
        // What is found out when rules meet each other may be about a version that stays, where that one stood.
        let decided = decisions(&next, &self.clusters, &self.workload, &mut issues);
        assert!(issues.iter().all(|issue| issue.position.line >= 1 && issue.position.column >= 1), "{issues}");
        let kept = self.kept(file, &text, &next);
        let same = next.routing_documents().map(|(_, document)| said(document));
        if same.eq(self.store.routing_documents().map(|(_, document)| said(document))) {
            assert_eq!(decided, self.decisions, "the same rules decide otherwise");
        }
        self.security(&next, &issues);
        self.recovers(&next);
        Changed { errors: issues.errors().count(), kept }
    }

    /// Objects of the file whose new version is bad, or lies behind what is not YAML, have the old one.
    fn kept(&self, file: &str, text: &Text, next: &Store) -> usize {
        let mut found = Issues::default();
        let documents = text.as_ref().map(|text| Document::parse_all(file, text, &mut found)).unwrap_or_default();
        let emptied = text.as_ref().is_ok_and(|text| text.trim().is_empty());
        let broken = found.has_errors() || text.is_err() || emptied;
        let mut kept = 0;
        for (_, before) in self.store.routing_documents().filter(|(name, _)| ***name == *file) {
            let object = before.object();
            let own = documents.iter().find(|document| document.object() == object);
            let stays = match own.map(|document| model::read(document, &mut Issues::default())) {
                Some(Read::Bad) => true,
                Some(Read::Model(_) | Read::Foreign) => false,
                None => broken,
            };
            if stays {
                let now = next.routing_documents().find(|(_, document)| document.object() == object);
                let (_, now) = now.unwrap_or_else(|| panic!("{object} is gone, and its new version is bad"));
                assert_eq!(said(now), said(before), "{object} has another version, and its new one is bad");
                kept += 1;
            }
        }
        kept
    }

    /// With an error in a security object, or in a file's form, the set is the one from before.
    fn security(&self, next: &Store, issues: &Issues) {
        let kinds = ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"];
        let formless = |issue: &Issue| issue.object.as_ref().is_none_or(|object| kinds.contains(&&*object.kind));
        if issues.errors().any(formless) {
            let (now, before) = (next.security_documents().map(said), self.store.security_documents().map(said));
            assert!(now.eq(before), "a security set with an error is taken in: {issues}");
        }
    }

    /// The good files again: no error, and every request as at first.
    fn recovers(&self, bad: &Store) {
        let mut issues = Issues::default();
        let good = bad.update(&self.texts, &mut issues);
        let decided = decisions(&good, &self.clusters, &self.workload, &mut issues);
        assert!(!issues.has_errors(), "{issues}");
        assert_eq!(decided, self.decisions, "the good files decide otherwise than before");
    }
}

/// Every issue has a line and a column, of the file that it names.
fn places(issues: &Issues, texts: &Texts) {
    for issue in issues {
        let (_, text) = texts.0.iter().find(|(name, _)| *name == issue.source).expect("an issue of a file");
        let (line, column) = (issue.position.line as usize, issue.position.column as usize);
        assert!(line >= 1 && column >= 1, "no place: {issue}");
        assert!(!issue.message.is_empty(), "no words: {issue}");
        let Ok(text) = text else { continue };
        // YAML 1.2, 5.4: a line ends with LF, CR LF or CR. What ends with the file may be said to be behind its end.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let lines: Vec<&str> = text.split('\n').collect();
        assert!(line <= lines.len() + 1, "line {line} of {}: {issue}", lines.len());
        let width = lines.get(line - 1).map_or(0, |line| line.chars().count());
        assert!(column <= width + 1, "column {column} of {width}: {issue}");
    }
}

/// What becomes of every probe, whatever is drawn.
fn decisions(store: &Store, clusters: &Clusters, workload: &Workload, issues: &mut Issues) -> String {
    let compiled: Compiled = compile(&store.models(), workload, clusters, issues);
    let routes = &compiled.routes;
    let mut decided = String::new();
    for probe in PROBES {
        let (method, uri) = probe.split_once(' ').expect("a method and a URI");
        let request = Request::builder().method(method).uri(uri).header("end-user", "jason").body(());
        let request = request.expect("a request");
        let Ok(head) = RequestHead::new(&request, routes.path_normalization()) else { continue };
        for roll in [0, 50, 99] {
            let _ = match routes.route(&head, || roll) {
                Ok(Decision::Forward(to)) => {
                    let policy = to.policy();
                    let (name, retry) = (policy.name(), policy.retry());
                    write!(decided, "{probe}: {} {name:?} {:?} {retry:?}", to.name(), policy.timeout())
                }
                Ok(Decision::Redirect(to, _)) => {
                    write!(decided, "{probe}: {} {:?}", to.status(), String::from_utf8_lossy(&to.location(&head)))
                }
                Ok(other) => write!(decided, "{probe}: {other:?}"),
                Err(error) => write!(decided, "{probe}: {error}"),
            };
            decided.push('\n');
        }
    }
    decided
}

/// Which version of an object it is: what its document says.
fn said(document: &Document) -> (&ObjectRef, &str, [&Labels; 2], Option<&Node>) {
    (document.object(), document.api_version(), [document.labels(), document.annotations()], document.spec())
}

#[cfg(test)]
mod tests;
