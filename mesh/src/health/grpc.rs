//! The two messages of grpc.health.v1.Health/Check, in the few bytes that they are.

/// The method.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";

/// grpc.health.v1 HealthCheckResponse.ServingStatus: "SERVING = 1".
const SERVING: u64 = 1;

/// HealthCheckRequest { string service = 1 } as a gRPC message: uncompressed, its length, its bytes.
pub(super) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            // The low seven bits.
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

/// Does HealthCheckResponse { ServingStatus status = 1 } say SERVING? What cannot be read does not.
pub(super) fn serving(framed: &[u8]) -> bool {
    status(framed) == Some(SERVING)
}

/// The status of the one message of a response; 0, UNKNOWN, where it says none.
fn status(framed: &[u8]) -> Option<u64> {
    let (head, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    if head[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        // protobuf wire types; fields that a later version adds are passed over.
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_protobuf_writes() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = request(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 0x01, 0x2f, 0x0a, 0xac, 0x02], "300 is AC 02");
        assert_eq!(long.len(), 5 + 3 + 300);
    }

    #[test]
    fn only_serving_serves() {
        for (bytes, expected) in [
            (&[0, 0, 0, 0, 2, 0x08, 1][..], true),
            (&[0, 0, 0, 0, 2, 0x08, 2], false),
            (&[0, 0, 0, 0, 2, 0x08, 0], false),
            // UNKNOWN is 0, which is not written.
            (&[0, 0, 0, 0, 0], false),
            // A field of a later version, of each wire type, before and behind.
            (&[0, 0, 0, 0, 7, 0x12, 3, 1, 2, 3, 0x08, 1], true),
            (&[0, 0, 0, 0, 7, 0x08, 1, 0x1d, 1, 2, 3, 4], true),
            (&[0, 0, 0, 0, 11, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x08, 1], true),
            // Compressed, cut off, longer than it says, no end of a number, a group.
            (&[1, 0, 0, 0, 2, 0x08, 1], false),
            (&[0, 0, 0, 0, 2, 0x08], false),
            (&[0, 0, 0, 0, 2], false),
            (&[0, 0, 0], false),
            (&[0, 0, 0, 0, 1, 0x08, 1], false),
            (&[0, 0, 0, 0, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], false),
            (&[0, 0, 0, 0, 3, 0x0b, 0x08, 1], false),
            (&[0, 0, 0, 0, 2, 0x12, 0xff], false),
        ] {
            assert_eq!(serving(bytes), expected, "{bytes:?}");
        }
    }
}
