//! Whose requests a route is for, and what it shares them with.

use mesh_core::config::Severity;

use super::{compile_in, http, route, rule, sent, taken};

#[test]
fn producers_are_for_all_and_consumers_for_their_own() {
    // istio.md 1.10: "producer route (route ns = service ns) applies to all clients"
    // istio.md 1.10: "consumer route (other ns) only to clients in its ns, and wins there"
    let parent = "{group: '', kind: Service, name: far, namespace: other}";
    let own = |name: &str| format!("{{name: {name}, backendRefs: [{{name: far, namespace: other, port: 80}}]}}");
    let producer = route("HTTPRoute", "p", "other", parent, &own("producer"));
    let consumer = route("HTTPRoute", "c", "default", parent, &own("consumer"));
    let old = consumer.replace("namespace: default}", "namespace: default, creationTimestamp: '2020-01-01T00:00:00Z'}");
    for (yaml, client, expected) in [
        (format!("{producer}{consumer}"), "default", "consumer"),
        (format!("{producer}{consumer}"), "third", "producer"),
        (format!("{producer}{consumer}"), "other", "producer"),
        (format!("{producer}{old}"), "other", "producer"),
        (consumer.clone(), "third", "default"),
    ] {
        let (table, issues) = compile_in(client, &yaml);
        assert!(issues.is_empty(), "{issues}");
        let taken = taken(&table, "http://far.other.svc.cluster.local/", &[]);
        assert_eq!(taken.as_deref(), Ok(expected), "{client}");
        // gateway API GEP-1426: a consumer's route needs no grant for the service it is for
        assert_eq!(sent(&table, "http://far.other/", 0), "far:80");
    }
}

#[test]
fn a_route_and_a_virtual_service_for_a_host_are_not_merged() {
    // istio PushContext.VirtualServicesForGateway: "Favor same-namespace Gateway routes, to give the "consumer override"
    // preference"; then the older; then, as two VirtualServices of one host, the first has the host.
    let vs = |extra: &str, meta: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: v, namespace: other{meta}}}, \
             spec: {{hosts: [a.default.svc.cluster.local]{extra}, http: [{{name: vs, route: [{{destination: {{host: \
             a.default.svc.cluster.local}}}}]}}]}}}}\n---\n"
        )
    };
    let route = http("r", "{name: route, backendRefs: [{name: b, port: 9080}]}");
    for (virtual_service, client, expected) in [
        (vs("", ""), "default", "route"),
        (vs("", ""), "third", "vs"),
        (vs(", exportTo: [default]", ""), "default", "vs"),
        (vs("", ", creationTimestamp: '2020-01-01T00:00:00Z'"), "default", "route"),
    ] {
        let (table, issues) = compile_in(client, &format!("{route}{virtual_service}"));
        assert_eq!(taken(&table, "http://a.default/", &[]).as_deref(), Ok(expected), "{client} {virtual_service}");
        assert!(issues.to_string().contains("already, which comes first"), "{issues}");
    }
}

#[test]
fn a_parent_may_be_one_port_of_a_service() {
    // gateway API ParentReference.port: "When the parent resource is a Service, this targets a specific port"
    let parent = |more: &str| format!("{{group: '', kind: Service, name: two{more}}}");
    let to = |name: &str| format!("{{name: {name}, backendRefs: [{{name: b, port: 9080}}]}}");
    let one = |more: &str| route("HTTPRoute", "one", "default", &parent(more), &to("one"));
    let all = route("HTTPRoute", "all", "default", &parent(""), &to("all"));
    for (yaml, first, second) in [
        (one(", port: 81"), "default", "one"),
        (one(", sectionName: http-x"), "default", "one"),
        (one(", sectionName: http, port: 80"), "one", "default"),
        (one(", sectionName: http, port: 81"), "default", "default"),
        (one(", port: 99"), "default", "default"),
        // istio: for the port that it names it comes before what is for all
        (one(", port: 81") + &all, "all", "one"),
    ] {
        let (table, issues) = compile_in("default", &yaml);
        assert_eq!(taken(&table, "http://two/", &[]).as_deref(), Ok(first), "{yaml}");
        assert_eq!(taken(&table, "http://two:81/", &[]).as_deref(), Ok(second), "{yaml}");
        let bad = first == "default" && second == "default";
        assert_eq!(issues.to_string().contains("two.default.svc.cluster.local has no port"), bad, "{issues}");
        assert_eq!(issues.is_empty(), !bad, "{issues}");
    }
}

#[test]
fn parents_of_other_kinds() {
    // istio toInternalParentReference: Gateway, Service, ServiceEntry
    let rules = rule("hit", "{path: {value: /}}");
    let of = |parents: &str| compile_in("default", &route("HTTPRoute", "r", "default", parents, &rules));
    let (table, issues) = of("{group: networking.istio.io, kind: ServiceEntry, name: outside}");
    assert!(issues.is_empty(), "{issues}");
    for host in ["one.example.com", "two.example.com"] {
        assert_eq!(taken(&table, &format!("http://{host}/"), &[]).as_deref(), Ok("hit"));
    }
    for (parents, place, message) in [
        ("{name: gateway}", "parentRefs", "applies to gateways only, not to the mesh: not in force in-process"),
        ("{name: g}, {group: '', kind: Service, name: a}", "parentRefs", "its Gateways are not in-process"),
        ("{group: '', kind: Service, name: gone}", "parentRefs[0].name", "parent service: \"gone\" not found"),
        ("{group: x.io, kind: Y, name: z}", "parentRefs[0].kind", "unsupported parent: group \"x.io\" kind \"Y\""),
        (
            "{group: networking.istio.io, kind: ServiceEntry, name: b}",
            "parentRefs[0].name",
            "parent service entry: \"b\" not found",
        ),
    ] {
        let (table, issues) = of(parents);
        let expected = if parents.contains("name: a}") { "hit" } else { "default" };
        assert_eq!(taken(&table, "http://a/", &[]).as_deref(), Ok(expected), "{parents}");
        let issue = issues.iter().next().unwrap();
        assert_eq!((issue.severity, &*issue.path), (Severity::Warning, place), "{issues}");
        assert!(issue.message.starts_with(message) && issues.iter().count() == 1, "{issues}");
    }
}

#[test]
fn an_http_and_a_grpc_route_do_not_share_a_service() {
    // istio merges routes of one kind; of two VirtualServices of one host the first has it.
    let parent = "{group: '', kind: Service, name: a}";
    let to = |name: &str| format!("{{name: {name}, backendRefs: [{{name: b, port: 9080}}]}}");
    let grpc = route("GRPCRoute", "a", "default", parent, &to("grpc"));
    let (table, issues) = compile_in("default", &format!("{}{grpc}", http("b", &to("http"))));
    assert_eq!(taken(&table, "http://a/p.S/M", &[]).as_deref(), Ok("grpc"));
    assert!(issues.to_string().contains("is routed by GRPCRoute default/a already, which comes first"), "{issues}");
}
