//! The index against the scan that it replaces.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    test_runner::{Config, RngSeed, TestRunner},
};
use rand::{SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::Index;
use crate::{
    RequestHead,
    matcher::{Named, RouteMatch},
    re2,
    string_match::StringMatch,
};

/// A condition before it is compiled, so that a failure can be read.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Exact(String),
    Prefix(String),
    Segments(String),
    Regex(&'static str),
}

/// Regexes, each with values that some of them match.
const PATH_REGEXES: [&str; 21] = [
    ".*",
    "/.*",
    "/a/[0-9]+",
    "/a/[0-9]+/b",
    "/svc[0-9]/a",
    ".*/b",
    ".*/svc1/.*",
    "/[a-z]+/b.*",
    "/(a|b)/.*",
    "/(?:svc1|b)(?:/.*)?",
    "(/a)+",
    "(?i)/A/b",
    "/(?i:svc1)/A.*",
    "/a\\b.*",
    "[^/]*",
    "/a|/b|/a/b",
    "(?:.*/b){2}",
    "/a?b",
    "(?:/svc1)?/b",
    "/a(?:/b|/svc1/a)*",
    "(?:/svc1|/b)(?:/a)?",
];
const SEGMENTS: [&str; 9] = ["a", "b", "A", "ab", "svc1", "svc2", "svc12", "7", ""];
const VALUES: [&str; 6] = ["", "a", "ab", "v1", "v2", "b,a"];
const VALUE_REGEXES: [&str; 5] = [".*", "v[0-9]", "a.*", ".*b", "(?:a|v1)"];
const METHODS: [&str; 3] = ["GET", "PUT", "POST"];
const HOSTS: [&str; 3] = ["a", "a:80", "b"];

/// HTTPMatchRequest before it is compiled.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    uri: Option<Text>,
    ignore_uri_case: bool,
    method: Option<Text>,
    authority: Option<Text>,
    scheme: Option<Text>,
    headers: Vec<(usize, Option<Text>)>,
    without: Vec<(usize, Option<Text>)>,
    query: Vec<(usize, Option<Text>)>,
    port: Option<u16>,
}

fn compile(text: &Text) -> StringMatch {
    match text {
        Text::Exact(text) => StringMatch::Exact(text.as_str().into()),
        Text::Prefix(text) => StringMatch::Prefix(text.as_str().into()),
        Text::Segments(text) => StringMatch::Segments(text.trim_end_matches('/').into()),
        Text::Regex(pattern) => StringMatch::Regex(re2::compile(pattern).unwrap().into()),
    }
}

fn header(index: usize) -> HeaderName {
    format!("x-{index}").parse().unwrap()
}

fn named<K>(conditions: &[(usize, Option<Text>)], name: impl Fn(usize) -> K) -> Box<[Named<K>]> {
    let one = |(index, value): &(usize, Option<Text>)| Named { name: name(*index), value: value.as_ref().map(compile) };
    conditions.iter().map(one).collect()
}

impl Text {
    /// The same in YAML.
    fn yaml(&self) -> String {
        match self {
            Self::Exact(text) => format!("{{exact: {text:?}}}"),
            Self::Prefix(text) | Self::Segments(text) => format!("{{prefix: {text:?}}}"),
            Self::Regex(text) => format!("{{regex: {text:?}}}"),
        }
    }
}

impl Rule {
    /// The same in YAML. Istio refuses an empty prefix but for a path, so that presence stands for it.
    pub(crate) fn yaml(&self) -> String {
        let conditions = |list: &[(usize, Option<Text>)], letter: &str| {
            let named: BTreeMap<_, _> = list.iter().map(|(index, value)| (index, value)).collect();
            let one = |(index, value): (&usize, &Option<Text>)| {
                let value = value.as_ref().filter(|value| !matches!(value, Text::Prefix(text) if text.is_empty()));
                format!("{letter}{index}: {}", value.map_or_else(|| "{}".into(), Text::yaml))
            };
            named.into_iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let plain =
            [("uri", &self.uri), ("method", &self.method), ("authority", &self.authority), ("scheme", &self.scheme)];
        let plain = plain.into_iter().filter_map(|(name, text)| Some(format!("{name}: {}, ", text.as_ref()?.yaml())));
        let port = self.port.map(|port| format!("port: {port}, ")).unwrap_or_default();
        format!(
            "{{{}{port}ignoreUriCase: {}, headers: {{{}}}, withoutHeaders: {{{}}}, queryParams: {{{}}}}}",
            plain.collect::<String>(),
            self.ignore_uri_case,
            conditions(&self.headers, "x-"),
            conditions(&self.without, "x-"),
            conditions(&self.query, "q"),
        )
    }

    fn compile(&self) -> RouteMatch {
        RouteMatch {
            uri: self.uri.as_ref().map(compile),
            ignore_uri_case: self.ignore_uri_case,
            method: self.method.as_ref().map(compile),
            authority: self.authority.as_ref().map(compile),
            scheme: self.scheme.as_ref().map(compile),
            headers: named(&self.headers, header),
            without_headers: named(&self.without, header),
            query: named(&self.query, |index| format!("q{index}").into()),
            port: self.port,
            ..RouteMatch::default()
        }
    }
}

fn path() -> impl Strategy<Value = String> {
    path_of(0)
}

fn path_of(least: usize) -> impl Strategy<Value = String> {
    vec(select(&SEGMENTS[..]), least..4)
        .prop_map(|segments| segments.iter().fold(String::new(), |path, s| path + "/" + s))
}

fn uri() -> impl Strategy<Value = Text> {
    prop_oneof![
        8 => path().prop_map(Text::Exact),
        2 => path().prop_map(Text::Prefix),
        // Seldom `/`: behind a catch-all nothing is compared.
        2 => path_of(1).prop_map(Text::Segments),
        2 => select(&PATH_REGEXES[..]).prop_map(Text::Regex),
    ]
}

fn value() -> impl Strategy<Value = Text> {
    let value = || select(&VALUES[..]).prop_map(str::to_owned);
    prop_oneof![
        4 => value().prop_map(Text::Exact),
        2 => value().prop_map(Text::Prefix),
        2 => select(&VALUE_REGEXES[..]).prop_map(Text::Regex),
    ]
}

fn one_of(all: &'static [&'static str]) -> impl Strategy<Value = Text> {
    let exact = || select(all).prop_map(str::to_owned);
    prop_oneof![3 => exact().prop_map(Text::Exact), 1 => exact().prop_map(|text| Text::Prefix(text[..1].into()))]
}

/// Rules that ask for `names` different headers and parameters.
fn rule(names: usize) -> impl Strategy<Value = Rule> {
    let conditions = move |most| vec((0..names, option::weighted(0.9, value())), 0..most);
    let rare = |all| option::weighted(0.05, one_of(all));
    let uri = option::weighted(0.9, uri());
    let named = (conditions(3), conditions(2), conditions(2), 0..8_u8);
    let named = named.prop_map(|(headers, without, query, which)| {
        let none = Vec::new;
        match which {
            0 => (headers, none(), none()),
            1 => (none(), without, none()),
            2 => (none(), none(), query),
            3 => (headers, without, query),
            _ => (none(), none(), none()),
        }
    });
    let rest = (rare(&METHODS), rare(&HOSTS), rare(&["http", "https"]), option::weighted(0.02, 80..82_u16));
    (uri, prop::bool::weighted(0.1), named, rest).prop_map(
        |(uri, ignore_uri_case, (headers, without, query), (method, authority, scheme, port))| Rule {
            uri,
            ignore_uri_case,
            method,
            authority,
            scheme,
            headers,
            without,
            query,
            port,
        },
    )
}

/// Tables of all kinds: short and long; the mix; one path for all; headers or regexes only.
pub(crate) fn table() -> impl Strategy<Value = Vec<Rule>> {
    let any = |names| vec(rule(names), 0..40);
    let one_path = (any(3), option::of(uri())).prop_map(|(mut rules, path)| {
        rules.iter_mut().for_each(|rule| rule.uri.clone_from(&path));
        rules
    });
    let regexes = (any(2), vec(select(&PATH_REGEXES[..]), 40)).prop_map(|(mut rules, patterns)| {
        rules.iter_mut().zip(patterns).for_each(|(rule, pattern)| rule.uri = Some(Text::Regex(pattern)));
        rules
    });
    prop_oneof![4 => any(2), 2 => vec(rule(40), 60..160), 2 => one_path, 1 => regexes]
}

/// A request, owned.
#[derive(Debug)]
pub(crate) struct Sent {
    method: &'static str,
    scheme: &'static str,
    authority: &'static str,
    port: u16,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

/// A request that a rule of the table asks for, more or less.
pub(crate) fn request(rules: &[Rule], seed: u64) -> Sent {
    let rng = &mut StdRng::seed_from_u64(seed);
    let random_path = |rng: &mut StdRng| {
        let count = rng.random_range(0..4);
        (0..count).fold(String::new(), |path, _| path + "/" + SEGMENTS.choose(rng).unwrap())
    };
    let rule = rules.choose(rng).filter(|_| rng.random_bool(0.8));
    let mut path = match rule.and_then(|rule| rule.uri.as_ref()) {
        Some(Text::Exact(path)) => path.clone(),
        Some(Text::Prefix(prefix) | Text::Segments(prefix)) => prefix.clone() + &random_path(rng),
        _ => random_path(rng),
    };
    match rng.random_range(0..10) {
        0 => path.push_str(SEGMENTS.choose(rng).unwrap()),
        1 => path.make_ascii_uppercase(),
        2 => drop(path.pop()),
        _ => {}
    }
    let mut text = |wanted: Option<&Text>, all: &[&'static str]| match wanted {
        Some(Text::Exact(text) | Text::Prefix(text)) if rng.random_bool(0.9) => text.clone(),
        _ => (*all.choose(rng).unwrap()).to_owned(),
    };
    let mut headers = HeaderMap::new();
    let mut query = Vec::new();
    if let Some(rule) = rule {
        for (index, wanted) in &rule.headers {
            headers.append(header(*index), text(wanted.as_ref(), &VALUES).parse().unwrap());
        }
        for (index, wanted) in &rule.query {
            query.push(format!("q{index}={}", text(wanted.as_ref(), &VALUES)));
        }
    }
    for _ in 0..rng.random_range(0..3) {
        let value = HeaderValue::from_static(VALUES.choose(rng).unwrap());
        headers.append(header(rng.random_range(0..4)), value);
        query.push(format!("q{}={}", rng.random_range(0..4), VALUES.choose(rng).unwrap()));
    }
    Sent {
        method: METHODS.choose(rng).unwrap(),
        scheme: ["http", "https"].choose(rng).unwrap(),
        authority: HOSTS.choose(rng).unwrap(),
        port: rng.random_range(80..82),
        path,
        query: (!query.is_empty()).then(|| query.join("&")),
        headers,
    }
}

impl Sent {
    pub(crate) fn request(&self) -> Request<()> {
        let path = if self.path.starts_with('/') { self.path.clone() } else { format!("/{}", self.path) };
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let uri = format!("{}://{}:{}{path}{query}", self.scheme, self.authority.trim_end_matches(":80"), self.port);
        let mut request = Request::builder().method(self.method).uri(uri).body(()).unwrap();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert("host", HeaderValue::from_static(self.authority));
        request
    }

    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: self.method,
            scheme: self.scheme,
            authority: self.authority,
            port: self.port,
            path: Cow::Borrowed(&self.path),
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }
}

/// An environment variable, or what is quick enough for every `cargo test`.
pub(crate) fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// istio networking/v1alpha3 VirtualService.http: "The first rule matching an incoming request is used."
#[test]
fn agrees_with_a_scan_from_the_top() {
    let cases = u32::try_from(setting("MESH_ROUTE_TABLES", 64)).unwrap();
    let requests = usize::try_from(setting("MESH_ROUTE_REQUESTS", 500)).unwrap();
    let seed = setting("MESH_ROUTE_SEED", 1);
    println!("MESH_ROUTE_SEED={seed} MESH_ROUTE_TABLES={cases} MESH_ROUTE_REQUESTS={requests}");
    let config = Config { cases, rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    let config = Config { source_file: Some(file!()), ..config };
    let (mut compared, mut hits, mut later, mut numbers) = (0_u64, 0_u64, 0_u64, BTreeSet::new());
    let seen = std::cell::RefCell::new((&mut compared, &mut hits, &mut later, &mut numbers));
    TestRunner::new(config)
        .run(&(table(), vec(any::<u64>(), requests)), |(rules, seeds)| {
            let matchers: Vec<_> = rules.iter().map(Rule::compile).collect();
            let index = Index::new(matchers.iter().map(Some));
            for seed in seeds {
                let sent = request(&rules, seed);
                let head = sent.head();
                let scan = matchers.iter().position(|matcher| matcher.matches(&head));
                prop_assert_eq!(index.first(&head, |at| matchers[at].matches(&head)), scan, "{:?}", sent);
                let mut seen = seen.borrow_mut();
                *seen.0 += 1;
                *seen.1 += u64::from(scan.is_some());
                *seen.2 += u64::from(scan.is_some_and(|at| at >= 10));
                seen.3.extend(scan);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("MESH_ROUTE_SEED={seed}: {error}"));
    println!("{compared} compared, {hits} matched, {later} at the tenth route or later, {} routes", numbers.len());
    assert!(hits * 10 >= compared * 6, "the requests do not meet the rules");
    // An eighth of them, give or take a third of that over 64 tables, of which most are small: CI has 2,000.
    assert!(cases < 500 || later * 10 >= compared, "the requests do not meet later rules");
}

/// Tables made to be deep or to share everything: the answer stays, and so does the stack.
#[test]
fn tables_made_to_be_slow_are_right() {
    let nested = |n: usize| Some(Text::Prefix("/a".repeat(n + 1)));
    let names = |n: usize| vec![(n, Some(Text::Exact("a".into())))];
    let shared = |_| Some(Text::Regex("/[a-z]+/b.*"));
    let none = Rule {
        uri: None,
        ignore_uri_case: false,
        method: None,
        authority: None,
        scheme: None,
        headers: Vec::new(),
        without: Vec::new(),
        query: Vec::new(),
        port: None,
    };
    let table = |rule: &dyn Fn(usize) -> Rule| (0..2_000).rev().map(rule).collect::<Vec<_>>();
    for rules in [
        table(&|n| Rule { uri: nested(n), ..none.clone() }),
        table(&|n| Rule { headers: names(n), ..none.clone() }),
        table(&|n| Rule { uri: shared(n), headers: names(n), ..none.clone() }),
        table(&|n| Rule { uri: shared(n), without: names(n), ..none.clone() }),
        table(&|_| none.clone()),
    ] {
        let matchers: Vec<_> = rules.iter().map(Rule::compile).collect();
        let index = Index::new(matchers.iter().map(Some));
        for seed in 0..200 {
            let sent = request(&rules, seed);
            let head = sent.head();
            let scan = matchers.iter().position(|matcher| matcher.matches(&head));
            assert_eq!(index.first(&head, |at| matchers[at].matches(&head)), scan, "{sent:?}");
        }
    }
}

/// A client may repeat in a path or a query what routes look for, as often as there is room: it costs one look more, and
/// not another question to every route.
#[test]
fn a_request_that_repeats_itself_asks_no_route_twice() {
    let none = RouteMatch::default;
    let regex = |pattern: String| Some(StringMatch::Regex(re2::compile(&pattern).unwrap().into()));
    // Half of them have each text: what all have parts nothing.
    let half = |n: usize| if n.is_multiple_of(2) { "items" } else { "others" };
    let paths = (0..100).map(|n| RouteMatch { uri: regex(format!(".*/{}/.*{n}x", half(n))), ..none() });
    let parameter = |n: usize| Named { name: half(n).into(), value: regex(format!("[a-z]*[0-{}]", n % 10)) };
    let queries = (0..100).map(|n| RouteMatch { query: [parameter(n)].into(), ..none() });
    let parameter = |n: usize| Named { name: format!("q{n}").into(), value: regex("[0-9]*".into()) };
    let names = (0..100).map(|n| RouteMatch { query: [parameter(n)].into(), ..none() });
    let (paths, queries, names): (Vec<_>, Vec<_>, Vec<_>) = (paths.collect(), queries.collect(), names.collect());
    let condition = |n: usize| Named { name: header(n % 2), value: regex(format!("[a-z]*[0-{}]", n % 10)) };
    let headers: Vec<_> = (0..100).map(|n| RouteMatch { headers: [condition(n)].into(), ..none() }).collect();
    let mut lines = HeaderMap::new();
    for _ in 0..100 {
        lines.append(header(0), HeaderValue::from_static("a"));
    }
    let repeated = |text: &str| text.repeat(1_000);
    let every: String = (0..100).map(|n| format!("q{n}=a&")).collect();
    for (matchers, path, query) in [
        (&paths, repeated("/items/"), None),
        (&queries, "/".into(), Some(repeated("items=a&"))),
        (&names, "/".into(), Some(repeated(&every))),
        (&headers, "/".into(), None),
    ] {
        let index = Index::new(matchers.iter().map(Some));
        let asked = std::cell::Cell::new(0);
        let head = RequestHead {
            method: "GET",
            scheme: "http",
            authority: "a",
            port: 80,
            path: Cow::Borrowed(&path),
            query: query.as_deref(),
            headers: &lines,
        };
        let found = index.first(&head, |at| {
            asked.set(asked.get() + 1);
            matchers[at].matches(&head)
        });
        assert_eq!(found, None);
        assert!(asked.get() <= matchers.len(), "{} questions to {} routes", asked.get(), matchers.len());
    }
}
