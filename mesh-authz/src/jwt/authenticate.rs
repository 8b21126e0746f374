//! The shell around [`RequestAuthentications::authenticate`].

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::UNIX_EPOCH,
};

use arc_swap::ArcSwap;
use http::{HeaderValue, Request, Uri, header, uri::Scheme};
use mesh_core::{BoxError, Error, Reason, clock, identity::RequestPrincipal};
use tower_layer::Layer;
use tower_service::Service;

use super::{Authenticated, InvalidToken, KeyStore, RequestAuthentications};
use crate::ResponseFuture;

/// Checks the token of every request by the rules in force, and puts what it proves into the request's extensions: a
/// [`RequestPrincipal`]. A bad token gets 401, one for somebody else 403.
///
/// Goes inside [`CanonicalizeLayer`](crate::canonical::CanonicalizeLayer) and outside of
/// [`AuthorizeLayer`](crate::AuthorizeLayer), which reads the principal.
#[derive(Clone, Debug)]
pub struct AuthenticateLayer {
    rules: Arc<ArcSwap<RequestAuthentications>>,
    keys: KeyStore,
}

impl AuthenticateLayer {
    /// Check by what `rules` holds when a request arrives, with the keys that are known then.
    #[must_use]
    pub fn new(rules: Arc<ArcSwap<RequestAuthentications>>, keys: KeyStore) -> Self {
        Self { rules, keys }
    }
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticate { layer: self.clone(), inner }
    }
}

/// The service of [`AuthenticateLayer`].
#[derive(Clone, Debug)]
pub struct Authenticate<S> {
    layer: AuthenticateLayer,
    inner: S,
}

impl<B, S> Service<Request<B>> for Authenticate<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::from_box(error.into()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        // Only what is proved below: whatever stood there before is not ours.
        parts.extensions.remove::<RequestPrincipal>();
        let rules = self.layer.rules.load();
        if !rules.is_empty() {
            let now = clock::wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let realm = parts.uri.clone();
            match rules.authenticate(&parts.method, &mut parts.uri, &mut parts.headers, now, &self.layer.keys) {
                Authenticated::Anonymous => {}
                Authenticated::By(principal) => {
                    parts.extensions.insert(principal);
                }
                Authenticated::Refused(why) => {
                    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
                    return ResponseFuture::refused(refusal(why, &realm, host));
                }
            }
        }
        ResponseFuture::inner(self.inner.call(Request::from_parts(parts, body)))
    }
}

/// Envoy's reply (reference 1.7): what is wrong as the body, and RFC 6750 section 3's challenge.
fn refusal(why: InvalidToken, uri: &Uri, host: Option<&str>) -> Error {
    let scheme = uri.scheme().unwrap_or(&Scheme::HTTP);
    let host = uri.authority().map(http::uri::Authority::as_str).or(host).unwrap_or_default();
    let line = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    // envoy Http::Utility::buildOriginalUri: so much of it. A quote would end the realm early.
    let line: String = line.chars().take(256).filter(|c| *c != '"').collect();
    let challenge = format!("Bearer realm=\"{scheme}://{host}{line}\", error=\"invalid_token\"");
    let challenge = HeaderValue::try_from(challenge).ok();
    let reason = if why == InvalidToken::Audience { Reason::WrongAudience } else { Reason::Unauthenticated };
    let mut error = Error::new(reason).with_body(why.to_string()).with_source(why);
    error.edit_reply(move |headers| {
        if let Some(challenge) = &challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
        }
    });
    error
}
