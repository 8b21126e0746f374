//! YAML text to trees, with limits that keep a hostile file from taking the process down.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{Key, Node, Position, Value};

/// Deeper nesting than any Istio object has; keeps recursion off the end of the stack.
const MAX_DEPTH: usize = 64;
/// Bytes that one file's values may take, roughly, aliases counted as what they stand for ("billion laughs").
const MAX_SIZE: usize = 256 << 20;
/// Of these, what aliases may stand for: they are for a few shared lines, and a small file has no need for more.
const MAX_ALIASED: usize = 16 << 20;
/// What a value takes beside its text.
const NODE_SIZE: usize = 96;

/// Why a file is not YAML that we take, and where.
#[derive(Debug)]
pub(super) struct LoadError {
    pub(super) position: Position,
    pub(super) message: String,
}

/// All documents of a file; empty ones are left out. What comes before an error is kept.
pub(super) fn load(text: &str) -> (Vec<Node>, Option<LoadError>) {
    let mut loader = Loader { parser: Parser::new_from_str(text), anchors: HashMap::new(), size: 0, aliased: 0 };
    let mut documents = Vec::new();
    loop {
        match loader.next_document() {
            Ok(Some(Node { value: Value::Null, .. })) => {}
            Ok(Some(document)) => documents.push(document),
            Ok(None) => return (documents, None),
            Err(error) => return (documents, Some(error)),
        }
    }
}

struct Loader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    size: usize,
    aliased: usize,
}

impl<'a> Loader<'a> {
    fn next_document(&mut self) -> Result<Option<Node>, LoadError> {
        loop {
            match self.event()? {
                Some((Event::DocumentStart(_), _)) => {
                    self.anchors.clear();
                    let Some((event, span)) = self.event()? else { return Ok(None) };
                    return self.node(event, span, 0).map(Some);
                }
                Some((Event::StreamEnd, _)) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }

    fn event(&mut self) -> Result<Option<(Event<'a>, Span)>, LoadError> {
        self.parser.next_event().transpose().map_err(|error: ScanError| LoadError {
            position: position(error.marker()),
            message: format!("not YAML: {}", error.info()),
        })
    }

    fn required(&mut self, start: Position) -> Result<(Event<'a>, Span), LoadError> {
        self.event()?
            .ok_or_else(|| LoadError { position: start, message: "not YAML: the file ends inside this".into() })
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, LoadError> {
        let start = position(&span.start);
        let refuse = |message: &str| LoadError { position: start, message: message.into() };
        if depth > MAX_DEPTH {
            return Err(refuse("nested more than 64 levels deep"));
        }
        self.charge(NODE_SIZE, start)?;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(text.len(), start)?;
                (anchor, scalar(&text, style, tag.as_deref()))
            }
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(start, depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(start, depth)?),
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor);
                let target = target.ok_or_else(|| refuse("alias to an anchor that is not complete here"))?;
                let size = size(&target.value);
                self.charge(size, start)?;
                self.aliased += size;
                if self.aliased > MAX_ALIASED {
                    return Err(refuse("the file's aliases stand for more than 16 MiB"));
                }
                (0, self.anchors[&anchor].value.clone())
            }
            _ => return Err(refuse("not YAML: a value was expected here")),
        };
        let node = Node { position: start, value };
        if anchor > 0 {
            self.charge(size(&node.value), start)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn charge(&mut self, size: usize, position: Position) -> Result<(), LoadError> {
        self.size = self.size.saturating_add(size);
        if self.size > MAX_SIZE {
            let message = "the file's values take more than 256 MiB (aliases counted as what they stand for)".into();
            return Err(LoadError { position, message });
        }
        Ok(())
    }

    fn sequence(&mut self, start: Position, depth: usize) -> Result<Value, LoadError> {
        let mut items = Vec::new();
        loop {
            match self.required(start)? {
                (Event::SequenceEnd, _) => return Ok(Value::Sequence(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, start: Position, depth: usize) -> Result<Value, LoadError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, Position> = HashMap::new();
        loop {
            let key = match self.required(start)? {
                (Event::MappingEnd, _) => return Ok(Value::Mapping(entries)),
                (Event::Scalar(text, ..), span) => Key { position: position(&span.start), name: text.into_owned() },
                (_, span) => {
                    return Err(LoadError {
                        position: position(&span.start),
                        message: "a mapping's key must be a string".into(),
                    });
                }
            };
            self.charge(2 * key.name.len(), key.position)?;
            if let Some(first) = seen.insert(key.name.clone(), key.position) {
                let message = format!("duplicate key `{}`, first at {first}", key.name);
                return Err(LoadError { position: key.position, message });
            }
            let (event, span) = self.required(start)?;
            let value = self.node(event, span, depth + 1)?;
            entries.push((key, value));
        }
    }
}

fn size(value: &Value) -> usize {
    let below = match value {
        Value::Sequence(items) => items.iter().map(|node| size(&node.value)).sum(),
        Value::Mapping(entries) => entries.iter().map(|(key, node)| key.name.len() + size(&node.value)).sum(),
        Value::String(text) => text.len(),
        _ => 0,
    };
    NODE_SIZE + below
}

fn position(marker: &Marker) -> Position {
    let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: clamp(marker.line()), column: clamp(marker.col() + 1) }
}

/// YAML 1.2 core schema (10.3.2): plain scalars may be null, booleans or numbers; quoted ones are strings.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let forced_string = tag.is_some_and(|tag| tag.suffix == "str");
    if style != ScalarStyle::Plain || forced_string {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Some(int) = integer(text) {
        return Value::Int(int);
    }
    match float(text) {
        Some(float) => Value::Float(float),
        None => Value::String(text.to_owned()),
    }
}

fn integer(text: &str) -> Option<i64> {
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok();
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok();
    }
    text.parse().ok()
}

fn float(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    // Rust's grammar also takes "inf", "nan" and "infinity", which YAML reads as strings.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    let has_digit = text.bytes().any(|b| b.is_ascii_digit());
    if numeric && has_digit { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        load(text).1.map(|error| format!("{}: {}", error.position, error.message)).unwrap_or_default()
    }

    #[test]
    fn a_billion_laughs_is_refused_before_it_is_laughed() {
        let mut text = String::from("a0: &a0 \"haha haha haha haha\"\n");
        for n in 1..12 {
            let ten = vec![format!("*a{}", n - 1); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{ten}]\n"));
        }
        assert!(refusal(&text).contains("aliases stand for more than 16 MiB"), "{}", refusal(&text));
    }

    #[test]
    fn hostile_shapes_are_refused_with_their_place() {
        assert!(refusal(&"[".repeat(100)).contains("nested more than 64 levels deep"));
        assert_eq!(refusal("a: 1\na: 2\n"), "2:1: duplicate key `a`, first at 1:1");
        assert_eq!(refusal("a: &x [*x]\n"), "1:8: alias to an anchor that is not complete here");
        assert!(refusal("? [a]\n: b\n").contains("a mapping's key must be a string"));
    }

    #[test]
    fn many_keys_take_no_time() {
        let text: String = (0..200_000).map(|n| format!("k{n}: {n}\n")).collect();
        let (documents, error) = load(&text);
        assert!(error.is_none());
        assert!(documents[0].get("k199999").is_some());
    }
}
