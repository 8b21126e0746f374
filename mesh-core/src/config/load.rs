//! YAML text to trees, with limits that keep a hostile file from taking the process down.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{Key, Node, Position, Value};

/// Deeper nesting than any Istio object has; keeps recursion off the end of the stack.
const MAX_DEPTH: usize = 64;
/// Nodes in one file, aliases counted as what they stand for ("billion laughs").
const MAX_NODES: usize = 2_000_000;

/// Why a file is not YAML that we take, and where.
#[derive(Debug)]
pub(super) struct LoadError {
    pub(super) position: Position,
    pub(super) message: String,
}

/// All documents of a file; empty ones are left out. What comes before an error is kept.
pub(super) fn load(text: &str) -> (Vec<Node>, Option<LoadError>) {
    let mut loader = Loader { parser: Parser::new_from_str(text), anchors: Vec::new(), nodes: 0 };
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
    anchors: Vec<(usize, Node)>,
    nodes: usize,
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
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(refuse("more than 2,000,000 values in one file (aliases counted)"));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(&text, style, tag.as_deref())),
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(start, depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(start, depth)?),
            Event::Alias(anchor) => {
                let found = self.anchors.iter().rev().find(|(id, _)| *id == anchor);
                let (_, target) = found.ok_or_else(|| refuse("alias to an anchor that is not complete here"))?;
                let value = target.value.clone();
                self.nodes += count(&value);
                (0, value)
            }
            _ => return Err(refuse("not YAML: a value was expected here")),
        };
        let node = Node { position: start, value };
        if anchor > 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
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
            if let Some((first, _)) = entries.iter().find(|(k, _)| k.name == key.name) {
                let message = format!("duplicate key `{}`, first at {}", key.name, first.position);
                return Err(LoadError { position: key.position, message });
            }
            let (event, span) = self.required(start)?;
            let value = self.node(event, span, depth + 1)?;
            entries.push((key, value));
        }
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Sequence(items) => items.iter().map(|node| 1 + count(&node.value)).sum(),
        Value::Mapping(entries) => entries.iter().map(|(_, node)| 1 + count(&node.value)).sum(),
        _ => 1,
    }
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
