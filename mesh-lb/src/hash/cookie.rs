use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::COOKIE};

/// `consistentHash.httpCookie`: a cookie that says which endpoint a client belongs to.
///
/// A client that brings none is given one when there is a ttl: a `Set-Cookie` on the response, whose value decides about
/// this request already.
///
/// ```
/// use std::time::Duration;
/// use mesh_lb::{HashCookie, HashKey};
///
/// let cookie = HashCookie::new("user").with_ttl(Duration::from_secs(3600)).with_path("/p");
/// let key = HashKey::cookie(cookie).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HashCookie {
    name: Box<str>,
    path: Box<str>,
    ttl: Option<Duration>,
    attributes: Vec<(Box<str>, Box<str>)>,
}

impl HashCookie {
    /// A cookie that clients bring along or not; none is made for them.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), path: "".into(), ttl: None, attributes: Vec::new() }
    }

    /// Give it to clients that have none, for this long, in whole seconds. Zero: until they forget it (a session).
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// With this `Path`.
    #[must_use]
    pub fn with_path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    /// With another attribute, `SameSite=Strict` for instance; those without a value have an empty one.
    #[must_use]
    pub fn with_attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Can a client bring it, and can it be given to one?
    pub(super) fn is_possible(&self) -> bool {
        let nameable = !self.name.is_empty() && !self.name.starts_with(' ') && !self.name.contains(['=', ';']);
        nameable && self.set(0).is_some()
    }

    /// Is it given to clients that have none?
    pub(super) fn is_generated(&self) -> bool {
        self.ttl.is_some()
    }

    /// The value that a request brings; an empty one counts as none.
    ///
    /// envoy Http::Utility::forEachCookie: the first of its name, without the double quotes that may be around it.
    pub(super) fn find<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let cookies = headers.get_all(COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        let mut named = cookies.filter_map(|cookie| {
            let equals = cookie.iter().position(|byte| *byte == b'=')?;
            let start = cookie.iter().position(|byte| *byte != b' ')?;
            (cookie[start..equals] == *self.name.as_bytes()).then(|| &cookie[equals + 1..])
        });
        let value = named.next()?;
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some(bare.unwrap_or(value)).filter(|value| !value.is_empty())
    }

    /// A value that is made for a client.
    pub(crate) fn value(number: u64) -> String {
        format!("{number:016x}")
    }

    /// `Set-Cookie` for the value made from this number.
    ///
    /// measured on Envoy 1.40 (t5): `user="72d5ddd75a2c1f5b"; Max-Age=3600; Path=/p; HttpOnly`, without Max-Age for a
    /// ttl of 0. envoy Http::Utility::makeSetCookieValue: attributes come before HttpOnly.
    pub(crate) fn set(&self, number: u64) -> Option<HeaderValue> {
        let mut text = format!("{}=\"{}\"", self.name, Self::value(number));
        match self.ttl.unwrap_or_default().as_secs() {
            0 => {}
            seconds => text.push_str(&format!("; Max-Age={seconds}")),
        }
        if !self.path.is_empty() {
            text.push_str(&format!("; Path={}", self.path));
        }
        for (name, value) in &self.attributes {
            text.push_str("; ");
            text.push_str(name);
            if !value.is_empty() {
                text.push_str(&format!("={value}"));
            }
        }
        text.push_str("; HttpOnly");
        text.try_into().ok()
    }
}
