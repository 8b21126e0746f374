//! A generated table as the configuration that we compile.

use serde_json::{Map, Value, json};

use crate::{
    clusters::UPSTREAMS,
    model::{
        Abort, Action, Destination, Headers, Match, Mirror, Operations, Percent, Retries, Rule, Service, Table, Text,
        VirtualService,
    },
};

/// Everything that our side reads: the services that rules send to, the table's own, its VirtualServices in their order.
pub(crate) fn documents(table: &Table) -> Vec<Value> {
    let services = table.services.iter().map(service);
    services.chain(table.virtual_services.iter().map(|vs| virtual_service(table, vs))).collect()
}

/// The services that rules of all tables send to.
pub(crate) fn upstreams() -> Vec<Value> {
    let service = |(name, ports): (&str, &[u16])| kubernetes(name, "default", ports);
    UPSTREAMS.map(service).into()
}

fn service(service: &Service) -> Value {
    if service.is_kubernetes() {
        let name = service.host.split('.').next().unwrap_or_default();
        return kubernetes(name, &service.namespace, &service.ports);
    }
    let name = service.host.replace('.', "-");
    json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
           "metadata": {"name": name, "namespace": service.namespace},
           "spec": {"hosts": [service.host], "location": "MESH_EXTERNAL", "resolution": "STATIC",
                    "ports": ports(&service.ports, "number")}})
}

fn kubernetes(name: &str, namespace: &str, numbers: &[u16]) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
           "spec": {"ports": ports(numbers, "port")}})
}

fn ports(numbers: &[u16], field: &str) -> Value {
    let port = |number: &u16| {
        let mut port = json!({"name": format!("http-{number}"), field: number});
        if field == "number" {
            port["protocol"] = json!("HTTP");
        }
        port
    };
    numbers.iter().map(port).collect()
}

/// A VirtualService. Names need to differ between tables only where namespaces do not.
pub(crate) fn virtual_service(table: &Table, vs: &VirtualService) -> Value {
    let list = |list: &[&str]| if list.is_empty() { Value::Null } else { json!(list) };
    let rules: Vec<_> = vs.rules.iter().map(|spec| rule(table, spec)).collect();
    let hosts = if vs.hosts.is_empty() { Value::Null } else { json!(vs.hosts) };
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": object(table, &vs.name), "namespace": vs.namespace},
        "spec": given([("hosts", hosts), ("gateways", list(&vs.gateways)), ("exportTo", list(&vs.export_to)),
                       ("http", json!(rules))])
    })
}

fn object(table: &Table, name: &str) -> String {
    format!("{name}-of-{}", table.number)
}

fn rule(table: &Table, rule: &Rule) -> Value {
    let mut object = Map::new();
    if !rule.name.is_empty() {
        object.insert("name".into(), json!(rule.name));
    }
    if !rule.matches.is_empty() {
        object.insert("match".into(), rule.matches.iter().map(matches).collect());
    }
    match &rule.action {
        Action::Route(destinations) => {
            object.insert("route".into(), destinations.iter().map(destination).collect());
        }
        Action::Redirect(spec) => {
            let fields = [
                ("uri", json!(spec.uri)),
                ("prefixRewrite", json!(spec.prefix)),
                ("derivePort", json!(spec.derive_port)),
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
        Action::Delegate { name, namespace } => {
            let fields = [("name", json!(self::object(table, name))), ("namespace", json!(namespace))];
            object.insert("delegate".into(), given(fields));
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
        let exact = |origin: &Text| if let Text::Exact(origin) = origin { Some(origin.clone()) } else { None };
        let old: Option<Vec<String>> = cors.origins.iter().map(exact).collect();
        let old = old.filter(|_| rule.old_spelling);
        let fields = [
            ("allowOrigins", if old.is_some() { Value::Null } else { cors.origins.iter().map(text).collect() }),
            ("allowOrigin", json!(old)),
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
        match percent {
            Some(percent) if rule.old_spelling => drop(delay.insert("percent".into(), json!(percent))),
            percent => insert_percent(&mut delay, *percent),
        }
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
    mirrors(&mut object, rule);
    object.into()
}

fn mirrors(object: &mut Map<String, Value>, rule: &Rule) {
    let percentage = |percent: Percent| json!(percent.map(|percent| json!({"value": f64::from(percent)})));
    if let Some(mirror) = &rule.mirror {
        object.insert("mirror".into(), to(&mirror.host, None, mirror.port));
    }
    if rule.mirror_percent.is_some() && rule.old_spelling {
        object.insert("mirrorPercent".into(), json!(rule.mirror_percent));
    } else if rule.mirror_percent.is_some() {
        object.insert("mirrorPercentage".into(), percentage(rule.mirror_percent));
    }
    if !rule.mirrors.is_empty() {
        let mirror = |spec: &Mirror| {
            given([("destination", to(&spec.host, None, spec.port)), ("percentage", percentage(spec.percent))])
        };
        object.insert("mirrors".into(), rule.mirrors.iter().map(mirror).collect());
    }
}

fn to(host: &str, subset: Option<&str>, port: Option<u16>) -> Value {
    let port = port.map(|port| json!({"number": port}));
    given([("host", json!(host)), ("subset", json!(subset)), ("port", json!(port))])
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

fn matches(entry: &Match) -> Value {
    let mut object = Map::new();
    if !entry.name.is_empty() {
        object.insert("name".into(), json!(entry.name));
    }
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
    if !entry.source_labels.is_empty() {
        let labels: Map<_, _> = entry.source_labels.iter().map(|(key, value)| ((*key).into(), json!(value))).collect();
        object.insert("sourceLabels".into(), labels.into());
    }
    if let Some(namespace) = entry.source_namespace {
        object.insert("sourceNamespace".into(), json!(namespace));
    }
    if !entry.gateways.is_empty() {
        object.insert("gateways".into(), json!(entry.gateways));
    }
    object.into()
}

fn text(text: &Text) -> Value {
    match text {
        Text::Exact(value) => json!({"exact": value}),
        Text::Prefix(value) => json!({"prefix": value}),
        Text::Regex(pattern) => json!({"regex": pattern.regex}),
        Text::Present => json!({}),
        Text::Star => json!({"regex": "*"}),
    }
}

fn destination(spec: &Destination) -> Value {
    let to = to(&spec.host, spec.subset.as_deref(), spec.port);
    let mut object = Map::from_iter([("destination".into(), to)]);
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
