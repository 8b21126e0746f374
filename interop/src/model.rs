//! Rules and requests, in a form that belongs to neither side: [`istio`](crate::istio) writes them as the VirtualService
//! that we compile, [`translate`](crate::translate) as the routes that Envoy runs.

use crate::patterns::Pattern;

/// The ports of every generated service: routes are compiled per port, and `match.port` compares with it.
pub(crate) const PORTS: [u16; 2] = [80, 9080];

/// What a value must be.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Exact(String),
    Prefix(String),
    Regex(&'static Pattern),
    /// Headers and query parameters only: there is one.
    Present,
    /// The same in Istio's other spelling: the regex `*`, which is none.
    Star,
}

impl Text {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Exact(_) => "exact",
            Self::Prefix(_) => "prefix",
            Self::Regex(_) => "regex",
            Self::Present => "present",
            Self::Star => "regex *",
        }
    }
}

/// A `match` entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Match {
    /// Empty is none.
    pub(crate) name: String,
    pub(crate) uri: Option<Text>,
    pub(crate) ignore_case: bool,
    pub(crate) scheme: Option<Text>,
    pub(crate) method: Option<Text>,
    pub(crate) authority: Option<Text>,
    pub(crate) headers: Vec<(String, Text)>,
    pub(crate) without: Vec<(String, Text)>,
    pub(crate) query: Vec<(String, Text)>,
    pub(crate) port: Option<u16>,
    pub(crate) source_labels: Vec<(&'static str, &'static str)>,
    pub(crate) source_namespace: Option<&'static str>,
    pub(crate) gateways: Vec<&'static str>,
}

impl Match {
    /// Does it let every request of some port through?
    pub(crate) fn is_catch_all(&self) -> bool {
        let any_path = match &self.uri {
            None => true,
            Some(Text::Prefix(prefix)) => prefix.is_empty() || prefix == "/",
            Some(Text::Regex(pattern)) => pattern.regex == ".*",
            Some(_) => false,
        };
        any_path
            && self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.without.is_empty()
            && self.query.is_empty()
    }
}

/// Header operations of one level and direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operations {
    pub(crate) set: Vec<(String, String)>,
    pub(crate) add: Vec<(String, String)>,
    pub(crate) remove: Vec<String>,
}

impl Operations {
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    pub(crate) request: Operations,
    pub(crate) response: Operations,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Destination {
    pub(crate) host: String,
    pub(crate) subset: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) weight: Option<u32>,
    pub(crate) headers: Headers,
}

/// What a rule does with a request. A further action is a variant here, an arm in `istio`, `translate`, `generate` and
/// `coverage`.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Route(Vec<Destination>),
    Redirect(Redirect),
    DirectResponse {
        status: u16,
        body: Option<String>,
    },
    /// The rules of another VirtualService, one without hosts, stand here. No namespace is the rule's own.
    Delegate {
        name: String,
        namespace: Option<String>,
    },
}

/// Where to instead; at least one part is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redirect {
    pub(crate) uri: Option<String>,
    /// Instead of `uri`.
    pub(crate) prefix: Option<String>,
    pub(crate) authority: Option<String>,
    pub(crate) scheme: Option<&'static str>,
    pub(crate) port: Option<u16>,
    /// Instead of `port`.
    pub(crate) derive_port: Option<&'static str>,
    pub(crate) code: Option<u16>,
}

/// Who may read answers from another origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cors {
    pub(crate) origins: Vec<Text>,
    pub(crate) methods: Vec<&'static str>,
    pub(crate) headers: Vec<&'static str>,
    pub(crate) expose: Vec<&'static str>,
    pub(crate) max_age: Option<u32>,
    pub(crate) credentials: Option<bool>,
    /// FORWARD, IGNORE or nothing.
    pub(crate) unmatched: Option<&'static str>,
}

/// What becomes of a request before it is forwarded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rewrite {
    pub(crate) uri: Option<String>,
    /// A regular expression and its substitution, instead of `uri`.
    pub(crate) regex: Option<(&'static str, &'static str)>,
    pub(crate) authority: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Retries {
    pub(crate) attempts: u32,
    pub(crate) on: Vec<&'static str>,
    pub(crate) per_try_ms: Option<u64>,
    pub(crate) backoff_ms: Option<u64>,
}

/// A share of requests: faults are at 0 or at 100 %, or say nothing, which is 0.
pub(crate) type Percent = Option<u32>;

#[derive(Clone, Debug)]
pub(crate) enum Abort {
    Http(u16),
    Grpc(&'static str, u8),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fault {
    pub(crate) delay: Option<(u64, Percent)>,
    pub(crate) abort: Option<(Abort, Percent)>,
}

impl Fault {
    pub(crate) fn is_empty(&self) -> bool {
        self.delay.is_none() && self.abort.is_none()
    }
}

/// Who else gets a copy. Without a percentage, of all requests.
#[derive(Clone, Debug)]
pub(crate) struct Mirror {
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) percent: Percent,
}

/// An `http` rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Empty is none.
    pub(crate) name: String,
    pub(crate) matches: Vec<Match>,
    pub(crate) action: Action,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) cors: Option<Cors>,
    pub(crate) headers: Headers,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) retries: Option<Retries>,
    pub(crate) fault: Fault,
    /// `mirror`, whose percentage is a field of its own: a delegate may have one and its root the other.
    pub(crate) mirror: Option<Mirror>,
    pub(crate) mirror_percent: Percent,
    /// `mirrors`, instead.
    pub(crate) mirrors: Vec<Mirror>,
    /// A delegate's, in a root's place. No rule is written so.
    pub(crate) lent: bool,
    /// In the deprecated fields: a delay's `percent`, `mirrorPercent`, `allowOrigin`.
    pub(crate) old_spelling: bool,
}

/// A VirtualService; without hosts it is one that others delegate to.
#[derive(Clone, Debug)]
pub(crate) struct VirtualService {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) gateways: Vec<&'static str>,
    pub(crate) export_to: Vec<&'static str>,
    pub(crate) rules: Vec<Rule>,
}

/// A service that a table brings along.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) namespace: String,
    /// In full.
    pub(crate) host: String,
    pub(crate) ports: Vec<u16>,
}

/// VirtualServices that are in force together, in their order, with the services that they are for. No host of one table
/// is a host of another.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) number: usize,
    pub(crate) services: Vec<Service>,
    pub(crate) virtual_services: Vec<VirtualService>,
}

/// What the mesh as a whole says: of [`MODES`](crate::envoy::MODES) the number of the path normalisation, and what becomes
/// of requests to hosts that nobody knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    pub(crate) paths: usize,
    pub(crate) registry_only: bool,
}

/// Where the client is, and what it is.
pub(crate) const CLIENT_NAMESPACE: &str = "default";
pub(crate) const CLIENT_LABELS: [(&str, &str); 2] = [("app", "referee"), ("version", "v1")];

/// What the names of Kubernetes services end in.
pub(crate) const CLUSTER_DOMAIN: &str = ".svc.cluster.local";

impl Rule {
    /// A rule with an action, and nothing else.
    pub(crate) fn new(name: String, action: Action) -> Self {
        Self {
            name,
            matches: Vec::new(),
            action,
            rewrite: None,
            cors: None,
            headers: Headers::default(),
            timeout_ms: None,
            retries: None,
            fault: Fault::default(),
            mirror: None,
            mirror_percent: None,
            mirrors: Vec::new(),
            lent: false,
            old_spelling: false,
        }
    }

    /// All copies that it asks for.
    pub(crate) fn copies(&self) -> impl Iterator<Item = Mirror> {
        let one = self.mirror.clone().map(|mirror| Mirror { percent: self.mirror_percent, ..mirror });
        one.into_iter().chain(self.mirrors.iter().cloned())
    }
}

impl Headers {
    pub(crate) fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

impl Service {
    /// Is it a Kubernetes service? Otherwise it is a ServiceEntry's.
    pub(crate) fn is_kubernetes(&self) -> bool {
        self.host.ends_with(CLUSTER_DOMAIN)
    }
}

/// What an upstream does with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Status(u16),
    /// 200 with this `grpc-status` in the headers.
    Grpc(u8),
    /// 503 with `x-envoy-ratelimited`.
    RateLimited,
    /// End the connection instead of answering.
    Close,
    /// Answer 200, after longer than any short timeout.
    Hang,
}

/// A request, as bytes.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) table: usize,
    pub(crate) port: u16,
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    pub(crate) host: Vec<u8>,
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) roll: u64,
    /// What upstreams do, attempt by attempt; the last is repeated.
    pub(crate) plan: Vec<Step>,
}
