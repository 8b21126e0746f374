use http::{HeaderValue, Request};
use mesh_core::Progress;
use rand::Rng;

use crate::{HashCookie, HashKey, hash, hash::Keyed};

/// Where consistent hashing wants a request to go.
#[derive(Debug, Default)]
pub(super) struct Affinity {
    /// The hash of its key; without one it goes anywhere.
    pub(super) hash: Option<u64>,
    /// The cookie that its client is given.
    pub(super) set_cookie: Option<Box<HeaderValue>>,
}

impl Affinity {
    /// `own` is the hash of this process as the source of requests.
    pub(super) fn of<B>(key: &HashKey, request: &Request<B>, own: Option<u64>, rng: &mut impl Rng) -> Self {
        match key.of(request, own) {
            Keyed::Hash(hash) => Self { hash: Some(hash), set_cookie: None },
            Keyed::Absent => Self::default(),
            Keyed::Given(cookie) => Self::given(cookie, request, rng),
        }
    }

    /// Envoy makes the value of its client's connection. There is none here, so each request that needs a cookie gets
    /// one of its own, the same in all its attempts.
    fn given<B>(cookie: &HashCookie, request: &Request<B>, rng: &mut impl Rng) -> Self {
        let mut number = rng.next_u64();
        Progress::note(request.extensions(), |known| number = *known.cookie.get_or_insert(number));
        let set_cookie = cookie.set(number).map(Box::new);
        Self { hash: Some(hash(HashCookie::value(number).as_bytes())), set_cookie }
    }
}
