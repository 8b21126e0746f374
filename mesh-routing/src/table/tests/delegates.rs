//! Rules that another VirtualService gives.

use super::*;

const ROOT: &str = "hosts: [a], http: [{match: [{uri: {prefix: /x}, headers: {h: {exact: '1'}}, name: rm}], name: root, \
     timeout: 7s, delegate: {name: leaf, namespace: team}}, {route: [{destination: {host: a, subset: miss}}]}]";

/// A root that sends `/x` with `h: 1` to a delegate with these rules.
fn delegated(rules: &str, export_to: &str) -> (Table, Issues) {
    let leaf = format!(
        "{{kind: VirtualService, metadata: {{name: leaf, namespace: team}}, spec: {{{export_to} http: [{rules}]}}}}\n---\n"
    );
    compile_with(&format!("{leaf}{}", vs("root", ROOT)), &MeshConfig::default())
}

#[test]
fn a_delegates_rules_hold_where_both_match() {
    // istio mergeHTTPRoute: "match lists crossed (every delegate match must be compatible with >=1 root match, else route
    // dropped)"; short names are the delegate's; "headers/withoutHeaders/queryParams maps merged"
    let (table, issues) = delegated(
        "{match: [{uri: {exact: /x/1}, name: lm}], name: leaf, timeout: 1s, route: [{destination: {host: a.default.svc.cluster.local, subset: one}}]}, \
         {match: [{uri: {prefix: /x/2}, headers: {g: {}}}], route: [{destination: {host: a.default.svc.cluster.local, subset: two}}]}, \
         {match: [{uri: {prefix: /y}}], route: [{destination: {host: a.default.svc.cluster.local, subset: never}}]}, \
         {directResponse: {status: 418}}",
        "",
    );
    assert!(issues.to_string().contains("http[2] of team/leaf matches nothing that this rule matches"), "{issues}");
    let decide = |path: &str, headers: &[(&str, &str)]| {
        let request = request(&format!("http://a{path}"), headers);
        let head = RequestHead::new(&request, table.path_normalization()).unwrap();
        match table.route(&head, || 0).unwrap() {
            Decision::Forward(to) => (to.name().subset.clone().unwrap().to_string(), Arc::clone(to.policy())),
            Decision::DirectResponse(answer, policy) => (answer.status.as_str().to_owned(), Arc::clone(policy)),
            Decision::Redirect(..) => panic!(),
        }
    };
    let h = ("h", "1");
    let (subset, policy) = decide("/x/1", &[h]);
    // "names `root-delegate`"
    assert_eq!((&*subset, &**policy.name().unwrap()), ("one", "root-leaf.rm-lm"));
    assert_eq!(policy.timeout(), Some(std::time::Duration::from_secs(1)));
    assert_eq!(policy.virtual_service().unwrap().to_string(), "default/root");
    let (subset, policy) = decide("/x/2", &[h, ("g", "")]);
    assert_eq!((&*subset, &**policy.name().unwrap()), ("two", "root.rm"));
    // "scalars = delegate's, else root's"
    assert_eq!(policy.timeout(), Some(std::time::Duration::from_secs(7)));
    assert_eq!(decide("/x/2", &[h]).0, "418");
    assert_eq!(decide("/x/1", &[]).0, "miss");
    assert_eq!(decide("/y", &[h]).0, "miss");
}

#[test]
fn a_delegate_must_be_there_and_visible() {
    // "exportTo must include root ns; missing delegate => that route skipped, others stay"
    let to = "{route: [{destination: {host: a.default.svc.cluster.local, subset: hit}}]}";
    let hit = request("http://a/x", &[("h", "1")]);
    for (export_to, subset, warning) in [
        ("", "hit", ""),
        ("exportTo: [default],", "hit", ""),
        ("exportTo: ['.'],", "miss", "team/leaf is not exported to namespace default"),
        ("exportTo: ['~'],", "miss", "team/leaf is not exported to namespace default"),
    ] {
        let (table, issues) = delegated(to, export_to);
        assert_eq!(route(&table, &hit).unwrap(), format!("outbound|80|{subset}|a.default.svc.cluster.local"));
        assert!(issues.to_string().contains(warning) && issues.is_empty() == warning.is_empty(), "{issues}");
    }
    let (table, issues) = compile_with(&vs("root", ROOT), &MeshConfig::default());
    assert_eq!(route(&table, &hit).unwrap(), "outbound|80|miss|a.default.svc.cluster.local");
    assert!(issues.to_string().contains("delegate virtual service team/leaf not found"), "{issues}");
}

#[test]
fn a_delegates_match_must_be_within_the_roots() {
    // istio hasConflict, stringMatchConflict: "`ignoreUriCase` must be equal; regex on both sides = conflict"
    for (root, leaf, holds) in [
        ("uri: {prefix: /x}", "uri: {exact: /x/y}", true),
        ("uri: {prefix: /x}", "uri: {prefix: /x}", true),
        ("uri: {prefix: /x/y}", "uri: {prefix: /x}", false),
        ("uri: {exact: /x}", "uri: {exact: /x}", true),
        ("uri: {exact: /x}", "uri: {prefix: /x}", false),
        ("uri: {regex: /x}", "uri: {regex: /x}", false),
        ("uri: {prefix: /x}", "uri: {regex: /x.*}", false),
        ("uri: {regex: /x}", "method: {exact: GET}", true),
        ("uri: {exact: /x}", "uri: {exact: /x}, ignoreUriCase: true", false),
        ("headers: {h: {exact: '1'}}", "headers: {h: {exact: '2'}}", false),
        ("headers: {h: {exact: '1'}}", "headers: {g: {exact: '2'}}", true),
        // istio stringMatchConflict: an empty text is taken for none, and then nothing goes with it
        ("headers: {h: {exact: ''}}", "headers: {h: {exact: ''}}", false),
        ("queryParams: {q: {prefix: a}}", "queryParams: {q: {exact: ab}}", true),
        ("withoutHeaders: {h: {exact: a}}", "withoutHeaders: {h: {exact: b}}", false),
        ("port: 80", "port: 81", false),
        ("sourceNamespace: default", "sourceNamespace: other", false),
        ("sourceNamespace: default", "uri: {exact: /x}", false),
        ("sourceLabels: {app: me}", "sourceLabels: {app: you}", false),
        ("sourceLabels: {app: me}", "sourceLabels: {version: v1}", true),
        ("gateways: [mesh]", "gateways: [mesh, gw]", false),
        ("gateways: [mesh, gw]", "gateways: [mesh]", true),
    ] {
        let (_, issues) = compile_with(
            &format!(
                "{}{}",
                vs("leaf", &format!("http: [{{match: [{{{leaf}}}], route: [{{destination: {{host: a}}}}]}}]")),
                vs("root", &format!("hosts: [a], http: [{{match: [{{{root}}}], delegate: {{name: leaf}}}}]")),
            ),
            &MeshConfig::default(),
        );
        let dropped = issues.to_string().contains("matches nothing that this rule matches");
        assert_eq!(dropped, !holds, "{root} + {leaf}: {issues}");
    }
}
