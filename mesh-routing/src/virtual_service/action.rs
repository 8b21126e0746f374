//! From YAML to model: what a rule does with the requests it takes.

use std::fmt::Display;

use mesh_core::HostPattern;

use super::{
    model::{Action, Delegate, Destination, Place},
    parse::{Parser, is_label, some_name},
    spec::{DelegateSpec, DestinationSpec, HttpDestination, HttpRoute},
};
use crate::{
    header_ops::{Headers, HeadersSpec},
    mirror::{MirrorSpec, share},
    percent::Percent,
};

impl Parser<'_> {
    /// A rule has one action, and not everything goes with every action.
    ///
    /// istio validateHTTPRouteConflict, validateRootHTTPRoute.
    pub(super) fn action(&mut self, path: &str, spec: &HttpRoute) -> Action {
        let forwards = !spec.route.is_empty();
        let redirect = spec.redirect.as_ref().map(|redirect| self.sub(path, "redirect", redirect.compile().map(Some)));
        let answer = spec.direct_response.as_ref();
        let answer = answer.map(|answer| self.sub(path, "directResponse", answer.compile().map(Some)));
        if let Some(warning) = answer.iter().flatten().find_map(|answer| answer.warning()) {
            self.issues.push(self.document.warning(format!("{path}.directResponse.body"), warning));
        }
        if let Some(delegate) = &spec.delegate {
            for (field, given) in [("route", forwards), ("redirect", redirect.is_some())] {
                if given {
                    let message = format!("root HTTP route {} must not specify {field}", spec.name);
                    self.error(format!("{path}.delegate"), message);
                }
            }
            return Action::Delegate(self.delegation(path, delegate, answer.flatten()));
        }
        for (field, name, given) in
            [("redirect", "redirect", redirect.is_some()), ("directResponse", "direct_response", answer.is_some())]
        {
            if !given {
                continue;
            }
            let at = format!("{path}.{field}");
            if forwards {
                self.error(&at, format!("HTTP route cannot contain both route and {name}"));
            }
            if spec.fault.is_some() {
                self.error(&at, format!("HTTP route cannot contain both fault and {name}"));
            }
            if spec.cors_policy.is_some() {
                let message = format!("has no effect beside {field}: Envoy looks at it where a route forwards");
                self.issues.push(self.document.warning(format!("{path}.corsPolicy"), message));
            }
            if spec.rewrite.is_some() {
                self.error(&at, format!("HTTP route rule cannot contain both rewrite and {name}"));
            }
        }
        match (redirect, answer) {
            (Some(_), Some(_)) => {
                let message = "HTTP route rule cannot contain both redirect and direct_response";
                self.error(format!("{path}.directResponse"), message);
            }
            (Some(Some(redirect)), None) => return Action::Redirect(redirect),
            (None, Some(Some(answer))) => return Action::DirectResponse(answer),
            (None, None) if !forwards => self.error(path, "HTTP route, redirect or direct_response is required"),
            _ => {}
        }
        Action::Forward(self.destinations(path, &spec.route))
    }

    fn delegation(
        &mut self,
        path: &str,
        spec: &DelegateSpec,
        direct_response: Option<crate::DirectResponse>,
    ) -> Delegate {
        let path = format!("{path}.delegate");
        if spec.name.is_empty() {
            self.error(format!("{path}.name"), "the name of a delegate virtual service is required");
        }
        let namespace = some_name(&spec.namespace).unwrap_or_else(|| self.document.namespace().clone());
        Delegate { namespace, name: spec.name.as_str().into(), direct_response, place: Place::new(self.document, path) }
    }

    /// Unwrap what a field below a rule compiles to; its errors come with the field below it.
    pub(super) fn sub<T: Default>(
        &mut self,
        path: &str,
        field: &str,
        result: Result<T, (impl Display, impl Display)>,
    ) -> T {
        result.unwrap_or_else(|(below, message)| {
            let below = below.to_string();
            let dot = if below.is_empty() { "" } else { "." };
            self.error(format!("{path}.{field}{dot}{below}"), message);
            T::default()
        })
    }

    fn destinations(&mut self, rule: &str, specs: &[HttpDestination]) -> Vec<Destination> {
        let mut parsed = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let path = format!("{rule}.route[{index}]");
            let weight = u64::try_from(spec.weight).unwrap_or_else(|_| {
                self.error(format!("{path}.weight"), format!("weight {} < 0", spec.weight));
                0
            });
            // istio HTTPRouteDestination: "int32 weight = 2". More of them could not be added up.
            if spec.weight > i64::from(i32::MAX) {
                self.error(format!("{path}.weight"), format!("weight {weight} > {}", i32::MAX));
            }
            let headers = self.headers(&path, &spec.headers);
            match &spec.destination {
                None => self.error(path, "destination is required"),
                Some(destination) => {
                    parsed.extend(self.destination(&format!("{path}.destination"), destination, weight, headers));
                }
            }
        }
        if specs.len() > 1 && !self.failed {
            // istio: "If there is only one destination in the rule, it will receive all traffic. Otherwise, if weight
            // is 0, the destination will not receive any traffic."
            parsed.retain(|destination| destination.weight > 0);
            if parsed.is_empty() {
                self.error(format!("{rule}.route"), "total destination weight = 0");
            }
        }
        parsed
    }

    fn destination(
        &mut self,
        path: &str,
        spec: &DestinationSpec,
        weight: u64,
        headers: Headers,
    ) -> Option<Destination> {
        let host = match HostPattern::resolve(&spec.host, self.document.namespace()) {
            Ok(pattern) => pattern.to_string().into(),
            Err(error) => {
                self.error(format!("{path}.host"), format!("invalid destination host {}: {error}", spec.host));
                return None;
            }
        };
        if !spec.subset.is_empty() && !is_label(&spec.subset) {
            self.error(format!("{path}.subset"), format!("subset name is invalid: {}", spec.subset));
        }
        let port = spec.port.as_ref().and_then(|port| self.port(&format!("{path}.port.number"), port.number));
        let subset = some_name(&spec.subset);
        let place =
            Place::new(self.document, if subset.is_some() { format!("{path}.subset") } else { format!("{path}.host") });
        Some(Destination { host, subset, port, weight, headers, place, backend: None })
    }

    pub(super) fn headers(&mut self, path: &str, spec: &HeadersSpec) -> Headers {
        spec.compile().unwrap_or_else(|errors| {
            for (field, message) in errors {
                self.error(format!("{path}.headers.{field}"), message);
            }
            Headers::default()
        })
    }

    pub(super) fn mirror(&mut self, rule: &str, spec: &HttpRoute) -> Option<Destination> {
        if spec.mirror.is_some() && spec.mirrors.as_ref().is_some_and(|mirrors| !mirrors.is_empty()) {
            self.error(format!("{rule}.mirrors"), "HTTP route cannot contain both mirror and mirrors");
        }
        self.destination(&format!("{rule}.mirror"), spec.mirror.as_ref()?, 0, Headers::default())
    }

    pub(super) fn mirror_share(&mut self, rule: &str, spec: &HttpRoute) -> Option<Percent> {
        match (spec.mirror_percentage, spec.mirror_percent) {
            (Some(percentage), _) => Some(self.at(format!("{rule}.mirrorPercentage.value"), share(percentage.value))),
            (None, Some(percent)) => {
                let whole = i32::try_from(percent).ok().filter(|percent| (0..=100).contains(percent));
                let message = || format!("mirror_percent must have a max value of 100 (it has {percent})");
                let share = whole.map(|percent| Percent::truncated(percent.into())).ok_or_else(message);
                Some(self.at(format!("{rule}.mirrorPercent"), share))
            }
            (None, None) => None,
        }
    }

    pub(super) fn mirrors(&mut self, rule: &str, specs: Option<&[MirrorSpec]>) -> Option<Vec<(Destination, Percent)>> {
        let mut mirrors = Vec::new();
        for (index, spec) in specs?.iter().enumerate() {
            let path = format!("{rule}.mirrors[{index}]");
            let Some(destination) = &spec.destination else {
                self.error(path, "destination is required for mirrors");
                continue;
            };
            let share = spec.percentage.map_or(Ok(Percent::ALL), |percentage| share(percentage.value));
            let share = self.at(format!("{path}.percentage.value"), share);
            let destination = self.destination(&format!("{path}.destination"), destination, 0, Headers::default());
            mirrors.extend(destination.map(|destination| (destination, share)));
        }
        Some(mirrors)
    }
}
