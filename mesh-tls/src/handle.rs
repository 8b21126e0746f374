//! The identity in force, and how it is replaced while connections are made.
//!
//! A handshake loads one immutable set of credentials and works with it to its end, so a rotation never mixes an old
//! certificate with a new bundle. Every replacement has a number: pools key connections by it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use crate::{Alpn, ExpectedPeer, Identity, config};

/// Destinations whose configuration is kept; beyond it all are built anew, which costs microseconds.
const MOST_CLIENT_CONFIGS: usize = 1024;

/// One generation of our identity, with the TLS configurations made from it.
pub struct Credentials {
    identity: Identity,
    generation: u64,
    server: Arc<ServerConfig>,
    clients: Mutex<HashMap<(ExpectedPeer, Alpn), Arc<ClientConfig>>>,
}

impl Credentials {
    fn new(identity: Identity, generation: u64) -> Self {
        let server = Arc::new(config::server_config(&identity));
        Self { identity, generation, server, clients: Mutex::default() }
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its number: 1 for the first, greater for each that follows.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn server_config(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    pub(crate) fn client_config(&self, expected: &ExpectedPeer, protocol: Alpn) -> Arc<ClientConfig> {
        // A poisoned map holds complete entries: the lock guards nothing that can be half done.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MOST_CLIENT_CONFIGS {
            clients.clear();
        }
        let build = || Arc::new(config::client_config(&self.identity, expected, protocol));
        Arc::clone(clients.entry((expected.clone(), protocol)).or_insert_with(build))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// The identity in force. Clones share it.
#[derive(Clone)]
pub struct IdentityHandle(Arc<Shared>);

struct Shared {
    current: ArcSwap<Credentials>,
    generation: watch::Sender<u64>,
}

impl IdentityHandle {
    /// The first generation.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let current = ArcSwap::from_pointee(Credentials::new(identity, 1));
        Self(Arc::new(Shared { current, generation: watch::Sender::new(1) }))
    }

    /// The credentials in force.
    #[must_use]
    pub fn current(&self) -> Arc<Credentials> {
        self.0.current.load_full()
    }

    /// The number of the generation in force.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.current.load().generation
    }

    /// Put another identity in force, from the next handshake on, and return its generation. Connections that exist
    /// live on: who pools them asks for their generation.
    pub fn replace(&self, identity: Identity) -> u64 {
        let mut number = 0;
        // Under the watch's lock, so that two replacements cannot swap in an order other than their numbers'.
        self.0.generation.send_modify(|generation| {
            *generation += 1;
            number = *generation;
            self.0.current.store(Arc::new(Credentials::new(identity, number)));
        });
        number
    }

    /// Be told of replacements from now on.
    #[must_use]
    pub fn subscribe(&self) -> Generations {
        Generations(self.0.generation.subscribe())
    }
}

impl fmt::Debug for IdentityHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentityHandle").field(&self.current()).finish()
    }
}

/// Tells of new generations of an identity.
#[derive(Debug)]
pub struct Generations(watch::Receiver<u64>);

impl Generations {
    /// Wait for a generation newer than the last one seen and return its number; `None` when every handle is gone.
    /// Several replacements in a row are one change.
    pub async fn changed(&mut self) -> Option<u64> {
        self.0.changed().await.ok()?;
        Some(*self.0.borrow_and_update())
    }
}
