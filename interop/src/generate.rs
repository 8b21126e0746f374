//! Random tables.

use crate::{
    dice::Dice,
    model::{
        Abort, Action, Cors, Destination, Fault, Headers, Match, Operations, PORTS, Percent, Redirect, Retries,
        Rewrite, Rule, Table, Text,
    },
    patterns,
};

const SEGMENTS: [&str; 12] =
    ["a", "b", "api", "v1", "Users", "~u", "x.y", "sp%20ace", "q;r=1", "%C3%A9", "UPPER", "a-long-segment-of-a-path"];
pub(crate) const HEADERS: [&str; 6] = ["x-a", "X-Mixed-Case", "end-user", "cookie", "x-empty", "user-agent"];
pub(crate) const PARAMETERS: [&str; 5] = ["k", "K", "id", "flag", "a%20b"];
pub(crate) const LITERALS: [&str; 9] = ["caf\u{e9}", "v", "V", "", "jason", "a,b", "two words", "a%20b", "1"];
/// Names that header operations touch: some are sent by requests and upstreams, some are not.
const TOUCHED: [&str; 6] = ["x-a", "x-one", "X-Two", "end-user", "x-up-many", "x-agent"];
pub(crate) const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "PURGE"];

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

/// A table.
pub(crate) fn table(dice: &mut Dice, number: usize) -> Table {
    let count = 1 + dice.below(6);
    let wildcard = dice.chance(10);
    let mut rules: Vec<_> = (0..count).map(|index| rule(dice, number, index, index + 1 == count)).collect();
    if wildcard {
        // Istio gives a host that no service has a virtual host on port 80 only. Here every port reaches it.
        rules.iter_mut().flat_map(|rule| &mut rule.matches).for_each(|entry| entry.port = None);
    }
    Table { number, wildcard, rules }
}

fn rule(dice: &mut Dice, table: usize, index: usize, last: bool) -> Rule {
    let catch_all = dice.chance(if last { 12 } else { 1 });
    let entries = if catch_all { 0 } else { 1 + dice.below(2) + dice.below(2) };
    let plain = dice.chance(30);
    let action = match dice.below(100) {
        0..=5 => Action::Redirect(redirect(dice)),
        6..=10 => direct_response(dice),
        _ => Action::Route(destinations(dice)),
    };
    // A rule that answers by itself has neither a fault nor a rewrite.
    let forwards = matches!(action, Action::Route(_));
    Rule {
        name: format!("r{index}"),
        matches: (0..entries).map(|_| matches(dice, table)).collect(),
        action,
        rewrite: (forwards && dice.chance(20)).then(|| rewrite(dice)),
        cors: dice.chance(12).then(|| cors(dice)),
        headers: if plain { Headers::default() } else { headers(dice) },
        timeout_ms: dice.chance(20).then(|| *dice.pick(&[SHORT_TIMEOUT, LONG_TIMEOUT, LONG_TIMEOUT])),
        retries: dice.chance(70).then(|| retries(dice)),
        fault: if forwards && dice.chance(25) { fault(dice) } else { Fault::default() },
    }
}

fn matches(dice: &mut Dice, table: usize) -> Match {
    let mut entry = Match::default();
    if dice.chance(85) {
        entry.uri = Some(match dice.below(10) {
            0..=2 => Text::Exact(path(dice)),
            3..=6 => Text::Prefix(prefix(dice)),
            _ => Text::Regex(dice.pick(&patterns::PATHS)),
        });
        entry.ignore_case = dice.chance(25);
    }
    if dice.chance(12) {
        entry.method = Some(match dice.below(3) {
            0 => Text::Exact((*dice.pick(&METHODS)).into()),
            1 => Text::Prefix((*dice.pick(&["P", "G", "PU"])).into()),
            _ => Text::Regex(dice.pick(&patterns::METHODS)),
        });
    }
    if dice.chance(12) {
        entry.scheme = Some(match dice.below(3) {
            0 => Text::Exact((*dice.pick(&["http", "https"])).into()),
            1 => Text::Prefix((*dice.pick(&["http", "https"])).into()),
            _ => Text::Regex(&patterns::VALUES[1]),
        });
    }
    if dice.chance(15) {
        entry.authority = Some(match dice.below(5) {
            0..=1 => Text::Prefix((*dice.pick(&["t", "t", "T", "x."])).into()),
            2 => Text::Regex(&patterns::VALUES[1]),
            // The port counts here, though it does not where the virtual host is found.
            _ => Text::Exact(format!("t{table}{}", dice.pick(&["", ":80", ":1234", ".default.svc"]))),
        });
    }
    if dice.chance(30) {
        entry.headers = conditions(dice, &HEADERS);
    }
    if dice.chance(20) {
        entry.without = conditions(dice, &HEADERS);
    }
    if dice.chance(25) {
        entry.query = conditions(dice, &PARAMETERS);
    }
    if entry.is_catch_all() && dice.chance(90) {
        entry.uri = Some(Text::Prefix(path(dice)));
    }
    entry.port = dice.chance(10).then(|| *dice.pick(&PORTS));
    entry
}

/// One or two conditions on different names.
fn conditions(dice: &mut Dice, names: &[&str]) -> Vec<(String, Text)> {
    let mut chosen = vec![*dice.pick(names)];
    if dice.chance(25) {
        let other = *dice.pick(names);
        if !chosen.iter().any(|name| name.eq_ignore_ascii_case(other)) {
            chosen.push(other);
        }
    }
    chosen.into_iter().map(|name| (name.to_owned(), value(dice))).collect()
}

fn value(dice: &mut Dice) -> Text {
    match dice.below(10) {
        0..=3 => Text::Exact((*dice.pick(&LITERALS)).into()),
        4..=5 => Text::Prefix((*dice.pick(&["v", "j", "a", "two", "A"])).into()),
        6..=7 => Text::Regex(dice.pick(&patterns::VALUES)),
        _ => Text::Present,
    }
}

pub(crate) fn path(dice: &mut Dice) -> String {
    let mut path = String::new();
    for _ in 0..=dice.below(3) {
        path.push('/');
        path.push_str(dice.pick::<&str>(&SEGMENTS));
    }
    if dice.chance(15) {
        path.push('/');
    }
    path
}

fn prefix(dice: &mut Dice) -> String {
    match dice.below(20) {
        0 => "/".into(),
        1 => String::new(),
        2 => "//a".into(),
        _ => {
            let mut whole = path(dice);
            // Of a segment too: a prefix is one of strings.
            if dice.chance(30) {
                let keep = 1 + dice.below(whole.len());
                whole.truncate(keep);
            }
            whole
        }
    }
}

fn redirect(dice: &mut Dice) -> Redirect {
    let mut to = Redirect {
        uri: dice.chance(60).then(|| (*dice.pick(&["/new", "/new?x=1", "/a%20b"])).into()),
        authority: dice.chance(50).then(|| (*dice.pick(&["other.test", "other.test:8443"])).into()),
        scheme: dice.chance(40).then(|| *dice.pick(&["http", "https"])),
        port: dice.chance(25).then_some(8081),
        code: *dice.pick(&[None, Some(301), Some(302), Some(303), Some(307), Some(308)]),
    };
    if to.uri.is_none() && to.authority.is_none() && to.scheme.is_none() && to.port.is_none() {
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

fn destinations(dice: &mut Dice) -> Vec<Destination> {
    let count = *dice.pick(&[1, 1, 1, 2, 2, 3, 4]);
    let mut all: Vec<_> = (0..count)
        .map(|_| {
            let mut to = Destination {
                host: (*dice.pick(&["a", "a", "b", "c", "c", "dead", "ghost", "a.default.svc.cluster.local"])).into(),
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
            to.subset = (to.host == "a" && dice.chance(6)).then(|| "v9".into());
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
