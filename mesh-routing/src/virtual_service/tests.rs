use mesh_core::config::{Document, Issues, Severity};

use super::VirtualService;

fn read(spec: &str) -> (Option<VirtualService>, Issues) {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let text =
        format!("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n{indented}");
    let mut issues = Issues::default();
    let documents = Document::parse_all("a.yaml", &text, &mut issues);
    let read = documents.first().and_then(|document| VirtualService::from_document(document, &mut issues));
    (read, issues)
}

/// A rule, as flow YAML, in a VirtualService for `a`; line 6 is the rule's.
fn rule(rule: &str) -> (Option<VirtualService>, Issues) {
    read(&format!("hosts: [a]\nhttp: [{rule}]"))
}

// istio.md 1.2: "exactly one of route / redirect / directResponse"
#[test]
fn bad_input_is_refused_with_istios_words_and_a_place() {
    let to = "route: [{destination: {host: a}}]";
    for (spec, path, message) in [
        ("{route: [{destination: {host: a}, weight: -1}]}".to_owned(), "http[0].route[0].weight", "weight -1 < 0"),
        (
            "{route: [{destination: {host: a}, weight: 2147483647}, {destination: {host: a}, weight: 2147483648}]}"
                .to_owned(),
            "http[0].route[1].weight",
            "weight 2147483648 > 2147483647",
        ),
        (format!("{{{to}, timeout: 5}}"), "http[0].timeout", "wrong type"),
        (format!("{{{to}, timeout: '5'}}"), "http[0].timeout", "a number with a unit is needed"),
        (format!("{{{to}, timeout: 1us}}"), "http[0].timeout", "duration must be greater than 1ms"),
        (format!("{{{to}, timeout: 1.5ms}}"), "http[0].timeout", "only durations to ms precision are supported"),
        (
            "{route: [{destination: {host: 'a b'}}]}".into(),
            "http[0].route[0].destination.host",
            "invalid destination host a b",
        ),
        (
            "{route: [{destination: {host: a, subset: 'v 1'}}]}".into(),
            "http[0].route[0].destination.subset",
            "subset name is invalid: v 1",
        ),
        (
            "{route: [{destination: {host: a, port: {number: 70000}}}]}".into(),
            "http[0].route[0].destination.port.number",
            "port number 70000 must be in the range 1..65535",
        ),
        ("{route: [{weight: 1}]}".into(), "http[0].route[0]", "destination is required"),
        (
            "{route: [{destination: {host: a}}, {destination: {host: b}}]}".into(),
            "http[0].route",
            "total destination weight = 0",
        ),
        (
            format!("{{match: [{{uri: {{regex: '(a'}}}}], {to}}}"),
            "http[0].match[0].uri.regex",
            "Istio uses RE2 style regex-based match",
        ),
        (
            format!("{{match: [{{uri: {{regex: ''}}}}], {to}}}"),
            "http[0].match[0].uri.regex",
            "regex string match should not be empty",
        ),
        (
            format!("{{match: [{{uri: {{regex: '{}'}}}}], {to}}}", "a".repeat(1025)),
            "http[0].match[0].uri.regex",
            "\"uri\": regex is too large, max length allowed is 1024",
        ),
        (
            format!("{{match: [{{method: {{prefix: ''}}}}], {to}}}"),
            "http[0].match[0].method.prefix",
            "prefix string match should not be empty",
        ),
        (
            format!("{{match: [{{headers: {{'a b': {{exact: c}}}}}}], {to}}}"),
            "http[0].match[0].headers[\"a b\"]",
            "header name a b is not a valid header name",
        ),
        (
            format!("{{match: [{{headers: {{'@request.auth.claims.x': {{exact: c}}}}}}], {to}}}"),
            "http[0].match[0].headers[\"@request.auth.claims.x\"]",
            "only supported for gateway",
        ),
        (
            format!("{{match: [{{headers: {{a: null}}}}], {to}}}"),
            "http[0].match[0].headers[\"a\"]",
            "header match a cannot be null",
        ),
        (format!("{{match: [{{port: 0}}], {to}}}"), "http[0].match[0].port", "must be in the range 1..65535"),
        (format!("{{{to}, retries: {{attempts: -1}}}}"), "http[0].retries.attempts", "attempts cannot be negative"),
        (
            format!("{{{to}, retries: {{attempts: 0, retryOn: 5xx}}}}"),
            "http[0].retries.attempts",
            "http retry policy configured when attempts are set to 0 (disabled)",
        ),
        (
            format!("{{{to}, retries: {{attempts: 1, retryOn: '5xx,foo'}}}}"),
            "http[0].retries.retryOn",
            "\"foo\" is not a valid retryOn policy",
        ),
        (format!("{{{to}, fault: {{}}}}"), "http[0].fault", "HTTP fault injection must have an abort and/or a delay"),
        (
            format!("{{{to}, fault: {{abort: {{httpStatus: 700}}}}}}"),
            "http[0].fault.abort.httpStatus",
            "HTTP status 700 is not in range 200-599",
        ),
        (
            format!("{{{to}, fault: {{abort: {{grpcStatus: NOPE}}}}}}"),
            "http[0].fault.abort.grpcStatus",
            "gRPC status \"NOPE\" is not supported",
        ),
        (
            format!("{{{to}, fault: {{abort: {{httpStatus: 500, percentage: {{value: 101}}}}}}}}"),
            "http[0].fault.abort.percentage.value",
            "percentage 101 is neither 0.0, nor in range [0.0001, 100.0]",
        ),
        (
            format!("{{{to}, fault: {{delay: {{percentage: {{value: 1}}}}}}}}"),
            "http[0].fault.delay.fixedDelay",
            "a delay needs fixedDelay",
        ),
        ("{name: x}".into(), "http[0]", "HTTP route, redirect or direct_response is required"),
        ("{redirect: {}}".into(), "http[0].redirect", "redirect must specify URI, authority, scheme, or port"),
        ("{redirect: {uri: /b, redirectCode: 200}}".into(), "http[0].redirect.redirectCode", "must be 3xx"),
        ("{redirect: {uri: /b, derivePort: NOPE}}".into(), "http[0].redirect.derivePort", "unknown variant `NOPE`"),
        ("{directResponse: {status: 600}}".into(), "http[0].directResponse.status", "is not in range 200-599"),
        ("{directResponse: {status: 200, body: {bytes: 'a b'}}}".into(), "http[0].directResponse.body.bytes", "base64"),
        ("{delegate: {}}".into(), "http[0].delegate.name", "the name of a delegate virtual service is required"),
        (
            format!("{{name: x, {to}, delegate: {{name: b}}}}"),
            "http[0].delegate",
            "root HTTP route x must not specify route",
        ),
        (
            "{name: x, redirect: {uri: /a}, delegate: {name: b}}".into(),
            "http[0].delegate",
            "root HTTP route x must not specify redirect",
        ),
        (
            "{redirect: {uri: /b}, directResponse: {status: 200}}".into(),
            "http[0].directResponse",
            "HTTP route rule cannot contain both redirect and direct_response",
        ),
        (
            "{redirect: {uri: /b}, fault: {abort: {httpStatus: 500}}}".into(),
            "http[0].redirect",
            "HTTP route cannot contain both fault and redirect",
        ),
        (
            "{directResponse: {status: 200}, rewrite: {uri: /b}}".into(),
            "http[0].directResponse",
            "HTTP route rule cannot contain both rewrite and direct_response",
        ),
        (
            format!("{{{to}, directResponse: {{status: 200}}}}"),
            "http[0].directResponse",
            "HTTP route cannot contain both route and direct_response",
        ),
        (format!("{{{to}, rewrite: {{}}}}"), "http[0].rewrite", "rewrite must specify at least one of URI"),
        (
            format!("{{{to}, rewrite: {{uriRegexRewrite: {{match: '(', rewrite: a}}}}}}"),
            "http[0].rewrite.uriRegexRewrite.match",
            "missing closing )",
        ),
        (
            format!("{{{to}, mirror: {{host: b}}, mirrors: [{{destination: {{host: c}}}}]}}"),
            "http[0].mirrors",
            "HTTP route cannot contain both mirror and mirrors",
        ),
        (format!("{{{to}, mirrors: [{{}}]}}"), "http[0].mirrors[0]", "destination is required for mirrors"),
        (format!("{{{to}, mirror: {{host: 'b c'}}}}"), "http[0].mirror.host", "invalid destination host b c"),
        (
            format!("{{{to}, mirror: {{host: b}}, mirrorPercentage: {{value: 101}}}}"),
            "http[0].mirrorPercentage.value",
            "mirror_percentage must have a max value of 100 (it has 101.000000)",
        ),
        (
            format!("{{{to}, corsPolicy: {{allowMethods: [GET, get]}}}}"),
            "http[0].corsPolicy.allowMethods[1]",
            "\"get\" is not a supported HTTP method",
        ),
        (
            format!("{{{to}, corsPolicy: {{allowOrigins: [{{}}]}}}}"),
            "http[0].corsPolicy.allowOrigins[0]",
            "is not a valid match type for CORS allow origins",
        ),
        (
            format!("{{{to}, corsPolicy: {{maxAge: 1500ms}}}}"),
            "http[0].corsPolicy.maxAge",
            "max_age duration is accurate only to seconds precision",
        ),
        (
            format!("{{{to}, corsPolicy: {{exposeHeaders: ['a b']}}}}"),
            "http[0].corsPolicy.exposeHeaders[0]",
            "header name a b is not a valid header name",
        ),
        (
            format!("{{{to}, redirect: {{uri: /b}}}}"),
            "http[0].redirect",
            "HTTP route cannot contain both route and redirect",
        ),
        (
            format!("{{{to}, headers: {{request: {{set: {{':path': x}}}}}}}}"),
            "http[0].headers.request.set[\":path\"]",
            "header cannot have \":\" prefix",
        ),
        (format!("{{{to}, rout: 1}}"), "http[0]", "unknown field `rout`"),
        (
            format!("{{match: [{{uri: {{exact: /, prefix: /}}}}], {to}}}"),
            "http[0].match[0].uri",
            "only one of exact, prefix and regex",
        ),
    ] {
        let (read, issues) = rule(&spec);
        assert!(read.is_none(), "{spec} was accepted");
        let error = issues.errors().find(|issue| issue.message.contains(message));
        let error = error.unwrap_or_else(|| panic!("{spec}: {message:?} not in\n{issues}"));
        assert_eq!((error.path.as_str(), error.position.line), (path, 6), "{spec}");
    }
}

#[test]
fn hosts_are_checked() {
    let http = "http: [{route: [{destination: {host: a}}]}]";
    for (hosts, message) in [
        ("hosts: ['a b']", "domain name \"a b\" invalid"),
        ("hosts: ['*']", "wildcard host * is not allowed for virtual services bound to the mesh gateway"),
        (
            "hosts: [a, a]",
            "duplicate hosts in virtual service: a.default.svc.cluster.local & a.default.svc.cluster.local",
        ),
        ("hosts: ['*.foo.com', '*.com']", "duplicate hosts in virtual service: *.foo.com & *.com"),
        ("hosts: ['*.com', a.com]", "duplicate hosts in virtual service: *.com & a.com"),
    ] {
        let (read, issues) = read(&format!("{hosts}\n{http}"));
        assert!(read.is_none());
        assert!(issues.to_string().contains(message), "{issues}");
    }
    let (read, issues) = read("hosts: [a]");
    assert!(read.is_none() && issues.to_string().contains("http, tcp or tls must be provided in virtual service"));
}

#[test]
fn what_is_not_enforced_is_reported() {
    let (read, issues) = rule(
        "{match: [{statPrefix: x}], route: [{destination: {host: a}}], rewrite: {uri: /x}, mirror: {host: b}, corsPolicy: {}, \
         retries: {attempts: 1}}",
    );
    assert!(read.is_some());
    assert_eq!(issues.len(), 1, "{issues}");
    let issue = issues.iter().next().unwrap();
    assert_eq!((issue.path.as_str(), issue.severity), ("http[0].match[0].statPrefix", Severity::Warning));
}

#[test]
fn tls_and_tcp_rules_are_reported_and_leave_the_http_rules_in_force() {
    // istio networking/v1alpha3 VirtualService.tls, tcp: what is not HTTP passes through a sidecar; nothing does here.
    let tls = "tls:\n- match: [{port: 443, sniHosts: [a]}]\n  route: [{destination: {host: a}}]";
    let tcp = "tcp:\n- match: [{port: 27017}]\n  route: [{destination: {host: a}}]";
    let http = "http: [{route: [{destination: {host: a}}]}]";
    for (spec, rules, reported) in [
        (format!("hosts: [a]\n{tls}\n{tcp}\n{http}"), 1, &[("tls", 7), ("tcp", 10)][..]),
        (format!("hosts: [a]\n{tcp}"), 0, &[("tcp", 7)]),
        (format!("hosts: [a]\n{tls}"), 0, &[("tls", 7)]),
    ] {
        let (read, issues) = read(&spec);
        assert_eq!(read.unwrap().rules().len(), rules, "{spec}");
        let found: Vec<_> = issues.iter().map(|issue| (issue.path.as_str(), issue.position.line)).collect();
        assert_eq!(found, reported, "{issues}");
        assert!(
            issues.iter().all(|issue| issue.severity == Severity::Warning && issue.message.contains("not enforced"))
        );
    }
}

#[test]
fn a_delegate_is_one_without_hosts() {
    // istio validation: "delegate virtual service must have no gateways/tls route/tcp route specified"
    let http = "http: [{route: [{destination: {host: a}}]}]";
    let (delegate, issues) = read(http);
    assert!(delegate.is_some() && issues.is_empty(), "{issues}");
    for (spec, message) in [
        (format!("gateways: [mesh]\n{http}"), "delegate virtual service must have no gateways specified"),
        (format!("tcp: []\n{http}"), "delegate virtual service must have no tcp route specified"),
        ("http: [{delegate: {name: b}}]".into(), "delegate HTTP route cannot contain delegate"),
    ] {
        let (read, issues) = read(&spec);
        assert!(read.is_none() && issues.to_string().contains(message), "{spec}: {issues}");
    }
}

#[test]
fn a_large_answer_is_warned_about() {
    let (read, issues) =
        rule(&format!("{{directResponse: {{status: 200, body: {{string: '{}'}}}}}}", "x".repeat(102_401)));
    assert!(read.is_some());
    assert!(issues.to_string().contains("large direct_responses may impact control plane performance"), "{issues}");
}

#[test]
fn a_cors_policy_beside_an_answer_is_warned_about() {
    let (read, issues) = rule("{redirect: {uri: /b}, corsPolicy: {allowOrigins: [{exact: a}]}}");
    assert!(
        read.is_some() && issues.to_string().contains("http[0].corsPolicy: has no effect beside redirect"),
        "{issues}"
    );
}

#[test]
fn unreachable_rules_are_reported() {
    let to = "route: [{destination: {host: a}}]";
    for (rules, warning) in [
        (
            format!("{{{to}}}, {{{to}}}"),
            "http[1]: virtualService rule #1 not used (only the last rule can have no matches)",
        ),
        (
            format!("{{{to}}}, {{name: x, match: [{{port: 1}}], {to}}}"),
            "http[1]: virtualService rule \"x\" not used (route without matches defined before)",
        ),
        (
            format!("{{match: [{{port: 1}}], {to}}}, {{match: [{{port: 1}}], {to}}}"),
            "http[1]: virtualService rule #1 not used (all matches used by prior rules)",
        ),
        (
            format!("{{match: [{{port: 1}}], {to}}}, {{match: [{{port: 2}}, {{port: 1}}], {to}}}"),
            "http[1].match[1]: virtualService rule #1 match #1 is not used (duplicate/overlapping match in rule #0)",
        ),
        // A name is no condition.
        (
            format!("{{match: [{{name: a, port: 1}}], {to}}}, {{match: [{{name: b, port: 1}}], {to}}}"),
            "http[1].match[0]: virtualService rule #1 match \"b\" is not used (duplicate/overlapping match in rule #0)",
        ),
        (
            format!(
                "{{name: x, match: [{{uri: {{prefix: /a}}}}], {to}}}, \
                 {{match: [{{uri: {{prefix: /ab}}, method: {{exact: GET}}}}], {to}}}"
            ),
            "http[1].match[0]: virtualService rule #1 match #0 of prefix /ab is not used (duplicate/overlapping match in \
             rule #0 of prefix /a on \"x\")",
        ),
    ] {
        let (read, issues) = rule(&rules);
        assert!(read.is_some(), "{issues}");
        assert!(issues.to_string().contains(warning), "{issues}");
    }
}

/// A shorter prefix covers a longer one where it asks for nothing else, or for the same.
#[test]
fn rules_that_are_reached_are_not_reported() {
    let to = "route: [{destination: {host: a}}]";
    for (earlier, later) in [
        ("uri: {prefix: /a}, method: {exact: GET}", "uri: {prefix: /ab}, method: {exact: POST}"),
        ("uri: {prefix: /a}, headers: {x: {exact: a}}", "uri: {prefix: /ab}"),
        ("uri: {prefix: /a}", "uri: {prefix: /ab}, ignoreUriCase: true"),
        ("uri: {prefix: /ab}", "uri: {prefix: /a}"),
        ("uri: {prefix: /é}", "uri: {prefix: /èa}"),
        ("uri: {prefix: /a}, port: 1", "uri: {prefix: /ab}, port: 2"),
        ("uri: {exact: /a}", "uri: {exact: /ab}"),
    ] {
        let (_, issues) = rule(&format!("{{match: [{{{earlier}}}], {to}}}, {{match: [{{{later}}}], {to}}}"));
        assert!(issues.is_empty(), "{earlier} | {later}: {issues}");
    }
}

// istio.md 1.0: "`mesh` reserved; absent gateways => `[mesh]`"
#[test]
fn gateways_decide_whether_it_is_for_the_mesh() {
    let http = "http: [{route: [{destination: {host: a}}]}]";
    for (gateways, mesh) in [("", true), ("gateways: [mesh, gw]", true), ("gateways: [gw]", false)] {
        let (read, issues) = read(&format!("hosts: [a]\n{gateways}\n{http}"));
        assert_eq!(read.unwrap().applies_to_mesh(), mesh);
        assert_eq!(issues.to_string().contains("applies to gateways only, not to the mesh"), !mesh);
    }
}

#[test]
fn bookinfo_is_read() {
    let Some(folder) = mesh_test::shared("istio/bookinfo/networking") else { return };
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut issues = Issues::default();
        for document in Document::parse_all(&name, &std::fs::read_to_string(&path).unwrap(), &mut issues) {
            if document.kind() == "VirtualService" {
                assert!(VirtualService::from_document(&document, &mut issues).is_some(), "{issues}");
            }
        }
        let expected = match name.as_str() {
            "fault-injection-details-v1.yaml" => "rule #1 not used (only the last rule can have no matches)",
            "bookinfo-gateway.yaml" | "certmanager-gateway.yaml" => "applies to gateways only, not to the mesh",
            _ => "",
        };
        assert!(!issues.has_errors(), "{issues}");
        assert_eq!(issues.is_empty(), expected.is_empty(), "{name}: {issues}");
        assert!(issues.to_string().contains(expected), "{issues}");
        files += 1;
    }
    assert_eq!(files, 21);
}

#[test]
fn a_condition_that_never_holds_is_reported() {
    let to = "route: [{destination: {host: a}}]";
    let (read, issues) = rule(&format!("{{{to}, retries: {{attempts: 1, retryOn: '5xx,retriable-headers'}}}}"));
    assert!(read.is_some());
    assert!(
        issues.to_string().contains("http[0].retries.retryOn: retriable-headers never holds in-process"),
        "{issues}"
    );
}
