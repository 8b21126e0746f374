//! The `tracestate` header: W3C Trace Context Level 2, section 3.3. Not ours to read, only to pass on whole; a list
//! that breaks the grammar is dropped, and the trace goes on without it.

use http::{HeaderMap, HeaderValue};

const MAX_MEMBERS: usize = 32;

/// The request's `tracestate`, several headers joined in their order. `None` when there is none, or not a legal one.
pub(super) fn of(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all("tracestate").iter();
    let first = values.next()?;
    let joined = match values.next() {
        None => first.clone(),
        Some(second) => {
            let mut joined = Vec::from(first.as_bytes());
            for value in std::iter::once(second).chain(values) {
                joined.push(b',');
                joined.extend_from_slice(value.as_bytes());
            }
            HeaderValue::from_bytes(&joined).ok()?
        }
    };
    is_legal(joined.as_bytes()).then_some(joined)
}

fn is_legal(list: &[u8]) -> bool {
    let mut members = 0;
    for member in list.split(|b| *b == b',') {
        let member = trim(member);
        // "Empty list members are allowed".
        if member.is_empty() {
            continue;
        }
        members += 1;
        let Some(equals) = member.iter().position(|b| *b == b'=') else { return false };
        if members > MAX_MEMBERS || !is_key(&member[..equals]) || !is_value(&member[equals + 1..]) {
            return false;
        }
    }
    members > 0
}

/// `key = ( lcalpha / DIGIT ) 0*255 ( lcalpha / DIGIT / "_" / "-" / "*" / "/" / "@" )`
fn is_key(key: &[u8]) -> bool {
    let start = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let rest = |b: &u8| start(b) || matches!(b, b'_' | b'-' | b'*' | b'/' | b'@');
    key.len() <= 256 && key.first().is_some_and(start) && key.iter().all(rest)
}

/// `value = 0*255(chr) nblk-chr`: printable, no comma, no equals sign, not ending in a space.
fn is_value(value: &[u8]) -> bool {
    let legal = |b: &u8| matches!(b, 0x20..=0x7e) && !matches!(b, b',' | b'=');
    !value.is_empty() && value.len() <= 256 && value.iter().all(legal)
}

fn trim(member: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let start = member.iter().position(|b| !blank(b)).unwrap_or(member.len());
    let end = member.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
    &member[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w3c_level_2_section_3_3() {
        let long = |n: usize| "z".repeat(n);
        let members = |n: usize| (0..n).map(|i| format!("bar{i}=1")).collect::<Vec<_>>().join(",");
        for (list, legal) in [
            ("foo=1".to_owned(), true),
            ("foo=1,bar=2".into(), true),
            ("foo=1 \t , \t bar=2, \t baz=3".into(), true),
            ("foo=1,,bar=2,".into(), true),
            ("foo=1,foo=2".into(), true),
            ("0foo=1".into(), true),
            ("foo@=1".into(), true),
            ("foo@@bar=1".into(), true),
            ("t-_*/=a b".into(), true),
            (format!("{}=1", long(256)), true),
            (format!("{}=1", long(257)), false),
            (format!("a={}", long(256)), true),
            (format!("a={}", long(257)), false),
            (members(32), true),
            (members(33), false),
            ("foo=".into(), false),
            ("=1".into(), false),
            ("foo".into(), false),
            ("foo =1".into(), false),
            ("FOO=1".into(), false),
            ("foo.bar=1".into(), false),
            ("@foo=1".into(), false),
            ("_foo=1".into(), false),
            ("foo=bar=baz".into(), false),
            ("foo=1\u{7f}".into(), false),
            (String::new(), false),
            (" , ".into(), false),
        ] {
            assert_eq!(is_legal(list.as_bytes()), legal, "{list:?}");
        }
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        for value in ["foo=1,bar=2", "rojo=1,congo=2", "baz=3"] {
            headers.append("tracestate", HeaderValue::from_static(value));
        }
        assert_eq!(of(&headers).unwrap(), "foo=1,bar=2,rojo=1,congo=2,baz=3");
    }
}
