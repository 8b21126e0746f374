//! Which requests share a bucket.

use std::hash::{BuildHasher, Hasher, RandomState};

use http::HeaderName;
use mesh_core::identity::PeerIdentity;

use super::layer::Asked;

/// One bucket for each value of a key: of a header, of the caller's identity, of the path, or of several of these
/// together.
///
/// Requests that have no such header, or no identity, share a bucket like those of any one value: leaving the header
/// out is no way around the limit. Values are compared as they are, byte by byte; a repeated header's all count.
///
/// At most [`max_keys`](Self::with_max_keys) buckets are kept, of 16 bytes each, whatever the length of the values. A
/// bucket that is full again is as good as none and makes room. When there is no room, requests with further keys
/// share one bucket of the same size: a caller who makes up keys can neither fill the memory nor take away what
/// others have used. [`LimitCounts::overflowed`](super::LimitCounts::overflowed) counts those requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct KeyBy {
    header: Option<HeaderName>,
    principal: bool,
    path: bool,
    max_keys: u32,
}

impl KeyBy {
    /// Keys are kept for so many values by default: 160 kB.
    pub const DEFAULT_MAX_KEYS: u32 = 10_000;
    /// The most that may be kept.
    pub const LIMIT_OF_MAX_KEYS: u32 = 1_000_000;

    /// Everything together: one key.
    pub(super) const NOTHING: Self =
        Self { header: None, principal: false, path: false, max_keys: Self::DEFAULT_MAX_KEYS };

    /// By the value of a header.
    pub fn header(name: HeaderName) -> Self {
        Self::NOTHING.and_header(name)
    }

    /// By the SPIFFE ID that the caller's certificate proved; those without one share a bucket.
    pub fn principal() -> Self {
        Self::NOTHING.and_principal()
    }

    /// By the path, without the query.
    pub fn path() -> Self {
        Self::NOTHING.and_path()
    }

    /// And by the value of a header; the last one given counts.
    pub fn and_header(mut self, name: HeaderName) -> Self {
        self.header = Some(name);
        self
    }

    /// And by the caller's identity.
    pub fn and_principal(mut self) -> Self {
        self.principal = true;
        self
    }

    /// And by the path.
    pub fn and_path(mut self) -> Self {
        self.path = true;
        self
    }

    /// Keep at most so many buckets: 1 to [`LIMIT_OF_MAX_KEYS`](Self::LIMIT_OF_MAX_KEYS). Costs 16 bytes for each key
    /// seen within the time that a bucket takes to fill.
    pub fn with_max_keys(mut self, max_keys: u32) -> Self {
        self.max_keys = max_keys.clamp(1, Self::LIMIT_OF_MAX_KEYS);
        self
    }

    pub(super) fn max_keys(&self) -> u32 {
        self.max_keys
    }

    /// A request's key: a hash under a secret of the process's, so that its size is bounded and nobody can choose one
    /// that meets another's. Allocates nothing.
    pub(super) fn of(&self, asked: &Asked<'_>, secret: &RandomState) -> u64 {
        let mut hasher = secret.build_hasher();
        let mut part = |kind: u8, value: &[u8]| {
            hasher.write_u8(kind);
            hasher.write_usize(value.len());
            hasher.write(value);
        };
        if let Some(name) = &self.header {
            asked.head.headers.get_all(name).iter().for_each(|value| part(1, value.as_bytes()));
        }
        if self.principal
            && let Some(peer) = asked.extensions.get::<PeerIdentity>()
        {
            part(2, peer.id().as_str().as_bytes());
        }
        if self.path {
            part(3, asked.head.path.as_bytes());
        }
        hasher.finish()
    }
}
