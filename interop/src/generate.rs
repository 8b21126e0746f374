//! Random tables, and requests derived from them.

use crate::{
    dice::Dice,
    model::{
        Abort, Action, Destination, Fault, Headers, Match, Operations, PORTS, Percent, Request, Retries, Rule, Step,
        Table, Text,
    },
    patterns::{self, Pattern},
};

const SEGMENTS: [&str; 12] =
    ["a", "b", "api", "v1", "Users", "~u", "x.y", "sp%20ace", "q;r=1", "%C3%A9", "UPPER", "a-long-segment-of-a-path"];
const HEADERS: [&str; 6] = ["x-a", "X-Mixed-Case", "end-user", "cookie", "x-empty", "user-agent"];
/// Envoy keeps a few well-known headers as one value each and joins what is repeated. They are sent once.
const INLINE: [&str; 2] = ["cookie", "user-agent"];
const PARAMETERS: [&str; 5] = ["k", "K", "id", "flag", "a%20b"];
const LITERALS: [&str; 8] = ["v", "V", "", "jason", "a,b", "two words", "a%20b", "1"];
/// Names that header operations touch: some are sent by requests and upstreams, some are not.
const TOUCHED: [&str; 6] = ["x-a", "x-one", "X-Two", "end-user", "x-up-many", "x-agent"];
const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "PURGE"];

/// The words of `retryOn`, and status codes.
const RETRY_ON: [&str; 19] = [
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

/// Some upstream waits longer than this before it answers; see [`Step::Hang`].
const SHORT_TIMEOUT: u64 = 100;
const LONG_TIMEOUT: u64 = 20_000;

/// A table.
pub(crate) fn table(dice: &mut Dice, number: usize) -> Table {
    let count = 1 + dice.below(6);
    let rules = (0..count).map(|index| rule(dice, index, index + 1 == count)).collect();
    Table { number, wildcard: dice.chance(10), rules }
}

fn rule(dice: &mut Dice, index: usize, last: bool) -> Rule {
    let catch_all = dice.chance(if last { 20 } else { 1 });
    let entries = if catch_all { 0 } else { 1 + dice.below(2) + dice.below(2) };
    let plain = dice.chance(30);
    Rule {
        name: format!("r{index}"),
        matches: (0..entries).map(|_| matches(dice)).collect(),
        action: Action::Route(destinations(dice)),
        headers: if plain { Headers::default() } else { headers(dice) },
        timeout_ms: dice.chance(20).then(|| *dice.pick(&[SHORT_TIMEOUT, LONG_TIMEOUT, LONG_TIMEOUT])),
        retries: dice.chance(70).then(|| retries(dice)),
        fault: if dice.chance(14) { fault(dice) } else { Fault::default() },
    }
}

fn matches(dice: &mut Dice) -> Match {
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
    if dice.chance(8) {
        entry.scheme = Some(match dice.below(3) {
            0 => Text::Exact((*dice.pick(&["http", "https"])).into()),
            1 => Text::Prefix((*dice.pick(&["http", "https"])).into()),
            _ => Text::Regex(&patterns::VALUES[1]),
        });
    }
    if dice.chance(8) {
        entry.authority = Some(match dice.below(3) {
            0 => Text::Prefix((*dice.pick(&["t", "T", "x."])).into()),
            1 => Text::Regex(&patterns::VALUES[1]),
            _ => Text::Exact("t0:80".into()),
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

fn path(dice: &mut Dice) -> String {
    let mut path = String::new();
    for _ in 0..=dice.below(3) {
        path.push('/');
        path.push_str(*dice.pick(&SEGMENTS));
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
        let abort = if dice.chance(35) {
            let (name, code) = *dice.pick(&GRPC);
            Abort::Grpc(name, code)
        } else {
            Abort::Http(u16::try_from(*dice.pick(&[200, 400, 404, 429, 500, 503, 555, 599])).expect("a status"))
        };
        fault.abort = Some((abort, percent(dice)));
    }
    fault
}

/// A request for a table, aimed at one of its rules.
pub(crate) fn request(dice: &mut Dice, table: &Table) -> Request {
    let mut rule = dice.pick(&table.rules);
    if rule.matches.is_empty() {
        rule = dice.pick(&table.rules);
    }
    let nothing = Match::default();
    let entry = if rule.matches.is_empty() { &nothing } else { dice.pick(&rule.matches) };
    let port = if table.wildcard { 80 } else { entry.port.unwrap_or_else(|| *dice.pick(&PORTS)) };
    let mut request = Request {
        table: table.number,
        port,
        method: method(dice, entry),
        target: target_path(dice, entry).into_bytes(),
        host: host(dice, table, port).into_bytes(),
        headers: Vec::new(),
        body: Vec::new(),
        roll: dice.roll(),
        plan: plan(dice),
    };
    for (name, value) in &entry.headers {
        satisfy_header(dice, &mut request.headers, name, value);
    }
    for (name, value) in &entry.without {
        // Usually absent; sometimes there, with a value that is allowed or is not.
        if dice.chance(30) {
            request.headers.push((name.clone().into_bytes(), sample(dice, value, false)));
        }
    }
    if let Some(Text::Exact(scheme) | Text::Prefix(scheme)) = &entry.scheme {
        request.headers.push((b"x-forwarded-proto".to_vec(), scheme.clone().into_bytes()));
    }
    query(dice, &mut request.target, entry);
    if dice.chance(8) {
        request.headers.push((b"content-type".to_vec(), b"application/grpc".to_vec()));
    }
    if matches!(&*request.method, "POST" | "PUT" | "PATCH") && dice.chance(60) {
        request.body = vec![b'x'; *dice.pick(&[1, 10, 3000])];
    }
    for _ in 0..*dice.pick(&[0, 0, 0, 1, 1, 2]) {
        disturb(dice, &mut request);
    }
    if request.method == "HEAD" && request.headers.iter().any(|(_, value)| value == b"application/grpc") {
        // There is no such call.
        request.method = "POST".into();
    }
    for inline in INLINE {
        let mut first = true;
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(inline.as_bytes()) || std::mem::take(&mut first));
    }
    request
}

fn sample(dice: &mut Dice, value: &Text, matching: bool) -> Vec<u8> {
    let of = |dice: &mut Dice, pattern: &Pattern| {
        let from = if matching || pattern.no.is_empty() { pattern.yes } else { pattern.no };
        (*dice.pick(from)).to_owned()
    };
    match value {
        Text::Exact(value) if matching => value.clone(),
        Text::Exact(value) => format!("{value}x"),
        Text::Prefix(prefix) if matching => format!("{prefix}{}", dice.pick(&["", "x", ",more"])),
        Text::Prefix(prefix) => format!("x{prefix}"),
        Text::Regex(pattern) => of(dice, pattern),
        Text::Present => (*dice.pick(&["", "1"])).to_owned(),
    }
    .into_bytes()
}

fn satisfy_header(dice: &mut Dice, headers: &mut Vec<(Vec<u8>, Vec<u8>)>, name: &str, value: &Text) {
    let sample = sample(dice, value, true);
    let name = if dice.chance(20) { name.to_uppercase() } else { name.to_owned() }.into_bytes();
    if dice.chance(15) {
        headers.push((name.clone(), b"another".to_vec()));
    }
    headers.push((name.clone(), sample));
    if dice.chance(10) {
        headers.push((name, Vec::new()));
    }
}

fn method(dice: &mut Dice, entry: &Match) -> String {
    match &entry.method {
        Some(Text::Prefix(prefix)) => {
            let starting: Vec<_> = METHODS.iter().filter(|method| method.starts_with(&**prefix)).collect();
            (**dice.pick(&starting)).into()
        }
        Some(value) => String::from_utf8(sample(dice, value, true)).expect("ASCII"),
        None => (*dice.pick(&METHODS)).into(),
    }
}

fn target_path(dice: &mut Dice, entry: &Match) -> String {
    let mut path = match &entry.uri {
        None | Some(Text::Present) => path(dice),
        Some(Text::Exact(exact)) => exact.clone(),
        Some(Text::Prefix(prefix)) => format!("{prefix}{}", dice.pick(&["", "/", "/x", "more", "%2Fx", "/a/b"])),
        Some(Text::Regex(pattern)) => (*dice.pick(pattern.yes)).to_owned(),
    };
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if entry.ignore_case && dice.chance(60) {
        path = if dice.chance(50) { path.to_uppercase() } else { path.to_lowercase() };
    }
    path
}

fn query(dice: &mut Dice, target: &mut Vec<u8>, entry: &Match) {
    let mut pairs: Vec<Vec<u8>> = Vec::new();
    for (name, value) in &entry.query {
        let value: Vec<u8> =
            sample(dice, value, true).iter().map(|byte| if *byte == b' ' { b'+' } else { *byte }).collect();
        let mut pair = name.clone().into_bytes();
        if !value.is_empty() || dice.chance(50) {
            pair.push(b'=');
            pair.extend(value);
        }
        pairs.push(pair);
        if dice.chance(15) {
            pairs.push(format!("{name}=second").into_bytes());
        }
    }
    if dice.chance(20) {
        pairs.push(
            dice.pick(&["", "k", "k=", "k=v", "K=v;k=1", "a+b=1", "%6b=v", "flag", "id==1", "x=#"]).as_bytes().to_vec(),
        );
    }
    if !pairs.is_empty() {
        target.push(b'?');
        target.extend(pairs.join(&b'&'));
    }
}

fn host(dice: &mut Dice, table: &Table, port: u16) -> String {
    let service = table.service();
    let mut host = if table.wildcard {
        format!("{}.w{}.test", dice.pick(&["x", "deep.er", "X"]), table.number)
    } else {
        match dice.below(6) {
            0..=1 => service,
            2 => format!("{service}.default"),
            3 => format!("{service}.default.svc"),
            4 => format!("{service}.default.svc.cluster.local"),
            _ => format!("{service}.default.svc.cluster.local."),
        }
    };
    if dice.chance(20) {
        host = host.to_uppercase();
    }
    if dice.chance(30) {
        host.push_str(&format!(":{}", if dice.chance(70) { port } else { 1234 }));
    }
    host
}

fn plan(dice: &mut Dice) -> Vec<Step> {
    let mut steps = Vec::new();
    if dice.chance(55) {
        return vec![Step::Status(200)];
    }
    for _ in 0..=dice.below(3) {
        steps.push(match dice.below(100) {
            0..=9 => Step::Status(200),
            10..=49 => {
                Step::Status(u16::try_from(*dice.pick(&[500, 502, 503, 504, 409, 404, 429, 501])).expect("a status"))
            }
            50..=69 => Step::Grpc(*dice.pick(&[0, 1, 4, 8, 13, 14])),
            70..=77 => Step::RateLimited,
            78..=94 => Step::Close,
            _ => Step::Hang,
        });
    }
    steps
}

/// Change something that a matcher might look at.
fn disturb(dice: &mut Dice, request: &mut Request) {
    match dice.below(14) {
        0 => request.target.insert(0, b'/'),
        1 => percent_encode_one(dice, &mut request.target),
        2 => request.target.extend_from_slice(b"#frag"),
        3 => insert_in_path(request, b"/./"),
        4 => insert_in_path(request, b"/x/../"),
        5 => insert_in_path(request, b"//"),
        6 => insert_in_path(request, b"%2F"),
        7 => insert_in_path(request, b";p=1"),
        8 => {
            let name = *dice.pick(&HEADERS);
            request.headers.push((name.into(), dice.pick(&LITERALS).as_bytes().to_vec()));
        }
        9 => request.headers.push((b"x-bytes".to_vec(), b"caf\xc3\xa9 \xff".to_vec())),
        10 => {
            // A condition that does not hold after all.
            if !request.headers.is_empty() {
                let at = dice.below(request.headers.len());
                request.headers.remove(at);
            }
        }
        11 => request.method = (*dice.pick(&METHODS)).into(),
        12 => {
            let long = vec![b'l'; *dice.pick(&[200, 2000, 7000])];
            insert_in_path(request, &long);
        }
        _ => insert_in_path(request, "/\u{e9}\u{65e5}".as_bytes()),
    }
}

fn path_end(target: &[u8]) -> usize {
    target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len())
}

fn insert_in_path(request: &mut Request, what: &[u8]) {
    let end = path_end(&request.target);
    // After the first segment, or at the end.
    let at = request.target[1.min(end)..end].iter().position(|byte| *byte == b'/').map_or(end, |at| at + 1);
    request.target.splice(at..at, what.iter().copied());
}

fn percent_encode_one(dice: &mut Dice, target: &mut Vec<u8>) {
    let end = path_end(target);
    if end > 1 {
        let at = 1 + dice.below(end - 1);
        let encoded = format!("%{:02x}", target[at]);
        target.splice(at..=at, encoded.into_bytes());
    }
}
