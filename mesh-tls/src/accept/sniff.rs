//! TLS or plaintext, told by a connection's first bytes.
//!
//! Two bytes decide; more would have to wait for a ClientHello that, with post-quantum key shares, no longer fits one
//! packet. A peek sees what happens to have arrived, so the bytes are read, and given back in front of the stream.

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// A TLS record of type handshake, version 3.x.
    Tls,
    /// A character that starts an HTTP method, or HTTP/2's preface.
    Plaintext,
    /// Neither.
    Unknown,
}

/// Decide on the first bytes; `None` when more are needed. Two are always enough.
pub(super) fn classify(head: &[u8]) -> Option<Speaks> {
    match head {
        [] | [0x16] => None,
        [0x16, 0x03, ..] => Some(Speaks::Tls),
        [first, ..] if is_token(*first) => Some(Speaks::Plaintext),
        _ => Some(Speaks::Unknown),
    }
}

/// RFC 9110 5.6.2 tchar: a method is a token.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bytes_decide() {
        for (head, speaks) in [
            (&b""[..], None),
            (b"\x16", None),
            (b"\x16\x03", Some(Speaks::Tls)),
            (b"\x16\x03\x01\x06", Some(Speaks::Tls)),
            (b"\x16\x02", Some(Speaks::Unknown)),
            (b"\x15\x03", Some(Speaks::Unknown)),
            (b"\x80\x2e", Some(Speaks::Unknown)),
            (b"G", Some(Speaks::Plaintext)),
            (b"PRI * HTTP/2.0", Some(Speaks::Plaintext)),
            (b"\r\nGET / HTTP/1.1", Some(Speaks::Unknown)),
            (b" GET", Some(Speaks::Unknown)),
            (b"\0", Some(Speaks::Unknown)),
        ] {
            assert_eq!(classify(head), speaks, "{head:?}");
        }
    }
}
