//! backendRefs: where a rule sends requests, and what it does not send.

use std::sync::Arc;

use mesh_core::{HostPattern, service_host};

use super::{
    parser::Parser,
    spec::{BackendRef, ObjectReference},
};
use crate::{
    DirectResponse,
    virtual_service::{Action, Backend, Destination, Foreign, Place},
};

/// What a reference names.
enum Referent {
    Host {
        host: Arc<str>,
        namespace: Option<Arc<str>>,
    },
    /// Nothing that Istio knows.
    Unknown,
}

impl Parser<'_> {
    /// What becomes of the requests of a rule without a redirect; and whether they are shared among several backends.
    ///
    /// istio convertHTTPRoute: "The spec requires us to return 500 when there are no >0 weight backends";
    /// buildHTTPDestination: a weight is 1 where it is not given, and backends of weight 0 are left out first.
    pub(super) fn backends(&mut self, at: &str, specs: &[BackendRef], one_prefix: bool) -> (Action, bool) {
        let at = format!("{at}.backendRefs");
        self.limit(&at, specs.len(), 16);
        let mut destinations = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let at = format!("{at}[{index}]");
            let weight = spec.weight.unwrap_or(1);
            let Some(weight) = u64::try_from(weight).ok().filter(|weight| *weight <= 1_000_000) else {
                self.error(format!("{at}.weight"), format!("weight {weight} must be in the range 0..1000000"));
                continue;
            };
            let filters = self.filters(&format!("{at}.filters"), &spec.filters, one_prefix);
            let Some(mut destination) = self.destination(&at, &spec.object(), weight) else { continue };
            destination.headers = filters.headers;
            let backend = destination.backend.get_or_insert_default();
            backend.redirect = filters.redirect;
            backend.rewrite = filters.rewrite;
            backend.cors = filters.cors;
            backend.mirrors = filters.mirrors;
            if weight > 0 {
                destinations.push(destination);
            }
        }
        if destinations.is_empty() {
            return (Action::DirectResponse(DirectResponse::of_gateway()), false);
        }
        let weighted = destinations.len() > 1;
        (Action::Forward(destinations), weighted)
    }

    /// istio buildDestination. A reference that no edit elsewhere can make good is an error; one of an unknown kind keeps
    /// its share, as a 500.
    pub(super) fn destination(&mut self, at: &str, spec: &ObjectReference, weight: u64) -> Option<Destination> {
        if spec.name.is_empty() {
            self.error(format!("{at}.name"), "Required value");
            return None;
        }
        let referent = self.referent(at, spec)?;
        let port = spec.port.map(|port| self.port(&format!("{at}.port"), port));
        let mut backend = Backend::default();
        let host = match referent {
            Referent::Unknown => {
                let (group, kind) = (spec.group.as_deref().unwrap_or(""), spec.kind.as_deref().unwrap_or("Service"));
                let what = format!("referencing unsupported backendRef: group {group:?} kind {kind:?}");
                self.warning(format!("{at}.kind"), format!("{what}: its requests are answered with 500"));
                backend.invalid = true;
                backend.refused = Some(what.into());
                spec.name.as_str().into()
            }
            Referent::Host { host, namespace } => {
                if port.is_none() {
                    let message = match spec.group.as_deref() {
                        None | Some("") => "Must have port for Service reference",
                        Some(_) => "port is required in backendRef",
                    };
                    self.error(at, message);
                    return None;
                }
                let foreign = namespace.filter(|namespace| namespace != self.document.namespace());
                backend.foreign = foreign.map(|namespace| Foreign {
                    group: spec.group.as_deref().unwrap_or("").into(),
                    kind: spec.kind.as_deref().unwrap_or("Service").into(),
                    namespace,
                    name: spec.name.as_str().into(),
                });
                host
            }
        };
        Some(Destination {
            host,
            subset: None,
            port: port.flatten(),
            weight,
            headers: crate::header_ops::Headers::default(),
            place: Place::new(self.document, format!("{at}.name")),
            backend: Some(Box::new(backend)),
        })
    }

    fn referent(&mut self, at: &str, spec: &ObjectReference) -> Option<Referent> {
        let group = spec.group.as_deref().unwrap_or("");
        match (group, spec.kind.as_deref().unwrap_or("Service")) {
            ("", "Service") | ("multicluster.x-k8s.io", "ServiceImport") => {
                if spec.name.contains('.') {
                    let message = "service name invalid; the name of the Service must be used, not the hostname.";
                    self.error(format!("{at}.name"), message);
                    return None;
                }
                let namespace = spec.namespace.as_deref().unwrap_or(self.document.namespace());
                let host = service_host(&spec.name.to_ascii_lowercase(), namespace);
                Some(Referent::Host { host, namespace: Some(namespace.into()) })
            }
            // istio: a host of the registry, by its name.
            ("networking.istio.io", "Hostname") => {
                if spec.namespace.is_some() {
                    self.error(format!("{at}.namespace"), "namespace may not be set with Hostname type");
                    return None;
                }
                let host = self.at(format!("{at}.name"), spec.name.parse::<HostPattern>())?;
                Some(Referent::Host { host: host.to_string().into(), namespace: None })
            }
            _ => Some(Referent::Unknown),
        }
    }
}
