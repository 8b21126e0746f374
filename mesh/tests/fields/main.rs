//! docs/fields.md says what is enforced, field by field. Here it is compared with the code: the types say which
//! fields there are, and a sample of each field says what the mesh thinks of it.
//!
//! `MESH_WRITE_FIELDS=1 cargo test -p mesh --test fields` writes the page anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use mesh::{Config, Severity};
use mesh_core::config::{Document, Field, Issue, Issues, Node, Topic, Value};

const SAMPLES: &str = include_str!("samples.yaml");
const INTRODUCTION: &str = "# Every field, and what becomes of it

Written by `MESH_WRITE_FIELDS=1 cargo test -p mesh --test fields`, from the types that read configuration and from what the
mesh says about a sample of each field; the same test fails when this page is not true.

- **enforced**: in force.
- **reported**: read; a warning with file, line and column says that it is not enforced.
- **refused**: an error, because leaving it out would change who gets in or where requests go.
- **ignored**: nobody in Istio's data plane looks at it either.
- **enforced, but …**: some of its values are reported or refused.

`[]` is each item of a list, `{}` each value of a map. \"as x\" has the fields that are listed below x.
";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Enforced,
    Ignored,
    Reported,
    Refused,
}

/// What the mesh says about the values of a field: the best and the worst.
type Said = (State, State);

fn words((best, worst): Said) -> String {
    if best == worst { best.name().into() } else { format!("{}, but some values {}", best.name(), worst.name()) }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Ignored => "ignored",
            Self::Reported => "reported",
            Self::Refused => "refused",
        }
    }
}

#[test]
fn the_page_of_fields_is_true() {
    let page = page();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fields.md");
    if std::env::var_os("MESH_WRITE_FIELDS").is_some() {
        std::fs::write(&path, &page).expect("docs/ is there");
    }
    let written = std::fs::read_to_string(&path).expect("docs/fields.md is there");
    let first = written.lines().zip(page.lines()).find(|(written, now)| written != now);
    assert!(
        written == page,
        "docs/fields.md is not true any more (first difference: {first:?}); see this test's module"
    );
}

fn page() -> String {
    let mut issues = Issues::default();
    let documents = Document::parse_all("samples.yaml", SAMPLES, &mut issues);
    assert!(issues.is_empty(), "{issues}");
    let mut page = INTRODUCTION.to_owned();
    for (kind, fields) in Config::kinds() {
        let said = ask(&fields, documents.iter().filter(|document| document.kind() == kind));
        let _ = write!(page, "\n## {kind}\n\n| field | state |\n|---|---|\n");
        for field in &fields {
            let Some(own) = said.get(&*field.path) else {
                panic!("samples.yaml has no {kind} that sets {}", field.path)
            };
            // Nothing below a field that is not enforced is.
            let above =
                fields.iter().filter(|other| is_below(&field.path, &other.path)).map(|other| said[&*other.path].0);
            let above = above.max().unwrap_or(State::Enforced);
            let said = (own.0.max(above), own.1.max(above));
            let unseen = field.ignored && said == (State::Enforced, State::Enforced);
            let state = if unseen { State::Ignored.name().into() } else { words(said) };
            let _ = match &field.same_as {
                Some(other) => writeln!(page, "| `{}` | {state}, as `{other}` |", field.path),
                None => writeln!(page, "| `{}` | {state} |", field.path),
            };
        }
    }
    page
}

fn is_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'))
}

/// What the mesh says about each field that the samples set.
fn ask<'a>(fields: &[Field], samples: impl Iterator<Item = &'a Document>) -> BTreeMap<String, Said> {
    let mut said = BTreeMap::new();
    let mut in_bad_company = BTreeSet::new();
    for sample in samples {
        let mut set = BTreeSet::new();
        note(fields, sample.spec().expect("a sample has a spec"), "", &mut set);
        let issues = Config::check(sample);
        for path in &set {
            let about = issues.iter().filter(|issue| is_about(issue, path));
            let now = about.map(|issue| match issue.severity {
                Severity::Error => State::Refused,
                _ => State::Reported,
            });
            match now.max() {
                // The object is refused because of another field: says nothing of this one, if it stands elsewhere too.
                None if issues.has_errors() => drop(in_bad_company.insert(path.clone())),
                now => {
                    let now = now.unwrap_or(State::Enforced);
                    let (best, worst) = said.entry(path.clone()).or_insert((now, now));
                    (*best, *worst) = (now.min(*best), now.max(*worst));
                }
            }
        }
        // An error elsewhere would hide what the mesh says about the rest.
        for error in issues.errors() {
            assert!(set.contains(&general(&error.path)), "{error}");
        }
    }
    for path in in_bad_company {
        said.entry(path).or_insert((State::Refused, State::Refused));
    }
    said
}

/// Is it about a field? What is said to have no effect has none with all below it; a list may have other items.
fn is_about(issue: &Issue, path: &str) -> bool {
    let at = general(&issue.path);
    let below = || path.strip_prefix(&*at).is_some_and(|rest| rest.starts_with(['.', '[', '{']));
    at == path || issue.topic == Topic::NotEnforced && !at.is_empty() && below()
}

/// `http[0].match[1]` is `http[].match[]`; of a list's item, what is said is said of the list.
fn general(path: &str) -> String {
    let mut general = String::new();
    let mut inside = false;
    for character in path.chars() {
        match character {
            '[' => inside = true,
            ']' => {
                inside = false;
                general.push_str("[]");
            }
            _ if inside => {}
            _ => general.push(character),
        }
    }
    general.trim_end_matches("[]").to_owned()
}

/// The fields that stand in a document.
fn note(fields: &[Field], node: &Node, path: &str, set: &mut BTreeSet<String>) {
    let known = |path: &str| fields.iter().any(|field| field.path == path);
    match &node.value {
        Value::Mapping(entries) => {
            for (key, value) in entries {
                let below = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
                let below = if known(&below) { below } else { format!("{path}{{}}") };
                if known(&below) {
                    set.insert(below.clone());
                }
                note(fields, value, &below, set);
            }
        }
        Value::Sequence(items) => {
            for item in items {
                note(fields, item, &format!("{path}[]"), set);
            }
        }
        _ => {}
    }
}
