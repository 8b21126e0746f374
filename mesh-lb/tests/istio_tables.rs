//! Istio's tables about DestinationRules, and about the most specific host, which is how one is found.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use mesh_core::{
    Workload,
    config::{Document, Issues, ObjectRef},
};
use mesh_lb::{DestinationRule, DestinationRules};
use mesh_test::{Value, istio_tables};

/// One rule for each name and host, all in one namespace.
fn rules<'a>(named: impl IntoIterator<Item = (&'a str, &'a str)>) -> DestinationRules {
    let mut issues = Issues::default();
    let read = named.into_iter().map(|(name, host)| {
        let yaml = format!("{{kind: DestinationRule, metadata: {{name: {name}}}, spec: {{host: '{host}'}}}}\n");
        let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
        Arc::new(DestinationRule::from_document(&documents[0], &mut issues).unwrap_or_else(|| panic!("{issues}")))
    });
    DestinationRules::new(&read.collect::<Vec<_>>())
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}

/// istio pilot/pkg/model/destination_rule_test.go: two consolidated rules are the same when they come of the same rules in
/// the same order.
#[test]
fn a_merged_rule_knows_what_it_was_merged_from() {
    let tables = istio_tables("pilot_pkg_model_destination_rule_test", &["TestConsolidatedDestRuleEquals"]);
    let Some(tables) = tables else { return };
    let client = Workload::new("default", "client");
    let merged = |from: &Value| -> Option<Vec<ObjectRef>> {
        let from = from["from"].as_array()?;
        let rules = rules(from.iter().map(|rule| (text(rule, "Name"), "reviews")));
        let host = "reviews.default.svc.cluster.local";
        rules.for_service(host, "default", &client, "istio-system").map(|rule| rule.sources().to_vec())
    };
    let counts = tables[0].run(
        &[],
        |case| text(case, "name").into(),
        |name, case| {
            assert_eq!(merged(&case["l"]) == merged(&case["r"]), case["expected"], "{name}");
            for side in ["l", "r"] {
                let written = case[side]["from"].as_array().map(Vec::len);
                assert_eq!(merged(&case[side]).map(|sources| sources.len()), written, "{name}");
            }
        },
    );
    assert_eq!(counts, (6, 0));
}

/// istio pilot/pkg/model/config_test.go TestMostSpecificHostMatch, of the rules of a namespace.
#[test]
fn the_rule_for_the_most_specific_host_is_found() {
    let tests = [
        "TestEventString",
        "TestPortList",
        "TestSubsetKey",
        "TestLabelsEquals",
        "TestResolveShortnameToFQDN",
        "TestMostSpecificHostMatch",
        "BenchmarkMostSpecificHostMatch",
        "BenchmarkMostSpecificHostMatchMixed",
        "BenchmarkMostSpecificHostMatchMultiMatch",
        "BenchmarkHashCode",
    ];
    let Some(tables) = istio_tables("pilot_pkg_model_config_test", &tests) else { return };
    const PARTIAL: &str = "a partial wildcard is no service's host";
    // istio.md 1.0: "client's ns (most specific host)"
    let counts = tables[5].run(
        &[(r#"*foo.com in ["bar.com","*.foo.com"]"#, PARTIAL), (r#"*foo.com in ["foo.com","*.foo.com"]"#, PARTIAL)],
        |case| format!("{} in {}", text(case, "needle"), case["in"]),
        |name, case| {
            let hosts: Vec<&str> = case["in"].as_array().unwrap().iter().map(|host| host.as_str().unwrap()).collect();
            let names: Vec<String> = (0..hosts.len()).map(|n| format!("r{n}")).collect();
            let rules = rules(names.iter().map(String::as_str).zip(hosts));
            let client = Workload::new("default", "client");
            let found = rules.for_service(text(case, "needle"), "other", &client, "istio-system");
            assert_eq!(found.map(|rule| rule.host().to_string()).unwrap_or_default(), case["want"], "{name}");
        },
    );
    assert_eq!(counts, (11, 2));
}
