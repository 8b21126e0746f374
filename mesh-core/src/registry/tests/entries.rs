//! What ServiceEntry and WorkloadEntry mean, row by row.

use super::*;

/// A ServiceEntry with this in its spec.
fn entry(spec: &str) -> String {
    format!("\n---\nkind: ServiceEntry\nmetadata: {{name: e}}\nspec: {{{spec}}}\n")
}

fn accepted(spec: &str) -> Registry {
    let (registry, issues) = registry(&entry(spec));
    assert!(issues.is_empty(), "{spec}: {issues}");
    registry
}

fn refused(spec: &str) -> String {
    let (registry, issues) = registry(&entry(spec));
    assert!(issues.has_errors() && registry.services().next().is_none(), "{spec}: {issues}");
    issues.to_string()
}

fn addresses(registry: &Registry, host: &str, port: u16) -> Vec<String> {
    registry.service(host).unwrap().endpoints(port).iter().map(|endpoint| endpoint.address.to_string()).collect()
}

const PORT: &str = "ports: [{number: 80, name: http, protocol: HTTP}]";

/// istio convertServices: a service for each host and address; here one for each host, by whose addresses it is called as
/// well, which is the same to a request.
/// istio.md 1.5: "each host x address = one service; wildcard prefix ok, `*` rejected"
#[test]
fn each_host_is_a_service() {
    let one = accepted(&format!(
        "hosts: [a.com, '*.b.com'], addresses: [240.0.0.1, 240.0.0.2], {PORT}, resolution: STATIC, endpoints: [{{address: \
         10.0.0.1}}]"
    ));
    let hosts: Vec<_> = one.services().map(|service| service.name.host.to_string()).collect();
    assert_eq!(hosts, ["*.b.com", "a.com"]);
    for host in ["a.com", "*.b.com"] {
        let addresses: Vec<_> = one.service(host).unwrap().addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["240.0.0.1", "240.0.0.2"], "{host}");
    }
    assert_eq!(&*one.service_for("x.b.com").unwrap().name.host, "*.b.com");
    assert!(refused(&format!("hosts: ['*'], {PORT}")).contains("hosts[0]: invalid host *"));
    assert!(refused(&format!("hosts: ['a.*'], {PORT}")).contains("hosts[0]: invalid host"));
}

/// istio.md 1.5: "number, protocol HTTP/HTTPS/GRPC/HTTP2/MONGO/TCP/TLS (case-insensitive), name unique"
#[test]
fn ports_say_what_is_spoken() {
    for (protocol, expected) in [
        ("HTTP", Protocol::Http),
        ("http", Protocol::Http),
        ("HTTPS", Protocol::Https),
        ("gRPC", Protocol::Grpc),
        ("Http2", Protocol::Http2),
        ("mongo", Protocol::Tcp),
        ("TCP", Protocol::Tcp),
        ("tls", Protocol::Tls),
    ] {
        let spec = format!("hosts: [a.com], ports: [{{number: 80, name: p, protocol: {protocol}}}], resolution: NONE");
        let registry = accepted(&spec);
        assert_eq!(registry.service("a.com").unwrap().port(80).unwrap().protocol, expected, "{protocol}");
    }
    for (ports, message) in [
        ("[{number: 80, name: a, protocol: UDP}]", "ports[0].protocol: unsupported protocol: UDP"),
        (
            "[{number: 80, name: a}, {number: 81, name: a}]",
            "ports[1].name: service entry port name \"a\" already defined",
        ),
        ("[{number: 0, name: a}]", "ports[0].number: port number 0 must be in the range 1..65535"),
        ("[{number: 80}]", "ports[0].name: service entry port name must be set"),
    ] {
        let said = refused(&format!("hosts: [a.com], ports: {ports}"));
        assert!(said.contains(message), "{said}");
    }
}

/// istio.md 1.5: "endpoint port = endpoint.ports[name] > targetPort > number"
#[test]
fn an_endpoints_port_is_the_nearest_that_is_given() {
    let registry = accepted(
        "hosts: [a.com], resolution: STATIC, ports: [{number: 80, name: one, protocol: HTTP, targetPort: 8080}, {number: 81, \
         name: two, protocol: HTTP}], endpoints: [{address: 10.0.0.1, ports: {one: 7}}, {address: 10.0.0.2, ports: {two: 9}}]",
    );
    assert_eq!(addresses(&registry, "a.com", 80), ["10.0.0.1:7", "10.0.0.2:8080"]);
    assert_eq!(addresses(&registry, "a.com", 81), ["10.0.0.1:81", "10.0.0.2:9"]);
    let unknown = refused(&format!(
        "hosts: [a.com], resolution: STATIC, {PORT}, endpoints: [{{address: 10.0.0.1, ports: {{grpc: 7}}}}]"
    ));
    assert!(
        unknown.contains("endpoints[0].ports.grpc: endpoint port grpc is not defined by the service entry"),
        "{unknown}"
    );
}

/// istio convertResolution.
/// istio.md 1.5: "NONE => original destination (endpoints forbidden); STATIC => EDS; DNS => STRICT_DNS over endpoints or hosts; DNS_ROUND_ROBIN => LOGICAL_DNS (<=1 endpoint)"
#[test]
fn resolution_says_where_endpoints_come_from() {
    let one = "endpoints: [{address: 10.0.0.1}]";
    for (resolution, endpoints, expected, found) in [
        ("", "", Resolution::None, &[][..]),
        ("resolution: NONE,", "", Resolution::None, &[]),
        ("resolution: STATIC,", one, Resolution::Static, &["10.0.0.1:80"]),
        ("resolution: DNS,", "", Resolution::Dns, &["a.com:80"]),
        (
            "resolution: DNS,",
            "endpoints: [{address: one.com}, {address: 10.0.0.1}]",
            Resolution::Dns,
            &["one.com:80", "10.0.0.1:80"],
        ),
        ("resolution: DNS_ROUND_ROBIN,", "", Resolution::DnsRoundRobin, &["a.com:80"]),
        ("resolution: DNS_ROUND_ROBIN,", "endpoints: [{address: one.com}]", Resolution::DnsRoundRobin, &["one.com:80"]),
    ] {
        let registry = accepted(&format!("hosts: [a.com], {PORT}, {resolution} {endpoints}"));
        assert_eq!(registry.service("a.com").unwrap().resolution, expected, "{resolution}");
        assert_eq!(addresses(&registry, "a.com", 80), found, "{resolution} {endpoints}");
    }
    for (spec, message) in [
        (
            "resolution: NONE, endpoints: [{address: 10.0.0.1}]",
            "no endpoints should be provided for resolution type none",
        ),
        (
            "resolution: DNS_ROUND_ROBIN, endpoints: [{address: one.com}, {address: two.com}]",
            "there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN",
        ),
        (
            "resolution: STATIC, endpoints: [{address: one.com}]",
            "endpoint address \"one.com\" is not a valid IP address",
        ),
    ] {
        let said = refused(&format!("hosts: [a.com], {PORT}, {spec}"));
        assert!(said.contains(message), "{said}");
    }
}

/// istio.md 1.5: "MESH_EXTERNAL (default): no auto-mTLS, no authn inference; MESH_INTERNAL: mesh rules"
#[test]
fn outside_of_the_mesh_nobody_expects_its_tls() {
    for (location, expected, tls) in [
        ("", Location::MeshExternal, crate::EndpointTls::Disabled),
        ("location: MESH_EXTERNAL,", Location::MeshExternal, crate::EndpointTls::Disabled),
        ("location: MESH_INTERNAL,", Location::MeshInternal, crate::EndpointTls::Istio),
    ] {
        let spec = format!("hosts: [a.com], {location} {PORT}, resolution: STATIC, endpoints: [{{address: 10.0.0.1}}]");
        let registry = accepted(&spec);
        let service = registry.service("a.com").unwrap();
        assert_eq!((service.location, service.endpoints(80)[0].tls), (expected, tls), "{location}");
    }
}

/// istio ConvertWorkloadEntry.
/// istio.md 1.5: "address(IP/FQDN/unix), ports, labels (metadata labels override spec), network, locality `r/z/s`, weight, serviceAccount; selector merges pods+WLE of same ns"
#[test]
fn a_selector_finds_workloads_with_all_that_they_say() {
    let workload = |name: &str, namespace: &str, rest: &str| {
        format!(
            "\n---\nkind: WorkloadEntry\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{version: v2}}}}\nspec: {{{rest}}}\n"
        )
    };
    let all = workload(
        "full",
        "default",
        "address: 10.0.0.1, ports: {http: 8080}, labels: {app: a, version: v1}, locality: r/z/s, weight: 7, serviceAccount: sa",
    ) + &workload("named", "default", "address: one.example.com, labels: {app: a}")
        + &workload("other", "elsewhere", "address: 10.0.0.3, labels: {app: a}")
        + &workload("not", "default", "address: 10.0.0.4, labels: {app: b}");
    let selecting = entry(&format!(
        "hosts: [a.com], location: MESH_INTERNAL, {PORT}, resolution: DNS, workloadSelector: {{labels: {{app: a}}}}"
    ));
    let (registry, issues) = registry(&(all + &selecting));
    assert!(issues.is_empty(), "{issues}");
    assert_eq!(addresses(&registry, "a.com", 80), ["10.0.0.1:8080", "one.example.com:80"]);
    let full = &registry.service("a.com").unwrap().endpoints(80)[0];
    assert_eq!((full.labels.get("app"), full.labels.get("version")), (Some("a"), Some("v2")));
    assert_eq!((&*full.locality, full.weight), ("r/z/s", 7));
    assert_eq!(full.identity.as_ref().unwrap().as_str(), "spiffe://cluster.local/ns/default/sa/sa");
    let both = refused(&format!(
        "hosts: [a.com], {PORT}, resolution: STATIC, endpoints: [{{address: 10.0.0.1}}], workloadSelector: {{labels: {{app: a}}}}"
    ));
    assert!(both.contains("only one of WorkloadSelector or Endpoints is allowed"), "{both}");
}

/// istio.md 1.5: "exportTo | as VS, default `*`"
#[test]
fn an_entry_is_for_all_unless_it_says_so() {
    let elsewhere = |export_to: &str| {
        let spec = entry(&format!("hosts: [a.com], {PORT}, resolution: NONE, {export_to}"));
        let (registry, issues) = registry(&spec.replace("{name: e}", "{name: e, namespace: elsewhere}"));
        assert!(issues.is_empty(), "{issues}");
        registry.service("a.com").is_some()
    };
    for (export_to, visible) in [
        ("exportTo: []", true),
        ("exportTo: ['*']", true),
        ("exportTo: [default]", true),
        ("exportTo: [other, default]", true),
        ("exportTo: ['.']", false),
        ("exportTo: [other]", false),
        ("exportTo: ['~']", false),
    ] {
        assert_eq!(elsewhere(export_to), visible, "{export_to}");
    }
}
