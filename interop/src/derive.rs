//! Requests derived from tables: aimed at a rule, then perhaps disturbed.

use crate::{
    clusters::own_hosts,
    conditions::{HEADERS, LITERALS, METHODS, path},
    dice::Dice,
    hosts::{VirtualHost, covers, is_ours_alone},
    model::{Match, PORTS, Request, Step, Table, Text},
    patterns::Pattern,
};

/// Envoy keeps a few well-known headers as one value each and joins what is repeated. They are sent once.
const INLINE: [&str; 2] = ["cookie", "user-agent"];

/// Whom a request is for: a host of a table, on a port, and the rule that is to match.
struct Aim {
    host: String,
    port: u16,
    entry: Match,
    cors: bool,
    /// The rule's own patience: with the whole request, with an attempt.
    limits: [Option<u64>; 2],
}

/// A request for a table, aimed at one of its rules.
pub(crate) fn request(dice: &mut Dice, table: &Table, hosts: &[VirtualHost]) -> Request {
    let Aim { host, port, entry, cors, limits } = aim(dice, table, hosts);
    let entry = &entry;
    let mut request = Request {
        table: table.number,
        port,
        method: method(dice, entry),
        target: target_path(dice, entry).into_bytes(),
        host: spelled(dice, host, port).into_bytes(),
        headers: Vec::new(),
        body: Vec::new(),
        roll: dice.roll(),
        plan: plan(dice, limits),
    };
    for (name, value) in &entry.headers {
        satisfy_header(dice, &mut request.headers, name, value);
    }
    for (name, value) in &entry.without {
        // Usually absent, unless that counts as an empty one that is not allowed; sometimes there, allowed or not.
        let never = match value {
            Text::Exact(value) => value.is_empty(),
            Text::Regex(pattern) => pattern.yes.contains(&""),
            Text::Prefix(_) | Text::Present | Text::Star => false,
        };
        if never || dice.chance(20) {
            request.headers.push((name.clone().into_bytes(), sample(dice, value, false)));
        }
    }
    if let Some(Text::Exact(scheme) | Text::Prefix(scheme)) = &entry.scheme {
        request.headers.push((b"x-forwarded-proto".to_vec(), scheme.clone().into_bytes()));
    }
    query(dice, &mut request.target, entry);
    if cors && dice.chance(80) {
        let origins = ["https://ok.test", "https://pre.x", "https://abc.re.test", "https://no.test", "*", "null"];
        request.headers.push((b"origin".to_vec(), dice.pick(&origins).as_bytes().to_vec()));
        if dice.chance(40) {
            if entry.method.is_none() {
                request.method = "OPTIONS".into();
            }
            request.headers.push((b"access-control-request-method".to_vec(), b"PUT".to_vec()));
        }
    }
    if dice.chance(8) {
        request.headers.push((b"content-type".to_vec(), b"application/grpc".to_vec()));
        if dice.chance(40) {
            let timeout = dice.pick(&["250m", "20S", "1H", "m", "123456789m"]);
            request.headers.push((b"grpc-timeout".to_vec(), timeout.as_bytes().to_vec()));
        }
    }
    if matches!(&*request.method, "POST" | "PUT" | "PATCH") && dice.chance(60) {
        request.body = vec![b'x'; *dice.pick(&[1, 10, 3000])];
    }
    for _ in 0..*dice.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 2]) {
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
        Text::Present | Text::Star => (*dice.pick(&["", "1"])).to_owned(),
    }
    .into_bytes()
}

fn satisfy_header(dice: &mut Dice, headers: &mut Vec<(Vec<u8>, Vec<u8>)>, name: &str, value: &Text) {
    let sample = sample(dice, value, true);
    let name = if dice.chance(20) { name.to_uppercase() } else { name.to_owned() }.into_bytes();
    if dice.chance(15) && !INLINE.iter().any(|inline| name.eq_ignore_ascii_case(inline.as_bytes())) {
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
        Some(value) => String::from_utf8(sample(dice, value, true)).expect("methods are ASCII"),
        None => (*dice.pick(&METHODS)).into(),
    }
}

fn target_path(dice: &mut Dice, entry: &Match) -> String {
    let mut path = match &entry.uri {
        None | Some(Text::Present | Text::Star) => path(dice),
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

fn aim(dice: &mut Dice, table: &Table, hosts: &[VirtualHost]) -> Aim {
    if hosts.is_empty() || dice.chance(4) {
        return outside(dice, table, hosts);
    }
    let mut host = dice.pick(hosts);
    for _ in 0..5 {
        if host.kind == "service without rules" {
            host = dice.pick(hosts);
        }
    }
    let mut route = dice.pick(&host.routes);
    for _ in 0..2 {
        if route.entry.is_none() {
            route = dice.pick(&host.routes);
        }
    }
    let mut entry = route.entry.clone().unwrap_or_default();
    if dice.chance(3) {
        // An entry as it is written, before anything is merged or left out.
        let written = table.virtual_services.iter().flat_map(|vs| &vs.rules).flat_map(|rule| &rule.matches);
        let written: Vec<_> = written.collect();
        if !written.is_empty() {
            entry = (*dice.pick(&written)).clone();
        }
    }
    let within = |authority: &str| {
        let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
        host.domains.iter().any(|domain| covers(domain, name))
    };
    let domain = dice.pick(&host.domains);
    let name = match &entry.authority {
        Some(Text::Exact(authority)) if within(authority) || dice.chance(20) => authority.clone(),
        _ => domain.replacen('*', dice.pick::<&str>(&["x", "deep.er", "X"]), 1),
    };
    let limits = [route.rule.timeout_ms, route.rule.retries.as_ref().and_then(|retries| retries.per_try_ms)];
    Aim { host: name, port: host.port, entry, cors: route.rule.cors.is_some(), limits }
}

/// A host that no rule is for on a port, though it may be a service's name, or one that a rule names on another port.
fn outside(dice: &mut Dice, table: &Table, hosts: &[VirtualHost]) -> Aim {
    let port = *dice.pick(&PORTS);
    let aim = |host: &str| Aim { host: host.into(), port, entry: Match::default(), cors: false, limits: [None; 2] };
    let unknown = (*dice.pick(&["elsewhere.test", "[::1]", "192.0.2.1", ""])).to_owned();
    for name in own_hosts(table.number).iter().chain([&unknown]).skip(dice.below(5)) {
        let known =
            hosts.iter().filter(|host| host.port == port).any(|host| host.domains.iter().any(|d| covers(d, name)));
        if !known && !is_ours_alone(table, name, port) {
            return aim(name);
        }
    }
    aim("elsewhere.test")
}

fn spelled(dice: &mut Dice, mut host: String, port: u16) -> String {
    if dice.chance(20) {
        host = host.to_uppercase();
    }
    if dice.chance(30) && !host.contains(':') {
        host.push_str(&format!(":{}", if dice.chance(70) { port } else { 1234 }));
    }
    host
}

fn plan(dice: &mut Dice, limits: [Option<u64>; 2]) -> Vec<Step> {
    let mut steps = Vec::new();
    // One that nobody waits for.
    if limits.iter().flatten().any(|limit| *limit < 1000) && dice.chance(25) {
        return vec![Step::Hang, *dice.pick(&[Step::Hang, Step::Status(200), Step::Status(503)])];
    }
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
        let letter = target[1..end].iter().position(|byte| *byte == b'a').filter(|_| dice.chance(60));
        let at = 1 + letter.unwrap_or_else(|| dice.below(end - 1));
        let encoded = format!("%{:02x}", target[at]);
        target.splice(at..=at, encoded.into_bytes());
    }
}
