//! Name resolution: one seam for every lookup the mesh makes.
//!
//! A resolver tells an answer from a failure, because the mesh acts on the one and not on the other: a name that has no
//! addresses has no endpoints, a name server that does not answer has taught nothing, and what was known stays.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use rand::{Rng, RngExt as _};

/// Of a service record's targets, so many are looked up to dial one of them.
const DIALLED_TARGETS: usize = 8;

/// Looks up names. The mesh resolves names nowhere else, so that a test or a simulation replaces DNS by replacing this.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// What stands behind `host`: its addresses, or the targets of its service records where it
    /// [is named like one](is_service_record). An IP address stands for itself and is not asked for.
    ///
    /// An answer may be empty: the name is known to have no addresses (NXDOMAIN, or NOERROR without records).
    ///
    /// # Errors
    /// When nothing was learnt: SERVFAIL, REFUSED, a timeout, no network, a name that cannot be asked for. The mesh keeps
    /// what it knew.
    fn resolve<'a>(&'a self, host: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Answer>> + Send + 'a>>;
}

/// What a name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// Where to go, in the order told; nothing when the name is known to stand for nothing.
    pub found: Vec<Found>,
    /// How long it holds, where the source says so; a time of zero is told as it is.
    pub ttl: Option<Duration>,
    /// Of one address family nothing was learnt: this says nothing of addresses of the family that is not found here.
    pub partial: bool,
}

/// One place that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Found {
    /// An address, or a name that is looked up next.
    pub at: Place,
    /// The port, where the answer says one; otherwise the port that was wanted.
    pub port: Option<u16>,
    /// A service record's priority: the lowest that has an address is used. 0 for addresses.
    pub priority: u16,
    /// A service record's weight, relative to those of its priority.
    pub weight: Option<u16>,
}

/// Where a [`Found`] is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// An IP address.
    Ip(IpAddr),
    /// A host with addresses of its own.
    Host(Arc<str>),
}

impl Answer {
    /// These places, for a time that nobody told.
    #[must_use]
    pub fn new(found: impl IntoIterator<Item = Found>) -> Self {
        Self { found: found.into_iter().collect(), ttl: None, partial: false }
    }

    /// These addresses, on whatever port is wanted.
    #[must_use]
    pub fn addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::new(addresses.into_iter().map(Found::from))
    }

    /// It holds so long.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

impl From<IpAddr> for Found {
    /// On whatever port is wanted.
    fn from(ip: IpAddr) -> Self {
        Self { at: Place::Ip(ip), port: None, priority: 0, weight: None }
    }
}

impl From<SocketAddr> for Found {
    /// On this port, whichever was wanted.
    fn from(address: SocketAddr) -> Self {
        Self { port: Some(address.port()), ..address.ip().into() }
    }
}

impl Found {
    /// A service record (RFC 2782).
    #[must_use]
    pub fn record(target: Place, port: u16, priority: u16, weight: u16) -> Self {
        Self { at: target, port: Some(port), priority, weight: Some(weight) }
    }
}

/// Is a name one of a service, `_http._tcp.db.example.com`, so that SRV records are asked for and not addresses?
///
/// RFC 2782: "The format of the SRV RR … _Service._Proto.Name". The mesh speaks HTTP over TCP, so the second label is `_tcp`.
/// No host is named so (RFC 1123 has no underscores), which is why the name alone decides.
///
/// ```
/// use mesh_core::registry::is_service_record;
/// assert!(is_service_record("_http._tcp.web.default.svc.cluster.local"));
/// assert!(!is_service_record("web.default.svc.cluster.local"));
/// assert!(!is_service_record("_dmarc.example.com"));
/// ```
#[must_use]
pub fn is_service_record(host: &str) -> bool {
    let mut labels = host.splitn(3, '.');
    let service = labels.next().is_some_and(|label| label.len() > 1 && label.starts_with('_'));
    let protocol = labels.next().is_some_and(|label| label.eq_ignore_ascii_case("_tcp"));
    service && protocol && labels.next().is_some_and(|name| !name.is_empty() && name != ".")
}

/// The addresses to dial for a name, in the order to try them: for who does not balance, DNS_ROUND_ROBIN and hosts outside
/// of the registry.
///
/// Of service records, in the order of RFC 2782: "the lowest-numbered priority it can reach", drawn by weight among
/// equals; the first eight targets are looked up.
///
/// # Errors
/// When nothing was learnt of the name, or of none of its targets.
pub async fn addresses_to_dial(resolve: &dyn Resolve, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut found = resolve.resolve(host).await?.found;
    if found.iter().any(|found| found.weight.is_some()) {
        found = in_order(found, &mut rand::rng());
    }
    let (mut addresses, mut failed, mut asked) = (Vec::with_capacity(found.len()), None, 0);
    for found in found {
        let port = found.port.unwrap_or(port);
        match found.at {
            Place::Ip(ip) => addresses.push(SocketAddr::new(ip, port)),
            // A target that is a service again leads nowhere: RFC 2782 wants a host with address records.
            Place::Host(target) if is_service_record(&target) => {}
            Place::Host(_) if asked == DIALLED_TARGETS => {}
            Place::Host(target) => {
                asked += 1;
                match resolve.resolve(&target).await {
                    Ok(answer) => addresses.extend(answer.found.iter().filter_map(|found| match found.at {
                        Place::Ip(ip) => Some(SocketAddr::new(ip, found.port.unwrap_or(port))),
                        Place::Host(_) => None,
                    })),
                    Err(error) => failed = Some(error),
                }
            }
        }
    }
    match failed {
        Some(error) if addresses.is_empty() => Err(error),
        _ => Ok(addresses),
    }
}

/// RFC 2782, the order of trying: by priority, and among equals each place is drawn with a chance by weight; those of
/// weight zero stand in front of the draw, so that theirs is very small.
fn in_order(mut found: Vec<Found>, rng: &mut impl Rng) -> Vec<Found> {
    found.sort_by_key(|found| (found.priority, found.weight));
    let (mut left, mut ordered) = (VecDeque::from(found), Vec::new());
    while let Some(priority) = left.front().map(|found| found.priority) {
        let equals = left.iter().take_while(|found| found.priority == priority);
        let weights: u64 = equals.map(|found| u64::from(found.weight.unwrap_or(0))).sum();
        let drawn = rng.random_range(0..=weights);
        let mut so_far = 0;
        let chosen = left.iter().position(|found| {
            so_far += u64::from(found.weight.unwrap_or(0));
            so_far >= drawn
        });
        ordered.extend(chosen.and_then(|index| left.remove(index)));
    }
    ordered
}

/// The operating system's resolver (getaddrinfo), through tokio.
///
/// It tells no TTL, no service records, and no certain absence: `EAI_NONAME` is what it says of NXDOMAIN, but some C
/// libraries say it too when no name server could be asked, and the standard library hands on the text alone. So its
/// failures are all failures, and a name that it stops finding keeps its last addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Answer>> + Send + 'a>> {
        Box::pin(async move {
            if is_service_record(host) {
                let message = format!("{host}: the operating system's resolver knows no service records (SRV)");
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
            let addresses = tokio::net::lookup_host((host, 0)).await?;
            Ok(Answer::addresses(addresses.map(|address| address.ip())))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[derive(Debug, Default)]
    struct Names(HashMap<&'static str, Answer>);

    impl Resolve for Names {
        fn resolve<'a>(&'a self, host: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Answer>> + Send + 'a>> {
            let answer = self.0.get(host).cloned().ok_or_else(|| io::ErrorKind::TimedOut.into());
            Box::pin(std::future::ready(answer))
        }
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn record(target: &str, port: u16, priority: u16, weight: u16) -> Found {
        Found::record(Place::Host(target.into()), port, priority, weight)
    }

    #[test]
    fn a_name_of_a_service_has_two_labels_with_underscores() {
        // RFC 2782: "_Service._Proto.Name".
        for (host, is) in [
            ("_http._tcp.db.test", true),
            ("_http._TCP.db.test", true),
            ("_http._tcp.db.test.", true),
            ("_http._udp.db.test", false),
            ("_http._tcp", false),
            ("_http._tcp.", false),
            ("_._tcp.db", false),
            ("http._tcp.db", false),
            ("_http.db.test", false),
            ("", false),
        ] {
            assert_eq!(is_service_record(host), is, "{host:?}");
        }
    }

    #[tokio::test]
    async fn addresses_are_dialled_in_the_order_told_on_the_port_wanted() {
        let answer = Answer::new([Found::from(ip(2)), Found::from(SocketAddr::new(ip(1), 9))]);
        let names = Names([("db.test", answer)].into());
        let dialled = addresses_to_dial(&names, "db.test", 80).await.unwrap();
        assert_eq!(dialled, [SocketAddr::new(ip(2), 80), SocketAddr::new(ip(1), 9)]);
        assert!(addresses_to_dial(&names, "other.test", 80).await.is_err());
    }

    #[tokio::test]
    async fn service_records_are_dialled_by_priority_then_by_weight() {
        let service = Answer::new([
            record("late.test", 3, 20, 1),
            record("heavy.test", 1, 10, 3),
            record("light.test", 2, 10, 1),
            record("_loop._tcp.test", 4, 0, 1),
        ]);
        let hosts = [("late.test", 3), ("heavy.test", 1), ("light.test", 2)];
        let hosts = hosts.map(|(host, last)| (host, Answer::addresses([ip(last)])));
        let names = Names(hosts.into_iter().chain([("_x._tcp.db", service)]).collect());
        let dialled = addresses_to_dial(&names, "_x._tcp.db", 80).await.unwrap();
        assert_eq!(dialled.len(), 3);
        assert_eq!(dialled[2], SocketAddr::new(ip(3), 3));
    }

    #[test]
    fn among_equals_places_are_drawn_by_weight() {
        let mut rng = StdRng::seed_from_u64(mesh_test::seed());
        let mut first = BTreeMap::<Option<u16>, u32>::new();
        for _ in 0..4000 {
            let found = vec![record("a", 1, 10, 3), record("b", 2, 10, 1), record("c", 3, 0, 0)];
            let ordered = in_order(found, &mut rng);
            assert_eq!((ordered.len(), ordered[0].port), (3, Some(3)));
            *first.entry(ordered[1].port).or_default() += 1;
        }
        // RFC 2782 draws "a uniform random number between 0 and the sum computed (inclusive)": of 0..=4 with the light one
        // (1) in front, 0 and 1 choose it. 2 in 5, within five standard deviations.
        let (share, deviation) = (1600.0, (4000.0_f64 * 0.4 * 0.6).sqrt());
        assert!((f64::from(first[&Some(2)]) - share).abs() < 5.0 * deviation, "{first:?}");
    }

    #[tokio::test]
    async fn one_target_that_fails_does_not_stop_the_others() {
        let service = Answer::new([record("gone.test", 1, 0, 1), record("there.test", 2, 1, 1)]);
        let names = [("there.test", Answer::addresses([ip(1)])), ("_x._tcp.db", service)];
        let names = Names(names.into());
        let dialled = addresses_to_dial(&names, "_x._tcp.db", 80).await.unwrap();
        assert_eq!(dialled, [SocketAddr::new(ip(1), 2)]);
    }

    #[tokio::test]
    async fn the_systems_resolver_tells_addresses_and_no_ttl() {
        let answer = SystemResolver.resolve("127.0.0.1").await.unwrap();
        assert_eq!(answer, Answer::addresses([IpAddr::from([127, 0, 0, 1])]));
        let error = SystemResolver.resolve("_http._tcp.db.test").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
