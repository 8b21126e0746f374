//! What the reference says of hosts and matches and the tests beside this one do not ask.

use super::*;

/// Where a request goes, by subset.
fn subset(table: &Table, uri: &str) -> String {
    let request = request(uri, &[]);
    let head = RequestHead::new(&request, table.path_normalization()).unwrap();
    forward(table.route(&head, || 0).unwrap()).name().subset.as_deref().unwrap_or("-").to_owned()
}

#[test]
fn short_names_are_of_the_rules_namespace() {
    // istio.md 1.0: "namespace is the **rule's**, not the service's. Applied to VS hosts, destination/mirror hosts"
    let table = compile(
        "{kind: VirtualService, metadata: {name: v, namespace: other}, spec: {hosts: [far], http: [{mirror: {host: far, \
         subset: copy}, route: [{destination: {host: far, subset: x}}]}]}}",
    );
    let request = request("http://far.other/", &[]);
    let head = RequestHead::new(&request, table.path_normalization()).unwrap();
    let destination = forward(table.route(&head, || 0).unwrap());
    assert_eq!(destination.name().to_string(), "outbound|80|x|far.other.svc.cluster.local");
    let mirrors: Vec<_> = destination.policy().mirrors().map(ToString::to_string).collect();
    assert_eq!(mirrors, ["outbound|80|copy|far.other.svc.cluster.local"]);
}

#[test]
fn the_closest_visibility_comes_first() {
    // istio.md 1.0: "Selection order: private(ns) → exported-to-ns → public; each VS once"
    let rule = |namespace: &str, name: &str, export_to: &str| {
        format!(
            "{{kind: VirtualService, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{exportTo: {export_to}, \
             hosts: [a.default.svc.cluster.local], http: [{{route: [{{destination: {{host: a.default.svc.cluster.local, \
             subset: {name}}}}}]}}]}}}}\n---\n"
        )
    };
    let public = rule("default", "public", "['*']");
    let exported = rule("other", "exported", "[default, more]");
    let private = rule("default", "private", "['.']");
    let elsewhere = rule("other", "elsewhere", "['.']");
    for (rules, taken) in [
        (vec![&elsewhere, &public, &exported, &private], "private"),
        (vec![&elsewhere, &public, &exported], "exported"),
        (vec![&elsewhere, &public], "public"),
        (vec![&elsewhere], "-"),
    ] {
        let rules: String = rules.into_iter().map(String::as_str).collect();
        assert_eq!(subset(&compile(&rules), "http://a/"), taken);
    }
}

#[test]
fn what_stands_behind_a_catch_all_is_dropped() {
    // istio.md 1.1: "**every later rule is dropped** (also after an entry that is prefix `/` or regex `.*`"
    for (first, dropped) in [
        ("", true),
        ("match: [{uri: {prefix: /}}],", true),
        ("match: [{uri: {regex: '.*'}}],", true),
        ("match: [{uri: {exact: /x}}, {uri: {prefix: /}}],", true),
        ("match: [{uri: {prefix: /}, headers: {h: {}}}],", false),
        ("match: [{uri: {prefix: /}, queryParams: {q: {}}}],", false),
        ("match: [{uri: {prefix: /a}}],", false),
    ] {
        let to = |subset: &str| format!("route: [{{destination: {{host: a, subset: {subset}}}}}]");
        let rules = format!("hosts: [a], http: [{{{first} {}}}, {{{}}}]", to("one"), to("two"));
        let table = compile(&vs("a", &rules));
        let is_there = table.cluster_names().any(|name| name.subset.as_deref() == Some("two"));
        assert_eq!(is_there, !dropped, "{first}");
    }
}

#[test]
fn a_service_is_called_by_its_addresses_too() {
    // istio.md 1.0: "VIPs, ExternalName aliases; port stripped on match (`ignore_port_in_host_matching: true`)"
    let service = "{apiVersion: v1, kind: Service, metadata: {name: vip}, spec: {clusterIP: 10.1.2.3, clusterIPs: \
                   [10.1.2.3, 'fd00::1'], ports: [{port: 80, name: http}]}}\n";
    let table = compile(service);
    for uri in ["http://10.1.2.3/", "http://10.1.2.3:80/", "http://[fd00::1]/", "http://[fd00::1]:80/"] {
        let taken = route(&table, &request(uri, &[])).unwrap();
        assert_eq!(taken, "outbound|80||vip.default.svc.cluster.local", "{uri}");
    }
    assert_eq!(route(&table, &request("http://10.1.2.3:81/", &[])).unwrap(), "PassthroughCluster");
}

#[test]
fn a_service_is_called_by_its_aliases_too() {
    // istio.md 1.0: "alt names (`svc`, `svc.ns`, `svc.ns.svc` - short form only from same ns), VIPs, ExternalName aliases"
    let yaml = "
{apiVersion: v1, kind: Service, metadata: {name: old}, spec: {type: ExternalName, externalName: a.default.svc.cluster.local}}
---
{apiVersion: v1, kind: Service, metadata: {name: out}, spec: {type: ExternalName, externalName: www.example.com}}
---
{kind: VirtualService, metadata: {name: b}, spec: {hosts: [b], http: [{route: [{destination: {host: old, subset: x}}]}]}}
";
    let (table, issues) = compile_with(yaml, &MeshConfig::default());
    assert!(issues.is_empty(), "{issues}");
    for uri in
        ["http://old/", "http://old.default/", "http://old.default.svc/", "http://OLD.default.svc.cluster.local./"]
    {
        assert_eq!(route(&table, &request(uri, &[])).unwrap(), "outbound|80||a.default.svc.cluster.local", "{uri}");
    }
    assert_eq!(route(&table, &request("http://b:9080/", &[])).unwrap(), "outbound|80|x|a.default.svc.cluster.local");
    assert_eq!(route(&table, &request("http://out/", &[])).unwrap(), "PassthroughCluster");
}

#[test]
fn a_route_is_named_by_its_rule_and_its_match() {
    // istio.md 1.1: "route name = `http.name[.match.name]` (delegate: `root-delegate`) → logs/metrics"
    let to = "route: [{destination: {host: a}}]";
    let table = compile(&vs(
        "a",
        &format!(
            "hosts: [a], http: [{{name: r, match: [{{name: m, uri: {{exact: /1}}}}, {{uri: {{exact: /2}}}}], {to}}}, {{{to}}}]"
        ),
    ));
    for (uri, name) in [("http://a/1", Some("r.m")), ("http://a/2", Some("r")), ("http://a/3", None)] {
        let request = request(uri, &[]);
        let head = RequestHead::new(&request, table.path_normalization()).unwrap();
        let destination = forward(table.route(&head, || 0).unwrap());
        assert_eq!(destination.policy().name().map(|name| &**name), name, "{uri}");
    }
}

#[test]
fn paths_are_text() {
    // istio.md 1.1: "Empty prefix allowed"
    check("{uri: {prefix: ''}, method: {exact: GET}}", &[("http://a/any", &[], true)]);
    // istio.md 1.1: "`.` matches `%0A` text; anchors optional"
    for regex in ["/a.*b", "^/a.*b$"] {
        check(
            &format!("{{uri: {{regex: '{regex}'}}}}"),
            &[("http://a/a%0Ab?c", &[], true), ("http://a/ab/c", &[], false)],
        );
    }
    // istio.md 1.1: "`....` matches 2 two-byte UTF-8 chars, `\w` `\d` ASCII only"
    check("{headers: {x: {regex: '....'}}}", &[("http://a/", &[("x", "\u{e9}\u{e9}")], true)]);
    check(
        "{headers: {x: {regex: '\\w'}}}",
        &[("http://a/", &[("x", "w")], true), ("http://a/", &[("x", "\u{e9}")], false)],
    );
}

#[test]
fn conditions_of_one_entry_are_all_to_hold() {
    // The table's own title: "OR over entries, AND inside an entry; rules in order, first match wins".
    check(
        "{uri: {prefix: /a}, method: {exact: PUT}, headers: {h: {exact: '1'}}, queryParams: {q: {exact: '2'}}, withoutHeaders: {n: {}}}",
        &[
            ("PUT http://a/a?q=2", &[("h", "1")], true),
            ("PUT http://a/b?q=2", &[("h", "1")], false),
            ("http://a/a?q=2", &[("h", "1")], false),
            ("PUT http://a/a?q=2", &[("h", "2")], false),
            ("PUT http://a/a?q=3", &[("h", "1")], false),
            ("PUT http://a/a?q=2", &[("h", "1"), ("n", "")], false),
        ],
    );
}

#[test]
fn one_destination_needs_no_weight() {
    // istio.md 1.2: "single destination => weight ignored; 0-weight dest dropped when others exist"
    for weight in ["", ", weight: 0", ", weight: 7"] {
        let rules = format!("hosts: [a], http: [{{route: [{{destination: {{host: a, subset: x}}{weight}}}]}}]");
        assert_eq!(subset(&compile(&vs("a", &rules)), "http://a/"), "x", "{weight}");
    }
}
