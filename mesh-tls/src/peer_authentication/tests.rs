use mesh_core::{
    Labels, Workload,
    config::{Document, Issues},
};

use super::{PeerAuthMode, PeerAuthentication, PeerAuthentications};

const ROOT: &str = "istio-system";

fn policies(yaml: &str) -> PeerAuthentications {
    let mut issues = Issues::default();
    let documents = Document::parse_all("test.yaml", yaml, &mut issues);
    let policies = documents.iter().filter_map(|d| PeerAuthentication::from_document(d, &mut issues)).collect();
    assert!(!issues.has_errors(), "{issues}");
    PeerAuthentications::new(policies)
}

fn policy(namespace: &str, spec: &str) -> String {
    format!("---\nkind: PeerAuthentication\nmetadata: {{name: p, namespace: {namespace}}}\nspec: {spec}\n")
}

/// istio ComposePeerAuthentication.
#[test]
fn precedence() {
    use PeerAuthMode::{Disable, Permissive, Strict};
    let mesh = |mode: &str| policy(ROOT, &format!("{{mtls: {{mode: {mode}}}}}"));
    let namespace = |mode: &str| policy("default", &format!("{{mtls: {{mode: {mode}}}}}"));
    let workload = |rest: &str| policy("default", &format!("{{selector: {{matchLabels: {{app: reviews}}}}, {rest}}}"));
    let of = |mode: &str| workload(&format!("mtls: {{mode: {mode}}}"));
    let ports = "mtls: {mode: DISABLE}, portLevelMtls: {80: {mode: STRICT}, 81: {mode: UNSET}}";
    for (yaml, port, server, client) in [
        (String::new(), 80, Permissive, Permissive),
        (mesh("STRICT"), 80, Strict, Strict),
        (mesh("UNSET"), 80, Permissive, Permissive),
        (mesh("STRICT") + &namespace("DISABLE"), 80, Disable, Disable),
        (mesh("STRICT") + &namespace("UNSET"), 80, Strict, Strict),
        (mesh("STRICT") + &policy("default", "{}"), 80, Strict, Strict),
        (mesh("STRICT") + &policy("other", "{mtls: {mode: DISABLE}}"), 80, Strict, Strict),
        (namespace("STRICT") + &of("DISABLE"), 80, Disable, Strict),
        (namespace("STRICT") + &of("UNSET"), 80, Strict, Strict),
        (mesh("STRICT") + &workload(ports), 80, Strict, Strict),
        (mesh("STRICT") + &workload(ports), 81, Disable, Strict),
        (mesh("STRICT") + &workload(ports), 82, Disable, Strict),
        // Oldest wins, even where it is UNSET.
        (namespace("STRICT") + &namespace("DISABLE"), 80, Strict, Strict),
        (mesh("STRICT") + &namespace("UNSET") + &namespace("DISABLE"), 80, Strict, Strict),
        (of("STRICT") + &of("DISABLE"), 80, Strict, Permissive),
        // A selector that does not match; one without labels, which is none; one in the root namespace.
        (policy("default", "{selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}}"), 80, Permissive, Permissive),
        (policy("default", "{selector: {}, mtls: {mode: STRICT}}"), 80, Strict, Strict),
        (policy(ROOT, "{selector: {matchLabels: {app: reviews}}, mtls: {mode: STRICT}}"), 80, Permissive, Permissive),
    ] {
        let policies = policies(&yaml);
        let reviews = Workload::new("default", "reviews").with_labels(Labels::from_iter([("app", "reviews")]));
        assert_eq!(policies.mode(&reviews, ROOT, port), server, "server, port {port}:\n{yaml}");
        assert_eq!(policies.client_mode("default", ROOT), client, "client:\n{yaml}");
    }
}

/// istio ComposePeerAuthentication: "Workload-level policy, aside from the root namespace".
#[test]
fn a_selector_in_the_root_namespace_applies_to_nothing_and_says_so() {
    let policies = policies(&policy(ROOT, "{selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}}"));
    let there = Workload::new(ROOT, "a").with_labels(Labels::from_iter([("app", "a")]));
    assert_eq!(policies.mode(&there, ROOT, 80), PeerAuthMode::Permissive);
    assert_eq!(policies.issues(ROOT).len(), 1);
    assert!(policies.issues("elsewhere").is_empty());
}

#[test]
fn errors_say_what_and_where() {
    for (spec, error) in [
        ("{mtls: {mode: BLAH}}", "unknown variant `BLAH`"),
        ("{mtls: {mod: STRICT}}", "unknown field `mod`"),
        ("{targetRefs: []}", "unknown field `targetRefs`"),
        ("{portLevelMtls: {80: {mode: STRICT}}}", "mesh/namespace peer authentication cannot have port level mTLS"),
        ("{selector: {matchLabels: {a: '*'}}}", "wildcard is not supported in selector"),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {}}", "must have at least one element"),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {}}}", "port must be in range 1..65535"),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {65616: {}}}", "port must be in range 1..65535"),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {'080': {}}}", "port must be in range 1..65535"),
    ] {
        let mut issues = Issues::default();
        let documents = Document::parse_all("test.yaml", &policy("default", spec), &mut issues);
        assert!(PeerAuthentication::from_document(&documents[0], &mut issues).is_none(), "{spec}");
        let text = issues.to_string();
        assert!(text.contains(error) && text.starts_with("test.yaml:4:"), "{spec}: {text}");
    }
}

/// Istio's own cases, read where they lie. Every check in them is expressible here: types, enums, ranges and the
/// rule between selector and portLevelMtls.
#[test]
fn agrees_with_istios_crd_tests() {
    let Some(folder) = mesh_test::shared("istio/crd-tests") else { return };
    for (file, valid) in [("peerauth-valid.yaml", true), ("peerauth-invalid.yaml", false)] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        for case in text.split("\n---\n") {
            // `_err` holds the API server's words and is no part of the object.
            let yaml: String =
                case.lines().filter(|line| !line.starts_with("_err:")).map(|line| format!("{line}\n")).collect();
            let mut issues = Issues::default();
            let documents = Document::parse_all(file, &yaml, &mut issues);
            assert_eq!(documents.len(), 1, "{issues}\n{yaml}");
            let verdict = PeerAuthentication::from_document(&documents[0], &mut issues).is_some();
            assert_eq!(verdict, valid, "{issues}\n{yaml}");
        }
    }
}
