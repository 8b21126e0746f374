//! A token in its compact form (RFC 7519, RFC 7515 section 7.1), taken apart and not yet believed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{InvalidToken, jwk::Algorithm, strict::StrictObject};

/// Longer tokens are refused before they are read.
const LENGTH: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) alg: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) claims: Map<String, Value>,
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Messages are Envoy's (jwt_verify_lib status.cc), where it has one.
    pub(super) fn parse(text: &'a str) -> Result<Self, InvalidToken> {
        use InvalidToken as Bad;
        if text.len() > LENGTH {
            return Err(Bad::Malformed("Jwt is too long"));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Bad::Malformed(
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            ));
        };
        let signed = &text.as_bytes()[..header.len() + 1 + payload.len()];
        let decode = |part: &str, message| URL_SAFE_NO_PAD.decode(part).map_err(|_| Bad::Malformed(message));
        let object = |json: &[u8], message| {
            StrictObject::parse(json).map(|object| object.0).map_err(|_| Bad::Malformed(message))
        };
        let header = decode(header, "Jwt header is an invalid Base64url encoded")?;
        let header = object(&header, "Jwt header is an invalid JSON")?;
        let Some(Value::String(alg)) = header.get("alg") else {
            return Err(Bad::Malformed("Jwt header [alg] field is required and must be a string"));
        };
        let alg = Algorithm::from_name(alg).ok_or(Bad::Malformed("Jwt header [alg] is not supported"))?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()).filter(|kid| !kid.is_empty()),
            Some(_) => return Err(Bad::Malformed("Jwt header [kid] field is not a string")),
        };
        // RFC 7515 section 4.1.11: extensions that are not understood make the token invalid, and none is.
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Bad::Malformed("Jwt header has extensions that are not supported"));
        }
        let decoded = decode(payload, "Jwt payload is an invalid Base64url encoded")?;
        let claims = object(&decoded, "Jwt payload is an invalid JSON")?;
        check_types(&claims)?;
        let signature = decode(signature, "Jwt signature is an invalid Base64url encoded")?;
        Ok(Self { alg, kid, claims, signed, signature })
    }

    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// Seconds since 1970. Fractions are cut off.
    pub(super) fn seconds(&self, claim: &str) -> Option<u64> {
        // Checked: finite, not negative. The cast saturates.
        self.claims.get(claim).and_then(Value::as_f64).map(|seconds| seconds as u64)
    }

    /// `aud`: a string or a list of them.
    pub(super) fn audiences(&self) -> impl Iterator<Item = &str> {
        let (one, list) = match self.claims.get("aud") {
            Some(Value::String(one)) => (Some(one.as_str()), &[][..]),
            Some(Value::Array(list)) => (None, &list[..]),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(list.iter().filter_map(Value::as_str))
    }
}

/// RFC 7519 section 4.1: what the registered claims are. A claim of another type is not absent: the token is bad.
fn check_types(claims: &Map<String, Value>) -> Result<(), InvalidToken> {
    for (name, message) in [
        ("iss", "Jwt payload [iss] field is not a string"),
        ("sub", "Jwt payload [sub] field is not a string"),
        ("jti", "Jwt payload [jti] field is not a string"),
    ] {
        if claims.get(name).is_some_and(|value| !value.is_string()) {
            return Err(InvalidToken::Malformed(message));
        }
    }
    for (name, message) in [
        ("iat", "Jwt payload [iat] field is not an integer"),
        ("nbf", "Jwt payload [nbf] field is not an integer"),
        ("exp", "Jwt payload [exp] field is not an integer"),
    ] {
        let is_date = |value: &Value| value.as_f64().is_some_and(|seconds| (0.0..=9.2e18).contains(&seconds));
        if claims.get(name).is_some_and(|value| !is_date(value)) {
            return Err(InvalidToken::Malformed(message));
        }
    }
    let is_audience = |value: &Value| match value {
        Value::String(_) => true,
        Value::Array(list) => list.iter().all(Value::is_string),
        _ => false,
    };
    if claims.get("aud").is_some_and(|value| !is_audience(value)) {
        return Err(InvalidToken::Malformed("Jwt payload [aud] field is not a string or string list"));
    }
    Ok(())
}
