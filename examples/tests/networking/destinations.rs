//! Subsets, and the TLS that their rules ask for.

use std::{
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use mesh::ResponseFlag;
use mesh_examples::bookinfo::{Options, ServiceKind};

use super::world::{Answer, DESTINATION_RULE_ALL, DETAILS, RATINGS, REVIEWS, World, ask, ask_as};

const ALL_MTLS: &str = "destination-rule-all-mtls.yaml";
const NO_AUTO_MTLS: &str = "mesh: {enableAutoMtls: false}\n";
/// By the subset's name, every subset that the two files define.
const SUBSETS: [(&str, &str, &[&str]); 4] = [
    ("productpage", "http://productpage:9080/health", &["v1"]),
    ("reviews", REVIEWS, &["v1", "v2", "v3"]),
    ("ratings", RATINGS, &["v1", "v2", "v2-mysql", "v2-mysql-vm"]),
    ("details", DETAILS, &["v1", "v2"]),
];

/// Routes of the test's own, one to each subset: the user names it.
fn routes() -> String {
    let mut yaml = String::new();
    for (service, _, subsets) in SUBSETS {
        yaml += &format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {service}}}\nspec:\n  \
             hosts: [{service}]\n  http:\n"
        );
        for subset in subsets {
            yaml += &format!(
                "  - match: [{{headers: {{end-user: {{exact: {subset}}}}}}}]\n    \
                 route: [{{destination: {{host: {service}, subset: {subset}}}}}]\n"
            );
        }
        yaml += "---\n";
    }
    yaml
}

/// Every subset is asked for, `check` looks at those that have endpoints; those of versions that nobody runs are 503 (UH).
async fn every_subset(world: &World, check: impl Fn(&Answer)) {
    let client = world.client("productpage-v1");
    for (service, url, subsets) in SUBSETS {
        for subset in subsets {
            for _ in 0..20 {
                let answer = ask_as(&client, url, subset).await;
                if subset.starts_with("v2-mysql") {
                    answer.assert_local(503, ResponseFlag::NoHealthyUpstream);
                    assert_eq!(answer.body, "no healthy upstream");
                    continue;
                }
                let cluster = answer.exchange.cluster.as_ref().unwrap().to_string();
                assert_eq!(cluster, format!("outbound|9080|{subset}|{service}.default.svc.cluster.local"));
                check(&answer);
                if service != "productpage" {
                    assert_eq!(answer.pod(), format!("{service}-{subset}"));
                }
            }
        }
    }
}

fn with_text(name: &str, yaml: String) -> impl FnOnce(Options) -> Options {
    let name = name.to_owned();
    move |mut options| {
        options.texts.push((name, yaml));
        options
    }
}

pub async fn destination_rule_all(directory: PathBuf) {
    // Alone: subsets that nobody routes to change nothing, and one without endpoints hurts nobody.
    let world = World::start(&directory, &[DESTINATION_RULE_ALL]).await;
    assert_eq!(world.warnings(), [""; 0]);
    let client = world.client("productpage-v1");
    for url in [REVIEWS, RATINGS, DETAILS] {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.insert(ask(&client, url).await.pod().to_owned());
        }
        // 200 draws of one of three leave one out in fewer than 1 of 1e34 runs.
        assert_eq!(seen.len(), if url == REVIEWS { 3 } else { 2 }, "{seen:?}");
    }
    drop(world);

    let world = World::start_with(&directory, &[DESTINATION_RULE_ALL], with_text("routes", routes())).await;
    assert_eq!(world.warnings(), [""; 0], "a subset without endpoints is nobody's mistake");
    every_subset(&world, |answer| assert_eq!(answer.status, 200, "{answer:?}")).await;
}

/// istio networking/v1alpha3 ClientTLSSettings.TLSmode ISTIO_MUTUAL: "Secure connections to the upstream using mutual
/// TLS by presenting client certificates for authentication".
pub async fn destination_rule_all_mtls(directory: PathBuf) {
    // Without automatic mutual TLS the file is what turns it on.
    let texts = || with_text("mesh", format!("{NO_AUTO_MTLS}---\n{}", routes()));
    let plaintext = World::start_with(&directory, &[DESTINATION_RULE_ALL], texts()).await;
    let refused = ask_as(&plaintext.client("productpage-v1"), REVIEWS, "v1").await;
    assert_eq!(refused.status, 503, "STRICT refuses plaintext: {refused:?}");
    assert!(!refused.exchange.mutual_tls);
    drop(plaintext);

    let world = World::start_with(&directory, &[ALL_MTLS], texts()).await;
    assert_eq!(world.warnings(), [""; 0]);
    every_subset(&world, |answer| {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.exchange.mutual_tls, "{answer:?}");
        if let Some(caller) = answer.body.get("caller") {
            assert_eq!(caller, "spiffe://cluster.local/ns/default/sa/bookinfo-productpage");
        }
    })
    .await;
    drop(world);

    // As it stands, for the page.
    let world = World::start(&directory, &[ALL_MTLS]).await;
    assert_eq!(world.warnings(), [""; 0]);
    world.page_shows("", &["<strong>reviews-v", "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"]).await;
    drop(world);

    // A caller without an identity sends nothing, and the log says what is missing.
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let world = World::start_with(&directory, &[ALL_MTLS], |options| {
        options.configure(|deployment, builder| match deployment.service {
            ServiceKind::Productpage => builder.dangerous().without_identity(),
            _ => builder,
        })
    })
    .await;
    let client = world.client("productpage-v1");
    let answer = {
        let _capturing = tracing::subscriber::set_default(subscriber);
        ask(&client, REVIEWS).await
    };
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.has(ResponseFlag::UpstreamConnectionFailure), "{answer:?}");
    let said = log.text();
    let missing =
        "reviews.default.svc.cluster.local wants mutual TLS with mesh identity, and this mesh has no identity";
    assert!(said.contains(missing), "{said}");
}

/// What was logged, in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
