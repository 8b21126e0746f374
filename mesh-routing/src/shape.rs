//! What goes upstream: a request as its route wants it.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header, uri::PathAndQuery};
use mesh_core::{Error, Reason};

use crate::{RequestHead, RoutePolicy, header_ops};

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");

/// The changes that a route makes, read off the request before it is changed.
#[derive(Debug)]
pub(crate) struct Shape {
    path: Option<Bytes>,
    original_path: Option<Bytes>,
    original_host: Option<HeaderValue>,
}

impl Shape {
    pub(crate) fn new<C>(policy: &RoutePolicy<C>, head: &RequestHead<'_>) -> Self {
        // Upstream sees the path that was matched: otherwise it could read another one out of it.
        let path = match &policy.rewrite {
            Some(rewrite) => Some(with_query(&rewrite.apply(&head.path), head.query)),
            None => matches!(head.path, Cow::Owned(_)).then(|| with_query(head.path.as_bytes(), head.query)),
        };
        // envoy finalizePathHeader, measured (t2): with its query, and even where the rewrite changes nothing.
        let original_path = policy.rewrite.as_ref().map(|_| with_query(head.path.as_bytes(), head.query));
        // envoy updateAuthority, measured (t2, `/lh`): the one before, its port included.
        let original_host = policy.authority.as_ref().filter(|_| policy.tells_authority);
        let original_host = original_host.and_then(|_| HeaderValue::from_str(head.authority).ok());
        Self { path, original_path, original_host }
    }

    /// Change the request.
    ///
    /// # Errors
    /// When a rewrite makes a path that is none.
    pub(crate) fn apply<B, C>(self, policy: &RoutePolicy<C>, request: &mut Request<B>) -> Result<(), Error> {
        if let Some(ops) = &policy.request_headers {
            header_ops::apply(ops, request.headers_mut());
        }
        if let Some(authority) = &policy.authority {
            let headers = request.headers_mut();
            headers.insert(header::HOST, authority.clone());
            headers.extend(self.original_host.map(|host| (ORIGINAL_HOST, host)));
        }
        if let Some(path) = self.path {
            set_path(request, path)?;
        }
        if let Some(Ok(path)) = self.original_path.map(HeaderValue::from_maybe_shared) {
            request.headers_mut().insert(ORIGINAL_PATH, path);
        }
        Ok(())
    }
}

fn with_query(path: &[u8], query: Option<&str>) -> Bytes {
    let mut whole = path.to_vec();
    if let Some(query) = query {
        whole.push(b'?');
        whole.extend_from_slice(query.as_bytes());
    }
    whole.into()
}

/// A path that cannot be sent.
pub(crate) fn bad_path(error: http::Error) -> Error {
    Error::new(Reason::BadRequest("path")).with_source(error)
}

fn set_path<B>(request: &mut Request<B>, path: Bytes) -> Result<(), Error> {
    let path = PathAndQuery::from_maybe_shared(path).map_err(|error| bad_path(error.into()))?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(path);
    *request.uri_mut() = http::Uri::from_parts(parts).map_err(|error| bad_path(error.into()))?;
    Ok(())
}
