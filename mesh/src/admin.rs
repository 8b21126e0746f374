//! What a person wants to know of one mesh: to this machine alone, read only.

use std::{
    fmt::Write as _,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, uri::Authority};
use http_body_util::Full;
use hyper::body::Incoming;
use mesh_core::clock;

use crate::{
    mesh::Inner,
    network::Listen,
    observability::{self, PLAIN, text},
};

const INDEX: &str = "/issues    what is wrong with the configuration in force
/clusters  endpoints, requests in flight, ejections, failed health checks
/certs     the workload's certificate
/metrics   Prometheus' text format
/ready     may it get traffic
/live      is it alive
";

/// Serve until the mesh has drained. The configuration and the topology are nobody else's business.
pub(crate) async fn serve<L: Listen>(mesh: Arc<Inner>, listener: L) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        let message = format!("the admin pages are for this machine alone: {address} is not a loopback address");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    observability::serve(mesh, listener, answer).await
}

fn answer(mesh: &Inner, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !is_local(request) {
        // A page of somebody's, whose name was made to resolve to this machine (DNS rebinding).
        return text(StatusCode::FORBIDDEN, PLAIN, "the Host header does not name this machine\n".into());
    }
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/" if read => text(StatusCode::OK, PLAIN, INDEX.into()),
        "/issues" if read => text(StatusCode::OK, PLAIN, issues(mesh)),
        "/clusters" if read => text(StatusCode::OK, PLAIN, clusters(mesh)),
        "/certs" if read => text(StatusCode::OK, PLAIN, certs(mesh)),
        "/metrics" | "/ready" | "/live" => observability::answer(mesh, request),
        _ if read => text(StatusCode::NOT_FOUND, PLAIN, INDEX.into()),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET only\n".into()),
    }
}

fn issues(mesh: &Inner) -> String {
    let issues = mesh.issues();
    if issues.is_empty() { "none\n".into() } else { format!("{issues}\n") }
}

fn is_local(request: &Request<Incoming>) -> bool {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority =
        header.and_then(|host| host.parse::<Authority>().ok()).or_else(|| request.uri().authority().cloned());
    authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// Envoy's form: `cluster::endpoint::name::value`.
fn clusters(mesh: &Inner) -> String {
    let mut page = String::new();
    let Some(set) = mesh.in_force.load_full() else { return page };
    let mut clusters: Vec<_> = set.iter().collect();
    clusters.sort_by_cached_key(|cluster| cluster.name().to_string());
    let now = clock::now();
    for cluster in clusters {
        let name = cluster.name();
        let (connections, pending) = cluster.connections();
        let _ = writeln!(page, "{name}::cx_active::{connections}");
        let _ = writeln!(page, "{name}::rq_pending_active::{pending}");
        let _ = writeln!(page, "{name}::rq_active::{}", cluster.in_flight());
        for member in &*cluster.members() {
            let endpoint = member.endpoint();
            let (unwell, ejected) = (cluster.health(member) == Some(false), cluster.is_ejected(member, now));
            let health = match (unwell, ejected) {
                (false, false) => "healthy",
                (true, false) => "/failed_active_hc",
                (false, true) => "/failed_outlier_check",
                (true, true) => "/failed_active_hc/failed_outlier_check",
            };
            let _ = writeln!(page, "{name}::{}::health_flags::{health}", endpoint.address);
            let _ = writeln!(page, "{name}::{}::weight::{}", endpoint.address, endpoint.weight);
            let _ = writeln!(page, "{name}::{}::rq_active::{}", endpoint.address, member.in_flight());
        }
    }
    page
}

fn certs(mesh: &Inner) -> String {
    let Some(handle) = &mesh.identity else { return "no identity\n".into() };
    let credentials = handle.current();
    let identity = credentials.identity();
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let left = identity.not_after().duration_since(clock::wall()).unwrap_or(Duration::ZERO);
    format!(
        "id: {}\ngeneration: {}\nnot_before: {}\nnot_after: {}\nseconds_left: {}\n",
        identity.id(),
        credentials.generation(),
        seconds(identity.not_before()),
        seconds(identity.not_after()),
        left.as_secs(),
    )
}
