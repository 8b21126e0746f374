//! Traffic policy: what a DestinationRule says about a port, and how its levels lie over each other.

use std::{sync::Arc, time::Duration};

use mesh_core::{ClientTlsSettings, LocalitySetting, Reason, ZoneAwareSetting};

use crate::{
    ConnectionLimits, ConsistentHash, DefaultPolicy, HealthCheck, LocalityPolicy, OutlierDetection, PeakEwma, Prequal,
    ProxyProtocol, Transport, Warmup,
};

/// `loadBalancer.simple` or `loadBalancer.consistentHash`; the last two are ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoadBalancer {
    /// LEAST_REQUEST, Istio's default; LEAST_CONN and UNSPECIFIED are the same.
    #[default]
    LeastRequest,
    /// ROUND_ROBIN, weighted as Envoy schedules it.
    RoundRobin,
    /// RANDOM, weighted.
    Random,
    /// PASSTHROUGH: the address that the request names.
    Passthrough,
    /// By a key of the request.
    ConsistentHash(Arc<ConsistentHash>),
    /// The lower of two by latency and requests in flight.
    PeakEwma(PeakEwma),
    /// By what endpoints answer to probes.
    Prequal(Arc<Prequal>),
}

impl LoadBalancer {
    /// The name that it has in configuration.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::LeastRequest => "LEAST_REQUEST",
            Self::RoundRobin => "ROUND_ROBIN",
            Self::Random => "RANDOM",
            Self::Passthrough => "PASSTHROUGH",
            Self::ConsistentHash(_) => "consistentHash",
            Self::PeakEwma(_) => "peakEwma",
            Self::Prequal(_) => "prequal",
        }
    }

    /// The settings of consistent hashing, where that is the policy.
    #[must_use]
    pub fn consistent_hash(&self) -> Option<&ConsistentHash> {
        match self {
            Self::ConsistentHash(hash) => Some(hash),
            _ => None,
        }
    }

    /// The time constant of what is learnt from latencies, in nanoseconds, where the policy learns from them.
    pub(crate) fn learns(&self) -> Option<f64> {
        match self {
            Self::PeakEwma(settings) => Some(settings.tau()),
            Self::Prequal(_) => Some(PeakEwma::default().tau()),
            _ => None,
        }
    }

    /// Does it matter which endpoint is listed before which? Envoy's round robin goes by the list, and a ring's rounding.
    pub(crate) fn is_ordered(&self) -> bool {
        matches!(self, Self::RoundRobin | Self::ConsistentHash(_))
    }
}

impl From<PeakEwma> for LoadBalancer {
    fn from(settings: PeakEwma) -> Self {
        Self::PeakEwma(settings)
    }
}

impl From<Prequal> for LoadBalancer {
    fn from(settings: Prequal) -> Self {
        Self::Prequal(Arc::new(settings))
    }
}

impl From<ConsistentHash> for LoadBalancer {
    fn from(hash: ConsistentHash) -> Self {
        Self::ConsistentHash(Arc::new(hash))
    }
}

/// How many retries a cluster may have in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum RetryLimit {
    /// The rule sets no limit, and Istio has none. Here retries that can add load to the endpoints are bounded all
    /// the same, by the budget that Envoy recommends: 20 % of the active requests, and at least 3. An attempt that no
    /// endpoint began to work on adds none: while a dead endpoint is still in discovery, half of a service's
    /// requests may need a retry, and no retry storm comes of it.
    #[default]
    Unset,
    /// `retryBudget`: a share of the active requests.
    Budget {
        /// Percent of active requests. Default 20.
        percent: f64,
        /// Allowed at any load. Default 3.
        min: u32,
    },
    /// `connectionPool.http.maxRetries`.
    Max(
        /// At most this many.
        u32,
    ),
}

impl RetryLimit {
    /// Does the repetition of an attempt count that ended for this reason, or with a response (`None`)?
    ///
    /// ```
    /// use {mesh_core::Reason, mesh_lb::RetryLimit};
    /// assert!(RetryLimit::Unset.counts(Some(Reason::Reset { request_sent: true })));
    /// assert!(!RetryLimit::Unset.counts(Some(Reason::ConnectFailure)));
    /// // A limit from configuration is the limit, as in Envoy.
    /// assert!(RetryLimit::Max(0).counts(Some(Reason::ConnectFailure)));
    /// ```
    #[must_use]
    pub fn counts(self, failed: Option<Reason>) -> bool {
        self != Self::Unset || failed.is_none_or(Reason::reached_endpoint)
    }

    /// Retries allowed at a time, while `active` requests are under way.
    ///
    /// ```
    /// let budget = mesh_lb::RetryLimit::default();
    /// assert_eq!((budget.at(0), budget.at(100)), (3, 20));
    /// ```
    #[must_use]
    pub fn at(self, active: u32) -> u32 {
        match self {
            Self::Unset => Self::Budget { percent: 20.0, min: 3 }.at(active),
            // The cast saturates: percent is 0 to 100.
            Self::Budget { percent, min } => ((f64::from(active) * percent / 100.0) as u32).max(min),
            Self::Max(max) => max,
        }
    }
}

/// The four blocks that stand at every level. A port's settings replace all four, a subset's each where given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Blocks {
    pub(crate) load_balancer: Option<LoadBalancer>,
    /// Parts of the block above: they come and go together.
    pub(crate) locality: Option<Arc<LocalitySetting>>,
    pub(crate) zone_aware: Option<Arc<ZoneAwareSetting>>,
    pub(crate) warmup: Option<Warmup>,
    pub(crate) connection_pool: Option<ConnectionPool>,
    pub(crate) outlier_detection: Option<OutlierDetection>,
    pub(crate) tls: Option<Arc<ClientTlsSettings>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionPool {
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) max_requests: Option<u32>,
    pub(crate) max_retries: Option<u32>,
    pub(crate) connections: ConnectionLimits,
    pub(crate) transport: Transport,
}

/// `trafficPolicy` of a rule or of a subset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    pub(crate) blocks: Blocks,
    pub(crate) retry_budget: Option<RetryLimit>,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) ports: Vec<(u16, Blocks)>,
}

impl TrafficPolicy {
    fn port(&self, port: u16) -> Option<&Blocks> {
        self.ports.iter().find(|(number, _)| *number == port).map(|(_, blocks)| blocks)
    }

    /// The choices of endpoints that it names, at whatever level.
    pub(crate) fn load_balancers(&self) -> impl Iterator<Item = &LoadBalancer> {
        let ports = self.ports.iter().map(|(_, blocks)| blocks);
        std::iter::once(&self.blocks).chain(ports).filter_map(|blocks| blocks.load_balancer.as_ref())
    }

    /// The policy of one cluster: the rule's, its subset's over it, each with the settings of the port.
    ///
    /// istio networking/v1alpha3 TrafficPolicy: "port-level settings will override the destination-level
    /// settings. Traffic settings specified at the destination-level will not be inherited when overridden by
    /// port-level settings, i.e. default values will be applied to fields omitted in port-level traffic policies."
    #[must_use]
    pub fn layer(rule: Option<&Self>, subset: Option<&Self>, port: u16) -> ClusterPolicy {
        Self::layer_over(&DefaultPolicy::default(), rule, subset, port)
    }

    /// The same in a mesh that has defaults of its own, which lie below all of it.
    #[must_use]
    pub fn layer_over(mesh: &DefaultPolicy, rule: Option<&Self>, subset: Option<&Self>, port: u16) -> ClusterPolicy {
        // A port's settings carry no retry budget and no proxyProtocol, and nothing of the rule shines through them.
        let (mut blocks, mut budget, mut proxy) = match rule {
            Some(rule) => match rule.port(port) {
                Some(of_port) => (of_port.clone(), None, None),
                None => (rule.blocks.clone(), rule.retry_budget, rule.proxy_protocol),
            },
            None => (Blocks::default(), None, None),
        };
        if let Some(subset) = subset {
            blocks.lay_over(&subset.blocks);
            budget = subset.retry_budget.or(budget);
            proxy = subset.proxy_protocol.or(proxy);
            if let Some(of_port) = subset.port(port) {
                blocks = of_port.clone();
            }
        }
        mesh.fill(&mut blocks);
        let mut policy = ClusterPolicy::of(blocks, budget);
        policy.transport.proxy_protocol = proxy;
        policy
    }
}

impl Blocks {
    fn lay_over(&mut self, over: &Self) {
        fn given<T: Clone>(base: &mut Option<T>, over: &Option<T>) {
            if over.is_some() {
                base.clone_from(over);
            }
        }
        if over.load_balancer.is_some() {
            self.locality.clone_from(&over.locality);
            self.zone_aware.clone_from(&over.zone_aware);
            self.warmup.clone_from(&over.warmup);
        }
        given(&mut self.load_balancer, &over.load_balancer);
        given(&mut self.connection_pool, &over.connection_pool);
        given(&mut self.outlier_detection, &over.outlier_detection);
        given(&mut self.tls, &over.tls);
    }
}

/// What is in force for one cluster, every default filled in.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClusterPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: LoadBalancer,
    /// Which endpoints are near, and what follows; `None`: all are alike.
    pub locality: Option<LocalityPolicy>,
    /// `warmup`: how a new endpoint's share grows; `None`: it has all of it at once. For ROUND_ROBIN and LEAST_REQUEST.
    pub warmup: Option<Warmup>,
    /// `localityLbSetting` of the rule, where it has one.
    pub(crate) locality_setting: Option<Arc<LocalitySetting>>,
    /// `zoneAwareLbSetting`, likewise.
    pub(crate) zone_setting: Option<Arc<ZoneAwareSetting>>,
    /// Ejection; `None`: no endpoint is ever ejected.
    pub outlier_detection: Option<OutlierDetection>,
    /// Active health checks; `None`: nobody is asked. From a MeshPolicy or code: Istio has no field for it.
    pub health_check: Option<Arc<HealthCheck>>,
    /// `connectionPool.tcp.connectTimeout`. Default 10 s.
    pub connect_timeout: Duration,
    /// `connectionPool.http.http2MaxRequests`: requests in flight at a time. Default unlimited (2^32 - 1).
    pub max_requests: u32,
    /// How many connections, how old, and who may wait for one.
    pub connections: ConnectionLimits,
    /// How connections are made.
    pub transport: Transport,
    /// Retries in flight at a time.
    pub retries: RetryLimit,
    /// `tls`; `None`: automatic mutual TLS.
    pub tls: Option<Arc<ClientTlsSettings>>,
}

impl Default for ClusterPolicy {
    fn default() -> Self {
        Self::of(Blocks::default(), None)
    }
}

impl ClusterPolicy {
    fn of(blocks: Blocks, budget: Option<RetryLimit>) -> Self {
        let pool = blocks.connection_pool.unwrap_or_default();
        Self {
            load_balancer: blocks.load_balancer.unwrap_or_default(),
            locality: None,
            warmup: blocks.warmup,
            locality_setting: blocks.locality,
            zone_setting: blocks.zone_aware,
            outlier_detection: blocks.outlier_detection,
            health_check: None,
            connect_timeout: pool.connect_timeout.unwrap_or(Duration::from_secs(10)),
            max_requests: pool.max_requests.unwrap_or(u32::MAX),
            connections: pool.connections,
            transport: pool.transport,
            // istio RetryBudget replaces the maxRetries breaker.
            retries: budget.or_else(|| pool.max_retries.map(RetryLimit::Max)).unwrap_or_default(),
            tls: blocks.tls,
        }
    }

    /// With this choice of endpoints.
    #[must_use]
    pub fn with_load_balancer(mut self, load_balancer: LoadBalancer) -> Self {
        self.load_balancer = load_balancer;
        self
    }

    /// With endpoints ranked by where they are.
    #[must_use]
    pub fn with_locality(mut self, locality: LocalityPolicy) -> Self {
        self.locality = Some(locality);
        self
    }

    /// With new endpoints that start slowly.
    #[must_use]
    pub fn with_warmup(mut self, warmup: Warmup) -> Self {
        self.warmup = Some(warmup);
        self
    }

    /// istio setWarmup: only the two policies that Envoy has slow start for.
    pub(crate) fn warmup_in_force(&self) -> Option<&Warmup> {
        let has = matches!(self.load_balancer, LoadBalancer::LeastRequest | LoadBalancer::RoundRobin);
        self.warmup.as_ref().filter(|_| has)
    }

    /// With ejection.
    #[must_use]
    pub fn with_outlier_detection(mut self, detection: OutlierDetection) -> Self {
        self.outlier_detection = Some(detection);
        self
    }

    /// With active health checks. Somebody has to make them, and tell [`Cluster::set_health`](crate::Cluster::set_health).
    #[must_use]
    pub fn with_health_check(mut self, check: HealthCheck) -> Self {
        self.health_check = Some(Arc::new(check));
        self
    }

    /// Below this many percent in service all endpoints are used; `None`: none is ever out of service.
    ///
    /// istio applyOutlierDetection: minHealthPercent, 0 where there is an outlierDetection; else envoy's
    /// healthy_panic_threshold: "If not specified, the default is 50%."
    pub(crate) fn panic_threshold(&self) -> Option<u32> {
        let outlier = self.outlier_detection.as_ref().map(|detection| detection.min_health_percent);
        outlier.or_else(|| self.health_check.as_ref().map(|_| 50))
    }

    /// With at most this many requests in flight.
    #[must_use]
    pub fn with_max_requests(mut self, max: u32) -> Self {
        self.max_requests = max;
        self
    }
}
