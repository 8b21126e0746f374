//! The store: every edge, the cap on slots, and the counters of the other crates.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use mesh_core::ResponseFlags;

use super::{
    Counter, Edge, EdgeLabels, Gauge,
    registry::{Kind, Registry},
    render,
};

/// The metrics of one process. Clones share everything.
///
/// ```
/// use mesh_telemetry::Metrics;
/// let metrics = Metrics::new();
/// let reloads = metrics.counter("mesh_config_reloads_total", "Configurations put in force.", &[("result", "ok")]);
/// reloads.increment(1);
/// assert!(metrics.render().contains(r#"mesh_config_reloads_total{result="ok"} 1"#));
/// ```
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    edges: Mutex<HashMap<EdgeLabels, Arc<Edge>>>,
    slots: AtomicUsize,
    max_slots: usize,
    overflow: Counter,
    registry: Registry,
}

/// `request_protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// `http`
    Http,
    /// `grpc`
    Grpc,
}

/// How one request ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// `request_protocol`
    pub protocol: Protocol,
    /// The status, 0 when there was no response.
    pub code: u16,
    /// The gRPC status, where a gRPC call came to have one.
    pub grpc_status: Option<u8>,
    /// Response flags.
    pub flags: ResponseFlags,
    /// From the first byte in to the last byte out.
    pub duration: Duration,
    /// Size of the request.
    pub request_bytes: u64,
    /// Size of the response.
    pub response_bytes: u64,
}

/// What tells the slots of an edge apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotKey {
    pub(super) grpc: bool,
    pub(super) code: u16,
    pub(super) grpc_status: Option<u8>,
    pub(super) flags: ResponseBits,
}

/// Flags in an order, for a stable scrape.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseBits(pub(super) ResponseFlags);

impl PartialEq for ResponseBits {
    fn eq(&self, other: &Self) -> bool {
        self.0.bits() == other.0.bits()
    }
}

impl Eq for ResponseBits {}

impl PartialOrd for ResponseBits {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ResponseBits {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.bits().cmp(&other.0.bits())
    }
}

impl SlotKey {
    fn of(outcome: &Outcome) -> Self {
        Self {
            grpc: outcome.protocol == Protocol::Grpc,
            code: outcome.code,
            grpc_status: outcome.grpc_status,
            flags: ResponseBits(outcome.flags),
        }
    }

    /// The key in an overflow edge: few enough values to need no cap, and still telling success from failure.
    fn coarse(self) -> Self {
        Self {
            grpc: self.grpc,
            code: self.code / 100 * 100,
            grpc_status: self.grpc_status.map(|status| if status == 0 { 0 } else { 2 }),
            flags: ResponseBits(ResponseFlags::default()),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Content type of [`render`](Self::render)'s text.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Slots that a store has unless told otherwise.
    pub const DEFAULT_MAX_SLOTS: usize = 4_000;

    /// An empty store with room for [`DEFAULT_MAX_SLOTS`](Self::DEFAULT_MAX_SLOTS) slots.
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_slots(Self::DEFAULT_MAX_SLOTS)
    }

    /// An empty store with room for `max_slots` combinations of label values. A slot is 67 series and about 600 bytes
    /// here; further combinations are counted by side under `other` and in `mesh_metrics_overflow_total`.
    #[must_use]
    pub fn with_max_slots(max_slots: usize) -> Self {
        let registry = Registry::default();
        let overflow = Counter::from(registry.series(
            Kind::Counter,
            "mesh_metrics_overflow_total",
            "Requests counted without their own labels because the limit of label combinations was reached.",
            &[],
        ));
        let build = Gauge::from(registry.series(
            Kind::Gauge,
            "istio_build",
            "Istio component build info",
            &[("component", "proxy"), ("tag", env!("CARGO_PKG_VERSION"))],
        ));
        build.set(1);
        Self(Arc::new(Inner { edges: Mutex::default(), slots: AtomicUsize::new(0), max_slots, overflow, registry }))
    }

    /// The edge of these labels, made at the first call. Keep it: this looks it up by its contents.
    ///
    /// At the cap no edge is made; the answer is the one that overflow is counted in.
    #[must_use]
    pub fn edge(&self, labels: &EdgeLabels) -> Arc<Edge> {
        let mut edges = self.0.edges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(edge) = edges.get(labels) {
            return Arc::clone(edge);
        }
        let full = edges.len() >= self.0.max_slots;
        let labels = if full { labels.overflow() } else { labels.clone() };
        Arc::clone(edges.entry(labels).or_insert_with_key(|labels| Arc::new(Edge::new(labels.clone(), full))))
    }

    /// Count one request.
    pub fn record(&self, edge: &Edge, outcome: &Outcome) {
        let key = SlotKey::of(outcome);
        // envoy istio_stats: the duration is divided by a millisecond, as integers.
        let millis = u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX);
        let record = |slot: &super::edge::Slot| {
            slot.duration.record(millis);
            slot.request_bytes.record(outcome.request_bytes);
            slot.response_bytes.record(outcome.response_bytes);
        };
        let Inner { slots, max_slots, .. } = &*self.0;
        if !edge.is_overflow && edge.record(key, slots, *max_slots, record) {
            return;
        }
        self.0.overflow.increment(1);
        if edge.is_overflow {
            edge.record(key.coarse(), slots, *max_slots, record);
        } else {
            edge.spill.get_or_init(|| self.spill(edge)).record(key.coarse(), slots, *max_slots, record);
        }
    }

    fn spill(&self, edge: &Edge) -> Arc<Edge> {
        let labels = edge.labels().overflow();
        let mut edges = self.0.edges.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(edges.entry(labels).or_insert_with_key(|labels| Arc::new(Edge::new(labels.clone(), true))))
    }

    /// A counter of the mesh's own, made at the first call and shared by later ones with the same name and labels.
    ///
    /// # Panics
    /// When `name` or a label's name is not one that Prometheus allows, or `name` is a gauge.
    #[must_use]
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        Counter::from(self.0.registry.series(Kind::Counter, name, help, labels))
    }

    /// A gauge of the mesh's own, made at the first call and shared by later ones with the same name and labels.
    ///
    /// # Panics
    /// When `name` or a label's name is not one that Prometheus allows, or `name` is a counter.
    #[must_use]
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        Gauge::from(self.0.registry.series(Kind::Gauge, name, help, labels))
    }

    /// Everything in Prometheus' text format 0.0.4, sorted: two scrapes differ only in what changed.
    #[must_use]
    pub fn render(&self) -> String {
        let mut edges: Vec<_> =
            self.0.edges.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        edges.sort_unstable_by(|a, b| (&a.rendered, a.security.as_str()).cmp(&(&b.rendered, b.security.as_str())));
        let mut out = String::new();
        render::istio(&edges, &mut out);
        self.0.registry.render(&mut out);
        out
    }
}
