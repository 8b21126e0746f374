//! The Gateway API's own conformance cases (`shared/gateway-api`), with their manifests as they stand, through the layers.
//!
//! They are written for Gateways. Here each Gateway is a service of that name, and its routes are the service's: the
//! `parentRefs` are rewritten after the manifest was read, and nothing else is. A route's hostnames are ServiceEntries,
//! because in the mesh the host is the service's. What only a listener decides is left out, by name, in [`LEFT_OUT`].

#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations, reason = "a fixture may panic")]

mod case;
mod loops;
mod manifest;
mod world;

use std::collections::BTreeSet;

use case::Case;
use serde_json::Value;
use world::World;

/// Tests of the suite that no route decides about, or that have no request: name, number of cases, reason.
const LEFT_OUT: [(&str, usize, &str); 16] = [
    ("GRPCRouteListenerHostnameMatching", 8, "which route is asked is decided by the hostnames of listeners"),
    ("HTTPRouteListenerHostnameMatching", 8, "which route is asked is decided by the hostnames of listeners"),
    ("HTTPRouteListenerPortMatching", 5, "which route is asked is decided by the ports of listeners"),
    ("HTTPRouteHTTPSListener", 1, "a listener's certificates and SNI"),
    ("HTTPRouteHTTPSListenerDetectMisdirectedRequests", 1, "a listener's SNI against the Host header"),
    ("HTTPRouteDisallowedKind", 0, "status of a listener's allowedRoutes; no request"),
    ("HTTPRouteInvalidCrossNamespaceParentRef", 0, "status of a listener's allowedRoutes; no request"),
    ("HTTPRouteInvalidParentRefNotMatchingListenerPort", 0, "status of a listener's port; no request"),
    ("HTTPRouteInvalidParentRefNotMatchingSectionName", 0, "status of a listener's name; no request"),
    ("HTTPRouteInvalidParentRefSectionNameNotMatchingPort", 0, "status of a listener's name and port; no request"),
    ("HTTPRouteObservedGenerationBump", 0, "status of a Kubernetes object; no request"),
    ("HTTPRouteBackendProtocolWebSocket", 0, "its requests are Go code: `loops.rs` sends one"),
    ("HTTPRouteBackendRequestHeaderModifier", 0, "its requests are Go code: `loops.rs` sends them"),
    ("HTTPRouteRetryConnectionError", 0, "its requests are Go code: `loops.rs` sends them"),
    ("HTTPRouteRetryWithTimeouts", 0, "its requests are Go code: `loops.rs` sends them"),
    ("HTTPRouteRetry", 0, "its requests are Go code: `loops.rs` sends them"),
];

fn vectors() -> Option<Vec<Value>> {
    let path = mesh_test::shared("gateway-api/vectors.json")?;
    Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

/// Every case that is not left out, each in a world of its own.
#[tokio::test(start_paused = true)]
async fn conformance() {
    let Some(vectors) = vectors() else { return };
    let (mut tests, mut played, mut failures) = (0, 0, Vec::new());
    for test in &vectors {
        let name = test["ShortName"].as_str().unwrap();
        if LEFT_OUT.iter().any(|(left_out, ..)| *left_out == name) {
            continue;
        }
        tests += 1;
        for (index, value) in test["cases"].as_array().unwrap().iter().enumerate() {
            for case in Case::read(test, index, value) {
                let world = World::new(&case);
                let outcome = case.play(&world).await;
                played += 1;
                failures.extend(outcome.err().map(|why| format!("{name}[{index}] {}: {why}", case.path)));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {played}:\n{}", failures.len(), failures.join("\n"));
    // 204 cases, one of which stands for three paths.
    assert_eq!((tests, played), (46, 206));
}

/// Nothing leaves unseen: every test of the suite is played or left out with all its cases.
#[test]
fn every_case_is_played_or_left_out() {
    let Some(vectors) = vectors() else { return };
    let names: BTreeSet<_> = vectors.iter().map(|test| test["ShortName"].as_str().unwrap()).collect();
    assert_eq!((vectors.len(), names.len()), (62, 62));
    let mut cases = 0;
    for (name, count, why) in LEFT_OUT {
        let test = vectors.iter().find(|test| test["ShortName"] == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(test["cases"].as_array().unwrap().len(), count, "{name}: {why}");
        cases += count;
    }
    let all: usize = vectors.iter().map(|test| test["cases"].as_array().unwrap().len()).sum();
    assert_eq!((all, cases), (227, 23));
}
