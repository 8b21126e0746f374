//! Istio's tables about hosts, names and its model, against what we have of the same.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mesh_core::{ClusterName, HostPattern, Labels, ServiceName};
use mesh_test::{Value, istio_tables};

const NO_NAME: &str = "an empty host is refused when it is read";
const PARTIAL: &str = "a partial wildcard is refused when it is read";
const CASE: &str = "hosts are lower-cased when they are read: they have no case (RFC 9110 4.2.3), as in Envoy (t1)";
const BENCH: &str = "a benchmark of Go's hash";

/// A host of a case.
fn host(value: &Value) -> HostPattern {
    value.as_str().unwrap().parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A list of hosts; Go's empty list has only its type.
fn hosts(value: &Value) -> Vec<HostPattern> {
    value.as_array().map(|list| list.iter().map(host).collect()).unwrap_or_default()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}

/// For a table of which every case is left out.
fn nothing(name: &str, _: &Value) {
    panic!("{name} is neither run nor left out");
}

/// istio host.Names.Intersection: of each two that overlap the narrower, once.
fn intersection<'a>(a: &'a [HostPattern], b: &'a [HostPattern]) -> Vec<&'a HostPattern> {
    let mut both: Vec<&HostPattern> = Vec::new();
    for narrower in a.iter().flat_map(|a| b.iter().filter_map(|b| a.narrower(b))) {
        if !both.contains(&narrower) {
            both.push(narrower);
        }
    }
    both
}

/// istio MostSpecificHostMatch.
fn closest(needle: &HostPattern, hosts: &[HostPattern]) -> String {
    hosts.iter().filter(|host| host.covers(needle)).min().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn what_is_left_out_for_its_hosts_cannot_be_said_here() {
    for refused in ["", "foo,com", "*foo.com"] {
        assert!(refused.parse::<HostPattern>().is_err(), "{refused:?}");
    }
    assert_eq!("*.facebook.COM".parse::<HostPattern>().unwrap(), "*.facebook.com".parse().unwrap());
}

/// istio pkg/config/host/name_test.go
#[test]
fn names_overlap_and_contain_each_other_as_istios() {
    let tests = ["TestNameMatches", "TestNameSubsetOf", "BenchmarkNameMatch"];
    let Some(tables) = istio_tables("pkg_config_host_name_test", &tests) else { return };
    let pair = |case: &Value| format!("{} ~ {}", text(case, "a"), text(case, "b"));
    // istio.md 1.0: "`Matches` is bidirectional overlap (VS import), `SubsetOf` one-way (Sidecar import)"
    let left_out = [
        (" ~ ", NO_NAME),
        (" ~ foo.com", NO_NAME),
        ("foo.com ~ ", NO_NAME),
        ("* ~ ", NO_NAME),
        ("a.facebook.com ~ *.facebook.COM", CASE),
    ];
    let overlaps = tables[0].run(&left_out, pair, |name, case| {
        let (a, b) = (host(&case["a"]), host(&case["b"]));
        assert_eq!(a.narrower(&b).is_some(), case["out"], "{name}");
        assert_eq!(b.narrower(&a).is_some(), case["out"], "{name}, the other way round");
    });
    assert_eq!(overlaps, (19, 5));
    // istio.md 1.0: "`*.foo.com` != `foo.com`; `*` matches all"
    let left_out = [(" ~ ", NO_NAME), (" ~ foo.com", NO_NAME), ("foo.com ~ ", NO_NAME), (" ~ *", NO_NAME)];
    let contains = tables[1].run(&left_out, pair, |name, case| {
        assert_eq!(host(&case["b"]).covers(&host(&case["a"])), case["out"], "{name}");
    });
    assert_eq!(contains, (16, 4));
    let pair = |case: &Value| format!("{} ~ {}", text(case, "a"), text(case, "z"));
    let bench = tables[2].run(&[("* ~ ", NO_NAME)], pair, |name, case| {
        assert_eq!(host(&case["a"]).narrower(&host(&case["z"])).is_some(), case["matches"], "{name}");
    });
    assert_eq!(bench, (8, 1));
}

/// istio pkg/config/host/names_test.go
#[test]
fn names_intersect_and_sort_as_istios() {
    const SCOPED: &str = "`namespace/host` is for Sidecar and Gateway, which are read and reported as not enforced";
    let tests = ["TestNamesIntersection", "TestNamesForNamespace", "TestNamesSortOrder", "TestMoreSpecific"];
    let Some(tables) = istio_tables("pkg_config_host_names_test", &tests) else { return };
    let pair = |case: &Value| format!("{} & {}", case["a"], case["b"]);
    let left_out = [
        (r#"["foo,com"] & ["bar.com"]"#, "a comma is refused when it is read"),
        (r#"["foo.com"] & ["Foo.com"]"#, CASE),
    ];
    let both = tables[0].run(&left_out, pair, |name, case| {
        let (a, b) = (hosts(&case["a"]), hosts(&case["b"]));
        assert_eq!(intersection(&a, &b), hosts(&case["intersection"]).iter().collect::<Vec<_>>(), "{name}");
    });
    assert_eq!(both, (10, 2));
    let left_out = [
        (r#"["ns1/foo.com","ns2/bar.com"] in ns1"#, SCOPED),
        (r#"["ns1/foo.com","ns2/bar.com"] in ns3"#, SCOPED),
        (r#"["ns1/foo.com","*/bar.com"] in ns1"#, SCOPED),
        (r#"["ns1/foo.com","*/bar.com"] in ns3"#, SCOPED),
        (r#"["foo.com","ns2/bar.com"] in ns2"#, SCOPED),
        (r#"["foo.com","ns2/bar.com"] in ns3"#, SCOPED),
    ];
    let scoped = |case: &Value| format!("{} in {}", case["hosts"], text(case, "namespace"));
    assert_eq!(tables[1].run(&left_out, scoped, nothing), (0, 6));
    // istio.md 1.0: "specificity = exact, then longest wildcard, then alphabetical"
    let list = |case: &Value| case["in"].to_string();
    let sorted = tables[2].run(&[], list, |name, case| {
        let mut sorted = hosts(&case["in"]);
        sorted.sort();
        assert_eq!(sorted, hosts(&case["want"]), "{name}");
    });
    assert_eq!(sorted, (7, 0));
    let pair = |case: &Value| format!("{} < {}", text(case, "host1"), text(case, "host2"));
    let left_out = [(" < ", NO_NAME), (" < example.com", NO_NAME), ("example.com < ", NO_NAME)];
    let specific = tables[3].run(&left_out, pair, |name, case| {
        assert_eq!(host(&case["host1"]) <= host(&case["host2"]), case["expected"], "{name}");
    });
    assert_eq!(specific, (8, 3));
}

/// istio pilot/pkg/model/config_test.go
#[test]
fn the_model_is_istios() {
    const EVENT: &str = "no control plane names its events here: a change is a new snapshot";
    const PORT: &str = "a service's port is found by its number, not by its name (and the inputs are Go's)";
    let tests = [
        "TestEventString",
        "TestPortList",
        "TestSubsetKey",
        "TestLabelsEquals",
        "TestResolveShortnameToFQDN",
        "TestMostSpecificHostMatch",
        "BenchmarkMostSpecificHostMatch",
        "BenchmarkMostSpecificHostMatchMixed",
        "BenchmarkMostSpecificHostMatchMultiMatch",
        "BenchmarkHashCode",
    ];
    let Some(tables) = istio_tables("pilot_pkg_model_config_test", &tests) else { return };
    let events = [("model.EventAdd", EVENT), ("model.EventUpdate", EVENT), ("model.EventDelete", EVENT)];
    assert_eq!(tables[0].run(&events, |case| text(case, "in").into(), nothing), (0, 3));
    let port = |case: &Value| case["name"].as_str().unwrap_or("a Go value").to_owned();
    assert_eq!(tables[1].run(&[("a Go value", PORT), ("foobar", PORT)], port, nothing), (0, 2));

    // istio.md 1.0: "`outbound\|port\|subset\|fqdn`; port = destination.port"
    let key = |case: &Value| text(case, "want").to_owned();
    let keys = tables[2].run(&[], key, |name, case| {
        let subset = Some(text(case, "subset")).filter(|subset| !subset.is_empty());
        let service = ServiceName::of_host(text(case, "hostname"), "default");
        let port = u16::try_from(case["port"].as_u64().unwrap()).unwrap();
        let cluster = ClusterName { service, port, subset: subset.map(Into::into) };
        assert_eq!(cluster.to_string(), case["want"], "{name}");
    });
    assert_eq!(keys, (2, 0));

    let labels = |value: &Value| -> Labels {
        let pairs = value.as_object().into_iter().flatten().filter(|(key, _)| *key != "$type");
        pairs.map(|(key, value)| (key.as_str(), value.as_str().unwrap())).collect()
    };
    let pair = |case: &Value| format!("{} = {}", case["a"], case["b"]);
    let equal = tables[3].run(&[], pair, |name, case| {
        assert_eq!(labels(&case["a"]) == labels(&case["b"]), case["want"].as_bool().unwrap_or_default(), "{name}");
    });
    assert_eq!(equal, (7, 0));

    // istio.md 1.0: "`*`, IPs and anything with a dot untouched; namespace is the **rule's**, not the service's"
    let of = |case: &Value, key: &str| text(&case["meta"], key).to_owned();
    let short = |case: &Value| format!("{} in {}.{}", text(case, "name"), of(case, "Namespace"), of(case, "Domain"));
    let left_out = [
        ("foo in .cluster.local", "an object always has a namespace: `default` where it names none"),
        ("foo in default.", "the domain is always cluster.local"),
    ];
    let resolved = tables[4].run(&left_out, short, |name, case| {
        let found = HostPattern::resolve(text(case, "name"), &of(case, "Namespace")).unwrap();
        assert_eq!(found.to_string(), case["out"], "{name}");
    });
    assert_eq!(resolved, (8, 2));

    let needle = |case: &Value| format!("{} in {}", text(case, "needle"), case["in"]);
    let left_out =
        [(r#"*foo.com in ["bar.com","*.foo.com"]"#, PARTIAL), (r#"*foo.com in ["foo.com","*.foo.com"]"#, PARTIAL)];
    let matched = tables[5].run(&left_out, needle, |name, case| {
        assert_eq!(closest(&host(&case["needle"]), &hosts(&case["in"])), case["want"], "{name}");
    });
    assert_eq!(matched, (11, 2));
    // The benchmarks' hosts are made in Go: the base host with a number behind it, as a wildcard in the mixed one.
    for (table, star, count) in [(6, "", 30), (7, "*.", 20)] {
        let run = tables[table].run(
            &[],
            |case| text(case, "name").into(),
            |name, case| {
                let base = text(case, "baseHost");
                let numbers = 1..=case["time"].as_u64().unwrap();
                let hosts: Vec<HostPattern> = numbers.map(|n| format!("{star}{base}.{n}").parse().unwrap()).collect();
                let found = closest(&host(&case["needle"]), &hosts);
                assert_eq!(!found.is_empty(), case["matches"].as_bool().unwrap_or_default(), "{name}: {found}");
            },
        );
        assert_eq!(run, (count, 0));
    }
    let longest = tables[8].run(
        &[],
        |case| text(case, "name").into(),
        |name, case| {
            assert_eq!(closest(&host(&case["needle"]), &hosts(&case["hosts"])), "*.foo.bar.baz.com", "{name}");
        },
    );
    assert_eq!(longest, (2, 0));
    let hashes = [("small string", BENCH), ("middle string", BENCH), ("long string", BENCH)];
    assert_eq!(tables[9].run(&hashes, |case| text(case, "name").into(), nothing), (0, 3));
}
