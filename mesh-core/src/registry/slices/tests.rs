use crate::{
    config::{Document, Issues},
    identity::TrustDomain,
    registry::{Registry, Service},
};

use super::*;

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {clusterIP: None, selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: web}, {name: grpc, port: 81}]}
";

/// As `kubectl get endpointslices,pods -o yaml` prints them: one list.
const LIST: &str = r#"
apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- addressType: IPv4
  apiVersion: discovery.k8s.io/v1
  endpoints:
  - addresses: [10.2.0.1]
    conditions: {ready: true, serving: true, terminating: false}
    nodeName: node-1
    targetRef: {kind: Pod, name: reviews-0, namespace: shop, uid: 5d8f}
    zone: eu-1a
  - addresses: [10.2.0.2]
    conditions: {ready: false, serving: true, terminating: true}
  - addresses: [10.2.0.3]
  kind: EndpointSlice
  metadata:
    creationTimestamp: "2026-01-01T00:00:00Z"
    generateName: reviews-
    labels: {endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io, kubernetes.io/service-name: reviews}
    name: reviews-x7k2p
    namespace: shop
    ownerReferences: [{apiVersion: v1, kind: Service, name: reviews, controller: true}]
  ports:
  - {name: http, port: 8080, protocol: TCP}
  - {name: dns, port: 53, protocol: UDP}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: reviews-bbbbb, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
  addressType: IPv4
  ports: [{name: http, port: 8080}, {name: grpc, port: 9090}]
  endpoints:
  - {addresses: [10.2.0.3], conditions: {ready: true}}
  - {addresses: [10.2.0.4], conditions: {ready: true}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: reviews-v6, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
  addressType: IPv6
  ports: [{name: http, port: 8080}]
  endpoints: [{addresses: ["fd00::1"]}]
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: reviews-empty, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
  addressType: IPv4
  ports: null
  endpoints: null
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: other, namespace: elsewhere, labels: {kubernetes.io/service-name: reviews}}
  addressType: IPv4
  ports: [{name: http, port: 8080}]
  endpoints: [{addresses: [10.9.0.1]}]
- apiVersion: v1
  kind: Pod
  metadata: {name: reviews-0, namespace: shop, labels: {app: reviews, version: v1, security.istio.io/tlsMode: istio}}
  spec:
    serviceAccountName: reviews
    nodeName: node-1
    containers: [{name: app, image: "reviews:1", ports: [{name: web, containerPort: 8080}]}]
  status: {phase: Running, podIP: 10.2.0.1, podIPs: [{ip: 10.2.0.1}]}
"#;

fn read(yaml: &str) -> (Registry, Issues) {
    let mut issues = Issues::default();
    let documents = Document::parse_all("t.yaml", yaml, &mut issues);
    let registry = Registry::from_documents(&documents, &TrustDomain::cluster_local(), &mut issues);
    (registry, issues)
}

fn reviews(yaml: &str) -> Arc<Service> {
    let (registry, issues) = read(yaml);
    assert!(issues.is_empty(), "{issues}");
    Arc::clone(registry.service("reviews.shop.svc.cluster.local").unwrap())
}

fn addresses(service: &Service, port: u16) -> Vec<String> {
    service.endpoints(port).iter().map(|endpoint| endpoint.address.to_string()).collect()
}

/// discovery/v1: ports by name, several slices of one Service, an endpoint in two of them, one without conditions (ready)
/// and one that terminates (not ready); the Service of the same name in another namespace is another.
#[test]
fn slices_of_a_service_are_merged_port_by_port() {
    let service = reviews(&format!("{SERVICE}---{LIST}"));
    assert_eq!(addresses(&service, 80), ["10.2.0.1:8080", "10.2.0.3:8080", "10.2.0.4:8080", "[fd00::1]:8080"]);
    assert_eq!(addresses(&service, 81), ["10.2.0.3:9090", "10.2.0.4:9090"]);
    // core/v1 ServiceSpec.publishNotReadyAddresses.
    let all = SERVICE.replace("clusterIP: None", "publishNotReadyAddresses: true");
    assert_eq!(addresses(&reviews(&format!("{all}---{LIST}")), 80).len(), 5);
}

#[test]
fn a_pod_says_who_is_behind_an_address() {
    let service = reviews(&format!("{SERVICE}---{LIST}"));
    let [first, second, ..] = &service.endpoints(80)[..] else { panic!() };
    assert_eq!(first.identity.as_ref().unwrap().as_str(), "spiffe://cluster.local/ns/shop/sa/reviews");
    assert_eq!(first.workload.as_deref(), Some("reviews-0"));
    assert_eq!(first.namespace.as_deref(), Some("shop"));
    let labels = Labels::from_iter([("version", "v1"), (ZONE, "eu-1a"), (NODE, "node-1")]);
    assert!(first.labels.contains_all(&labels), "{:?}", first.labels);
    assert_eq!((&second.identity, second.tls, second.weight), (&None, EndpointTls::Istio, 1));
    // By address where there is no targetRef; a pod on its host's network says nothing of that address.
    let by_address = LIST.replace("targetRef: {kind: Pod, name: reviews-0, namespace: shop, uid: 5d8f}", "hostname: a");
    let identity = |list: &str| reviews(&format!("{SERVICE}---{list}")).endpoints(80)[0].identity.is_some();
    assert!(identity(&by_address));
    assert!(!identity(&by_address.replace("nodeName: node-1\n    containers", "hostNetwork: true\n    containers")));
    // istio IsPodPhaseTerminal: nor does one that is over, whose address is another's by now.
    assert!(!identity(&by_address.replace("phase: Running", "phase: Succeeded")));
    assert!(!identity(&by_address.replace("phase: Running", "phase: Failed")));
    // istio getPodLocality.
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: node-1, labels: {topology.kubernetes.io/region: eu, \
                topology.kubernetes.io/zone: eu-1a}}\nspec: {podCIDR: 10.2.0.0/24}\n";
    assert_eq!(&*reviews(&format!("{SERVICE}---{LIST}{node}")).endpoints(80)[0].locality, "eu/eu-1a");
    for (labels, locality) in [
        ("app: reviews", ""),
        ("istio-locality: eu.eu-1.r7", "eu/eu-1/r7"),
        ("topology.kubernetes.io/region: eu", "eu/eu-1a"),
        ("topology.kubernetes.io/region: eu, topology.kubernetes.io/zone: eu-1", "eu/eu-1"),
        ("istio-locality: a.b.c.d", ""),
    ] {
        let service =
            reviews(&format!("{SERVICE}---{}", LIST.replace("app: reviews, version", &format!("{labels}, version"))));
        assert_eq!(&*service.endpoints(80)[0].locality, locality, "{labels}");
    }
}

/// A WorkloadEntry that the Service selects joins its endpoints; one with an address of a slice says what no Pod does.
#[test]
fn workload_entries_join_and_describe() {
    let entry = |name: &str, address: &str, more: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec: \
             {{address: {address}, serviceAccount: vm, labels: {{app: reviews, version: {name}}}{more}}}\n"
        )
    };
    let yaml = format!("{SERVICE}---{LIST}")
        + &entry("vm", "10.3.0.1", ", ports: {http: 99}")
        + &entry("known", "10.2.0.4", ", ports: {http: 8080}, weight: 5, locality: eu/eu-1")
        + &entry("pod", "10.2.0.1", ", ports: {http: 8080}");
    let service = reviews(&yaml);
    let expected = ["10.2.0.1:8080", "10.2.0.3:8080", "10.2.0.4:8080", "[fd00::1]:8080", "10.3.0.1:99"];
    assert_eq!(addresses(&service, 80), expected);
    let endpoints = service.endpoints(80);
    let version = |index: usize| endpoints[index].labels.get("version");
    assert_eq!([version(0), version(2), version(4)], [Some("v1"), Some("known"), Some("vm")]);
    assert_eq!((endpoints[2].weight, &*endpoints[2].locality), (5, "eu/eu-1"));
    assert_eq!(endpoints[2].identity.as_ref().unwrap().as_str(), "spiffe://cluster.local/ns/shop/sa/vm");
}

#[test]
fn names_are_addresses_too() {
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: f, namespace: shop, labels: \
                 {kubernetes.io/service-name: reviews}}\naddressType: FQDN\nports: [{name: http, port: 8080}]\nendpoints: \
                 [{addresses: [A.example.com]}]\n";
    assert_eq!(addresses(&reviews(&format!("{SERVICE}{slice}")), 80), ["a.example.com:8080"]);
}

/// Issue "Bad input": an address that does not parse is an error with its place.
#[test]
fn bad_slices_say_where() {
    for (body, message) in [
        ("endpoints: []", "t.yaml:1:1: error: EndpointSlice default/e addressType: addressType is required"),
        ("addressType: IPv5", "t.yaml:4:14: error: EndpointSlice default/e addressType: unknown variant `IPv5`"),
        (
            "addressType: IPv4\nendpoints:\n- addresses: [10.0.0.1, 10.0.0.256]",
            "t.yaml:6:25: error: EndpointSlice default/e endpoints[0].addresses[1]: \"10.0.0.256\" is not a valid IPv4",
        ),
        ("addressType: IPv6\nendpoints: [{addresses: [10.0.0.1]}]", "\"10.0.0.1\" is not a valid IPv6 address"),
        (
            "addressType: FQDN\nendpoints: [{addresses: [10.0.0.1]}]",
            "\"10.0.0.1\" is not a fully qualified domain name",
        ),
        ("addressType: FQDN\nendpoints: [{addresses: ['a b']}]", "\"a b\" is not a fully qualified domain name"),
        (
            "addressType: IPv4\nendpoints: [{addresses: []}]",
            "endpoints[0].addresses: an endpoint must contain at least 1",
        ),
        ("addressType: IPv4\nports: [{port: 0}]", "ports[0].port: port number 0 must be in the range 1..65535"),
        ("addressType: IPv4\nports: [{port: 1, protocol: ICMP}]", "ports[0].protocol: unknown protocol \"ICMP\""),
        ("addressType: IPv4\nbogus: 1", "t.yaml:5:1: error: EndpointSlice default/e: unknown field `bogus`"),
        ("addressType: IPv4\nspec: {}", "unknown field `spec`"),
    ] {
        let label = "labels: {kubernetes.io/service-name: a}";
        let head = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e, ";
        let (_, issues) = read(&format!("{head}{label}}}\n{body}\n"));
        assert!(
            issues.has_errors() && issues.to_string().contains(message),
            "{body}\n  got  {issues}\n  want {message}"
        );
    }
    let (_, issues) =
        read("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e}\naddressType: IPv4\n");
    assert!(!issues.has_errors() && issues.to_string().contains("no label kubernetes.io/service-name"), "{issues}");
}
