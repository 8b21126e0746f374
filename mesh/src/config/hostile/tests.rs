//! Files of every kind, mutated by bytes and by structure.
//!
//! The files are in `fuzz/seeds/config`, one for a kind at least. Deterministic: `MESH_MUTATIONS=5000` makes more of
//! them, `MESH_MUTATIONS_SEED=7` others; a failure says which file it was and shows it.

use std::{collections::BTreeMap, fs, panic, path::Path};

use mesh_core::config::{Document, Issues, Node, Value as Yaml};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Map, Value};

use super::{Changed, World};

fn files() -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/config");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect()
}

fn world(files: &BTreeMap<String, String>) -> World {
    World::new(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}: a number")))
}

/// Values that a field has never asked for.
const SCALARS: [&str; 44] = [
    "null",
    "~",
    "true",
    "-1",
    "0",
    "1",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "1e400",
    "-.inf",
    ".nan",
    "0x10",
    "0o7",
    "1_000",
    "''",
    "' '",
    "'\\t'",
    "'*'",
    "'*.'",
    "'.'",
    "'..'",
    "'a b'",
    "'-'",
    "'a.b.c.d.e'",
    "'%'",
    "'%%'",
    "'%00'",
    "'\\u00e9\\u00e9'",
    "\"\\0\"",
    "\"\\n\"",
    "'@'",
    "'1.2.3.4/33'",
    "'::1'",
    "'[::1]:x'",
    "'5'",
    "'-5s'",
    "'99999999999999999999h'",
    "'1ns'",
    "'(('",
    "'[a-'",
    "'(?:a{1000}){1000}'",
    "'((a*)*)*b'",
];

/// Patterns that take a naive engine very long, or very much memory.
const REGEXES: [&str; 8] = [
    "(a+)+$",
    "(a|a)*b",
    "((((((a{1,30}){1,30}){1,30}){1,30})))",
    "(?i)(x|y|z){900}",
    "[\\x00-\\xff]{1000}",
    "(.*)(.*)(.*)(.*)=",
    "\\pL+",
    "(?P<n>a)(?P<n>b)",
];

/// What stands between two lines and means something to YAML.
const LINES: [&str; 14] = [
    "---",
    "...",
    "\t- x",
    "spec: {}",
    "kind: VirtualService",
    "- - - -",
    "? [a]: b",
    "<<: *a",
    "a: &a [*a]",
    "!!binary aGk=",
    "%YAML 9.9",
    "{",
    "]",
    "key: |2\n   text",
];

fn pick<'a, T: ?Sized>(rng: &mut StdRng, of: &[&'a T]) -> &'a T {
    of[rng.random_range(0..of.len())]
}

/// Bytes changed without regard to what they mean.
fn by_bytes(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    let at = rng.random_range(0..=bytes.len());
    let end = (at + rng.random_range(0..40)).min(bytes.len());
    match rng.random_range(0..10) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let piece = bytes[at..end].to_vec();
            let to = rng.random_range(0..=bytes.len());
            bytes.splice(to..to, piece);
        }
        3 => {
            let byte = rng.next_u32().to_le_bytes()[0];
            bytes.insert(at, byte);
        }
        4 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        5 => bytes.insert(at, 0),
        6 => bytes.insert(at, b'\t'),
        7 => drop(bytes.splice(at..at, [0xff, 0xfe, 0xc0])),
        8 => bytes.splice(at..at, std::iter::repeat_n(b'x', 70_000)).for_each(drop),
        _ => bytes.splice(at..at, *b"\xe2\x80\xa8\xef\xbb\xbf").for_each(drop),
    }
}

/// Lines and the words on them changed: what an editor's slip does.
fn by_lines(rng: &mut StdRng, text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = rng.random_range(0..lines.len());
    match rng.random_range(0..9) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let to = rng.random_range(0..lines.len());
            lines.swap(at, to);
        }
        3 => lines[at].insert_str(0, pick(rng, &[" ", "  ", "    ", "\t"])),
        4 => lines[at] = lines[at].trim_start().to_owned(),
        5 => lines.insert(at, pick(rng, &LINES).to_owned()),
        6 => {
            if let Some((key, _)) = lines[at].split_once(": ") {
                let value = if rng.random_bool(0.2) {
                    format!("'{}'", pick(rng, &REGEXES))
                } else {
                    pick(rng, &SCALARS).into()
                };
                lines[at] = format!("{key}: {value}");
            }
        }
        7 => {
            if let Some((key, value)) = lines[at].clone().split_once(": ") {
                lines[at] = format!("{key}{}: {value}", pick(rng, &["s", "X", " ", "_", "-"]));
            }
        }
        _ => {
            // An anchor on a value and the value everywhere.
            let laughs = (0..9).map(|n| format!("x{n}: &x{n} [{}]", format!("*x{}, ", n.max(1) - 1).repeat(9)));
            lines.splice(at..at, std::iter::once("x0: &x0 ha".into()).chain(laughs.skip(1)));
        }
    }
    lines.join("\n") + "\n"
}

fn json(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(*value),
        Yaml::Int(value) => Value::from(*value),
        Yaml::Float(value) => Value::from(*value),
        Yaml::String(value) => Value::from(value.as_str()),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(entries) => entries.iter().map(|(key, value)| (key.name.clone(), json(value))).collect(),
    }
}

/// A value of another shape.
fn other(rng: &mut StdRng, value: &Value) -> Value {
    match rng.random_range(0..8) {
        0 => Value::Null,
        1 => Value::from(vec![value.clone(), value.clone()]),
        2 => Value::Object(Map::from_iter([("value".to_owned(), value.clone())])),
        3 => Value::from(rng.next_u64().cast_signed()),
        4 => Value::from(f64::from_bits(rng.next_u64())),
        5 => Value::from("x".repeat(rng.random_range(0..5000))),
        6 => (0..rng.random_range(2..90)).fold(value.clone(), |deep, _| Value::from(vec![deep])),
        _ => Value::from(*rand::seq::IndexedRandom::choose(&REGEXES[..], rng).unwrap_or(&"")),
    }
}

/// Somewhere in the tree an entry goes, comes twice, gets another name or another shape.
fn by_tree(rng: &mut StdRng, value: &mut Value) {
    let deeper = rng.random_bool(0.8);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            let key = keys[rng.random_range(0..keys.len())].clone();
            let inner = &mut fields[&key];
            if deeper && (inner.is_object() || inner.is_array()) {
                return by_tree(rng, inner);
            }
            match rng.random_range(0..4) {
                0 => drop(fields.remove(&key)),
                1 => {
                    let value = fields.remove(&key).unwrap_or_default();
                    fields.insert(keys[rng.random_range(0..keys.len())].clone(), value);
                }
                2 => {
                    let value = inner.clone();
                    fields.insert(format!("{key}{}", pick(rng, &["", "2", "_", "\u{e9}", "\0"])), value);
                }
                _ => *inner = other(rng, inner),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = rng.random_range(0..items.len());
            if deeper && (items[at].is_object() || items[at].is_array()) {
                return by_tree(rng, &mut items[at]);
            }
            match rng.random_range(0..4) {
                0 => drop(items.remove(at)),
                1 => items.resize(items.len() + rng.random_range(1..300), items[at].clone()),
                2 => items.reverse(),
                _ => items[at] = other(rng, &items[at]),
            }
        }
        scalar => *scalar = other(rng, scalar),
    }
}

/// A file's documents as JSON, which is YAML too, with one of them changed.
fn by_structure(rng: &mut StdRng, text: &str) -> String {
    let mut documents: Vec<Value> = Document::parse_all("a.yaml", text, &mut Issues::default())
        .iter()
        .map(|document| {
            let object = document.object();
            let spec = document.spec().map(json).unwrap_or_default();
            if document.api_version().is_empty() && &*object.kind == "MeshConfig" {
                return Value::Object(Map::from_iter([("mesh".to_owned(), spec)]));
            }
            if document.spec().is_some_and(|spec| std::ptr::eq(spec, document.root())) {
                return spec;
            }
            let metadata = Map::from_iter([("name".to_owned(), Value::from(&*object.name))]);
            let fields = [("apiVersion", document.api_version().into()), ("kind", (&*object.kind).into())];
            let fields = fields.into_iter().chain([("metadata", Value::Object(metadata)), ("spec", spec)]);
            Value::Object(fields.map(|(key, value)| (key.to_owned(), value)).collect())
        })
        .collect();
    let at = rng.random_range(0..documents.len());
    for _ in 0..rng.random_range(1..4) {
        by_tree(rng, &mut documents[at]);
    }
    let documents = documents.iter().map(|document| serde_json::to_string_pretty(document).unwrap());
    documents.collect::<Vec<_>>().join("\n---\n")
}

fn mutated(rng: &mut StdRng, text: &str) -> Vec<u8> {
    let mut bytes = match rng.random_range(0..3) {
        0 => text.as_bytes().to_vec(),
        1 => (0..rng.random_range(1..4)).fold(text.to_owned(), |text, _| by_lines(rng, &text)).into_bytes(),
        _ => return by_structure(rng, text).into_bytes(),
    };
    if bytes == text.as_bytes() || rng.random_bool(0.1) {
        for _ in 0..rng.random_range(1..4) {
            by_bytes(rng, &mut bytes);
        }
    }
    bytes
}

#[test]
fn whatever_a_file_says_its_last_good_version_stays() {
    let (count, seed) = (variable("MESH_MUTATIONS", 1_100), variable("MESH_MUTATIONS_SEED", 1));
    println!("MESH_MUTATIONS={count} MESH_MUTATIONS_SEED={seed}");
    let files = files();
    let world = world(&files);
    let (mut bad, mut kept) = (BTreeMap::<&str, u64>::new(), 0);
    for n in 0..count {
        let (name, text) = files.iter().nth(usize::try_from(n).unwrap() % files.len()).unwrap();
        // Each by itself: one that fails is found again without those before it.
        let bytes = mutated(&mut StdRng::seed_from_u64(seed.wrapping_mul(1 << 32).wrapping_add(n)), text);
        let changed = panic::catch_unwind(panic::AssertUnwindSafe(|| world.change(name, &bytes)));
        let Ok(Changed { errors, kept: stayed }) = changed else {
            panic!(
                "mutation {n} of seed {seed}, of {name}:\n{}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(4000)])
            );
        };
        *bad.entry(name).or_default() += u64::from(errors > 0);
        kept += stayed;
    }
    println!("with errors, by file: {bad:?}; objects kept: {kept}");
    // A mutation that nobody notices proves nothing.
    let each = count / files.len() as u64;
    for (name, bad) in bad {
        assert!(bad * 5 > each, "{name}: {bad} of {each}");
    }
    assert!(kept as u64 * 3 > count, "{kept}");
}

/// What made a difference once.
#[test]
fn slips_that_were_made() {
    let files = files();
    let world = world(&files);
    for text in ["", "\0", "\u{feff}", "- ", "a: &a [*a]", "kind: VirtualService", "---\n---\n", "{", "\t", "? ?"] {
        for name in files.keys() {
            world.change(name, text.as_bytes());
        }
    }
    let slip = format!("{}\nx: \u{2028}[", files["service.yaml"]);
    world.change("service.yaml", slip.as_bytes());
    let error = world.change("service.yaml", b"kind: Service\nmetadata: {name: \xff}\n");
    assert_eq!((error.errors, error.kept), (1, 1));
}
