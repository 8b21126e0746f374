//! Who is signed in: a cookie that holds the name.
//!
//! Bookinfo asks for no password, so a name proves nothing and a signature would protect nothing. What matters is that a
//! name from outside can become a header and a cookie without breaking either, which [`User::new`] sees to.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
};

const COOKIE: &str = "session";

/// A signed-in user's name: 1 to 64 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User(String);

impl User {
    pub(super) fn new(name: &str) -> Option<Self> {
        let name = name.trim();
        let fits = (1..=64).contains(&name.len()) && !name.chars().any(char::is_control);
        fits.then(|| Self(name.into()))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The value of `end-user`.
    pub(super) fn end_user(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.0.as_bytes()).expect("has no control characters")
    }

    /// The `set-cookie` that signs in: for the browser's session, not for scripts, not for other sites' forms.
    pub(super) fn sign_in(&self) -> HeaderValue {
        let mut cookie = format!("{COOKIE}=");
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => cookie.push(char::from(byte)),
                _ => cookie.push_str(&format!("%{byte:02X}")),
            }
        }
        cookie.push_str("; Path=/; HttpOnly; SameSite=Lax");
        HeaderValue::try_from(cookie).expect("letters, digits and percent signs")
    }

    /// The `set-cookie` that signs out.
    pub(super) fn sign_out() -> HeaderValue {
        HeaderValue::from_static("session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0")
    }

    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == COOKIE)?;
        Self::new(&decode(value)?)
    }
}

/// Percent-decoding; `None` where it is not one or not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                tail
            }
            (b'%', _) => return None,
            (byte, tail) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    String::from_utf8(bytes).ok()
}

/// The signed-in user of a request, if any.
pub(super) struct SignedIn(pub(super) Option<User>);

impl<S: Sync> FromRequestParts<S> for SignedIn {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(User::from_headers(&parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back_from_cookie(name: &str) -> Option<String> {
        let cookie = User::new(name)?.sign_in();
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        let headers = [(header::COOKIE, HeaderValue::try_from(format!("a=b; {pair}")).unwrap())].into_iter().collect();
        User::from_headers(&headers).map(|user| user.0)
    }

    #[test]
    fn names_survive_the_cookie() {
        for name in ["jason", "Zoë", "a b", "a;b=c", "100%", "<script>", "%00", "日本"] {
            assert_eq!(back_from_cookie(name).as_deref(), Some(name));
            User::new(name).unwrap().end_user();
        }
    }

    #[test]
    fn names_that_would_break_a_header_are_refused() {
        for name in ["", "  ", "a\r\nb: c", "a\0", "\u{7f}", &"a".repeat(65)] {
            assert_eq!(User::new(name), None, "{name:?}");
        }
        for cookie in ["session=%", "session=%0", "session=%zz", "session=%ff", "session=a%0d%0ab", "session="] {
            let headers = [(header::COOKIE, HeaderValue::from_static(cookie))].into_iter().collect();
            assert_eq!(User::from_headers(&headers), None, "{cookie}");
        }
    }
}
