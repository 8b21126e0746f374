//! Random rules.

use crate::{
    conditions::matches,
    dice::Dice,
    model::{
        Abort, Action, CLIENT_NAMESPACE, Cors, Destination, Fault, Headers, Match, Mirror, Operations, Percent,
        Redirect, Retries, Rewrite, Rule, Text,
    },
    patterns,
};

/// Names that header operations touch: some are sent by requests and upstreams, some are not.
const TOUCHED: [&str; 6] = ["x-a", "x-one", "X-Two", "end-user", "x-up-many", "x-agent"];
/// The words of `retryOn`, and status codes.
pub(crate) const RETRY_ON: [&str; 19] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "503",
    "429",
    "404",
];

const GRPC: [(&str, u8); 5] =
    [("CANCELLED", 1), ("UNKNOWN", 2), ("NOT_FOUND", 5), ("UNAVAILABLE", 14), ("UNAUTHENTICATED", 16)];

/// Longer than three waits between attempts at Istio's back-off (175 ms at most), shorter than an upstream that hangs:
/// which of them ends a request is no matter of chance.
const SHORT_TIMEOUT: u64 = 250;
const LONG_TIMEOUT: u64 = 20_000;

/// Who the rule is for: how requests may spell its hosts, and what its names begin with.
#[derive(Clone, Debug)]
pub(crate) struct For<'a> {
    pub(crate) hosts: &'a [String],
    pub(crate) namespace: &'a str,
    pub(crate) prefix: String,
    /// May they have what Istio calls deprecated?
    pub(crate) old_spelling: bool,
}

/// Some rules.
pub(crate) fn rules(dice: &mut Dice, of: &For<'_>, most: usize) -> Vec<Rule> {
    let count = 1 + dice.below(most);
    (0..count).map(|index| rule(dice, of, index, index + 1 == count)).collect()
}

fn rule(dice: &mut Dice, of: &For<'_>, index: usize, last: bool) -> Rule {
    let catch_all = dice.chance(if last { 9 } else { 1 });
    let entries = if catch_all { 0 } else { 1 + dice.below(2) + dice.below(2) };
    let plain = dice.chance(30);
    let action = match dice.below(100) {
        0..=9 => Action::Redirect(redirect(dice)),
        10..=15 => direct_response(dice),
        _ => Action::Route(destinations(dice, of)),
    };
    // A rule that answers by itself has neither a fault nor a rewrite.
    let forwards = matches!(action, Action::Route(_));
    let mut rule = Rule {
        matches: (0..entries).map(|entry| named(matches(dice, of), format!("m{entry}"))).collect(),
        rewrite: (forwards && dice.chance(20)).then(|| rewrite(dice)),
        cors: dice.chance(12).then(|| cors(dice)),
        headers: if plain { Headers::default() } else { headers(dice) },
        timeout_ms: dice.chance(20).then(|| *dice.pick(&[SHORT_TIMEOUT, LONG_TIMEOUT, LONG_TIMEOUT])),
        retries: dice.chance(70).then(|| retries(dice)),
        fault: if forwards && dice.chance(25) { fault(dice) } else { Fault::default() },
        ..Rule::new(format!("{}r{index}", of.prefix), action)
    };
    if dice.chance(15) {
        mirror(dice, &mut rule);
    }
    rule.old_spelling = of.old_spelling && dice.chance(50);
    // A rule without a name is told by those of its entries.
    if entries == 1 && dice.chance(3) {
        rule.matches[0].name = format!("{}only{index}", of.prefix);
        rule.name.clear();
    }
    rule
}

fn named(entry: Match, name: String) -> Match {
    Match { name, ..entry }
}

/// `mirror` with its percentage, or `mirrors`.
fn mirror(dice: &mut Dice, rule: &mut Rule) {
    let percent = |dice: &mut Dice| -> Percent { *dice.pick(&[None, Some(100), Some(100), Some(0)]) };
    let to = |dice: &mut Dice| {
        let host = *dice.pick(&["shadow", "shadow", "shade", "shade", "shade", "dead", "ghost"]);
        let port = (host == "shade" && dice.chance(80)).then(|| *dice.pick(&[80, 8080]));
        Mirror { host: full(host), port, percent: None }
    };
    if dice.chance(50) {
        rule.mirror = Some(to(dice));
        rule.mirror_percent = percent(dice);
    } else {
        let mut mirrors: Vec<Mirror> = Vec::new();
        for _ in 0..=dice.below(3) {
            let next = Mirror { percent: percent(dice), ..to(dice) };
            mirrors.push(next);
        }
        rule.mirrors = mirrors;
    }
}

/// In full: rules are written in several namespaces.
fn full(service: &str) -> String {
    format!("{service}.default.svc.cluster.local")
}

fn redirect(dice: &mut Dice) -> Redirect {
    let mut to = Redirect {
        uri: dice.chance(60).then(|| (*dice.pick(&["/new", "/new?x=1", "/a%20b"])).into()),
        authority: dice.chance(50).then(|| (*dice.pick(&["other.test", "other.test:8443"])).into()),
        scheme: dice.chance(40).then(|| *dice.pick(&["http", "https"])),
        prefix: None,
        port: dice.chance(25).then(|| *dice.pick(&[8081, 80, 443])),
        derive_port: None,
        code: *dice.pick(&[None, Some(301), Some(302), Some(303), Some(307), Some(308)]),
    };
    if to.uri.is_none() && dice.chance(70) {
        to.prefix = Some((*dice.pick(&["/", "/new", "/new/", "/a%20b"])).into());
    }
    if to.port.is_none() && dice.chance(30) {
        to.derive_port = Some(*dice.pick(&["FROM_REQUEST_PORT", "FROM_REQUEST_PORT", "FROM_PROTOCOL_DEFAULT"]));
    }
    let says = [to.uri.is_some(), to.prefix.is_some(), to.authority.is_some(), to.scheme.is_some(), to.port.is_some()];
    if !says.contains(&true) && to.derive_port.is_none() {
        to.uri = Some("/only".into());
    }
    to
}

fn direct_response(dice: &mut Dice) -> Action {
    let status = u16::try_from(*dice.pick(&[200, 204, 404, 418, 503, 555])).expect("a status");
    let body = (status != 204 && dice.chance(60)).then(|| (*dice.pick(&["teapot", "{}", "caf\u{e9}"])).into());
    Action::DirectResponse { status, body }
}

fn rewrite(dice: &mut Dice) -> Rewrite {
    let mut to = Rewrite::default();
    match dice.below(10) {
        0..=5 => to.uri = Some((*dice.pick(&["/", "/new", "/new/", "/n%2Fw"])).into()),
        6..=8 => {
            let all =
                [("a", "b"), ("^/([^/]+)(/.*)?$", r"/\1-\1\2"), ("/+", "/"), ("(?i)users|api", "x"), ("$", "/end")];
            to.regex = Some(*dice.pick(&all));
        }
        _ => {}
    }
    if dice.chance(30) || (to.uri.is_none() && to.regex.is_none()) {
        to.authority = Some((*dice.pick(&["rewritten.test", "Other.test:81"])).into());
    }
    to
}

fn cors(dice: &mut Dice) -> Cors {
    let origin = |dice: &mut Dice| match dice.below(3) {
        0 => Text::Exact((*dice.pick(&["https://ok.test", "*"])).into()),
        1 => Text::Prefix("https://pre.".into()),
        _ => Text::Regex(&patterns::ORIGIN),
    };
    let list = |dice: &mut Dice, all: &[&'static str]| all[..dice.below(all.len() + 1)].to_vec();
    Cors {
        origins: (0..1 + dice.below(3)).map(|_| origin(dice)).collect(),
        methods: list(dice, &["GET", "POST"]),
        headers: list(dice, &["x-foo", "x-bar"]),
        expose: list(dice, &["x-up", "x-one"]),
        max_age: dice.chance(40).then_some(86_400),
        credentials: *dice.pick(&[None, Some(true), Some(false)]),
        unmatched: *dice.pick(&[None, Some("FORWARD"), Some("IGNORE")]),
    }
}

fn destinations(dice: &mut Dice, of: &For<'_>) -> Vec<Destination> {
    let count = *dice.pick(&[1, 1, 1, 2, 2, 3, 4]);
    let mut all: Vec<_> = (0..count)
        .map(|_| {
            let mut to = Destination {
                host: (*dice.pick(&["a", "a", "a", "b", "c", "c", "dead", "ghost"])).into(),
                weight: (count > 1).then(|| u32::try_from(*dice.pick(&[0, 1, 2, 30, 70, 100])).expect("small")),
                headers: if dice.chance(40) { headers(dice) } else { Headers::default() },
                ..Destination::default()
            };
            // `dead` and `ghost` are for the minority.
            if dice.chance(50) && (to.host == "dead" || to.host == "ghost") {
                to.host = "b".into();
            }
            to.port = match &*to.host {
                "c" => dice.chance(70).then(|| *dice.pick(&[80, 8080])),
                "b" => dice.chance(20).then_some(8080),
                _ => None,
            };
            to.subset = (to.host == "a" && dice.chance(15)).then(|| (*dice.pick(&["v1", "v1", "v9"])).into());
            // Short names are of the rule's own namespace, where such a service may not be.
            if dice.chance(if of.namespace == CLIENT_NAMESPACE { 50 } else { 92 }) {
                to.host = full(&to.host);
            }
            to
        })
        .collect();
    if count > 1 && all.iter().all(|to| to.weight == Some(0)) {
        all[0].weight = Some(1);
    }
    all
}

fn headers(dice: &mut Dice) -> Headers {
    let mut both = Headers::default();
    if dice.chance(60) {
        both.request = operations(dice);
        if dice.chance(12) {
            let name = *dice.pick(&[":authority", "host", "Host"]);
            let pair = (name.to_owned(), "rewritten.test:8".to_owned());
            if dice.chance(50) { both.request.set.push(pair) } else { both.request.add.push(pair) }
        }
    }
    if dice.chance(50) {
        both.response = operations(dice);
    }
    both
}

fn operations(dice: &mut Dice) -> Operations {
    let mut ops = Operations::default();
    let pairs = |dice: &mut Dice| {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for _ in 0..1 + dice.below(2) {
            let name = (*dice.pick(&TOUCHED)).to_owned();
            if pairs.iter().all(|(known, _)| *known != name) {
                pairs.push((name, (*dice.pick(&["1", "two", "a, b", "100%%"])).into()));
            }
        }
        pairs
    };
    if dice.chance(50) {
        ops.set = pairs(dice);
    }
    if dice.chance(50) {
        ops.add = pairs(dice);
    }
    if dice.chance(40) {
        ops.remove = pairs(dice).into_iter().map(|(name, _)| name).collect();
    }
    ops
}

fn retries(dice: &mut Dice) -> Retries {
    let attempts = u32::try_from(*dice.pick(&[0, 1, 1, 2, 2, 3])).expect("small");
    if attempts == 0 {
        return Retries::default();
    }
    let words = dice.below(5);
    let mut on: Vec<&'static str> = Vec::new();
    for _ in 0..words {
        let word = *dice.pick(&RETRY_ON);
        if !on.contains(&word) {
            on.push(word);
        }
    }
    Retries {
        attempts,
        on,
        per_try_ms: dice.chance(15).then(|| *dice.pick(&[SHORT_TIMEOUT + 50, LONG_TIMEOUT])),
        // Istio's default of 25 ms would be most of the time that a run takes.
        backoff_ms: dice.chance(90).then_some(1),
    }
}

fn fault(dice: &mut Dice) -> Fault {
    let percent = |dice: &mut Dice| -> Percent { *dice.pick(&[Some(100), Some(100), Some(100), Some(0), None]) };
    let mut fault = Fault::default();
    if dice.chance(50) {
        fault.delay = Some((1 + dice.below(5) as u64, percent(dice)));
    }
    if fault.delay.is_none() || dice.chance(50) {
        let abort = if dice.chance(48) {
            let (name, code) = *dice.pick(&GRPC);
            Abort::Grpc(name, code)
        } else {
            Abort::Http(u16::try_from(*dice.pick(&[200, 400, 404, 429, 500, 503, 555, 599])).expect("a status"))
        };
        fault.abort = Some((abort, percent(dice)));
    }
    fault
}
