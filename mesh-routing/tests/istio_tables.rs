//! Istio's tables about retries and about the most specific host, which is how a request finds its VirtualService.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Request, StatusCode};
use mesh_core::{
    ClusterName, MeshConfig, Reason, Workload,
    config::{Document, Issues},
    registry::Registry,
};
use mesh_routing::{CompileInput, Decision, RequestHead, RetryPolicy, RouteTable, Verdict, VirtualService};
use mesh_test::{Value, istio_tables};

/// `retries` of a case as YAML. Istio's validation refuses the words that the table invents
/// (supportedRetryOnPolicies), and so do we: real ones stand for them.
fn retries(retries: &Value) -> Option<String> {
    let fields = retries.as_object()?.iter().filter(|(key, _)| *key != "$type");
    let fields = fields.map(|(key, value)| match key.as_str() {
        "Attempts" => format!("attempts: {value}"),
        // `durationpb.New(time.Second * 3)` in Go.
        "PerTryTimeout" => "perTryTimeout: 3s".into(),
        "Backoff" => format!("backoff: {}s", value["Seconds"]),
        "RetryRemoteLocalities" => format!("retryRemoteLocalities: {}", value["Value"]),
        "RetryIgnorePreviousHosts" => format!("retryIgnorePreviousHosts: {}", value["Value"]),
        "RetryOn" => {
            let words = [("some", "gateway-error"), ("fake", "reset"), ("conditions", "unavailable")];
            let list = words.iter().fold(value.to_string(), |list, (word, real)| list.replace(word, real));
            format!("retryOn: {list}")
        }
        other => panic!("{other}"),
    });
    Some(format!("retries: {{{}}},", fields.collect::<Vec<_>>().join(", ")))
}

fn table(yaml: &str) -> RouteTable<Arc<ClusterName>> {
    let mut issues = Issues::default();
    let documents = Document::parse_all("a.yaml", yaml, &mut issues);
    let rules = documents.iter().filter(|document| document.kind() == "VirtualService");
    let rules: Vec<_> =
        rules.filter_map(|rule| VirtualService::from_document(rule, &mut issues)).map(Arc::new).collect();
    let mesh = MeshConfig::default();
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    assert!(!issues.has_errors(), "{issues}");
    let input = CompileInput {
        workload: &Workload::new("default", "client"),
        mesh: &mesh,
        registry: &registry,
        virtual_services: &rules,
        default_retry: Some(RetryPolicy::istio_default()),
    };
    RouteTable::compile(&input, &mut |name| Some(Arc::new(name.clone())), &mut issues)
}

/// The policy of a route with these retries; issues where it is refused.
fn policy(retries: &str) -> Result<Option<RetryPolicy>, Issues> {
    let yaml = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: 80, name: http}}]}}}}\n---\n\
         {{kind: VirtualService, metadata: {{name: a}}, spec: {{hosts: [a], http: [{{{retries} route: [{{destination: \
         {{host: a}}}}]}}]}}}}\n"
    );
    let mut issues = Issues::default();
    let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
    if VirtualService::from_document(&documents[1], &mut issues).is_none() {
        return Err(issues);
    }
    let table = table(&yaml);
    let request = Request::get("http://a/").body(()).unwrap();
    let head = RequestHead::new(&request, table.path_normalization()).unwrap();
    let Decision::Forward(destination) = table.route(&head, || 0).unwrap() else { panic!("forwarded") };
    Ok(destination.policy().retry().cloned())
}

/// Which of these outcomes are tried again: statuses, a gRPC status 14, a reset before and after the request was sent.
fn tried_again(policy: &RetryPolicy) -> Vec<&'static str> {
    let none = HeaderMap::new();
    let unavailable =
        HeaderMap::from_iter([(http::header::HeaderName::from_static("grpc-status"), "14".parse().unwrap())]);
    let status = |code| policy.after_response(1, StatusCode::from_u16(code).unwrap(), &none);
    let reset = |request_sent| policy.after_error(1, Reason::Reset { request_sent });
    let outcomes = [
        ("404", status(404)),
        ("500", status(500)),
        ("502", status(502)),
        ("503", status(503)),
        ("grpc 14", policy.after_response(1, StatusCode::OK, &unavailable)),
        ("reset before", reset(false)),
        ("reset after", reset(true)),
        ("refused", policy.after_error(1, Reason::ConnectFailure)),
    ];
    outcomes.into_iter().filter(|(_, verdict)| *verdict == Verdict::Retry).map(|(name, _)| name).collect()
}

const FAKE: [&str; 6] = ["502", "503", "grpc 14", "reset before", "reset after", "refused"];

/// istio pilot/pkg/networking/core/route/retry/retry_test.go. The table has the inputs; what is asserted of them is Go, and
/// written here by hand.
#[test]
fn policies_are_istios() {
    const INBOUND: &str = "retries between a proxy and its own application: there is no such hop in-process";
    let file = "pilot_pkg_networking_core_route_retry_retry_test";
    let Some(tables) = istio_tables(file, &["TestRetry", "TestInboundRetry"]) else { return };
    let case_name = |case: &Value| case["name"].as_str().unwrap().to_owned();
    let counts = tables[0].run(&[], case_name, |name, case| {
        let test = case_name(case);
        let yaml = retries(&case["route"]["Retries"]).unwrap_or_default();
        if test == "TestRetryOnWithInvalidStatusCodesShouldAddToRetryOn" {
            // Istio hands it on as a word, had validation let it through.
            let issues = policy(&yaml).unwrap_err().to_string();
            assert!(issues.contains("http[0].retries.retryOn: \"1000\" is not a valid retryOn policy"), "{issues}");
            return;
        }
        let found = policy(&yaml).unwrap_or_else(|issues| panic!("{name}: {issues}"));
        if test == "TestZeroAttemptsShouldReturnNilPolicy" {
            // istio.md 1.2: "extra tries; `0` disables; total = 1+attempts"
            assert_eq!(found, None, "{name}");
            return;
        }
        let found = found.unwrap_or_else(|| panic!("{name}: no policy"));
        // istio.md 1.2: "mesh default: **2 retries**"
        let default = RetryPolicy::istio_default();
        let backoff = found.backoff() == default.backoff();
        let (again, avoids) = (tried_again(&found), found.avoids_previous());
        assert_eq!(
            (found.retries(), found.per_try_timeout()),
            match test.as_str() {
                "TestRetryWithAllFieldsSet" => (2, Some(Duration::from_secs(3))),
                _ => (2, None),
            }
        );
        assert_eq!(backoff, test != "TestRetryWithAllFieldsSet", "{name}");
        // istio.md 1.2: "comma list; HTTP status text codes -> retriable codes (+adds `retriable-status-codes`)"
        match test.as_str() {
            "TestNilRetryShouldReturnDefault"
            | "TestMissingRetryOnShouldReturnDefaults"
            | "TestMissingPerTryTimeoutShouldReturnNil" => assert_eq!(found, default, "{name}"),
            "TestRetryWithAllFieldsSet" => {
                assert_eq!(again, FAKE, "{name}");
                // istio.md 1.2: "base (25 ms default), cap 10xbase"
                assert!(found.backoff().wait(1, u64::MAX) < Duration::from_secs(2), "{name}");
                assert!(found.backoff().wait(9, u64::MAX) < Duration::from_secs(20), "{name}");
            }
            "TestRetryOnWithEmptyParts" | "TestRetryOnWithWhitespace" => assert_eq!(again, FAKE, "{name}"),
            "TestRetryOnWithRetriableStatusCodes" => {
                assert_eq!(again, ["502", "503", "reset before", "reset after", "refused"], "{name}");
            }
            "TestRetryOnWithResetBeforeRequest" => assert_eq!(again, ["reset before", "refused"], "{name}"),
            "TestRetryOnContainingStatusCodes" => {
                let all = ["404", "500", "502", "503", "grpc 14", "reset before", "reset after", "refused"];
                assert_eq!(again, all, "{name}");
            }
            "TestRetryPreviousHostsDefault" => assert!(avoids, "{name}"),
            "TestRetryPreviousHostsDisabled" => assert!(!avoids, "{name}"),
            "TestRetryRemoteLocalities" => assert!(found.leaves_localities(), "{name}"),
            // Which clusters hash is not the route's to know: it says whether it insists, and they keep the host where it
            // does not (mesh-lb, balance/tests/hash.rs: a_retry_stays_unless_the_route_insists).
            "TestRetryPreviousHostsDefaultWithHashPolicy" => assert!(!found.insists_on_others(), "{name}"),
            "TestRetryPreviousHostsForHashPolicyWithRetryIgnorePreviousHosts" => {
                assert!(avoids && found.insists_on_others(), "{name}");
            }
            _ => panic!("{name}: what is to be asserted?"),
        }
    });
    assert_eq!(counts, (16, 0));
    let left_out = [
        "TestNilRetryShouldReturnDefault",
        "TestZeroAttemptsShouldReturnNilPolicy",
        "TestAttemptsOnlyKeepsDefaultRetryOn",
        "TestRetryOnAndBackoff",
        "TestIrrelevantFieldsAreIgnored",
    ];
    let left_out = left_out.map(|name| (name, INBOUND));
    assert_eq!(tables[1].run(&left_out, case_name, |name, _| panic!("{name}")), (0, 5));
}

#[test]
fn the_words_that_the_table_invents_are_refused() {
    for word in ["some", "fake", "conditions"] {
        let issues = policy(&format!("retries: {{attempts: 2, retryOn: '5xx,{word}'}},")).unwrap_err().to_string();
        assert!(issues.contains(&format!("\"{word}\" is not a valid retryOn policy")), "{issues}");
    }
}

/// istio pilot/pkg/model/config_test.go TestMostSpecificHostMatch, of VirtualServices: the needle is a service's host.
#[test]
fn the_most_specific_host_owns_a_service() {
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
    const PARTIAL: &str = "a partial wildcard is no service's host";
    let left_out = [
        (r#"* in []"#, "`*` is no service's host"),
        (r#"*foo.com in ["bar.com","*.foo.com"]"#, PARTIAL),
        (r#"*foo.com in ["foo.com","*.foo.com"]"#, PARTIAL),
    ];
    let text = |case: &Value, key: &str| case[key].as_str().unwrap_or_default().to_owned();
    // istio.md 1.0: "unless a more specific VS host exists; specificity = exact, then longest wildcard"
    let counts = tables[5].run(&left_out, |case| format!("{} in {}", text(case, "needle"), case["in"]), |name, case| {
        let hosts: Vec<&str> = case["in"].as_array().unwrap().iter().map(|host| host.as_str().unwrap()).collect();
        let needle = text(case, "needle");
        let mut yaml = format!(
            "kind: ServiceEntry\nmetadata: {{name: e}}\nspec: {{hosts: ['{needle}'], ports: [{{number: 80, name: http, \
             protocol: HTTP}}], resolution: NONE}}\n"
        );
        for (n, host) in hosts.iter().enumerate() {
            yaml += &format!(
                "---\n{{kind: VirtualService, metadata: {{name: v{n}}}, spec: {{hosts: ['{host}'], http: [{{name: r{n}, \
                 directResponse: {{status: 200}}}}]}}}}\n"
            );
        }
        let table = table(&yaml);
        // Whoever calls the service by a name of its wildcard.
        let request = Request::get(format!("http://{}/", needle.replace('*', "x"))).body(()).unwrap();
        let head = RequestHead::new(&request, table.path_normalization()).unwrap();
        let owner = match table.route(&head, || 0).unwrap() {
            Decision::DirectResponse(_, policy) => policy.name().unwrap()[1..].parse().ok(),
            _ => None,
        };
        assert_eq!(owner.map_or("", |n: usize| hosts[n]), text(case, "want"), "{name}");
    });
    assert_eq!(counts, (10, 3));
}
