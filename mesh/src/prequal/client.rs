//! The client's side: questions on requests, probes beside them.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header::HOST};
use mesh_core::clock;
use mesh_lb::{Cluster, LoadReport, Member, Picked, Prequal};
use tokio::time::Instant;

use super::header::{LOAD, PROBE, REPORT, read};
use crate::{Body, connect::Connector, mesh::Inner};

/// In the extensions of a request that is a probe.
#[derive(Clone, Copy, Debug)]
struct Probe;

/// A server without an answer is not asked again for so long.
const DEAF: Duration = Duration::from_secs(60);

/// How often probes fall due while there are no requests: more often than answers grow old.
const TICK: Duration = Duration::from_millis(250);

/// Write the question of a request, or none: nobody else's goes out with it. `a_peer`: what it answers is its own.
/// True when the response's answer is to be taken from it.
pub(crate) fn ask<B>(cluster: &Cluster, request: &mut Request<B>, a_peer: bool) -> bool {
    let asks = a_peer && cluster.prequal().is_some();
    if !asks {
        request.headers_mut().remove(LOAD);
        return false;
    }
    let is_probe = request.extensions().get::<Probe>().is_some();
    request.headers_mut().insert(LOAD, if is_probe { PROBE } else { REPORT });
    !is_probe
}

/// A response to a request that asked.
pub(crate) fn heard<B>(cluster: &Cluster, member: &Arc<Member>, response: &mut Response<B>) {
    if let Some(report) = take(response.headers_mut()) {
        cluster.report(member, report, clock::now());
    }
}

fn take(headers: &mut HeaderMap) -> Option<LoadReport> {
    headers.remove(LOAD).as_ref().and_then(read)
}

/// What is known of a member as somebody to probe.
#[derive(Debug, Default)]
struct Probed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    under_way: bool,
    deaf_until: Option<Instant>,
}

/// One probe of a member; while it exists there is no other.
struct UnderWay(Arc<Probed>);

impl Probed {
    fn begin(self: Arc<Self>, now: Instant) -> Option<UnderWay> {
        let mut state = self.state();
        if state.under_way || state.deaf_until.is_some_and(|until| now < until) {
            return None;
        }
        state.under_way = true;
        drop(state);
        Some(UnderWay(self))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state().under_way = false;
    }
}

/// Send the probes that are due; nobody waits for them.
pub(crate) fn probe_due(connector: &Connector, cluster: &Cluster) {
    let now = clock::now();
    for member in cluster.probes_due(now, &mut rand::rng()) {
        let probed = member.attachment(|| Arc::new(Probed::default()));
        if let Some(under_way) = probed.begin(now) {
            tokio::spawn(probe(connector.clone(), cluster.clone(), member, under_way));
        }
    }
}

async fn probe(connector: Connector, cluster: Cluster, member: Arc<Member>, under_way: UnderWay) {
    // RFC 9110 9.3.7: OPTIONS of `*` "is only useful as a "ping" or "no-op" type of method": who does not know the header
    // does nothing.
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::OPTIONS;
    *request.uri_mut() = Uri::from_static("*");
    request.extensions_mut().insert(Probe);
    let host = HeaderValue::from_str(&cluster.name().service.host);
    request.headers_mut().extend(host.ok().map(|host| (HOST, host)));
    let limit = cluster.prequal().map_or(Duration::ZERO, Prequal::probe_timeout);
    let mut asked = pin!(connector.ask(Picked::new(request, Arc::clone(&member), cluster.clone())));
    match tokio::time::timeout(limit, asked.as_mut()).await {
        Ok(Ok(mut response)) => match take(response.headers_mut()) {
            Some(report) => cluster.report(&member, report, clock::now()),
            None => under_way.0.state().deaf_until = Some(clock::now() + DEAF),
        },
        Ok(Err(error)) => tracing::debug!(target: "mesh::prequal", %error, "probe"),
        // Too late to say how it is now. The connection that it may have waited for is there for the next one.
        Err(_) => drop(tokio::time::timeout(cluster.connect_timeout(), asked).await),
    }
}

/// Probe while there are no requests. Ends with the mesh, and waits for the next configuration where nobody is probed.
pub(crate) async fn keep_probing(mesh: Weak<Inner>) {
    let Some(mut changed) = mesh.upgrade().map(|mesh| mesh.inbound.changed.subscribe()) else { return };
    loop {
        let Some(strong) = mesh.upgrade() else { return };
        changed.mark_unchanged();
        let connector = strong.outbound.connector.clone();
        let set = strong.in_force.load_full();
        drop(strong);
        let clusters = set.iter().flat_map(|set| set.iter());
        let probed: Vec<Cluster> = clusters.filter(|cluster| cluster.prequal().is_some()).cloned().collect();
        let ages = probed.iter().filter_map(|cluster| cluster.prequal()).map(Prequal::probe_max_age);
        let Some(youngest) = ages.min() else {
            if changed.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut ticks = tokio::time::interval(TICK.min(youngest / 4).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => probed.iter().for_each(|cluster| probe_due(&connector, cluster)),
                changed = changed.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One probe of a member at a time, and none of somebody who does not answer.
    #[test]
    fn who_is_probed() {
        let (probed, now) = (Arc::new(Probed::default()), clock::now());
        let first = Arc::clone(&probed).begin(now).unwrap();
        assert!(Arc::clone(&probed).begin(now).is_none());
        drop(first);
        Arc::clone(&probed).begin(now).unwrap().0.state().deaf_until = Some(now + DEAF);
        assert!(Arc::clone(&probed).begin(now + DEAF / 2).is_none());
        assert!(Arc::clone(&probed).begin(now + DEAF).is_some());
    }
}
