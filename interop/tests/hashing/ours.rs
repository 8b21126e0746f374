//! Our side: a ServiceEntry and a DestinationRule, read, built and balanced as a mesh does, up to the endpoint.

use std::{convert::Infallible, fmt::Write as _, net::SocketAddr, sync::Arc};

use http::{HeaderMap, Request, Response};
use http_body_util::Empty;
use mesh_core::{
    Attempt, ClusterName, Exchange, MeshConfig, Routed, Workload,
    config::{Document, Issues},
    registry::Registry,
};
use mesh_lb::{BalanceLayer, Cluster, Clusters, DestinationRule, DestinationRules, Outcome, Picked};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::envoy::Host;

type Body = Empty<bytes::Bytes>;

/// The cluster of a service with these endpoints and this `loadBalancer`; those who are not healthy are ejected, and
/// `min_health_percent` says when that no longer matters.
pub fn cluster(hosts: &[Host], load_balancer: &str, min_health_percent: u32) -> Cluster {
    let mut yaml = String::from(
        "
kind: ServiceEntry
apiVersion: networking.istio.io/v1
metadata: {name: hashed}
spec:
  hosts: [hashed.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
",
    );
    for Host { address, weight, place, .. } in hosts {
        let (ip, port) = (address.ip(), address.port());
        let locality = if place.is_empty() { String::new() } else { format!(", locality: {place}") };
        let _ = writeln!(yaml, "  - {{address: {ip}, ports: {{http: {port}}}, weight: {weight}{locality}}}");
    }
    let outlier = format!("consecutive5xxErrors: 1, maxEjectionPercent: 100, minHealthPercent: {min_health_percent}");
    let _ = write!(
        yaml,
        "---
kind: DestinationRule
metadata: {{name: hashed}}
spec:
  host: hashed.test
  trafficPolicy:
    loadBalancer: {load_balancer}
    outlierDetection: {{{outlier}}}
"
    );
    let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
    let documents = Document::parse_all("hashed.yaml", &yaml, &mut issues);
    let registry = Registry::from_documents(&documents[..1], &mesh.trust_domain, &mut issues);
    let rule = DestinationRule::from_document(&documents[1], &mut issues);
    assert!(issues.is_empty(), "{issues}");
    let rules = DestinationRules::new(&[Arc::new(rule.unwrap())]);
    let client = Workload::new("default", "client").with_locality("r1/z1/s1".parse().unwrap());
    let set = Clusters::new().build(&registry, &rules, &client, &mesh);
    let service = registry.service("hashed.test").unwrap().name.clone();
    let cluster = set.get(&ClusterName { service, port: 80, subset: None }).unwrap().clone();
    let now = mesh_core::clock::now();
    for (member, _) in cluster.members().iter().zip(hosts).filter(|(_, host)| !host.healthy) {
        cluster.record(member, Outcome::ServerError, now);
        assert!(cluster.is_ejected(member, now));
    }
    cluster
}

/// Where our balancer sends a request, and the headers that its client gets.
pub async fn send(cluster: &Cluster, request: Request<()>, attempt: Attempt) -> (SocketAddr, HeaderMap) {
    let service = BalanceLayer::new()
        .layer(service_fn(async |_: Picked<Request<Body>>| Ok::<_, Infallible>(Response::new(Body::new()))));
    let mut routed = Routed::new(request.map(|()| Body::new()), cluster.clone(), ());
    routed.attempt = attempt;
    let response = service.oneshot(routed).await.unwrap();
    let endpoint = response.extensions().get::<Exchange>().unwrap().endpoint.clone().unwrap();
    (endpoint.address.to_string().parse().unwrap(), response.headers().clone())
}
