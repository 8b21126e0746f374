//! Rules for a gateway: accepted, reported, and without effect between services.

use std::path::{Path, PathBuf};

use super::world::{World, ask, line};

pub async fn bookinfo_gateway(directory: PathBuf) {
    let file = "bookinfo-gateway.yaml";
    let world = World::start(&directory, &[file]).await;
    assert_eq!(world.warnings(), not_for_the_mesh(&directory, file, "default", "bookinfo-gateway", "bookinfo"));
    // Its rules name neither path: at the gateway both are 404.
    let client = world.client("reviews-v1");
    assert_eq!(ask(&client, "http://productpage:9080/health").await.status, 200);
    assert_eq!(ask(&client, "http://details:9080/details/0").await.pod().split_once('-').unwrap().0, "details");
    world.page_shows("", &["The Comedy of Errors"]).await;
}

pub async fn certmanager_gateway(directory: PathBuf) {
    let file = "certmanager-gateway.yaml";
    let world = World::start(&directory, &[file]).await;
    let expected = not_for_the_mesh(&directory, file, "istio-system", "cert-manager-gateway", "cert-manager");
    assert_eq!(world.warnings(), expected);
    // The path it takes at the gateway reaches whom it was sent to.
    let answer = ask(&world.client("reviews-v1"), "http://productpage:9080/.well-known/acme-challenge/x").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.exchange.flags.to_string(), "-", "productpage's own 404: {answer:?}");
    let cluster = answer.exchange.cluster.as_ref().unwrap().to_string();
    assert_eq!(cluster, "outbound|9080||productpage.default.svc.cluster.local");
    world.page_shows("", &["The Comedy of Errors"]).await;
}

/// The gateway object, and the virtual service that lists only gateways.
fn not_for_the_mesh(directory: &Path, file: &str, namespace: &str, gateway: &str, rules: &str) -> [String; 2] {
    let (first, second) = (line(directory, file, "selector:", 0), line(directory, file, &format!("- {gateway}"), 0));
    [
        format!("{file}:{first}: Gateway {namespace}/{gateway}: Gateway is not enforced in-process"),
        format!(
            "{file}:{second}: VirtualService {namespace}/{rules}: applies to gateways only, not to the mesh: not in force \
             in-process"
        ),
    ]
}
