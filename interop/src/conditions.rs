//! Random `match` entries.

use crate::{
    dice::Dice,
    model::{Match, PORTS, Text},
    patterns,
    rules::For,
};

const SEGMENTS: [&str; 12] =
    ["a", "b", "api", "v1", "Users", "~u", "x.y", "sp%20ace", "q;r=1", "%C3%A9", "UPPER", "a-long-segment-of-a-path"];
pub(crate) const HEADERS: [&str; 6] = ["x-a", "X-Mixed-Case", "end-user", "cookie", "x-empty", "user-agent"];
pub(crate) const PARAMETERS: [&str; 5] = ["k", "K", "id", "flag", "a%20b"];
pub(crate) const LITERALS: [&str; 9] = ["caf\u{e9}", "v", "V", "", "jason", "a,b", "two words", "a%20b", "1"];
pub(crate) const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "PURGE"];

/// An entry.
pub(crate) fn matches(dice: &mut Dice, of: &For<'_>) -> Match {
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
            0 => Text::Prefix(dice.pick(of.hosts).chars().take(1 + dice.below(3)).collect()),
            1 if dice.chance(50) => Text::Prefix((*dice.pick(&["t", "T", "x."])).into()),
            2 => Text::Regex(&patterns::VALUES[1]),
            // The port counts here, though it does not where the virtual host is found.
            _ => Text::Exact(format!("{}{}", dice.pick(of.hosts), dice.pick(&["", ":80", ":1234"]))),
        });
    }
    if dice.chance(30) {
        entry.headers = conditions(dice, &HEADERS);
    }
    if dice.chance(25) {
        entry.without = conditions(dice, &HEADERS);
        if dice.chance(80) {
            entry.without.retain(|(name, _)| entry.headers.iter().all(|(known, _)| known != name));
        }
    }
    if dice.chance(25) {
        entry.query = conditions(dice, &PARAMETERS);
        // Envoy refuses a target that is not ASCII, and one with a space is two: not too often.
        let odd = |(_, text): &(String, Text)| match text {
            Text::Exact(value) => !value.is_ascii() || value.contains(' '),
            Text::Regex(pattern) => pattern.yes.iter().any(|yes| !yes.is_ascii()),
            Text::Prefix(_) | Text::Present | Text::Star => false,
        };
        if dice.chance(70) && entry.query.iter().any(odd) {
            entry.query.clear();
        }
    }
    if entry.is_catch_all() && dice.chance(90) {
        entry.uri = Some(Text::Prefix(path(dice)));
    }
    entry.port = dice.chance(10).then(|| *dice.pick(&PORTS));
    source(dice, &mut entry);
    entry
}

/// What an entry asks of the client.
fn source(dice: &mut Dice, entry: &mut Match) {
    if dice.chance(7) {
        let all: [&[(&str, &str)]; 4] =
            [&[("app", "referee")], &[("app", "referee"), ("version", "v1")], &[("version", "v2")], &[("tier", "x")]];
        entry.source_labels = (*dice.pick(&all)).to_vec();
    }
    if dice.chance(5) {
        entry.source_namespace = Some(*dice.pick(&["default", "default", "default", "other"]));
    }
    if dice.chance(6) {
        let all: [&[&str]; 4] = [&["mesh"], &["mesh"], &["mesh", "istio-system/ingress"], &["istio-system/ingress"]];
        entry.gateways = (*dice.pick(&all)).to_vec();
    }
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
        _ if dice.chance(50) => Text::Star,
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
