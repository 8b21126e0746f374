//! From YAML to model, with every check that needs no other object.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use http::HeaderName;
use mesh_core::{
    HostPattern,
    config::{Document, Issues, Topic},
    registry::Visibility,
};

use super::{
    model::{Host, Place, Retries, Rule, Semantics, VirtualService, full_name},
    reachability,
    spec::{HttpMatch, HttpRoute, Spec},
};
use crate::{
    matcher::{At, Named, RouteMatch, Source},
    string_match::{Kind, StringMatchSpec},
    time,
};

/// The reserved gateway name of sidecars, that is of us.
const MESH: &str = "mesh";

pub(super) fn parse(document: &Document, issues: &mut Issues) -> Option<VirtualService> {
    let spec: Spec = document.decode(issues)?;
    let mut parser = Parser { document, issues, failed: false };
    let virtual_service = parser.virtual_service(&spec);
    (!parser.failed).then_some(virtual_service)
}

pub(crate) struct Parser<'a> {
    pub(crate) document: &'a Document,
    pub(crate) issues: &'a mut Issues,
    pub(crate) failed: bool,
}

impl Parser<'_> {
    pub(crate) fn error(&mut self, path: impl Into<String>, message: impl Display) {
        self.failed = true;
        self.issues.push(self.document.error(path, message.to_string()));
    }

    /// Unwrap, or note the error at a path.
    pub(super) fn at<T: Default>(&mut self, path: impl Into<String>, result: Result<T, impl Display>) -> T {
        result.unwrap_or_else(|message| {
            self.error(path, message);
            T::default()
        })
    }

    fn virtual_service(&mut self, spec: &Spec) -> VirtualService {
        let mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == MESH);
        let hosts = self.hosts(&spec.hosts, mesh);
        if spec.hosts.is_empty() {
            self.delegate(spec);
        }
        if spec.http.is_empty() && !spec.tls.is_set() && !spec.tcp.is_set() {
            self.error("", "http, tcp or tls must be provided in virtual service");
        }
        let own = Arc::clone(self.document.namespace());
        let export_to = self.at("exportTo", Visibility::parse(&spec.export_to, &own));
        let rules = spec.http.iter().enumerate().map(|(index, rule)| self.rule(index, rule)).collect();
        reachability::warn(self.document, &spec.http, self.issues);
        if !mesh {
            let message = "applies to gateways only, not to the mesh: not in force in-process";
            self.issues.push(self.document.warning("gateways", message).about(Topic::NotEnforced));
        }
        VirtualService {
            name: full_name(self.document.object()),
            object: self.document.object().clone(),
            hosts,
            mesh,
            export_to,
            rules,
            source: Arc::clone(self.document.source()),
            at: At::new(self.document, "", 0),
            left_out: Vec::new(),
            created: self.document.created().map(Arc::from),
            semantics: Semantics::Istio,
        }
    }

    /// One without hosts: its rules are for others to use.
    fn delegate(&mut self, spec: &Spec) {
        let of_root = [
            ("gateways", !spec.gateways.is_empty(), "gateways"),
            ("tls", spec.tls.is_set(), "tls route"),
            ("tcp", spec.tcp.is_set(), "tcp route"),
        ];
        for (field, _, what) in of_root.into_iter().filter(|(_, given, _)| *given) {
            self.error(field, format!("delegate virtual service must have no {what} specified"));
        }
        for (index, _) in spec.http.iter().enumerate().filter(|(_, rule)| rule.delegate.is_some()) {
            self.error(format!("http[{index}].delegate"), "delegate HTTP route cannot contain delegate");
        }
    }

    fn hosts(&mut self, hosts: &[String], mesh: bool) -> Vec<Host> {
        let mut parsed: Vec<Host> = Vec::new();
        for (index, host) in hosts.iter().enumerate() {
            let path = format!("hosts[{index}]");
            match HostPattern::resolve(host, self.document.namespace()) {
                Ok(HostPattern::Any) if mesh => {
                    self.error(path, "wildcard host * is not allowed for virtual services bound to the mesh gateway");
                }
                Ok(pattern) => {
                    if let Some(other) = parsed.iter().find(|other| other.pattern.narrower(&pattern).is_some()) {
                        let message = format!("duplicate hosts in virtual service: {} & {pattern}", other.pattern);
                        self.error(path, message);
                    } else {
                        parsed.push(Host { place: Place::new(self.document, path), pattern });
                    }
                }
                Err(error) => self.error(path, error),
            }
        }
        parsed
    }

    fn rule(&mut self, index: usize, spec: &HttpRoute) -> Rule {
        let path = &*format!("http[{index}]");
        let timeout = spec.timeout.as_deref().map(|text| self.at(format!("{path}.timeout"), time::timeout(text)));
        let retries = match spec.retries.as_ref().map(|retries| retries.compile()) {
            None => Retries::Default,
            Some(Ok(policy)) => Retries::Policy(policy),
            Some(Err((field, message))) => {
                self.error(format!("{path}.retries.{field}"), message);
                Retries::Default
            }
        };
        for condition in spec.retries.iter().flat_map(|retries| retries.idle_conditions()) {
            let message = format!("{condition} never holds in-process");
            let issue = self.document.warning(format!("{path}.retries.retryOn"), message);
            self.issues.push(issue.about(Topic::NotEnforced));
        }
        let fault = match spec.fault.as_ref().map(|fault| fault.compile()) {
            None => None,
            Some(Ok(fault)) => Some(fault),
            Some(Err((field, message))) => {
                let dot = if field.is_empty() { "" } else { "." };
                self.error(format!("{path}.fault{dot}{field}"), message);
                None
            }
        };
        Rule {
            name: some_name(&spec.name),
            matches: spec
                .r#match
                .iter()
                .enumerate()
                .map(|(index, entry)| Arc::new(self.entry(&format!("{path}.match[{index}]"), index, entry)))
                .collect(),
            action: self.action(path, spec),
            weighted: spec.route.len() > 1,
            headers: spec.headers.as_ref().map(|headers| Box::new(self.headers(path, headers))),
            timeout,
            retries,
            fault,
            rewrite: spec.rewrite.as_ref().map(|rewrite| self.sub(path, "rewrite", rewrite.compile())),
            cors: spec.cors_policy.as_ref().map(|cors| Arc::new(self.sub(path, "corsPolicy", cors.compile()))),
            mirror: self.mirror(path, spec).map(Box::new),
            mirror_share: self.mirror_share(path, spec),
            mirrors: self.mirrors(path, spec.mirrors.as_deref()),
            at: At::new(self.document, path, index),
            lender: None,
            route: None,
        }
    }

    pub(super) fn port(&mut self, path: &str, number: i64) -> Option<u16> {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        if port.is_none() {
            self.error(path, format!("port number {number} must be in the range 1..65535"));
        }
        port
    }

    pub(crate) fn entry(&mut self, path: &str, index: usize, spec: &HttpMatch) -> RouteMatch {
        let mut plain = |field: &str, spec: &Option<StringMatchSpec>, kind| {
            let spec = spec.as_ref()?;
            self.at(format!("{path}.{field}{}", spec.field()), spec.compile(field, kind))
        };
        let uri = plain("uri", &spec.uri, Kind::Uri);
        let scheme = plain("scheme", &spec.scheme, Kind::Plain);
        let method = plain("method", &spec.method, Kind::Plain);
        let authority = plain("authority", &spec.authority, Kind::Plain);
        if !spec.source_namespace.is_empty() && !is_label(&spec.source_namespace) {
            let message = format!("sourceNamespace match {} is invalid", spec.source_namespace);
            self.error(format!("{path}.sourceNamespace"), message);
        }
        RouteMatch {
            name: some_name(&spec.name),
            uri,
            ignore_uri_case: spec.ignore_uri_case,
            scheme,
            method,
            authority,
            headers: self.named(path, "headers", &spec.headers, header_name),
            without_headers: self.named(path, "withoutHeaders", &spec.without_headers, header_name),
            query: self.named(path, "queryParams", &spec.query_params, |name| Ok(name.into())),
            port: spec.port.and_then(|number| self.port(&format!("{path}.port"), number)),
            source: Source {
                labels: spec.source_labels.clone(),
                namespace: some_name(&spec.source_namespace),
                gateways: if spec.gateways.is_empty() { Arc::default() } else { spec.gateways.as_slice().into() },
                mesh_gateway: (!spec.gateways.is_empty()).then(|| spec.gateways.iter().any(|gateway| gateway == MESH)),
            },
            at: At::new(self.document, path, index),
        }
    }

    fn named<K>(
        &mut self,
        path: &str,
        field: &str,
        specs: &BTreeMap<String, Option<StringMatchSpec>>,
        parse: impl Fn(&str) -> Result<K, String>,
    ) -> Box<[Named<K>]> {
        let mut conditions = Vec::with_capacity(specs.len());
        for (key, spec) in specs {
            let at = format!("{path}.{field}[\"{key}\"]");
            let Some(spec) = spec else {
                self.error(at, format!("header match {key} cannot be null"));
                continue;
            };
            match (parse(key), spec.compile(field, Kind::Named)) {
                (Ok(name), Ok(value)) => conditions.push(Named { name, value }),
                (Err(message), _) => self.error(at, message),
                (_, Err(message)) => self.error(at + spec.field(), message),
            }
        }
        conditions.into()
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    if name.starts_with('@') {
        return Err(format!("JWT claim based routing (key: {name}) is only supported for gateway"));
    }
    name.parse().map_err(|_| format!("header name {name} is not a valid header name"))
}

pub(super) fn some_name(name: &str) -> Option<Arc<str>> {
    (!name.is_empty()).then(|| name.into())
}

/// RFC 1123 label.
pub(super) fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    name.len() <= 63 && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}
