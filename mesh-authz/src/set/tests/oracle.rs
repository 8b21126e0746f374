//! The compiled engine against the API text taken literally: policies are kept as their documents and every value is
//! turned into the regular expression that Istio's generator makes of it.

use std::sync::LazyLock;

use proptest::{collection::vec, option, prelude::*, sample::select};
use regex::Regex;
use serde_json::{Value, json};

use super::*;

const PRINCIPALS: [&str; 6] =
    ["*", "cluster.local/ns/a/sa/x", "cluster.local/ns/a/*", "*/sa/x", "*/ns/b/sa/y", "td/ns/b/sa/y"];
const NAMESPACES: [&str; 5] = ["a", "b", "*", "a*", "*b"];
const ACCOUNTS: [&str; 3] = ["a/x", "b/y", "x"];
const METHODS: [&str; 4] = ["GET", "P*", "*T", "*"];
const PATHS: [&str; 9] = ["/", "/a", "/a*", "*.js", "*", "/a/{*}", "/{**}", "/a/{*}/b/{**}", "/{**}/b"];
const HOSTS: [&str; 4] = ["reviews", "*.shop", "REVIEWS*", "*"];

const PEERS: [&str; 7] = [
    "cluster.local/ns/a/sa/x",
    "cluster.local/ns/ab/sa/x",
    "td/ns/b/sa/y",
    "td/ns/shop/sa/x",
    "td/ns/shop/sa/y",
    "td/agent",
    "other/ns/b/sa/y",
];

fn field(values: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![3 => Just(Vec::new()), 2 => vec(select(values), 1..3)]
}

fn object(fields: [(&str, Vec<&str>); 6]) -> Option<Value> {
    let set: serde_json::Map<_, _> = fields
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| (name.into(), json!(values)))
        .collect();
    (!set.is_empty()).then_some(Value::Object(set))
}

fn source() -> impl Strategy<Value = Option<Value>> {
    let lists = (field(&PRINCIPALS), field(&PRINCIPALS), field(&NAMESPACES), field(&NAMESPACES));
    (any::<bool>(), lists, (field(&ACCOUNTS), field(&ACCOUNTS))).prop_map(|(accounts, lists, (sa, not_sa))| {
        let (p, not_p, ns, not_ns) = if accounts { Default::default() } else { lists };
        let (sa, not_sa) = if accounts { (sa, not_sa) } else { Default::default() };
        object([
            ("principals", p),
            ("notPrincipals", not_p),
            ("namespaces", ns),
            ("notNamespaces", not_ns),
            ("serviceAccounts", sa),
            ("notServiceAccounts", not_sa),
        ])
    })
}

fn operation() -> impl Strategy<Value = Option<Value>> {
    (field(&METHODS), field(&METHODS), field(&PATHS), field(&PATHS), field(&HOSTS), field(&HOSTS)).prop_map(
        |(methods, not_methods, paths, not_paths, hosts, not_hosts)| {
            object([
                ("methods", methods),
                ("notMethods", not_methods),
                ("paths", paths),
                ("notPaths", not_paths),
                ("hosts", hosts),
                ("notHosts", not_hosts),
            ])
        },
    )
}

fn rule() -> impl Strategy<Value = Value> {
    (vec(source(), 0..3), vec(operation(), 0..3)).prop_map(|(from, to)| {
        let wrap = |key: &str, all: Vec<Option<Value>>| -> Vec<Value> {
            all.into_iter().flatten().map(|one| json!({ key: one })).collect()
        };
        let (from, to) = (wrap("source", from), wrap("operation", to));
        let mut rule = json!({});
        if !from.is_empty() {
            rule["from"] = json!(from);
        }
        if !to.is_empty() {
            rule["to"] = json!(to);
        }
        rule
    })
}

fn policy() -> impl Strategy<Value = Value> {
    (any::<bool>(), vec(rule(), 0..3)).prop_map(|(deny, rules)| {
        let deny = deny && !rules.is_empty();
        json!({
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "shop"},
            "spec": {"action": if deny { "DENY" } else { "ALLOW" }, "rules": rules},
        })
    })
}

/// Left-over stars of a value, the prefix and suffix forms: what Istio's StringMatcher means.
fn string_regex(value: &str) -> String {
    match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
        ("*", ..) => ".+".into(),
        (_, Some(suffix), _) => format!(".*{}", regex::escape(suffix)),
        (_, _, Some(prefix)) => format!("{}.*", regex::escape(prefix)),
        _ => regex::escape(value),
    }
}

fn path_regex(value: &str) -> String {
    if !value.contains('{') {
        return string_regex(value);
    }
    value.replace('.', "\\.").replace("{**}", "[^?]*").replace("{*}", "[^/]+")
}

fn full(pattern: &str, value: Option<&str>) -> bool {
    let regex = Regex::new(&format!("^(?:{pattern})$")).unwrap();
    value.is_some_and(|value| regex.is_match(value))
}

/// One field of a source or operation.
fn field_matches(name: &str, value: &str, view: &RequestView<'_>) -> bool {
    // A peer of exactly the Kubernetes form, by a parser of its own.
    static KUBERNETES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("^spiffe://[^/]+/ns/([^/]+)/sa/([^/]+)$").unwrap());
    let uri = view.peer.map(SpiffeId::as_str);
    let kubernetes = uri.and_then(|uri| KUBERNETES.captures(uri));
    let part = |index: usize| kubernetes.as_ref().map(|captures| captures.get(index).unwrap().as_str());
    match name {
        "principals" => full(&format!("spiffe://{}", string_regex(value)), uri),
        "namespaces" => full(&value.replace('*', ".*"), part(1)),
        "serviceAccounts" => {
            let (namespace, account) = value.split_once('/').unwrap_or(("shop", value));
            part(1) == Some(namespace) && part(2) == Some(account)
        }
        "methods" => full(&string_regex(value), Some(view.method)),
        "paths" => full(&path_regex(value), Some(view.path)),
        "hosts" => {
            let host = view.host.map(str::to_lowercase);
            full(&string_regex(&value.to_lowercase()), host.as_deref())
        }
        other => unreachable!("{other}"),
    }
}

fn all_fields_match(fields: &Value, view: &RequestView<'_>) -> bool {
    fields.as_object().unwrap().iter().all(|(name, values)| {
        let positive = name.strip_prefix("not").map(|rest| format!("{}{}", rest[..1].to_lowercase(), &rest[1..]));
        let any =
            |name: &str| values.as_array().unwrap().iter().any(|v| field_matches(name, v.as_str().unwrap(), view));
        positive.map_or_else(|| any(name), |positive| !any(&positive))
    })
}

fn rule_matches(rule: &Value, view: &RequestView<'_>) -> bool {
    let any = |list: &str, inner: &str| {
        rule.get(list).is_none_or(|all| all.as_array().unwrap().iter().any(|one| all_fields_match(&one[inner], view)))
    };
    any("from", "source") && any("to", "operation")
}

fn allowed(policies: &[Value], view: &RequestView<'_>) -> bool {
    let of = |action: &'static str| policies.iter().filter(move |policy| policy["spec"]["action"] == action);
    let matches =
        |policy: &Value| policy["spec"]["rules"].as_array().unwrap().iter().any(|rule| rule_matches(rule, view));
    !of("DENY").any(matches) && (of("ALLOW").next().is_none() || of("ALLOW").any(matches))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_engine_agrees_with_a_naive_reading(
        documents in vec(policy(), 0..4),
        requests in vec(
            (
                option::of(select(&PEERS[..])),
                select(&["GET", "PUT", "POST", "DELETE"][..]),
                select(&["/", "/a", "/a/", "/a/c", "/a//b/", "/a/c/b/d", "/x.js", "/x/b", "//b", "/b"][..]),
                option::of(select(&["reviews", "Reviews:9080", "a.SHOP", "shop", ".shop"][..])),
            ),
            1..8,
        ),
    ) {
        let models: Vec<_> = documents.iter().map(|value| {
            let mut issues = Issues::default();
            let document = Document::from_value("p", value).unwrap();
            AuthorizationPolicy::from_document(&document, &mut issues).unwrap_or_else(|| panic!("{issues}"))
        }).collect();
        // No aliases and no cluster.local in the mesh's trust domain: expansion has its own tests.
        let set = PolicySet::new(&models, &Workload::new("shop", "reviews"), "istio-system", &TrustDomains::default());
        for (peer, method, path, host) in requests {
            let peer = peer.map(id);
            let view = RequestView { peer: peer.as_ref(), connection: None, method, host, path };
            prop_assert_eq!(set.decide(&view).is_allowed(), allowed(&documents, &view), "{:?}", view);
        }
    }
}
