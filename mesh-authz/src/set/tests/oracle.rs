//! The compiled engine against the API text taken literally: policies are kept as their documents and every value is
//! turned into the regular expression that Istio's generator makes of it.

use std::{cell::RefCell, collections::HashMap, net::IpAddr, sync::LazyLock};

use http::{HeaderMap, HeaderName};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    test_runner::{Config, RngSeed, TestRunner},
};
use regex::Regex;
use serde_json::{Value, json};

use super::*;

const PRINCIPALS: [&str; 6] =
    ["*", "cluster.local/ns/a/sa/x", "cluster.local/ns/a/*", "*/sa/x", "*/ns/b/sa/y", "td/ns/b/sa/y"];
const NAMESPACES: [&str; 5] = ["a", "b", "*", "a*", "*b"];
const ACCOUNTS: [&str; 3] = ["a/x", "b/y", "x"];
const METHODS: [&str; 4] = ["GET", "P*", "*T", "*"];
const PATHS: [&str; 9] = ["/", "/a", "/a*", "*.js", "*", "/a/{*}", "/{**}", "/a/{*}/b/{**}", "/{**}/b"];
const HOSTS: [&str; 5] = ["reviews", "*.shop", "REVIEWS*", "*", "reviews:9080"];
const USERS: [&str; 8] = ["*", "iss/ada", "https://i/x/*", "*/ada", "*da", "https:*", "https://i/x/e*", "*://i/x/eve"];
const DOMAINS: [&str; 3] = ["td", "*", "c*.local"];
const BLOCKS: [&str; 3] = ["10.0.0.0/8", "10.1.1.1", "::1"];
/// Conditions: a key, and values that somebody has.
const CONDITIONS: [(&str, &[&str]); 14] = [
    ("request.headers[x-a]", &["a", "a*", "*b", "*", ""]),
    ("request.headers[X-B]", &["a", "b"]),
    ("source.ip", &BLOCKS),
    ("remote.ip", &BLOCKS),
    ("destination.ip", &BLOCKS),
    ("destination.port", &["9080", "80"]),
    ("source.namespace", &NAMESPACES),
    ("source.principal", &PRINCIPALS),
    ("source.serviceAccount", &ACCOUNTS),
    ("source.trustDomain", &DOMAINS),
    ("request.auth.principal", &USERS),
    ("request.auth.audiences", &["web", "w*", "*"]),
    ("request.auth.claims[groups][eu]", &["a", "*", "*b"]),
    ("connection.sni", &["reviews", "*.shop"]),
];

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

fn object(fields: impl IntoIterator<Item = (&'static str, Vec<&'static str>)>) -> Option<Value> {
    let set: serde_json::Map<_, _> = fields
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| (name.into(), json!(values)))
        .collect();
    (!set.is_empty()).then_some(Value::Object(set))
}

fn source() -> impl Strategy<Value = Option<Value>> {
    let lists = (field(&PRINCIPALS), field(&PRINCIPALS), field(&NAMESPACES), field(&NAMESPACES));
    let rest =
        vec((select(&["requestPrincipals", "trustDomains", "ipBlocks", "remoteIpBlocks"][..]), any::<u64>()), 0..2);
    (0..3_u8, lists, (field(&ACCOUNTS), field(&ACCOUNTS)), rest).prop_map(|(kind, lists, (sa, not_sa), rest)| {
        let (p, not_p, ns, not_ns) = if kind == 0 { lists } else { Default::default() };
        let (sa, not_sa) = if kind == 1 { (sa, not_sa) } else { Default::default() };
        let mut all = vec![
            ("principals", p),
            ("notPrincipals", not_p),
            ("namespaces", ns),
            ("notNamespaces", not_ns),
            ("serviceAccounts", sa),
            ("notServiceAccounts", not_sa),
        ];
        for (name, draw) in rest {
            let (not, values): (_, &[&str]) = match name {
                "requestPrincipals" => ("notRequestPrincipals", &USERS),
                "trustDomains" => ("notTrustDomains", &DOMAINS),
                "ipBlocks" => ("notIpBlocks", &BLOCKS),
                _ => ("notRemoteIpBlocks", &BLOCKS),
            };
            all.push((if draw % 3 == 0 { not } else { name }, vec![values[(draw / 3) as usize % values.len()]]));
        }
        object(all)
    })
}

fn condition() -> impl Strategy<Value = Value> {
    (select(&CONDITIONS[..]), any::<[u64; 2]>(), 0..3_u8).prop_map(|((key, values), draws, kind)| {
        let [one, other] = draws.map(|draw| values[(draw % values.len() as u64) as usize]);
        match kind {
            0 => json!({"key": key, "values": [one]}),
            1 => json!({"key": key, "notValues": [one, other]}),
            _ => json!({"key": key, "values": [one], "notValues": [other]}),
        }
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
    (vec(source(), 0..3), vec(operation(), 0..3), vec(condition(), 0..3)).prop_map(|(from, to, when)| {
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
        if !when.is_empty() {
            rule["when"] = json!(when);
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
    thread_local!(static KNOWN: RefCell<HashMap<String, Regex>> = RefCell::default());
    let Some(value) = value else { return false };
    KNOWN.with_borrow_mut(|known| {
        let regex = known.entry(pattern.to_owned());
        regex.or_insert_with(|| Regex::new(&format!("^(?s:{pattern})$")).unwrap()).is_match(value)
    })
}

/// `iss/sub` taken apart as Istio's generator does it, in words of its own.
fn is_user(value: &str, view: &RequestView<'_>) -> bool {
    let part = |name: &str| view.principal.and_then(|user| user.claims().get(name)).and_then(Value::as_str);
    let (iss, sub) = match value.rsplit_once('/') {
        Some((iss, sub)) => (string_regex(iss), string_regex(sub)),
        None if value.starts_with('*') => (".+".into(), string_regex(value)),
        None => (string_regex(value), ".+".into()),
    };
    full(&iss, part("iss")) && full(&sub, part("sub"))
}

fn in_block(block: &str, address: Option<IpAddr>) -> bool {
    match (block, address) {
        ("10.0.0.0/8", Some(IpAddr::V4(v4))) => v4.octets()[0] == 10,
        ("10.0.0.0/8", _) => false,
        (exact, address) => address.is_some_and(|address| address.to_string() == exact),
    }
}

/// The last of all entries.
fn remote(view: &RequestView<'_>) -> Option<IpAddr> {
    let all = view.headers?.get_all("x-forwarded-for").iter().map(|value| value.to_str().unwrap());
    let all: Vec<_> = all.collect();
    let direct = view.connection.map(|connection| connection.peer.ip());
    all.join(",").split(',').next_back().and_then(|last| last.trim().parse().ok()).or(direct)
}

fn has_claim(value: &str, claim: Option<&Value>) -> bool {
    let texts = match claim {
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    texts.iter().any(|text| full(&string_regex(value), text.as_str()))
}

/// One field of a source or operation.
fn field_matches(name: &str, value: &str, view: &RequestView<'_>, any_port: bool) -> bool {
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
            let pattern = string_regex(&value.to_lowercase());
            let alone = host.as_deref().and_then(|host| host.split_once(':')).map(|(host, _)| host);
            full(&pattern, host.as_deref()) || (any_port && full(&pattern, alone))
        }
        "requestPrincipals" | "request.auth.principal" => is_user(value, view),
        "trustDomains" | "source.trustDomain" => {
            full(&value.replace('.', "\\.").replace('*', "[^/]*"), uri.and_then(|uri| uri.split('/').nth(2)))
        }
        "ipBlocks" | "source.ip" => in_block(value, view.connection.map(|connection| connection.peer.ip())),
        "remoteIpBlocks" | "remote.ip" => in_block(value, remote(view)),
        "destination.ip" => in_block(value, view.connection.map(|connection| connection.local.ip())),
        "destination.port" => view.connection.is_some_and(|c| c.local.port().to_string() == value),
        "source.principal" => field_matches("principals", value, view, false),
        "source.namespace" => field_matches("namespaces", value, view, false),
        "source.serviceAccount" => field_matches("serviceAccounts", value, view, false),
        "request.auth.audiences" => has_claim(value, view.principal.and_then(|user| user.claims().get("aud"))),
        "request.auth.claims[groups][eu]" => {
            has_claim(value, view.principal.and_then(|user| user.claims().get("groups")).and_then(|all| all.get("eu")))
        }
        "connection.sni" => full(&string_regex(value), view.sni),
        other => unreachable!("{other}"),
    }
}

fn all_fields_match(fields: &Value, view: &RequestView<'_>, deny: bool) -> bool {
    fields.as_object().unwrap().iter().all(|(name, values)| {
        let positive = name.strip_prefix("not").map(|rest| format!("{}{}", rest[..1].to_lowercase(), &rest[1..]));
        // The port is nobody's way around a value that keeps out.
        let any_port = deny != positive.is_some();
        let any = |name: &str| {
            values.as_array().unwrap().iter().any(|v| field_matches(name, v.as_str().unwrap(), view, any_port))
        };
        positive.map_or_else(|| any(name), |positive| !any(&positive))
    })
}

fn condition_holds(condition: &Value, view: &RequestView<'_>, deny: bool) -> bool {
    let list = |name: &str| condition.get(name).map(|all| all.as_array().unwrap().clone()).unwrap_or_default();
    let (values, not_values, key) = (list("values"), list("notValues"), condition["key"].as_str().unwrap());
    let holds = |is: &dyn Fn(&str) -> bool| {
        (values.is_empty() || values.iter().any(|v| is(v.as_str().unwrap())))
            && !not_values.iter().any(|v| is(v.as_str().unwrap()))
    };
    let Some(name) = key.strip_prefix("request.headers[") else {
        return holds(&|value| field_matches(key, value, view, false));
    };
    let name: HeaderName = name.trim_end_matches(']').parse().unwrap();
    let sent: Vec<_> = view.headers.unwrap().get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
    let one = |sent: &str| holds(&|value| value == "*" || full(&string_regex(value), Some(sent)));
    match (sent.is_empty(), deny) {
        (true, _) => holds(&|_| false),
        (_, true) => sent.into_iter().any(one),
        (_, false) => sent.into_iter().all(one),
    }
}

fn rule_matches(rule: &Value, view: &RequestView<'_>, deny: bool) -> bool {
    let any = |list: &str, inner: &str| {
        let fits = |one: &Value| all_fields_match(&one[inner], view, deny);
        rule.get(list).is_none_or(|all| all.as_array().unwrap().iter().any(fits))
    };
    let when = rule.get("when").map(|all| all.as_array().unwrap().clone()).unwrap_or_default();
    any("from", "source")
        && any("to", "operation")
        && when.iter().all(|condition| condition_holds(condition, view, deny))
}

fn allowed(policies: &[Value], view: &RequestView<'_>) -> bool {
    let of = |action: &'static str| policies.iter().filter(move |policy| policy["spec"]["action"] == action);
    let matches = |policy: &Value| {
        let deny = policy["spec"]["action"] == "DENY";
        policy["spec"]["rules"].as_array().unwrap().iter().any(|rule| rule_matches(rule, view, deny))
    };
    !of("DENY").any(matches) && (of("ALLOW").next().is_none() || of("ALLOW").any(matches))
}

/// What a request has, by draws.
#[derive(Clone, Debug)]
struct Sent {
    peer: Option<SpiffeId>,
    user: Option<RequestPrincipal>,
    connection: Connection,
    sni: Option<&'static str>,
    line: (&'static str, &'static str),
    host: Option<&'static str>,
    headers: HeaderMap,
}

fn sent() -> impl Strategy<Value = Sent> {
    let line = (
        select(&["GET", "PUT", "POST", "DELETE"][..]),
        select(&["/", "/a", "/a/", "/a/c", "/a//b/", "/a/c/b/d", "/x.js", "/x/b", "//b", "/b"][..]),
    );
    let host = option::of(select(&["reviews", "Reviews:9080", "a.SHOP", "shop", ".shop", "reviews:80"][..]));
    let user = option::of((select(&["iss", "https://i/x"][..]), select(&["ada", "eve"][..]), any::<[bool; 2]>()));
    let address = select(&["10.1.1.1", "9.9.9.9", "[::1]"][..]);
    let connection = (address.clone(), address, select(&[80_u16, 9080][..]));
    let values = |values: &'static [&'static str]| vec(select(values), 0..3);
    let headers = (values(&["a", "ab", "", "b"]), values(&["a", "b"]), values(&["10.1.1.1", "9.9.9.9, 10.2.2.2", "x"]));
    let sni = option::of(select(&["reviews", "a.shop"][..]));
    (option::of(select(&PEERS[..])), user, connection, sni, line, host, headers).prop_map(
        |(peer, user, (from, to, port), sni, line, host, (a, b, forwarded))| {
            let mut headers = HeaderMap::new();
            for (name, values) in [("x-a", a), ("x-b", b), ("x-forwarded-for", forwarded)] {
                for value in values {
                    headers.append(name, value.parse().unwrap());
                }
            }
            let user = user.map(|(iss, sub, [list, groups])| {
                let aud = if list { json!(["shop", "web"]) } else { json!("web") };
                let groups = if groups { json!({"eu": ["a", "b"]}) } else { json!({"eu": "bb"}) };
                claims(json!({"iss": iss, "sub": sub, "aud": aud, "groups": groups}))
            });
            let address = |host: &str, port: u16| format!("{host}:{port}").parse().unwrap();
            Sent {
                peer: peer.map(id),
                user,
                connection: Connection::new(address(from, 1), address(to, port)),
                sni,
                line,
                host,
                headers,
            }
        },
    )
}

fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn the_engine_agrees_with_a_naive_reading() {
    let (sets, requests) = (setting("MESH_AUTHZ_SETS", 300), setting("MESH_AUTHZ_REQUESTS", 100));
    let seed = mesh_test::seed();
    println!("MESH_AUTHZ_SETS={sets} MESH_AUTHZ_REQUESTS={requests}");
    let config = Config {
        cases: sets as u32,
        rng_seed: RngSeed::Fixed(seed),
        source_file: Some(file!()),
        failure_persistence: None,
        ..Config::default()
    };
    let counts = RefCell::new([0_u64; 2]);
    TestRunner::new(config)
        .run(&(vec(policy(), 0..4), vec(sent(), requests)), |(documents, all)| {
            let models = documents.iter().map(|value| {
                let mut issues = Issues::default();
                let document = Document::from_value("p", value).unwrap();
                AuthorizationPolicy::from_document(&document, &mut issues).unwrap_or_else(|| panic!("{issues}"))
            });
            let models: Vec<_> = models.collect();
            // No aliases and no cluster.local in the mesh's trust domain: expansion has its own tests.
            let workload = Workload::new("shop", "reviews");
            let set = PolicySet::new(&models, &workload, "istio-system", &TrustDomains::default());
            for sent in all {
                let view = RequestView {
                    peer: sent.peer.as_ref(),
                    principal: sent.user.as_ref(),
                    connection: Some(sent.connection),
                    sni: sent.sni,
                    host: sent.host,
                    headers: Some(&sent.headers),
                    ..RequestView::new(sent.line.0, sent.line.1)
                };
                let decided = set.decide(&view).is_allowed();
                prop_assert_eq!(decided, allowed(&documents, &view), "{:?}", view);
                counts.borrow_mut()[usize::from(decided)] += 1;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("MESH_SEED={seed}: {error}"));
    let [denied, let_in] = counts.into_inner();
    println!("{denied} denied, {let_in} let in");
    assert!(denied * 5 >= let_in && let_in * 5 >= denied, "one verdict is rare: {denied} to {let_in}");
}
