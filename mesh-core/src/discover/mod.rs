//! Where endpoints come from: one contract for values in code, watched documents and DNS.
//!
//! A source tells steps, not sets, so that one endpoint of ten thousand costs one step. It may be lost and found again;
//! what it said last stays. Several sources of one service are merged in an order that the mesh knows, never by who spoke
//! last.

pub mod dns;

mod interest;
mod merge;
mod ordered;
mod published;
mod subscriptions;

use std::{fmt, pin::Pin, sync::Arc};

use futures_core::Stream;

pub use self::{
    interest::Interest,
    merge::Merged,
    published::Published,
    subscriptions::{IDLE, Subscription},
};
use crate::{Endpoint, EndpointAddress};

/// One step in what a source knows of a service's endpoints.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Update {
    /// These are all of them.
    Reset(Vec<Arc<Endpoint>>),
    /// One more, or a newer description of the one at its address.
    Add(Arc<Endpoint>),
    /// One less.
    Remove(EndpointAddress),
    /// The source has nothing to say of this service, or no more: as if it had never been asked.
    Gone,
}

/// A port of a service, as it is asked for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Wanted {
    /// The service's host.
    pub host: Arc<str>,
    /// The port that callers use.
    pub port: u16,
    /// What the registry says its endpoints are. Those with a name for an address are the ones to look up: what is
    /// found carries on their labels, weight, locality and identity.
    pub named: Arc<[Arc<Endpoint>]>,
}

impl Wanted {
    /// A port of a service of which the registry names these endpoints.
    #[must_use]
    pub fn new(host: impl Into<Arc<str>>, port: u16, named: impl Into<Arc<[Arc<Endpoint>]>>) -> Self {
        Self { host: host.into(), port, named: named.into() }
    }
}

/// What a source says of one service, from the subscription on.
pub type Updates = Pin<Box<dyn Stream<Item = Update> + Send>>;

/// A source of endpoints.
pub trait Discover: fmt::Debug + Send + Sync + 'static {
    /// Begin to follow a service. The first step is a [`Reset`](Update::Reset) or [`Gone`](Update::Gone), as soon as
    /// something is known; nothing comes while nothing is. A stream that ends is a source that was lost: what it said
    /// stays, and it is asked again later. Dropping the stream ends the subscription.
    fn subscribe(&self, wanted: &Wanted) -> Updates;
}
