use mesh_core::{
    ClusterName, Workload,
    config::{Document, Issues},
    registry::Registry,
};
use mesh_lb::{Clusters, DestinationRule, DestinationRules};
use mesh_tls::PeerAuthentication;

use super::*;

/// What configuration says, and what is asked.
#[derive(Clone, Copy)]
struct Case {
    /// Of the ServiceEntry, beside hosts, ports and its endpoint.
    entry: &'static str,
    /// Of its endpoint, beside the address.
    endpoint: &'static str,
    /// The rule's tls.
    tls: &'static str,
    /// A PeerAuthentication's mode for the service's namespace.
    peers: &'static str,
    /// Did the caller write https?
    https: bool,
    /// Have we an identity?
    identity: bool,
}

const INTERNAL: Case = Case {
    entry: "location: MESH_INTERNAL",
    endpoint: "serviceAccount: db",
    tls: "",
    peers: "",
    https: false,
    identity: true,
};
const EXTERNAL: Case = Case { entry: "location: MESH_EXTERNAL", ..INTERNAL };

/// The decision: mode, whom the server must be or be called, and what is sent as its name.
fn decision(case: Case) -> String {
    let tls = if case.tls.is_empty() {
        "connectionPool: {http: {maxRetries: 1}}".into()
    } else {
        format!("tls: {}", case.tls)
    };
    let yaml = format!(
        "kind: ServiceEntry\nmetadata: {{name: db}}\nspec: {{hosts: [db.example.com], ports: [{{number: 80, name: http}}], resolution: \
         STATIC, {}, endpoints: [{{address: 10.0.0.1, {}}}]}}\n---\nkind: DestinationRule\nmetadata: {{name: db}}\nspec: {{host: \
         db.example.com, trafficPolicy: {{{tls}}}}}\n---\nkind: PeerAuthentication\nmetadata: {{name: default}}\nspec: {{mtls: {{mode: \
         {}}}}}\n",
        case.entry,
        case.endpoint,
        if case.peers.is_empty() { "UNSET" } else { case.peers },
    );
    let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
    let documents = Document::parse_all("db.yaml", &yaml, &mut issues);
    let registry = Registry::from_documents(&documents[..1], &mesh.trust_domain, &mut issues);
    let rule = DestinationRule::from_document(&documents[1], &mut issues);
    let peers = PeerAuthentication::from_document(&documents[2], &mut issues);
    assert!(!issues.has_errors(), "{issues}");
    let rules = DestinationRules::new(&[Arc::new(rule.unwrap())]);
    let set = Clusters::new().build(&registry, &rules, &Workload::new("default", "client"), &mesh);
    let service = registry.service("db.example.com").unwrap().name.clone();
    let cluster = set.get(&ClusterName { service, port: 80, subset: None }).unwrap();
    let policy = SecurityPolicy {
        mesh: Arc::new(mesh),
        peer_authentications: Arc::new(PeerAuthentications::new(peers.into_iter().collect())),
    };
    let question = Question {
        cluster,
        endpoint: &cluster.endpoints()[0],
        https: case.https,
        host: Some("asked.example.com"),
        generation: case.identity.then_some(7),
    };
    match policy.decide(&question) {
        Ok(Security::Plaintext) => "plaintext".into(),
        Ok(Security::Mesh { expected, sni, generation }) => {
            assert_eq!(generation, 7);
            let ids = ["default/sa/db", "a/sa/x", "b/sa/y"].into_iter();
            let accepts = |id: &&str| expected.accepts(&format!("spiffe://cluster.local/ns/{id}").parse().unwrap());
            format!("mesh {} {sni}", ids.filter(accepts).collect::<Vec<_>>().join(","))
        }
        Ok(Security::Egress { settings, host }) => {
            format!("{:?} {host} {:?} {:?}", settings.mode, settings.sni, settings.subject_alt_names)
        }
        Err(refused) => format!("refused: {refused}"),
    }
}

const OWN: &str = "mesh default/sa/db outbound_.80_._.db.example.com";

/// istio buildUpstreamTLSSettings. That an endpoint of the mesh which does not say `tlsMode` is one that speaks mutual TLS,
/// where Istio would go there in plaintext, is ours.
/// istio.md 1.4: "**No DR tls => auto mTLS**: per endpoint, mTLS iff endpoint has `tlsMode=istio` and PeerAuthentication isn't DISABLE"
/// istio.md 1.5: "MESH_EXTERNAL (default): no auto-mTLS, no authn inference; MESH_INTERNAL: mesh rules"
#[test]
fn without_a_rule_the_endpoint_decides() {
    let disabled = "serviceAccount: db, labels: {security.istio.io/tlsMode: disabled}";
    let enabled = "serviceAccount: db, labels: {security.istio.io/tlsMode: istio}";
    for (case, expected) in [
        (INTERNAL, OWN),
        (Case { endpoint: enabled, ..INTERNAL }, OWN),
        (Case { endpoint: disabled, ..INTERNAL }, "plaintext"),
        (Case { peers: "DISABLE", ..INTERNAL }, "plaintext"),
        (Case { peers: "PERMISSIVE", ..INTERNAL }, OWN),
        (Case { peers: "STRICT", ..INTERNAL }, OWN),
        (Case { identity: false, ..INTERNAL }, "plaintext"),
        (EXTERNAL, "plaintext"),
        (Case { entry: "exportTo: ['*']", ..INTERNAL }, "plaintext"),
        (Case { endpoint: enabled, peers: "STRICT", ..EXTERNAL }, "plaintext"),
        (Case { https: true, ..EXTERNAL }, "Simple asked.example.com None []"),
    ] {
        assert_eq!(decision(case), expected);
    }
    let nobody = decision(Case { endpoint: "weight: 1", ..INTERNAL });
    assert!(nobody.starts_with("refused: no expected identity for 10.0.0.1:80"), "{nobody}");
}

/// istio buildUpstreamClusterTLSContext.
/// istio.md 1.4: "DISABLE plaintext; SIMPLE; MUTUAL (clientCertificate+privateKey+caCertificates files); ISTIO_MUTUAL (mesh identity"
#[test]
fn a_rules_mode_holds_whatever_the_endpoint_is() {
    let mutual = "{mode: MUTUAL, clientCertificate: c, privateKey: k, sni: s.example.com}";
    for location in [INTERNAL, EXTERNAL] {
        for (tls, expected) in [
            ("{mode: DISABLE}", "plaintext"),
            ("{mode: SIMPLE}", "Simple asked.example.com None []"),
            (mutual, "Mutual asked.example.com Some(\"s.example.com\") []"),
            ("{mode: SIMPLE, subjectAltNames: [a, b]}", "Simple asked.example.com None [\"a\", \"b\"]"),
            ("{mode: ISTIO_MUTUAL}", OWN),
            (
                "{mode: ISTIO_MUTUAL, subjectAltNames: [spiffe://cluster.local/ns/b/sa/y]}",
                "mesh b/sa/y outbound_.80_._.db.example.com",
            ),
        ] {
            for peers in ["", "DISABLE", "STRICT"] {
                assert_eq!(decision(Case { tls, peers, ..location }), expected, "{tls} {peers}");
            }
        }
    }
    let none = decision(Case { tls: "{mode: ISTIO_MUTUAL}", identity: false, ..INTERNAL });
    assert!(none.contains("this mesh has no identity"), "never weaker than asked for: {none}");
    let name = decision(Case { tls: "{mode: ISTIO_MUTUAL, subjectAltNames: [db.example.com]}", ..INTERNAL });
    assert!(name.contains("is not a SPIFFE ID"), "{name}");
}

/// istio constructUpstreamTLS: "Use subject alt names specified in service entry if TLS settings does not have subject alt
/// names."
/// istio.md 1.5: "subjectAltNames | used when DR has none"
#[test]
fn a_service_entrys_names_are_used_where_the_rule_has_none() {
    let with = |location: &'static str, tls| Case { entry: location, tls, ..INTERNAL };
    let (inside, outside) = (
        "location: MESH_INTERNAL, subjectAltNames: [spiffe://cluster.local/ns/a/sa/x]",
        "location: MESH_EXTERNAL, subjectAltNames: [spiffe://cluster.local/ns/a/sa/x]",
    );
    let theirs = "mesh a/sa/x outbound_.80_._.db.example.com";
    assert_eq!(decision(with(inside, "")), theirs);
    assert_eq!(decision(with(inside, "{mode: ISTIO_MUTUAL}")), theirs);
    let named = "Simple asked.example.com None [\"spiffe://cluster.local/ns/a/sa/x\"]";
    assert_eq!(decision(with(outside, "{mode: SIMPLE}")), named);
    assert_eq!(decision(Case { https: true, ..with(outside, "") }), named);
    let rules = "{mode: SIMPLE, subjectAltNames: [b]}";
    assert_eq!(decision(with(outside, rules)), "Simple asked.example.com None [\"b\"]");
}
