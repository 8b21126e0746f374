use mesh_core::config::{Document, Issues};

use crate::{GrpcRoute, HttpRoute, ReferenceGrant};

fn read(kind: &str, spec: &str) -> (bool, Issues) {
    let mut issues = Issues::default();
    let yaml =
        format!("apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r}}\nspec:\n  {spec}\n");
    let documents = Document::parse_all("a.yaml", &yaml, &mut issues);
    let read = match kind {
        "HTTPRoute" => HttpRoute::from_document(&documents[0], &mut issues).is_some(),
        "GRPCRoute" => GrpcRoute::from_document(&documents[0], &mut issues).is_some(),
        _ => ReferenceGrant::from_document(&documents[0], &mut issues).is_some(),
    };
    (read, issues)
}

#[track_caller]
fn refused(kind: &str, spec: &str, path: &str, message: &str) {
    let (read, issues) = read(kind, spec);
    assert!(!read, "{spec} was accepted");
    let error = issues.errors().find(|issue| issue.message.contains(message));
    let error = error.unwrap_or_else(|| panic!("{spec}: {message:?} not in\n{issues}"));
    assert_eq!((error.path.as_str(), error.position.line), (path, 5), "{spec}");
}

const TO: &str = "backendRefs: [{name: b, port: 80}]";

#[test]
fn paths_are_checked() {
    // gateway API HTTPPathMatch, x-kubernetes-validations
    for (path, message) in [
        ("{value: a}", "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']"),
        ("{type: Exact, value: ''}", "value must be an absolute path and start with '/'"),
        ("{value: /a//b}", "must not contain '//' when type one of ['Exact', 'PathPrefix']"),
        ("{value: /a/./b}", "must not contain '/./'"),
        ("{type: Exact, value: /a/../b}", "must not contain '/../'"),
        ("{value: /a%2fb}", "must not contain '%2f'"),
        ("{value: /a%2Fb}", "must not contain '%2F'"),
        ("{value: '/a#b'}", "must not contain '#'"),
        ("{value: /a/..}", "must not end with '/..'"),
        ("{value: /a/.}", "must not end with '/.'"),
        ("{value: '/a b'}", "must only contain valid characters"),
        ("{value: /a%4}", "must only contain valid characters"),
        ("{type: RegularExpression, value: '/(a'}", "missing closing )"),
    ] {
        refused(
            "HTTPRoute",
            &format!("rules: [{{matches: [{{path: {path}}}], {TO}}}]"),
            "rules[0].matches[0].path.value",
            message,
        );
    }
    refused(
        "HTTPRoute",
        &format!("rules: [{{matches: [{{path: {{type: Prefix, value: /}}}}], {TO}}}]"),
        "rules[0].matches[0].path.type",
        "unknown variant `Prefix`",
    );
    let long = format!("rules: [{{matches: [{{path: {{value: /{}}}}}], {TO}}}]", "a".repeat(1024));
    refused("HTTPRoute", &long, "rules[0].matches[0].path.value", "Too long");
}

#[test]
fn rules_are_checked() {
    let redirect = "{type: RequestRedirect, requestRedirect: {hostname: a.b}}";
    let header = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}";
    let prefix = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}";
    let rewrite = format!("{{type: URLRewrite, urlRewrite: {{{prefix}}}}}");
    let exact = "matches: [{path: {type: Exact, value: /a}}]";
    for (rule, path, message) in [
        // gateway API HTTPRouteRule, x-kubernetes-validations
        (format!("filters: [{redirect}], {TO}"), "", "RequestRedirect filter must not be used together with backendRefs"),
        (
            format!("{exact}, filters: [{rewrite}], {TO}"),
            ".filters[0].urlRewrite.path.replacePrefixMatch",
            "When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified",
        ),
        (
            format!("{exact}, filters: [{{type: RequestRedirect, requestRedirect: {{{prefix}}}}}]"),
            ".filters[0].requestRedirect.path.replacePrefixMatch",
            "When using RequestRedirect filter with path.replacePrefixMatch, exactly one PathPrefix match",
        ),
        (
            format!("matches: [{{path: {{value: /a}}}}, {{path: {{value: /b}}}}], filters: [{rewrite}], {TO}"),
            ".filters[0].urlRewrite.path.replacePrefixMatch",
            "exactly one PathPrefix match must be specified",
        ),
        (
            format!("{exact}, backendRefs: [{{name: b, port: 80, filters: [{rewrite}]}}]"),
            ".backendRefs[0].filters[0].urlRewrite.path.replacePrefixMatch",
            "exactly one PathPrefix match must be specified",
        ),
        // gateway API HTTPRouteRule.filters
        (
            format!("filters: [{redirect}, {rewrite}]"),
            ".filters",
            "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both",
        ),
        (format!("filters: [{header}, {header}], {TO}"), ".filters[1].type", "RequestHeaderModifier filter cannot be repeated"),
        (format!("filters: [{redirect}, {redirect}]"), ".filters[1].type", "RequestRedirect filter cannot be repeated"),
        // gateway API HTTPRouteFilter
        (
            format!("filters: [{{type: URLRewrite}}], {TO}"),
            ".filters[0]",
            "filter.urlRewrite must be specified for URLRewrite filter.type",
        ),
        (
            format!("filters: [{{type: URLRewrite, urlRewrite: {{}}, cors: {{}}}}], {TO}"),
            ".filters[0].cors",
            "filter.cors must be nil if the filter.type is not CORS",
        ),
        (format!("filters: [{{urlRewrite: {{}}}}], {TO}"), ".filters[0].type", "Required value"),
        (
            format!("filters: [{{type: ExtensionRef, extensionRef: {{name: x}}}}], {TO}"),
            ".filters[0].extensionRef",
            "unsupported filter type \"ExtensionRef\"",
        ),
        // gateway API HTTPRouteTimeouts
        (
            format!("timeouts: {{request: 1s, backendRequest: 2s}}, {TO}"),
            ".timeouts.backendRequest",
            "backendRequest timeout cannot be longer than request timeout",
        ),
        (format!("timeouts: {{request: 1.5s}}, {TO}"), ".timeouts.request", "invalid duration \"1.5s\""),
        (format!("retry: {{codes: [399]}}, {TO}"), ".retry.codes[0]", "must be in the range 400..599"),
        (format!("retry: {{attempts: -1}}, {TO}"), ".retry.attempts", "attempts cannot be negative"),
        // gateway API BackendObjectReference, BackendRef
        ("backendRefs: [{name: b}]".into(), ".backendRefs[0]", "Must have port for Service reference"),
        ("backendRefs: [{name: b, port: 0}]".into(), ".backendRefs[0].port", "must be in the range 1..65535"),
        ("backendRefs: [{name: b, port: 80, weight: -1}]".into(), ".backendRefs[0].weight", "must be in the range 0..1000000"),
        ("backendRefs: [{port: 80}]".into(), ".backendRefs[0].name", "Required value"),
        ("backendRefs: [{name: b.c, port: 80}]".into(), ".backendRefs[0].name", "service name invalid; the name of the Service"),
        (
            "backendRefs: [{group: networking.istio.io, kind: Hostname, name: b.c, namespace: x, port: 80}]".into(),
            ".backendRefs[0].namespace",
            "namespace may not be set with Hostname type",
        ),
        // gateway API HTTPHeader, HTTPHeaderMatch
        (
            format!("filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: 'a b', value: c}}]}}}}], {TO}"),
            ".filters[0].requestHeaderModifier.set[0].name",
            "header name a b is not a valid header name",
        ),
        (
            format!("filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{remove: [':path']}}}}], {TO}"),
            ".filters[0].responseHeaderModifier.remove[0]",
            "header cannot have \":\" prefix",
        ),
        (
            format!("filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{add: [{{name: a, value: b}}, {{name: a, value: c}}]}}}}], {TO}"),
            ".filters[0].requestHeaderModifier.add[1].name",
            "Duplicate value: \"a\"",
        ),
        (format!("matches: [{{headers: [{{name: 'a:b', value: c}}]}}], {TO}"), ".matches[0].headers[0].name", "is not a valid header name"),
        (format!("matches: [{{headers: [{{name: a}}]}}], {TO}"), ".matches[0].headers[0].value", "should be at least 1 chars long"),
        (format!("matches: [{{queryParams: [{{name: a, value: b}}, {{name: a, value: c}}]}}], {TO}"), ".matches[0].queryParams[1].name", "Duplicate value"),
        (format!("matches: [{{method: get}}], {TO}"), ".matches[0].method", "unknown variant `get`"),
        // gateway API HTTPRequestRedirectFilter, HTTPPathModifier
        ("filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]".into(), ".filters[0].requestRedirect.statusCode", "Unsupported value: 304"),
        ("filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp}}]".into(), ".filters[0].requestRedirect.scheme", "unknown variant `ftp`"),
        ("filters: [{type: RequestRedirect, requestRedirect: {hostname: '*.a'}}]".into(), ".filters[0].requestRedirect.hostname", "is not a hostname"),
        (
            "filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath}}}]".into(),
            ".filters[0].requestRedirect.path",
            "replaceFullPath must be specified when type is set to 'ReplaceFullPath'",
        ),
        (
            "filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /, replacePrefixMatch: /}}}]".into(),
            ".filters[0].requestRedirect.path.replacePrefixMatch",
            "type must be 'ReplacePrefixMatch' when replacePrefixMatch is set",
        ),
        // gateway API HTTPRequestMirrorFilter
        (
            format!("filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: b, port: 80}}, percent: 1, fraction: {{numerator: 1}}}}}}], {TO}"),
            ".filters[0].requestMirror",
            "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter",
        ),
        (
            format!("filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: b, port: 80}}, fraction: {{numerator: 3, denominator: 2}}}}}}], {TO}"),
            ".filters[0].requestMirror.fraction",
            "numerator must be less than or equal to denominator",
        ),
        (
            format!("filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: b, port: 80}}, percent: 101}}}}], {TO}"),
            ".filters[0].requestMirror.percent",
            "must be in the range 0..100",
        ),
        // gateway API HTTPCORSFilter
        (
            format!("filters: [{{type: CORS, cors: {{allowOrigins: ['*', 'https://a.b']}}}}], {TO}"),
            ".filters[0].cors.allowOrigins",
            "AllowOrigins cannot contain '*' alongside other origins",
        ),
        (format!("filters: [{{type: CORS, cors: {{allowOrigins: [a.b]}}}}], {TO}"), ".filters[0].cors.allowOrigins[0]", "is not an origin"),
        (format!("filters: [{{type: CORS, cors: {{allowMethods: [get]}}}}], {TO}"), ".filters[0].cors.allowMethods[0]", "Unsupported value: \"get\""),
        (format!("filters: [{{type: CORS, cors: {{maxAge: 0}}}}], {TO}"), ".filters[0].cors.maxAge", "should be greater than or equal to 1"),
        (format!("{TO}, backends: []"), "", "unknown field `backends`"),
    ] {
        refused("HTTPRoute", &format!("rules: [{{{rule}}}]"), &format!("rules[0]{path}"), message);
    }
}

#[test]
fn lists_and_names_are_checked() {
    let service = "{group: '', kind: Service, name: a}";
    let rule = format!("{{{TO}}}");
    for (kind, spec, path, message) in [
        (
            "HTTPRoute",
            format!("rules: [{}]", vec![&*rule; 17].join(", ")),
            "rules",
            "Too many: 17: must have at most 16 items",
        ),
        (
            "HTTPRoute",
            format!("rules: [{{name: n, {TO}}}, {{name: n, {TO}}}]"),
            "rules[1].name",
            "Rule name must be unique within the route",
        ),
        (
            "GRPCRoute",
            format!("parentRefs: [{service}, {service}]"),
            "parentRefs[1]",
            "must be unique when parentRefs includes 2 or more references to the same parent",
        ),
        ("HTTPRoute", "parentRefs: [{group: '', kind: Service}]".into(), "parentRefs[0].name", "Required value"),
        ("HTTPRoute", "hostnames: ['a_b']".into(), "hostnames[0]", "is not a hostname"),
        (
            "GRPCRoute",
            format!("rules: [{{filters: [{{type: URLRewrite, urlRewrite: {{}}}}], {TO}}}]"),
            "rules[0].filters[0].type",
            "unknown variant `URLRewrite`",
        ),
        (
            "GRPCRoute",
            format!("rules: [{{matches: [{{method: {{}}}}], {TO}}}]"),
            "rules[0].matches[0].method",
            "One or both of 'service' or 'method' must be specified",
        ),
        (
            "GRPCRoute",
            format!("rules: [{{matches: [{{method: {{service: a/b}}}}], {TO}}}]"),
            "rules[0].matches[0].method.service",
            "service must only contain valid characters",
        ),
        (
            "GRPCRoute",
            format!("rules: [{{matches: [{{method: {{method: a.b}}}}], {TO}}}]"),
            "rules[0].matches[0].method.method",
            "method must only contain valid characters",
        ),
        ("GRPCRoute", format!("rules: [{{timeouts: {{}}, {TO}}}]"), "rules[0]", "unknown field `timeouts`"),
        ("ReferenceGrant", "from: []".into(), "from", "should have at least 1 items"),
        (
            "ReferenceGrant",
            "{from: [{kind: HTTPRoute}], to: [{kind: Service}]}".into(),
            "from[0].namespace",
            "Required value",
        ),
        (
            "ReferenceGrant",
            "{from: [{kind: HTTPRoute, namespace: a}], to: [{name: x}]}".into(),
            "to[0].kind",
            "Required value",
        ),
    ] {
        refused(kind, &spec, path, message);
    }
}

#[test]
fn what_is_read_and_not_enforced_is_told() {
    let spec = format!(
        "{{parentRefs: [{{group: '', kind: Service, name: a}}], hostnames: [a.b], rules: [{{sessionPersistence: {{}}, retry: \
         {{codes: [599]}}, {TO}}}]}}"
    );
    let (read, issues) = read("HTTPRoute", &spec);
    let told: Vec<_> = issues.iter().map(|issue| (&*issue.path, &*issue.message)).collect();
    assert!(read, "{issues}");
    assert_eq!(
        told,
        [
            ("rules[0].sessionPersistence", "read but not enforced in-process"),
            ("hostnames", "not looked at for a Service: the route is for the service's own host"),
            ("rules[0].retry.codes[0]", "599 is no status code of HTTP: it is not retried"),
        ]
    );
}
