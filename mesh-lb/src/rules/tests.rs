use std::sync::Arc;

use mesh_core::{
    Labels, Workload,
    config::{Document, Issues},
};

use super::DestinationRules;
use crate::DestinationRule;

/// A rule: namespace, name, host, exportTo, the `app` that it selects, subsets.
type Line<'a> = (&'a str, &'a str, &'a str, &'a [&'a str], Option<&'a str>, &'a [&'a str]);

fn rules(lines: &[Line<'_>]) -> DestinationRules {
    let mut issues = Issues::default();
    let mut read = Vec::new();
    for (namespace, name, host, export_to, app, subsets) in lines {
        let selector = app.map_or(String::new(), |app| format!("workloadSelector: {{matchLabels: {{app: {app}}}}}"));
        let subsets: Vec<String> = subsets.iter().map(|s| format!("{{name: {s}, labels: {{by: {name}}}}}")).collect();
        let yaml = format!(
            "kind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  host: '{host}'\n  \
             exportTo: {export_to:?}\n  {selector}\n  subsets: [{}]\n  trafficPolicy: {{loadBalancer: {{simple: \
             RANDOM}}}}\n",
            subsets.join(", ")
        );
        let documents = Document::parse_all(name, &yaml, &mut issues);
        read.push(Arc::new(
            DestinationRule::from_document(&documents[0], &mut issues).unwrap_or_else(|| panic!("{issues}")),
        ));
    }
    DestinationRules::new(&read)
}

const HOST: &str = "reviews.svcns.svc.cluster.local";

fn found(rules: &DestinationRules, client: &Workload) -> Option<String> {
    let rule = rules.for_service(HOST, "svcns", client, "root")?;
    Some(rule.sources().iter().map(|object| &*object.name).collect::<Vec<_>>().join("+"))
}

/// istio PushContext.destinationRule: "select destination rule from proxy config namespace", then from the
/// service's, then from the root namespace.
/// istio.md 1.0: "first namespace with any match wins, no cross-namespace merge"
#[test]
fn the_first_namespace_with_a_rule_decides() {
    let client = Workload::new("clientns", "c");
    for (lines, expected) in [
        (
            &[("clientns", "mine", "*.local", &[][..], None, &[][..]), ("svcns", "theirs", HOST, &[], None, &[])][..],
            Some("mine"),
        ),
        (&[("svcns", "theirs", HOST, &[], None, &[]), ("root", "all", "*", &[], None, &[])], Some("theirs")),
        (&[("svcns", "theirs", HOST, &["."], None, &[]), ("root", "all", "*", &[], None, &[])], Some("all")),
        (&[("svcns", "theirs", HOST, &["clientns"], None, &[])], Some("theirs")),
        (&[("svcns", "theirs", HOST, &["other"], None, &[])], None),
        (&[("svcns", "theirs", HOST, &["~"], None, &[])], None),
        (&[("other", "theirs", HOST, &[], None, &[])], None),
        // Exported elsewhere only: not in force at home.
        (&[("clientns", "mine", HOST, &["other"], None, &[])], None),
        (&[("root", "all", HOST, &["."], None, &[])], None),
        // The most specific host of a namespace decides, even when it is not exported to us.
        (&[("svcns", "exact", HOST, &["other"], None, &[]), ("svcns", "wide", "*.local", &[], None, &[])], None),
        (&[("svcns", "wide", "*.local", &[], None, &[]), ("svcns", "wider", "*", &[], None, &[])], Some("wide")),
    ] {
        assert_eq!(found(&rules(lines), &client).as_deref(), expected, "{lines:?}");
    }
}

#[test]
fn a_client_in_the_root_namespace_sees_the_services_rule_before_the_mesh_wide_one() {
    let client = Workload::new("root", "gateway");
    let all = ("root", "all", "*", &[][..], None, &[][..]);
    let theirs = ("svcns", "theirs", HOST, &[][..], None, &[][..]);
    let private = ("root", "private", HOST, &["."][..], None, &[][..]);
    assert_eq!(found(&rules(&[all, theirs]), &client).as_deref(), Some("theirs"));
    assert_eq!(found(&rules(&[all, theirs, private]), &client).as_deref(), Some("private"));
    assert_eq!(found(&rules(&[all]), &client).as_deref(), Some("all"));
}

/// istio mergeDestinationRule: subsets are concatenated, the first definition of a name holds.
/// istio.md 1.0: "subsets concatenated (first definition of a name wins, duplicate = metric)"
#[test]
fn rules_for_one_host_add_up() {
    let client = Workload::new("svcns", "c");
    let rules =
        rules(&[("svcns", "one", HOST, &[], None, &["v1", "v2"]), ("svcns", "two", HOST, &[], None, &["v2", "v3"])]);
    let rule = rules.for_service(HOST, "svcns", &client, "root").unwrap();
    let subsets: Vec<_> = rule.subsets().iter().map(|s| (s.name(), s.labels().get("by").unwrap())).collect();
    assert_eq!(subsets, [("v1", "one"), ("v2", "one"), ("v3", "two")]);
    assert!(rule.subset("v3").is_some() && rule.subset("v4").is_none() && rule.traffic_policy().is_some());
    assert_eq!(found(&rules, &client).as_deref(), Some("one+two"));
}

// istio.md 1.0: "different exportTo => separate entries"
#[test]
fn different_visibility_is_not_merged() {
    let rules = rules(&[
        ("svcns", "public", HOST, &["*"], None, &["v1"]),
        ("svcns", "narrow", HOST, &["clientns"], None, &["v2"]),
    ]);
    assert_eq!(found(&rules, &Workload::new("clientns", "c")).as_deref(), Some("narrow"));
    assert_eq!(found(&rules, &Workload::new("elsewhere", "c")).as_deref(), Some("public"));
}

/// istio DestinationRule.workloadSelector: a rule that selects the client beats one for everybody.
/// istio.md 1.0: "matching workloadSelector (same ns, outbound only) beats selector-less"
/// istio.md 1.0: "selector rules with different labels never merged"
/// istio.md 1.4: "exportTo`, `workloadSelector` | 1.0"
#[test]
fn a_matching_selector_wins_and_reaches_only_its_namespace() {
    let rules = rules(&[
        ("svcns", "everybody", HOST, &[], None, &["v1"]),
        ("svcns", "canary", HOST, &[], Some("canary"), &["v2"]),
        ("svcns", "other", HOST, &[], Some("other"), &["v3"]),
    ]);
    let client = |namespace, app| Workload::new(namespace, "c").with_labels(Labels::from_iter([("app", app)]));
    assert_eq!(found(&rules, &client("svcns", "canary")).as_deref(), Some("canary"));
    assert_eq!(found(&rules, &client("svcns", "shop")).as_deref(), Some("everybody"));
    assert_eq!(found(&rules, &client("clientns", "canary")).as_deref(), Some("everybody"));
}
