//! Asking name servers.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ResolverConfig, ResolverOpts},
    net::{
        runtime::TokioRuntimeProvider,
        xfer::{DnsHandle as _, FirstAnswer as _},
    },
    proto::{
        op::{DnsRequestOptions, Query},
        rr::{Name, RData, RecordType},
    },
};

use super::{
    Config,
    local::{has_route, usable},
    reply::{self, Records, Reply},
};
use crate::registry::{Answer, Found, Place, is_service_record};

/// Responses asked for one after the other because each is an alias.
const ALIASES: usize = 8;
/// One server is waited for no longer, whatever the operating system does: the next may know.
const TRY: Duration = Duration::from_secs(2);

/// The name servers, asked in order as by the operating system.
pub(super) struct Servers {
    each: Vec<NameServerPool<TokioRuntimeProvider>>,
    attempts: usize,
    request: DnsRequestOptions,
}

/// The servers that did not answer during one lookup, which are asked last from then on.
///
/// A lookup asks for several names one after the other, as search domains have it. A server that is down would cost its
/// time for each of them, and that of the whole lookup would be over before the next server is heard.
#[derive(Debug, Default)]
struct Silent(AtomicU64);

impl Silent {
    fn add(&self, server: usize) {
        self.0.fetch_or(Self::bit(server), Ordering::Relaxed);
    }

    fn has(&self, server: usize) -> bool {
        self.0.load(Ordering::Relaxed) & Self::bit(server) != 0
    }

    /// None for those that are too many to be told apart: they keep their places.
    fn bit(server: usize) -> u64 {
        u32::try_from(server).ok().and_then(|server| 1_u64.checked_shl(server)).unwrap_or(0)
    }
}

impl Servers {
    pub(super) fn new(config: ResolverConfig, mut options: ResolverOpts) -> io::Result<Self> {
        options.timeout = options.timeout.min(TRY);
        let mut request = DnsRequestOptions::default();
        (request.use_edns, request.edns_payload_len) = (options.edns0, options.edns_payload_len);
        let attempts = options.attempts.max(1);
        let tls = || TlsConfig::new().map_err(|error| io::Error::other(error.to_string()));
        let (_, _, servers) = config.into_parts();
        if servers.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no name servers"));
        }
        // A pool of one each: a pool of several takes whichever error comes first for all of them.
        let each = servers.into_iter().map(|server| {
            let context = Arc::new(PoolContext::new(options.clone(), tls()?));
            Ok(NameServerPool::from_config([server], context, TokioRuntimeProvider::default()))
        });
        Ok(Self { each: each.collect::<io::Result<_>>()?, attempts, request })
    }

    /// One response for one whole name: the first that is an answer.
    async fn ask(&self, name: &Name, kind: RecordType, silent: &Silent) -> io::Result<Reply> {
        let mut failure: Option<io::Error> = None;
        for _ in 0..self.attempts {
            let (last, first): (Vec<_>, Vec<_>) = (0..self.each.len()).partition(|server| silent.has(*server));
            for server in first.into_iter().chain(last) {
                let query = Query::query(name.clone(), kind);
                let heard = self.each[server].lookup(query, self.request).first_answer().await;
                match reply::read(name, kind, heard.map(|response| response.into_message())) {
                    Ok(reply) => return Ok(reply),
                    // What one server said counts for more than that another says nothing.
                    Err(error) if error.kind() == io::ErrorKind::Other => failure = Some(error),
                    Err(error) => {
                        silent.add(server);
                        failure.get_or_insert(error);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    /// The records of a whole name, whatever it is an alias of, or how long it holds that there are none.
    async fn records(
        &self,
        name: &Name,
        kind: RecordType,
        silent: &Silent,
    ) -> io::Result<Result<Records, Option<Duration>>> {
        let (mut name, mut holds) = (name.clone(), Duration::MAX);
        for _ in 0..ALIASES {
            match self.ask(&name, kind, silent).await? {
                Reply::Records(mut records) => {
                    records.ttl = records.ttl.min(holds);
                    return Ok(Ok(records));
                }
                Reply::Nothing(ttl) => return Ok(Err(ttl.map(|ttl| ttl.min(holds)))),
                Reply::Alias(target, ttl) => (name, holds) = (target, holds.min(ttl)),
            }
        }
        Err(io::Error::other("an alias of an alias without end"))
    }
}

impl Config {
    /// Whatever of its meanings has an answer first; nothing when all have the answer that there is nothing, and a
    /// failure when any of them failed.
    ///
    /// glibc res_search goes on after SERVFAIL and stops when nobody answers, and so does this: what is found after a
    /// failure is found. But an absence is certain only when nobody failed.
    pub(super) async fn resolve(&self, host: &str) -> io::Result<Answer> {
        let service = is_service_record(host);
        // nsswitch.conf's "files dns": the name as it is written, before any search.
        if !service && let Some(answer) = self.in_hosts_file(host) {
            return Ok(answer);
        }
        let (mut nothing, mut failure) = (Answer::default(), None);
        let silent = Silent::default();
        for name in self.search.names(host)? {
            let answer =
                if service { self.service(&name, &silent).await } else { self.addresses(&name, &silent).await };
            match answer {
                Ok(answer) if !answer.found.is_empty() => return Ok(answer),
                Ok(answer) => nothing.ttl = shorter(nothing.ttl, answer.ttl),
                Err(error) if error.kind() != io::ErrorKind::Other => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(nothing),
        }
    }

    async fn addresses(&self, name: &Name, silent: &Silent) -> io::Result<Answer> {
        let family = |kind| self.servers.records(name, kind, silent);
        let (v4, v6) = tokio::join!(family(RecordType::A), family(RecordType::AAAA));
        let failed = v4.is_err() || v6.is_err();
        let (mut found, mut ttl, mut failure) = (Vec::new(), None, None);
        // A first: Istio's clusters of a single stack look up IPv4.
        let mut absent = None;
        for family in [v4, v6] {
            match family {
                Ok(Ok(records)) => {
                    found.extend(records.data.iter().filter_map(RData::ip_addr));
                    ttl = shorter(ttl, Some(records.ttl));
                }
                Ok(Err(holds)) => absent = shorter(absent, holds),
                Err(error) => failure = Some(error),
            }
        }
        // That a name has no addresses of one family does not say how long those of the other hold.
        let ttl = if found.is_empty() { absent } else { ttl };
        match failure {
            // What this machine has no route to is left out where both families are known: alone it says nothing.
            Some(error) if !found.iter().copied().any(has_route) => Err(error),
            _ => Ok(Answer {
                found: usable(found).into_iter().map(Found::from).collect(),
                ttl: ttl.filter(|_| !failed),
                partial: failed,
            }),
        }
    }

    fn in_hosts_file(&self, host: &str) -> Option<Answer> {
        let name = Name::from_ascii(host).ok()?.to_lowercase();
        let families = [RecordType::A, RecordType::AAAA].map(|kind| Query::query(name.clone(), kind));
        let found = families.iter().filter_map(|query| self.hosts.lookup_static_host(query));
        let found: Vec<IpAddr> = found
            .flat_map(|found| found.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<_>>())
            .collect();
        (!found.is_empty()).then(|| Answer::addresses(usable(found)))
    }

    async fn service(&self, name: &Name, silent: &Silent) -> io::Result<Answer> {
        let records = match self.servers.records(name, RecordType::SRV, silent).await? {
            Ok(records) => records,
            Err(ttl) => return Ok(Answer { ttl, ..Answer::default() }),
        };
        let mut known = HashMap::<Name, Vec<(IpAddr, Duration)>>::new();
        for record in &records.additional {
            if let Some(ip) = record.data.ip_addr() {
                known.entry(record.name.to_lowercase()).or_default().push((ip, reply::seconds(record.ttl)));
            }
        }
        let (mut found, mut ttl) = (Vec::new(), records.ttl);
        for data in &records.data {
            let RData::SRV(record) = data else { continue };
            // RFC 2782: "A Target of "." means that the service is decidedly not available at this domain."
            if record.target.is_root() {
                continue;
            }
            let place = |at| Found::record(at, record.port, record.priority, record.weight);
            let target = record.target.to_lowercase();
            match known.get(&target) {
                // RFC 2782: servers add the targets' addresses; where they did, nobody asks again.
                Some(addresses) => {
                    ttl = addresses.iter().fold(ttl, |ttl, (_, holds)| ttl.min(*holds));
                    let addresses = usable(addresses.iter().map(|(ip, _)| *ip).collect());
                    found.extend(addresses.into_iter().map(|ip| place(Place::Ip(ip))));
                }
                None => found.push(place(Place::Host(target.to_ascii().into()))),
            }
        }
        Ok(Answer { found, ttl: Some(ttl), partial: false })
    }
}

fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
