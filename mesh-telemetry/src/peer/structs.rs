//! As much of protobuf's wire format as `google.protobuf.Struct` with strings and nested structs needs.
//!
//! ```text
//! Struct { 1: repeated Entry { 1: key, 2: Value } }      Value { 3: string | 5: Struct | others }
//! ```

const LEN: u64 = 2;

/// Append an entry with a string.
pub(super) fn string(key: &str, value: &str, fields: &mut Vec<u8>) {
    entry(key, 3, value.as_bytes(), fields);
}

/// Append an entry with a struct that has these fields.
pub(super) fn nested(key: &str, inner: &[u8], fields: &mut Vec<u8>) {
    entry(key, 5, inner, fields);
}

fn entry(key: &str, kind: u64, content: &[u8], fields: &mut Vec<u8>) {
    let (mut value, mut entry) = (Vec::new(), Vec::new());
    field(kind, content, &mut value);
    field(1, key.as_bytes(), &mut entry);
    field(2, &value, &mut entry);
    field(1, &entry, fields);
}

fn field(number: u64, content: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | LEN, out);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A value of a struct.
#[derive(Debug)]
pub(super) enum Value<'a> {
    String(&'a str),
    /// The fields of a struct within.
    Struct(&'a [u8]),
    /// A number, a list, nothing: not ours to read.
    Other,
}

/// Read every entry of a struct. `None` when the bytes are not one, or `each` says so.
pub(super) fn read<'a>(mut fields: &'a [u8], mut each: impl FnMut(&'a str, Value<'a>) -> Option<()>) -> Option<()> {
    while !fields.is_empty() {
        let (1, Content::Bytes(mut entry)) = next(&mut fields)? else { return None };
        let (mut key, mut value) = ("", Value::Other);
        while !entry.is_empty() {
            match next(&mut entry)? {
                (1, Content::Bytes(name)) => key = std::str::from_utf8(name).ok()?,
                (2, Content::Bytes(content)) => value = read_value(content)?,
                _ => return None,
            }
        }
        each(key, value)?;
    }
    Some(())
}

fn read_value(mut content: &[u8]) -> Option<Value<'_>> {
    let mut value = Value::Other;
    while !content.is_empty() {
        value = match next(&mut content)? {
            (3, Content::Bytes(text)) => Value::String(std::str::from_utf8(text).ok()?),
            (5, Content::Bytes(fields)) => Value::Struct(fields),
            _ => Value::Other,
        };
    }
    Some(value)
}

enum Content<'a> {
    Bytes(&'a [u8]),
    Skipped,
}

/// The next field of a message: its number and content.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, Content<'a>)> {
    let tag = read_varint(rest)?;
    let content = match tag & 7 {
        0 => {
            read_varint(rest)?;
            Content::Skipped
        }
        1 => take(rest, 8).map(|_| Content::Skipped)?,
        5 => take(rest, 4).map(|_| Content::Skipped)?,
        LEN => {
            let len = usize::try_from(read_varint(rest)?).ok()?;
            Content::Bytes(take(rest, len)?)
        }
        _ => return None,
    };
    Some((tag >> 3, content))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (content, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(content)
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
