//! The load, every request of which is recorded.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Method, Request};
use http_body_util::BodyExt;
use mesh::{Body, Client, Exchange};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::world::{Death, Replica, until};

/// Requests at a time.
pub(crate) const TASKS: usize = 32;

/// What became of one request.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
    /// Of the last attempt.
    pub(crate) endpoint: String,
    pub(crate) attempts: u32,
    pub(crate) failure: Option<String>,
}

impl Sent {
    pub(crate) fn in_flight_at(&self, death: Death) -> bool {
        self.started <= death.gone && self.ended >= death.signalled
    }
}

/// A load of [`TASKS`] requests at a time.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Sent>>>,
    tasks: JoinSet<()>,
}

impl Load {
    /// The n-th request of each task has the n-th of these methods, and over again; the n-th task asks for the n-th URI.
    pub(crate) fn start(client: &Client<Body>, uris: &[&'static str], methods: &'static [Method]) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = JoinSet::new();
        for uri in uris.iter().cycle().copied().take(TASKS) {
            let (client, stop, sent) = (client.clone(), Arc::clone(&stop), Arc::clone(&sent));
            tasks.spawn(async move {
                for method in methods.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = send(&client, uri, method).await;
                    sent.lock().unwrap().push(outcome);
                }
            });
        }
        Self { stop, sent, tasks }
    }

    pub(crate) fn count(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    /// Wait for this many more requests.
    pub(crate) async fn more(&self, count: usize) {
        let enough = self.count() + count;
        until("the load goes on", || self.count() >= enough).await;
    }

    /// Wait until each of these has answered a good many requests.
    pub(crate) async fn reached(&self, replicas: [&Replica; 2]) {
        let answered = |replica: &Replica| {
            let sent = self.sent.lock().unwrap();
            sent.iter().filter(|sent| sent.endpoint == replica.address && sent.failure.is_none()).count()
        };
        until("both replicas answer", || replicas.iter().all(|replica| answered(replica) >= 200)).await;
    }

    pub(crate) async fn stop(mut self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
        std::mem::take(&mut self.sent.lock().unwrap())
    }
}

async fn send(client: &Client<Body>, uri: &str, method: &Method) -> Sent {
    let mut request = Request::builder().method(method).uri(uri);
    let mut body = Body::empty();
    if method == Method::POST {
        request = request.header("content-type", "application/json");
        body = Body::from(r#"{"Reviewer1": 5, "Reviewer2": 4}"#);
    }
    let started = Instant::now();
    let response = client.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let exchange = parts.extensions.get::<Exchange>().cloned().unwrap_or_default();
    let endpoint = exchange.endpoint.as_ref().map(|endpoint| endpoint.address.to_string()).unwrap_or_default();
    let failure = match &body {
        Err(error) => Some(format!("{} body: {error}", parts.status)),
        Ok(_) if parts.status == 200 => None,
        Ok(body) => Some(format!("{} {} {body:?}", parts.status, exchange.flags)),
    };
    Sent { method: method.clone(), started, ended: Instant::now(), endpoint, attempts: exchange.attempts, failure }
}

/// How often each failure happened, and to whom: what a failing test prints.
pub(crate) fn summary<'a>(sent: impl IntoIterator<Item = &'a Sent>, since: Instant) -> String {
    let mut kinds = BTreeMap::<String, (usize, Duration, Duration)>::new();
    for sent in sent {
        let key = format!("{} {} x{}: {:?}", sent.method, sent.endpoint, sent.attempts, sent.failure);
        let (start, end) = (sent.started.saturating_duration_since(since), sent.ended.saturating_duration_since(since));
        let kind = kinds.entry(key).or_insert((0, start, end));
        *kind = (kind.0 + 1, kind.1.max(start), kind.2.max(end));
    }
    let lines = kinds.iter().map(|(kind, (count, start, end))| {
        format!("  {count:6} {kind}; last began {start:?} after the signal, ended {end:?}\n")
    });
    lines.collect()
}
