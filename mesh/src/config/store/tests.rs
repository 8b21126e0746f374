use super::*;

fn texts(files: &[(&str, &str)]) -> Texts {
    Texts(files.iter().map(|(name, text)| (Arc::from(*name), Ok(Arc::from(*text)))).collect(), Vec::new())
}

fn entry(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\nspec: {{address: {address}}}\n"
    )
}

fn strict(name: &str, mode: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

fn addresses(store: &Store) -> Vec<String> {
    store.models().sources.workload_entries.iter().map(|entry| entry.address.to_string()).collect()
}

#[test]
fn a_bad_object_keeps_its_last_good_version_and_harms_no_other() {
    let mut issues = Issues::default();
    let store =
        Store::default().update(&texts(&[("a", &(entry("x", "1.1.1.1") + &entry("y", "2.2.2.2")))]), &mut issues);
    assert!(issues.is_empty(), "{issues}");
    let store = store.update(&texts(&[("a", &(entry("x", "'no host'") + &entry("y", "3.3.3.3")))]), &mut issues);
    assert!(issues.to_string().starts_with("a:5:17: error: WorkloadEntry default/x address:"), "{issues}");
    assert_eq!(addresses(&store), ["1.1.1.1", "3.3.3.3"]);
}

#[test]
fn a_file_that_is_not_yaml_keeps_what_it_held() {
    let mut issues = Issues::default();
    let store =
        Store::default().update(&texts(&[("a", &(entry("x", "1.1.1.1") + &entry("y", "2.2.2.2")))]), &mut issues);
    let store = store.update(&texts(&[("a", &(entry("x", "9.9.9.9") + "---\n: [\n"))]), &mut issues);
    assert!(issues.has_errors());
    assert_eq!(addresses(&store), ["9.9.9.9", "2.2.2.2"]);
    let store = store.update(&texts(&[("a", "# on purpose\n")]), &mut issues);
    assert!(addresses(&store).is_empty());
}

#[test]
fn a_file_that_is_empty_for_a_moment_loses_nothing() {
    let mut issues = Issues::default();
    let before = [("a", &*(strict("one", "STRICT") + &entry("x", "1.1.1.1")))];
    let store = Store::default().update(&texts(&before), &mut issues);
    let store = store.update(&texts(&[("a", "")]), &mut issues);
    assert!(issues.to_string().starts_with("a:1:1: error: the file is empty"), "{issues}");
    assert_eq!((store.models().peer_authentications.len(), addresses(&store).len()), (1, 1));
    // Deleting the file is meant.
    let store = store.update(&texts(&[]), &mut issues);
    assert_eq!((store.models().peer_authentications.len(), addresses(&store).len()), (0, 0));
}

#[test]
fn a_directory_that_cannot_be_read_keeps_every_file_below_it() {
    let mut issues = Issues::default();
    let before = [
        ("d/a.yaml", &*entry("x", "1.1.1.1")),
        ("d/b.yaml", &entry("y", "2.2.2.2")),
        ("dd.yaml", &entry("z", "3.3.3.3")),
    ];
    let store = Store::default().update(&texts(&before), &mut issues);
    let unreadable = Texts(vec![(Arc::from("d"), Err("cannot be read: gone".to_owned().into()))], Vec::new());
    let store = store.update(&unreadable, &mut issues);
    assert_eq!(issues.to_string(), "d:1:1: error: cannot be read: gone");
    assert_eq!(addresses(&store), ["1.1.1.1", "2.2.2.2"]);
}

#[test]
fn a_directory_may_be_given_with_its_slash() {
    for (unread, file) in [("d/", "d/a.yaml"), ("/", "/a.yaml"), (".", "./a.yaml")] {
        let mut issues = Issues::default();
        let store = Store::default().update(&texts(&[(file, &entry("x", "1.1.1.1"))]), &mut issues);
        let unreadable = Texts(vec![(Arc::from(unread), Err("cannot be read: gone".to_owned().into()))], Vec::new());
        assert_eq!(addresses(&store.update(&unreadable, &mut issues)), ["1.1.1.1"], "{unread}");
    }
}

#[test]
fn what_is_kept_gives_way_to_what_can_be_read() {
    let mut issues = Issues::default();
    // An object moves, and the file where it stood is broken.
    let before = Store::default().update(&texts(&[("a", &entry("x", "1.1.1.1"))]), &mut issues);
    let store = before.update(&texts(&[("a", ": ["), ("b", &entry("x", "9.9.9.9"))]), &mut issues);
    assert_eq!(addresses(&store), ["9.9.9.9"]);
    // It is bad where it stands now: once is enough.
    let store = before.update(&texts(&[("a", ": ["), ("b", &entry("x", "'no host'"))]), &mut issues);
    assert_eq!(addresses(&store), ["1.1.1.1"]);
    // A file and a directory beside the one that cannot be read.
    let (own, below) = (entry("x", "1.1.1.1"), entry("y", "2.2.2.2"));
    let good = [("d/a.yaml", &*own), ("d/e/b.yaml", &below)];
    let before = Store::default().update(&texts(&good), &mut issues);
    let gone = || (Arc::from("d"), Err("cannot be read: gone".to_owned().into()));
    let mut first = texts(&good);
    first.0.insert(0, gone());
    let mut last = texts(&good);
    last.0.push(gone());
    for texts in [first, last] {
        assert_eq!(addresses(&before.update(&texts, &mut issues)), ["1.1.1.1", "2.2.2.2"]);
    }
}

#[test]
fn a_misspelt_security_kind_is_an_error_and_holds_the_set() {
    let mut issues = Issues::default();
    let store = Store::default().update(&texts(&[("a", &strict("one", "STRICT"))]), &mut issues);
    let misspelt = strict("one", "STRICT").replace("kind: PeerAuthentication", "kind: PeerAuthentification");
    let store = store.update(&texts(&[("a", &misspelt)]), &mut issues);
    assert!(issues.to_string().contains("unknown kind PeerAuthentification"), "{issues}");
    assert_eq!(store.models().peer_authentications.len(), 1);
}

#[test]
fn kinds_of_others_are_no_business_of_ours() {
    let yaml = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\n---\n\
                apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\n---\n\
                apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n---\n\
                apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: s}\n---\n\
                apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {}\n";
    let mut issues = Issues::default();
    let store = Store::default().update(&texts(&[("a", yaml)]), &mut issues);
    assert!(!issues.has_errors(), "{issues}");
    assert_eq!(issues.len(), 4);
    assert_eq!(store.models().sources.services.len(), 1);
}

#[test]
fn a_sidecar_is_reported_and_the_rest_in_force() {
    let sidecar = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec:\n  egress: [{hosts: ['./*']}]\n";
    let mut issues = Issues::default();
    let store = Store::default().update(&texts(&[("a", &(sidecar.to_owned() + &entry("x", "1.1.1.1")))]), &mut issues);
    assert_eq!(issues.to_string(), "a:6:3: warning: Sidecar default/s: Sidecar is not enforced in-process");
    assert_eq!(addresses(&store), ["1.1.1.1"]);
}

#[test]
fn security_objects_stand_or_fall_together() {
    let mut issues = Issues::default();
    let store = Store::default().update(&texts(&[("a", &strict("one", "STRICT"))]), &mut issues);
    let bad = strict("one", "PERMISSIVE") + &strict("two", "NONSENSE") + &entry("x", "1.1.1.1");
    let store = store.update(&texts(&[("a", &bad)]), &mut issues);
    assert!(issues.has_errors());
    let models = store.models();
    assert_eq!(models.peer_authentications.len(), 1, "the previous set stays whole");
    assert_eq!(addresses(&store), ["1.1.1.1"], "routing still updates");
    // The set is taken again once it is whole.
    let mut issues = Issues::default();
    let store = store.update(&texts(&[("a", &(strict("one", "PERMISSIVE") + &strict("two", "STRICT")))]), &mut issues);
    assert!(!issues.has_errors(), "{issues}");
    assert_eq!(store.models().peer_authentications.len(), 2);
}

#[test]
fn an_object_defined_twice_is_an_error_that_names_both() {
    let mut issues = Issues::default();
    let _ =
        Store::default().update(&texts(&[("a", &entry("x", "1.1.1.1")), ("b", &entry("x", "2.2.2.2"))]), &mut issues);
    assert!(
        issues.to_string().contains("b:5:7: error: WorkloadEntry default/x: defined twice, first at a:5:7"),
        "{issues}"
    );
}

#[test]
fn order_is_creation_time_then_file_order() {
    let old = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: z, creationTimestamp: '2020-01-01T00:00:00Z'}\nspec: {address: 4.4.4.4}\n";
    let mut issues = Issues::default();
    let store = Store::default()
        .update(&texts(&[("a", &(entry("x", "1.1.1.1") + old)), ("b", &entry("w", "2.2.2.2"))]), &mut issues);
    assert_eq!(addresses(&store), ["4.4.4.4", "1.1.1.1", "2.2.2.2"]);
}

#[test]
fn of_one_age_the_name_and_then_the_namespace_decide() {
    // istio.md 1.0: "all list resources are sorted by creationTimestamp, then name, then namespace (1 s granularity)"
    let made = |name: &str, namespace: &str, at: &str, address: &str| {
        entry(name, address).replace(
            "}\nspec",
            &format!(", namespace: {namespace}, creationTimestamp: '2020-01-01T00:00:0{at}Z'}}\nspec"),
        )
    };
    let files = made("b", "x", "1", "1.1.1.1")
        + &made("a", "y", "1", "2.2.2.2")
        + &made("a", "x", "1", "3.3.3.3")
        + &made("z", "z", "0", "4.4.4.4");
    let mut issues = Issues::default();
    let store = Store::default().update(&texts(&[("a", &files)]), &mut issues);
    assert!(issues.is_empty(), "{issues}");
    assert_eq!(addresses(&store), ["4.4.4.4", "3.3.3.3", "2.2.2.2", "1.1.1.1"]);
}

#[test]
fn a_misspelt_kind_or_version_of_istios_is_an_error() {
    for (yaml, says) in [
        (
            entry("x", "1.1.1.1").replace("kind: WorkloadEntry", "kind: WorkloadEntri"),
            "unknown kind WorkloadEntri in networking.istio.io",
        ),
        (
            entry("x", "1.1.1.1").replace("istio.io/v1", "istio.io/v1beta9"),
            "unknown version \"v1beta9\" of networking.istio.io",
        ),
    ] {
        let mut issues = Issues::default();
        let _ = Store::default().update(&texts(&[("a", &yaml)]), &mut issues);
        assert!(issues.has_errors() && issues.to_string().contains(says), "{issues}");
    }
}

#[test]
fn a_bad_route_keeps_its_last_good_version() {
    let route = |rules: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {{parentRefs: [{{group: '', \
             kind: Service, name: a}}], rules: [{rules}]}}\n"
        )
    };
    let mut issues = Issues::default();
    let store = Store::default().update(&texts(&[("a", &route("{backendRefs: [{name: b, port: 80}]}"))]), &mut issues);
    assert!(issues.is_empty(), "{issues}");
    let good = store.models().gateway_routes;
    let store = store.update(&texts(&[("a", &route("{backendRefs: [{name: b}]}"))]), &mut issues);
    assert!(issues.to_string().contains("HTTPRoute default/r rules[0].backendRefs[0]: Must have port"), "{issues}");
    assert!(Arc::ptr_eq(&good.http[0], &store.models().gateway_routes.http[0]));
}

#[test]
fn of_the_gateway_api_routes_and_grants_are_read_and_slips_are_told() {
    let object = |version: &str, kind: &str, spec: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n"
        )
    };
    let read = |text: &str| {
        let mut issues = Issues::default();
        let models = Store::default().update(&texts(&[("a", text)]), &mut issues).models().gateway_routes;
        ((models.http.len(), models.grpc.len(), models.grants.len()), issues)
    };
    let parents = "{parentRefs: [{group: '', kind: Service, name: a}]}";
    let grant =
        "{from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], to: [{group: '', kind: Service}]}";
    for (version, kind, spec, found) in [
        ("v1", "HTTPRoute", parents, (1, 0, 0)),
        ("v1beta1", "HTTPRoute", parents, (1, 0, 0)),
        ("v1", "GRPCRoute", parents, (0, 1, 0)),
        ("v1alpha2", "GRPCRoute", parents, (0, 1, 0)),
        ("v1beta1", "ReferenceGrant", grant, (0, 0, 1)),
    ] {
        let (read, issues) = read(&object(version, kind, spec));
        assert_eq!(read, found, "{kind} {version}");
        assert!(issues.is_empty(), "{issues}");
    }
    for (version, kind, severity, message) in [
        ("v1", "Gateway", Severity::Warning, "Gateway is not enforced in-process"),
        ("v1", "BackendTLSPolicy", Severity::Warning, "BackendTLSPolicy is not enforced in-process"),
        ("v1alpha2", "TLSRoute", Severity::Warning, "TLSRoute is not enforced in-process"),
        ("v2", "HTTPRoute", Severity::Error, "unknown version \"v2\" of gateway.networking.k8s.io: v1, v1beta1"),
        ("v1", "HttpRoute", Severity::Error, "unknown kind HttpRoute in gateway.networking.k8s.io: HTTPRoute,"),
    ] {
        let (_, issues) = read(&object(version, kind, "{}"));
        let issue = issues.iter().next().unwrap();
        assert!(issue.severity == severity && issue.message.starts_with(message), "{issues}");
    }
    let elsewhere = object("v1", "HTTPRoute", parents).replace("gateway.networking.k8s.io", "networking.istio.io");
    assert!(read(&elsewhere).1.to_string().contains("unknown kind HTTPRoute in networking.istio.io"));
}
