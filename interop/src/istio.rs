//! A generated table as the configuration that we compile.

use serde_json::{Map, Value, json};

use crate::model::{
    Abort, Action, Destination, Headers, Match, Operations, PORTS, Percent, Retries, Rule, Table, Text,
};

/// The services that rules send to, with their ports. `dead` refuses connections; `ghost` and the subset `v9` exist for
/// nobody.
pub(crate) const UPSTREAMS: [(&str, &[u16]); 4] = [("a", &[80]), ("b", &[8080]), ("c", &[80, 8080]), ("dead", &[80])];

/// A Kubernetes service in the namespace `default`.
pub(crate) fn service(name: &str, ports: &[u16]) -> Value {
    let ports: Vec<_> = ports.iter().map(|port| json!({"name": format!("http-{port}"), "port": port})).collect();
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
           "spec": {"ports": ports}})
}

/// The table's VirtualService, with the service that owns its host.
pub(crate) fn documents(table: &Table) -> Vec<Value> {
    let mut documents = vec![virtual_service(table)];
    if !table.wildcard {
        documents.push(service(&table.service(), &PORTS));
    }
    documents
}

pub(crate) fn virtual_service(table: &Table) -> Value {
    let rules: Vec<_> = table.rules.iter().map(rule).collect();
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": table.service(), "namespace": "default"},
        "spec": {"hosts": [table.host()], "http": rules}
    })
}

fn rule(rule: &Rule) -> Value {
    let mut object = Map::new();
    object.insert("name".into(), json!(rule.name));
    if !rule.matches.is_empty() {
        object.insert("match".into(), rule.matches.iter().enumerate().map(|(i, entry)| matches(i, entry)).collect());
    }
    match &rule.action {
        Action::Route(destinations) => {
            object.insert("route".into(), destinations.iter().map(destination).collect());
        }
        Action::Redirect(spec) => {
            let fields = [
                ("uri", json!(spec.uri)),
                ("authority", json!(spec.authority)),
                ("scheme", json!(spec.scheme)),
                ("port", json!(spec.port)),
                ("redirectCode", json!(spec.code)),
            ];
            object.insert("redirect".into(), given(fields));
        }
        Action::DirectResponse { status, body } => {
            let body = body.as_ref().map(|body| json!({"string": body}));
            object.insert("directResponse".into(), given([("status", json!(status)), ("body", json!(body))]));
        }
    }
    if let Some(spec) = &rule.rewrite {
        let regex = spec.regex.map(|(regex, rewrite)| json!({"match": regex, "rewrite": rewrite}));
        let fields =
            [("uri", json!(spec.uri)), ("uriRegexRewrite", json!(regex)), ("authority", json!(spec.authority))];
        object.insert("rewrite".into(), given(fields));
    }
    if let Some(cors) = &rule.cors {
        let list = |list: &[&str]| if list.is_empty() { Value::Null } else { json!(list) };
        let fields = [
            ("allowOrigins", cors.origins.iter().map(text).collect()),
            ("allowMethods", list(&cors.methods)),
            ("allowHeaders", list(&cors.headers)),
            ("exposeHeaders", list(&cors.expose)),
            ("maxAge", json!(cors.max_age.map(|seconds| format!("{seconds}s")))),
            ("allowCredentials", json!(cors.credentials)),
            ("unmatchedPreflights", json!(cors.unmatched)),
        ];
        object.insert("corsPolicy".into(), given(fields));
    }
    insert_headers(&mut object, &rule.headers);
    if let Some(timeout) = rule.timeout_ms {
        object.insert("timeout".into(), json!(milliseconds(timeout)));
    }
    if let Some(spec) = &rule.retries {
        object.insert("retries".into(), retries(spec));
    }
    let mut fault = Map::new();
    if let Some((delay, percent)) = &rule.fault.delay {
        let mut delay = Map::from_iter([("fixedDelay".into(), json!(milliseconds(*delay)))]);
        insert_percent(&mut delay, *percent);
        fault.insert("delay".into(), delay.into());
    }
    if let Some((abort, percent)) = &rule.fault.abort {
        let mut abort = Map::from_iter([match abort {
            Abort::Http(status) => ("httpStatus".into(), json!(status)),
            Abort::Grpc(name, _) => ("grpcStatus".into(), json!(name)),
        }]);
        insert_percent(&mut abort, *percent);
        fault.insert("abort".into(), abort.into());
    }
    if !fault.is_empty() {
        object.insert("fault".into(), fault.into());
    }
    object.into()
}

/// An object of the fields that are not null.
fn given<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

fn insert_percent(object: &mut Map<String, Value>, percent: Percent) {
    if let Some(percent) = percent {
        object.insert("percentage".into(), json!({"value": f64::from(percent)}));
    }
}

pub(crate) fn milliseconds(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

fn retries(spec: &Retries) -> Value {
    let mut object = Map::from_iter([("attempts".into(), json!(spec.attempts))]);
    if !spec.on.is_empty() {
        object.insert("retryOn".into(), json!(spec.on.join(",")));
    }
    if let Some(timeout) = spec.per_try_ms {
        object.insert("perTryTimeout".into(), json!(milliseconds(timeout)));
    }
    if let Some(backoff) = spec.backoff_ms {
        object.insert("backoff".into(), json!(milliseconds(backoff)));
    }
    object.into()
}

fn matches(index: usize, entry: &Match) -> Value {
    let mut object = Map::from_iter([("name".into(), json!(format!("m{index}")))]);
    for (field, value) in
        [("uri", &entry.uri), ("scheme", &entry.scheme), ("method", &entry.method), ("authority", &entry.authority)]
    {
        if let Some(value) = value {
            object.insert(field.into(), text(value));
        }
    }
    if entry.ignore_case {
        object.insert("ignoreUriCase".into(), json!(true));
    }
    for (field, values) in
        [("headers", &entry.headers), ("withoutHeaders", &entry.without), ("queryParams", &entry.query)]
    {
        if !values.is_empty() {
            let values: Map<_, _> = values.iter().map(|(name, value)| (name.clone(), text(value))).collect();
            object.insert(field.into(), values.into());
        }
    }
    if let Some(port) = entry.port {
        object.insert("port".into(), json!(port));
    }
    object.into()
}

fn text(text: &Text) -> Value {
    match text {
        Text::Exact(value) => json!({"exact": value}),
        Text::Prefix(value) => json!({"prefix": value}),
        Text::Regex(pattern) => json!({"regex": pattern.regex}),
        Text::Present => json!({}),
    }
}

fn destination(spec: &Destination) -> Value {
    let mut to = Map::from_iter([("host".into(), json!(spec.host))]);
    if let Some(subset) = &spec.subset {
        to.insert("subset".into(), json!(subset));
    }
    if let Some(port) = spec.port {
        to.insert("port".into(), json!({"number": port}));
    }
    let mut object = Map::from_iter([("destination".into(), to.into())]);
    if let Some(weight) = spec.weight {
        object.insert("weight".into(), json!(weight));
    }
    insert_headers(&mut object, &spec.headers);
    object.into()
}

fn insert_headers(object: &mut Map<String, Value>, headers: &Headers) {
    let mut levels = Map::new();
    for (name, ops) in [("request", &headers.request), ("response", &headers.response)] {
        if !ops.is_empty() {
            levels.insert(name.into(), operations(ops));
        }
    }
    if !levels.is_empty() {
        object.insert("headers".into(), levels.into());
    }
}

fn operations(ops: &Operations) -> Value {
    let pairs = |pairs: &[(String, String)]| -> Map<_, _> {
        pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    json!({"set": pairs(&ops.set), "add": pairs(&ops.add), "remove": ops.remove})
}
