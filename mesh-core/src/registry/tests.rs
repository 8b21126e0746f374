use super::*;
use crate::config::{Document, Issues};

fn registry(yaml: &str) -> (Registry, Issues) {
    let mut issues = Issues::default();
    let documents = Document::parse_all("t.yaml", yaml, &mut issues);
    let registry = Registry::from_documents(&documents, &TrustDomain::cluster_local(), &mut issues);
    (registry, issues)
}

const REVIEWS: &str = "
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080, targetPort: 8080}]}
---
kind: WorkloadEntry
metadata: {name: a}
spec: {address: 10.0.0.1, labels: {app: reviews}, serviceAccount: sa}
---
kind: WorkloadEntry
metadata: {name: b, labels: {app: reviews}}
spec: {address: 10.0.0.2, ports: {http: 7}}
---
kind: WorkloadEntry
metadata: {name: c, namespace: other}
spec: {address: 10.0.0.3, labels: {app: reviews}}
";

#[test]
fn a_service_selects_the_workloads_of_its_namespace() {
    let (registry, issues) = registry(REVIEWS);
    assert!(issues.is_empty(), "{issues}");
    let endpoints = registry.service("reviews.default.svc.cluster.local").unwrap().endpoints(9080);
    // WorkloadEntry.ports of that name, else the service's targetPort.
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1:8080", "10.0.0.2:7"]);
    assert_eq!(endpoints[0].identity.as_ref().unwrap().as_str(), "spiffe://cluster.local/ns/default/sa/sa");
}

#[test]
fn a_dns_entry_without_endpoints_is_its_host() {
    let (registry, issues) = registry(
        "
kind: ServiceEntry
metadata: {name: g}
spec:
  hosts: [www.googleapis.com]
  ports: [{number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
",
    );
    assert!(issues.is_empty(), "{issues}");
    let service = registry.service("www.googleapis.com").unwrap();
    assert_eq!(service.location, Location::MeshExternal);
    assert_eq!(service.endpoints(443)[0].address.to_string(), "www.googleapis.com:443");
    assert!(service.endpoints(80).is_empty());
}

#[test]
fn wildcards_answer_when_nothing_closer_does() {
    let entry = |name: &str, host: &str| {
        format!(
            "\n---\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{hosts: ['{host}'], ports: [{{number: 80, name: http, protocol: HTTP}}], \
             resolution: STATIC, endpoints: [{{address: 1.2.3.4}}]}}\n"
        )
    };
    let (registry, issues) = registry(&(entry("a", "*.com") + &entry("b", "*.foo.com") + &entry("c", "x.foo.com")));
    assert!(issues.is_empty(), "{issues}");
    let host = |name: &str| registry.service_for(name).map(|service| service.name.host.to_string());
    assert_eq!(host("x.foo.com").as_deref(), Some("x.foo.com"));
    assert_eq!(host("y.foo.com").as_deref(), Some("*.foo.com"));
    assert_eq!(host("foo.com").as_deref(), Some("*.com"));
    assert_eq!(host("foo.org"), None);
}

#[test]
fn bad_input_says_where() {
    for (spec, place) in [
        ("{hosts: []}", "t.yaml:4:15: error: ServiceEntry default/e hosts: service entry must have at least one host"),
        (
            "{hosts: [a.com], ports: [{number: 80, name: a}, {number: 80, name: b}]}",
            "ServiceEntry default/e ports[1].number: service entry port 80 already defined",
        ),
        ("{hosts: ['a b.com']}", "t.yaml:4:16: error: ServiceEntry default/e hosts[0]: invalid host \"a b.com\""),
        ("{hosts: [a.com], bogus: 1}", "t.yaml:4:24: error: ServiceEntry default/e: unknown field `bogus`"),
        ("{hosts: a.com}", "hosts: wrong type: found string \"a.com\", expected a list"),
        (
            "{hosts: [a.com], ports: [{number: 99999}]}",
            "ports[0].number: invalid value: integer `99999`, expected an integer from 0 to 65535",
        ),
        ("{hosts: [a.com], location: INSIDE}", "location: unknown variant `INSIDE`"),
        // istio ValidateServiceEntry.
        (
            "{hosts: [a.com, b.com], resolution: DNS, ports: [{number: 80, name: t, protocol: TCP}]}",
            "hosts: multiple hosts provided with non-HTTP, non-TLS ports",
        ),
        (
            "{hosts: [a.com], resolution: DNS, addresses: [10.0.0.0/8]}",
            "addresses[0]: CIDR addresses are allowed only for NONE/STATIC resolution types",
        ),
        ("{hosts: [a.com], addresses: [10.0.0.0/33]}", "\"10.0.0.0/33\" is not a valid IP address or CIDR block"),
        (
            "{hosts: ['*.a.com'], resolution: DNS_ROUND_ROBIN}",
            "hosts must be FQDN if no endpoints are provided for resolution mode DNS_ROUND_ROBIN",
        ),
        (
            "{hosts: [a.com], resolution: STATIC, endpoints: [{address: a.b}]}",
            "endpoints[0].address: endpoint address \"a.b\" is not a valid IP address",
        ),
        (
            "{hosts: [a.com], resolution: STATIC, ports: [{number: 80, name: http}], \
             endpoints: [{address: 'unix:///s', ports: {http: 1}}]}",
            "endpoints[0].ports: unix endpoint unix:///s must not include ports",
        ),
    ] {
        let (_, issues) = registry(&format!("\nkind: ServiceEntry\nmetadata: {{name: e}}\nspec: {spec}\n"));
        assert!(issues.to_string().contains(place), "{spec}\n  got  {issues}\n  want {place}");
    }
}

/// istio WorkloadEntry: its CRD's rules, in its words.
#[test]
fn a_workload_has_an_address_of_some_kind() {
    for (spec, message) in [
        ("", "spec: Required value"),
        ("spec: {}", "address: Address is required"),
        ("spec: {address: 'unix:///dir/'}", "address: UDS may not be a dir"),
        ("spec: {address: 'unix://relative'}", "address: UDS must be an absolute path or abstract socket"),
        ("spec: {address: 'unix://@a', ports: {http: 80}}", "ports: unix endpoint unix://@a must not include ports"),
        ("spec: {address: 1.1.1.1, ports: {'@': 80}}", "ports[\"@\"]: invalid port name \"@\""),
        ("spec: {address: 1.1.1.1, ports: {http: 99999}}", "expected an integer from 0 to 65535"),
    ] {
        let (_, issues) = registry(&format!("\nkind: WorkloadEntry\nmetadata: {{name: w}}\n{spec}\n"));
        assert!(issues.has_errors() && issues.to_string().contains(message), "{spec}: {issues}");
    }
}

#[test]
fn what_cannot_be_dialled_is_reported_and_left_out() {
    let socket =
        "\n---\nkind: WorkloadEntry\nmetadata: {name: s}\nspec: {address: 'unix:///s', labels: {app: reviews}}\n";
    let remote = "\n---\nkind: WorkloadEntry\nmetadata: {name: r}\nspec: {network: n, labels: {app: reviews}}\n";
    let (registry, issues) = registry(&(REVIEWS.to_owned() + socket + remote));
    assert!(!issues.has_errors(), "{issues}");
    assert!(issues.to_string().contains("address: unix sockets are not dialled in-process"), "{issues}");
    assert!(issues.to_string().contains("network: read but not enforced in-process"), "{issues}");
    assert_eq!(registry.service("reviews.default.svc.cluster.local").unwrap().endpoints(9080).len(), 2);
}

fn private_entry(namespace: &str, host: &str, address: &str, extra: &str) -> String {
    format!(
        "\n---\nkind: ServiceEntry\nmetadata: {{name: e, namespace: {namespace}}}\nspec: {{hosts: ['{host}'], exportTo: ['.'], \
         ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{{address: {address}}}]{extra}}}\n"
    )
}

/// istio.md 1.5: "exportTo | as VS, default `*`"
#[test]
fn what_another_namespace_keeps_to_itself_hides_nothing_of_mine() {
    // ServiceEntry.exportTo: "The value '.' is reserved and defines an export to the same namespace".
    let yaml = private_entry("aaa", "x.com", "1.1.1.1", "") + &private_entry("default", "x.com", "2.2.2.2", "");
    let (registry, issues) = registry(&yaml);
    assert!(issues.is_empty(), "{issues}");
    let endpoints = registry.service("x.com").unwrap().endpoints(80);
    assert_eq!(endpoints[0].address.to_string(), "2.2.2.2:80");
}

/// istio.md 1.5: "SE for an existing k8s host | only adds SANs"
#[test]
fn another_namespace_does_not_say_who_may_answer_for_a_service() {
    let host = "reviews.default.svc.cluster.local";
    let foreign =
        private_entry("aaa", host, "1.1.1.1", ", subjectAltNames: ['spiffe://td/evil']").replace("['.']", "['*']");
    let own = private_entry("default", host, "1.1.1.1", ", subjectAltNames: ['spiffe://td/mine']");
    let (registry, issues) = registry(&(REVIEWS.to_owned() + &foreign + &own));
    assert!(issues.is_empty(), "{issues}");
    assert_eq!(registry.service(host).unwrap().subject_alt_names, ["spiffe://td/mine".into()]);
}

/// istio model.GetTrafficDistribution: the field of a Service, or the annotation on either kind.
#[test]
fn traffic_distribution_is_read_from_the_field_or_the_annotation() {
    use super::TrafficDistribution::{self, Any, PreferSameNode, PreferSameZone};
    let distribution = |annotations: &str, spec: &str| {
        let yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a, annotations: {{{annotations}}}}}\nspec:\n  selector: {{app: \
             a}}\n  ports: [{{port: 80}}]\n{spec}"
        );
        let mut issues = Issues::default();
        let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
        let registry = Registry::from_documents(&documents, &TrustDomain::cluster_local(), &mut issues);
        let service = registry.service("a.default.svc.cluster.local").unwrap();
        (service.traffic_distribution, issues.to_string())
    };
    let annotation = "networking.istio.io/traffic-distribution";
    for (annotations, spec, expected) in [
        (String::new(), "", Any),
        (String::new(), "  trafficDistribution: PreferClose", PreferSameZone),
        (String::new(), "  trafficDistribution: PreferSameNode", PreferSameNode),
        (format!("{annotation}: prefersamezone"), "", PreferSameZone),
        (format!("{annotation}: PreferSameZone"), "  trafficDistribution: PreferSameNode", PreferSameNode),
    ] {
        assert_eq!(distribution(&annotations, spec), (expected, String::new()), "{annotations} {spec}");
    }
    let (fallen_back, said): (TrafficDistribution, _) = distribution("", "  trafficDistribution: Nearest");
    assert_eq!(fallen_back, Any);
    assert!(said.contains("a.yaml:7:24: warning") && said.contains("\"Nearest\" is not enforced"), "{said}");
}

/// istio visibility.Instance.Validate: "only .,*, or a valid DNS 1123 label is allowed as exportTo entry".
#[test]
fn an_export_is_to_a_namespace() {
    for (entry, accepted) in [("team-1", true), ("~", true), ("%", false), ("", false), ("a.b", false), ("a_b", false)]
    {
        assert_eq!(Visibility::parse(&[entry.to_owned()], "own").is_ok(), accepted, "{entry}");
    }
}

/// Kubernetes Service.externalName: "externalName is the external reference that discovery mechanisms will return as an alias
/// for this service".
#[test]
fn an_external_name_is_another_name() {
    let alias = |name: &str, of: &str| {
        format!(
            "---\nkind: Service\napiVersion: v1\nmetadata: {{name: {name}}}\nspec: {{type: ExternalName, externalName: {of}}}\n"
        )
    };
    let (registry, issues) = registry(&format!(
        "{REVIEWS}{}{}{}{}{}",
        alias("old", "Reviews.default.svc.cluster.local."),
        alias("older", "old.default.svc.cluster.local"),
        alias("outside", "www.example.com"),
        alias("round", "about.default.svc.cluster.local"),
        alias("about", "round.default.svc.cluster.local"),
    ));
    assert!(issues.is_empty(), "{issues}");
    let reviews = registry.service("reviews.default.svc.cluster.local").unwrap();
    let names: Vec<_> = reviews.aliases.iter().map(|alias| &*alias.name).collect();
    assert_eq!(names, ["old", "older"]);
    for (name, found) in [("old", true), ("older", true), ("outside", false), ("round", false)] {
        let host = format!("{name}.default.svc.cluster.local");
        assert!(registry.service(&host).is_none(), "{name} is no service of its own");
        assert_eq!(registry.service_for(&host).is_some_and(|service| Arc::ptr_eq(service, reviews)), found, "{name}");
    }
    let (_, issues) =
        super::tests::registry("{kind: Service, apiVersion: v1, metadata: {name: a}, spec: {type: ExternalName}}");
    assert!(issues.to_string().contains("externalName is required"), "{issues}");
}

mod entries;
