//! The response body, and the connection that is free when it ends.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    h1::H1,
    pool::{HostPool, StreamPermit},
};

/// The body of a response from upstream. When it ends, its HTTP/1.1 connection goes back to the pool; when it is
/// dropped before, that connection closes, since the rest of the response still stands in it.
#[derive(Debug)]
pub struct ConnectionBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

#[derive(Debug)]
pub(super) enum Lease {
    H1(Arc<HostPool>, H1),
    H2(#[allow(dead_code, reason = "held for its drop")] StreamPermit),
}

impl ConnectionBody {
    pub(super) fn new(incoming: Incoming, lease: Option<Lease>) -> Self {
        let mut body = Self { incoming, lease };
        if body.incoming.is_end_stream() {
            body.ended();
        }
        body
    }

    fn ended(&mut self) {
        if let Some(Lease::H1(pool, connection)) = self.lease.take() {
            pool.give_back(connection);
        }
    }
}

impl HttpBody for ConnectionBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(_)) if !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => self.ended(),
            Some(Err(_)) => self.lease = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
