//! The decision.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use mesh_core::{Error, Reason};

use super::spec::list;
use crate::string_match::StringMatch;

/// A rule's `corsPolicy`.
#[derive(Clone, Debug, Default)]
pub struct CorsPolicy {
    pub(super) origins: Box<[StringMatch]>,
    pub(super) methods: Option<HeaderValue>,
    pub(super) headers: Option<HeaderValue>,
    pub(super) expose: Option<HeaderValue>,
    pub(super) max_age: Option<HeaderValue>,
    pub(super) credentials: bool,
    /// Are preflights of other origins answered too, instead of being passed on?
    pub(super) answers_unmatched: bool,
}

/// Leave for an origin to read a response.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    policy: Arc<CorsPolicy>,
    origin: HeaderValue,
}

impl CorsPolicy {
    /// A Gateway API route's CORS filter.
    ///
    /// istio createCorsFilter: preflights of other origins are answered here (IGNORE).
    pub(crate) fn of_gateway(
        origins: Vec<StringMatch>,
        methods: &[String],
        headers: &[String],
        expose: &[String],
        max_age: u32,
        credentials: bool,
    ) -> Self {
        Self {
            origins: origins.into(),
            methods: list(methods),
            headers: list(headers),
            expose: list(expose),
            max_age: Some(max_age.into()),
            credentials,
            answers_unmatched: true,
        }
    }

    /// May a page of the request's origin read the answer?
    ///
    /// measured on Envoy 1.40 (t4): exact, prefix and whole regex, with case; the origin comes back as it was sent.
    pub(crate) fn grant(self: &Arc<Self>, headers: &HeaderMap) -> Option<Grant> {
        let origin = origin(headers).filter(|origin| self.allows(origin.as_bytes()))?;
        Some(Grant { policy: Arc::clone(self), origin })
    }

    /// envoy CORS: an entry that lets in `*` lets in every origin.
    fn allows(&self, origin: &[u8]) -> bool {
        !origin.is_empty() && self.origins.iter().any(|allowed| allowed.matches(b"*") || allowed.matches(origin))
    }

    /// The answer to a preflight, where there is one to give.
    ///
    /// measured on Envoy 1.40 (t4): a preflight is OPTIONS with `origin` and `access-control-request-method`, whatever
    /// they ask for. One of an unknown origin goes to the upstream (FORWARD, Istio's default), or is answered without
    /// `access-control-allow-origin` (IGNORE).
    pub(crate) fn preflight(self: &Arc<Self>, method: &Method, headers: &HeaderMap) -> Option<Error> {
        let asks = |name| headers.get(name).is_some_and(|value| !value.is_empty());
        if method != Method::OPTIONS || !asks(header::ORIGIN) || !asks(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        if !self.answers_unmatched && !origin(headers).is_some_and(|origin| self.allows(origin.as_bytes())) {
            return None;
        }
        let policy = Arc::clone(self);
        let asked = |list: &Option<HeaderValue>, name| match list {
            Some(list) if list == "*" => Some(asked(headers, name)),
            list => list.clone(),
        };
        let method = asked(&self.methods, header::ACCESS_CONTROL_REQUEST_METHOD);
        let names = asked(&self.headers, header::ACCESS_CONTROL_REQUEST_HEADERS);
        let mut answer = Error::new(Reason::Preflight);
        answer.edit_reply(move |headers| {
            let mut set = |name, value: &Option<HeaderValue>| {
                if let Some(value) = value {
                    headers.insert(name, value.clone());
                }
            };
            set(header::ACCESS_CONTROL_ALLOW_METHODS, &method);
            set(header::ACCESS_CONTROL_ALLOW_HEADERS, &names);
            set(header::ACCESS_CONTROL_MAX_AGE, &policy.max_age);
            set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, &policy.credentials());
        });
        Some(answer)
    }

    fn credentials(&self) -> Option<HeaderValue> {
        self.credentials.then(|| HeaderValue::from_static("true"))
    }
}

/// measured on Envoy 1.40: a list that is `*` is answered with what is asked for, with credentials or without: a browser
/// that sends some takes it for a name (Fetch 4.8). Nothing asked for is an empty header.
fn asked(headers: &HeaderMap, name: HeaderName) -> HeaderValue {
    joined(headers, name).unwrap_or_else(|| HeaderValue::from_static(""))
}

/// measured on Envoy 1.40: several are one, joined with `,`; so that no list of origins passes for one of them.
fn origin(headers: &HeaderMap) -> Option<HeaderValue> {
    joined(headers, header::ORIGIN)
}

fn joined(headers: &HeaderMap, name: HeaderName) -> Option<HeaderValue> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.clone();
    all.try_fold(first, |joined, next| HeaderValue::from_bytes(&[joined.as_bytes(), next.as_bytes()].join(&b','))).ok()
}

impl Grant {
    /// Say so in a response.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        if let Some(credentials) = self.policy.credentials() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
        }
        if let Some(expose) = &self.policy.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}
