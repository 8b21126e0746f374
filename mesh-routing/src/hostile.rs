//! What patterns and requests that nobody vouches for may do: nothing.
//!
//! For property tests and fuzzers; each function panics where a promise is broken.

use std::{collections::HashSet, sync::Arc};

use http::{HeaderName, HeaderValue, Request};
use mesh_core::{
    ClusterName, MeshConfig, Workload,
    config::{Document, Issues},
    path::{PathNormalization, normalize},
    registry::Registry,
};

use crate::{CompileInput, Decision, RequestHead, RouteTable, VirtualService, re2};

/// A pattern that compiles means the same to both engines, and its literals are in whatever it matches.
///
/// # Panics
/// When it does not.
pub fn regex(pattern: &str, value: &[u8]) {
    let Ok(compiled) = re2::compile(pattern) else { return };
    let matches = compiled.is_match(value);
    if let Ok(general) = re2::compile_search(&format!(r"\A(?:{pattern})\z")) {
        assert_eq!(matches, general.is_match(value), "{pattern:?} on {value:?}");
    }
    if !matches {
        return;
    }
    let literals = compiled.literals();
    let begins = value.get(..literals.prefix.len()).is_some_and(|head| match literals.ignores_case {
        true => head.eq_ignore_ascii_case(&literals.prefix),
        false => *head == *literals.prefix,
    });
    assert!(begins, "{pattern:?} matches {value:?} without {:?}", literals.prefix);
    let contains = |text: &[u8]| text.is_empty() || value.windows(text.len()).any(|window| window == text);
    let all = literals.inside.iter().all(|any| any.iter().any(|text| contains(text)));
    assert!(all, "{pattern:?} matches {value:?} without {:?}", literals.inside);
}

/// Rules of every kind of condition, to route hostile requests by.
#[derive(Debug)]
pub struct Table(RouteTable<Arc<ClusterName>>);

const RULES: &str = r#"
{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 10.1.1.1, ports: [{port: 80, name: http}]}}
---
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a, "*.wild.test"]
  http:
  - match: [{uri: {prefix: /old}}]
    redirect: {prefixRewrite: /new, derivePort: FROM_REQUEST_PORT}
  - match: [{uri: {regex: "/r/([^/]+)/(.*)"}, ignoreUriCase: true}]
    rewrite: {uriRegexRewrite: {match: "^/r/([^/]+)/(.*)$", rewrite: '/\2/\1'}}
    route: [{destination: {host: a, subset: rewritten}}]
  - match:
    - {uri: {exact: /x}, ignoreUriCase: true, headers: {h: {prefix: v}}, withoutHeaders: {n: {regex: "a*"}}}
    - {queryParams: {q: {regex: "a+"}, e: {}}, method: {exact: PUT}}
    - {authority: {regex: ".*:81"}, scheme: {exact: https}}
    route: [{destination: {host: a, subset: one}, weight: 1}, {destination: {host: a, subset: two}, weight: 3}]
  - match: [{uri: {prefix: /p}}]
    rewrite: {uri: /}
    route: [{destination: {host: a}}]
  - redirect: {scheme: https, redirectCode: 307}
"#;

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// The rules, compiled.
    ///
    /// # Panics
    /// When they are not good.
    #[must_use]
    pub fn new() -> Self {
        let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
        let documents = Document::parse_all("a.yaml", RULES, &mut issues);
        let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
        let rules = VirtualService::from_document(&documents[1], &mut issues).unwrap_or_else(|| panic!("{issues}"));
        let input = CompileInput {
            workload: &Workload::new("default", "client"),
            mesh: &mesh,
            registry: &registry,
            virtual_services: &[Arc::new(rules)],
            default_retry: None,
        };
        Self(RouteTable::compile(&input, &mut |name| Some(Arc::new(name.clone())), &mut issues))
    }

    /// Read a request of these bytes, `METHOD URI` and then lines of `name: value`, and decide what becomes of it.
    ///
    /// # Panics
    /// When it is decided otherwise the second time, when a path that is normal has another normal form, or when what it
    /// is sent on with cannot be sent.
    pub fn head(&self, bytes: &[u8]) {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let mut first = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
        let (method, uri) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let mut request = Request::builder().method(method).uri(uri);
        for line in lines {
            let mut parts = line.splitn(2, |byte| *byte == b':');
            let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
                continue;
            };
            request = request.header(name, value);
        }
        let Ok(request) = request.body(()) else { return };
        use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None};
        for normalization in [None, Base, MergeSlashes, DecodeAndMergeSlashes] {
            let Ok(head) = RequestHead::new(&request, normalization) else { continue };
            let again = normalize(head.path(), normalization).expect("a normal path has a normal form");
            assert_eq!(again, head.path(), "{normalization:?}");
            let decided: HashSet<String> = (0..2).map(|_| self.decide(&head)).collect();
            assert_eq!(decided.len(), 1, "{decided:?}");
        }
    }

    fn decide(&self, head: &RequestHead<'_>) -> String {
        match self.0.route(head, || 2) {
            Ok(Decision::Forward(to)) => {
                let path = to.policy().rewrite.as_ref().map(|rewrite| rewrite.apply(head.path()).into_owned());
                format!("{} {path:?}", to.name())
            }
            Ok(Decision::Redirect(redirect, _)) => {
                let location = redirect.location(head);
                // RFC 9110 5.5: a field's value has neither CR, LF nor NUL.
                assert!(HeaderValue::from_bytes(&location).is_ok(), "{}", String::from_utf8_lossy(&location));
                String::from_utf8_lossy(&location).into_owned()
            }
            Ok(Decision::DirectResponse(response, _)) => format!("{response:?}"),
            Err(error) => error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn patterns(
            pattern in r"(?:[a-c/.^$|]|\[[a-c^&-]{1,3}\]|[*+?]|\{[0-3],?[0-3]?\}|\(|\)|\(\?i:|\\[bdwsAzQE0-7]|x[0-9]){0,12}",
            value in "[a-cA-C/&.0-9 ]{0,8}",
        ) {
            regex(&pattern, value.as_bytes());
        }

        #[test]
        fn heads(
            method in "GET|PUT|OPTIONS|CONNECT|[A-Z]{0,5}",
            uri in r"(http://|https://|//|)(a|A|b\.wild\.test|\[::1\]|10\.1\.1\.1|user@a|)(:[0-9]{0,5})?((/|\\|%2[fF]|%5c|%00|%61|\.\.|\.|old|r|x|p|;|é){0,8})(\?[aqe=&;%+]{0,8})?(#f)?",
            headers in r"(\n(host|h|n|x-forwarded-proto|H): ?[a-z:0-9.]{0,6}){0,4}",
        ) {
            std::thread_local!(static TABLE: Table = Table::new());
            TABLE.with(|table| table.head(format!("{method} {uri}{headers}").as_bytes()));
        }
    }
}
