//! The YAML tree, with the place of every value.

use std::fmt;

/// A place in a file: both count from 1; columns are in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the value starts.
    pub position: Position,
    /// The value.
    pub value: Value,
}

/// A mapping's key and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Where the key starts.
    pub position: Position,
    /// The key.
    pub name: String,
}

/// A YAML value, by the core schema (YAML 1.2, 10.3).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    String(String),
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the file; keys are strings and unique.
    Mapping(Vec<(Key, Node)>),
}

impl Node {
    /// The value under a key, where this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A key with its value.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<(&Key, &Node)> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|(k, _)| k.name == key).map(|(k, v)| (k, v)),
            _ => None,
        }
    }

    /// The string, where it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The place of a field path (`http[1].retries`), or of the deepest part of it that exists.
    #[must_use]
    pub fn locate(&self, path: &str) -> Position {
        let (mut node, mut rest) = (self, path);
        while let Some((segment, tail)) = next_segment(rest) {
            let next = match (&segment, &node.value) {
                (Segment::Field(name), Value::Mapping(_)) => node.get(name),
                (Segment::Index(index), Value::Sequence(items)) => items.get(*index),
                _ => None,
            };
            let Some(next) = next else { break };
            (node, rest) = (next, tail);
        }
        node.position
    }

    /// A tree of a JSON value, for configuration made in code; every position is 1:1.
    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Self {
        let position = Position { line: 1, column: 1 };
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(b) => Value::Bool(*b),
            serde_json::Value::Number(n) => {
                n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN)), Value::Int)
            }
            serde_json::Value::String(text) => Value::String(text.clone()),
            serde_json::Value::Array(items) => Value::Sequence(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(fields) => Value::Mapping(
                fields.iter().map(|(name, v)| (Key { position, name: name.clone() }, Self::from_json(v))).collect(),
            ),
        };
        Self { position, value }
    }
}

enum Segment<'a> {
    Field(&'a str),
    Index(usize),
}

/// Take the first segment of `a.b[1]["x.y"].c`.
fn next_segment(path: &str) -> Option<(Segment<'_>, &str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return None;
    }
    if let Some(quoted) = path.strip_prefix("[\"") {
        let (name, tail) = quoted.split_once("\"]")?;
        return Some((Segment::Field(name), tail));
    }
    if let Some(index) = path.strip_prefix('[') {
        let (index, tail) = index.split_once(']')?;
        return Some((Segment::Index(index.parse().ok()?), tail));
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    Some((Segment::Field(&path[..end]), &path[end..]))
}
