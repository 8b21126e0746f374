//! Filters: what happens to a request on its way.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;

use super::{
    parser::Parser,
    spec::{CorsFilter, Filter, FilterType, HeaderFilter, MirrorFilter, PathModifierSpec, PathModifierType},
    spec::{RedirectFilter, Scheme},
};
use crate::{
    CorsPolicy,
    answer::RedirectRule,
    header_ops::{HeaderOp, Headers, Operations, header_name, header_value},
    mirror::share,
    percent::Percent,
    re2,
    rewrite::{PathModifier, Rewrite},
    string_match::StringMatch,
    virtual_service::Destination,
};

/// The filters of a rule or of a backend.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) headers: Headers,
    pub(super) mirrors: Vec<(Destination, Percent)>,
    pub(super) redirect: Option<RedirectRule>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) cors: Option<Arc<CorsPolicy>>,
}

/// gateway API HTTPCORSFilter.maxAge: default 5.
const CORS_MAX_AGE: i64 = 5;

impl Filter {
    /// Every member of the union: its type, its field, and whether it is given.
    fn members(&self) -> [(FilterType, &'static str, bool); 8] {
        [
            (FilterType::RequestHeaderModifier, "requestHeaderModifier", self.request_header_modifier.is_some()),
            (FilterType::ResponseHeaderModifier, "responseHeaderModifier", self.response_header_modifier.is_some()),
            (FilterType::RequestMirror, "requestMirror", self.request_mirror.is_some()),
            (FilterType::RequestRedirect, "requestRedirect", self.request_redirect.is_some()),
            (FilterType::UrlRewrite, "urlRewrite", self.url_rewrite.is_some()),
            (FilterType::Cors, "cors", self.cors.is_some()),
            (FilterType::ExternalAuth, "externalAuth", self.external_auth.is_some()),
            (FilterType::ExtensionRef, "extensionRef", self.extension_ref.is_some()),
        ]
    }
}

impl FilterType {
    fn name(self) -> &'static str {
        match self {
            Self::RequestHeaderModifier => "RequestHeaderModifier",
            Self::ResponseHeaderModifier => "ResponseHeaderModifier",
            Self::RequestMirror => "RequestMirror",
            Self::RequestRedirect => "RequestRedirect",
            Self::UrlRewrite => "URLRewrite",
            Self::Cors => "CORS",
            Self::ExternalAuth => "ExternalAuth",
            Self::ExtensionRef => "ExtensionRef",
        }
    }
}

impl Parser<'_> {
    /// `one_prefix` says that the rule matches one path prefix and nothing else: then a prefix can be replaced.
    pub(super) fn filters(&mut self, at: &str, specs: &[Filter], one_prefix: bool) -> Filters {
        let mut filters = Filters::default();
        self.limit(at, specs.len(), 16);
        for (index, spec) in specs.iter().enumerate() {
            let at = format!("{at}[{index}]");
            let Some(kind) = spec.r#type else {
                self.error(format!("{at}.type"), "Required value");
                continue;
            };
            if !self.check_union(&at, spec, kind) {
                continue;
            }
            let repeated = specs[..index].iter().any(|other| other.r#type == Some(kind));
            if repeated && kind != FilterType::RequestMirror && kind != FilterType::ExtensionRef {
                self.error(format!("{at}.type"), format!("{} filter cannot be repeated", kind.name()));
            }
            self.filter(&at, spec, kind, one_prefix, &mut filters);
        }
        if filters.redirect.is_some() && filters.rewrite.is_some() {
            let both = "httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite";
            self.error(at, format!("May specify either {both}, but not both"));
        }
        filters
    }

    fn check_union(&mut self, at: &str, spec: &Filter, kind: FilterType) -> bool {
        let name = kind.name();
        // gateway API HTTPRouteFilter: "If a reference to a custom filter type cannot be resolved, the filter MUST NOT be
        // skipped"; istio convertHTTPRoute: the route is not in force.
        if matches!(kind, FilterType::ExtensionRef | FilterType::ExternalAuth) {
            let given = spec.members().into_iter().find(|(member, _, given)| *member == kind && *given);
            let field = given.map_or("type", |(_, field, _)| field);
            self.error(format!("{at}.{field}"), format!("unsupported filter type {name:?}"));
            return false;
        }
        let mut good = true;
        for (member, field, given) in spec.members() {
            if given && member != kind {
                let of = member.name();
                self.error(
                    format!("{at}.{field}"),
                    format!("filter.{field} must be nil if the filter.type is not {of}"),
                );
                good = false;
            } else if !given && member == kind {
                self.error(at, format!("filter.{field} must be specified for {name} filter.type"));
                good = false;
            }
        }
        good
    }

    fn filter(&mut self, at: &str, spec: &Filter, kind: FilterType, one_prefix: bool, filters: &mut Filters) {
        if let Some(spec) = &spec.request_header_modifier {
            filters.headers.request = self.operations(&format!("{at}.requestHeaderModifier"), spec, true);
        }
        if let Some(spec) = &spec.response_header_modifier {
            filters.headers.response = self.operations(&format!("{at}.responseHeaderModifier"), spec, false);
        }
        if let Some(spec) = &spec.request_mirror {
            filters.mirrors.extend(self.mirror(&format!("{at}.requestMirror"), spec));
        }
        if let Some(spec) = &spec.request_redirect {
            filters.redirect = Some(self.redirect(&format!("{at}.requestRedirect"), spec, one_prefix));
        }
        if let Some(spec) = &spec.url_rewrite {
            let at = format!("{at}.urlRewrite");
            let path = spec.path.as_ref().and_then(|path| self.modifier(&at, path, kind, one_prefix));
            let host = spec.hostname.as_deref().and_then(|host| self.hostname(&format!("{at}.hostname"), host));
            filters.rewrite = Some(Rewrite::of_gateway(path, host));
        }
        if let Some(spec) = &spec.cors {
            filters.cors = self.cors(&format!("{at}.cors"), spec).map(Arc::new);
        }
    }

    /// gateway API HTTPHeaderFilter: "Subsequent entries with an equivalent header name MUST be ignored"; istio
    /// createHeadersFilter makes the same operations of it as a VirtualService's, `Host` rewriting the authority.
    fn operations(&mut self, at: &str, spec: &HeaderFilter, request: bool) -> Operations {
        let mut compiled = Operations::default();
        for (index, name) in spec.remove.iter().enumerate() {
            let at = format!("{at}.remove[{index}]");
            if name.eq_ignore_ascii_case("host") {
                self.warning(at, "the Host header cannot be removed");
            } else if let Some(name) = self.at(at, header_name(name)) {
                compiled.ops.push(HeaderOp::Remove(name));
            }
        }
        for (verb, list) in [("set", &spec.set), ("add", &spec.add)] {
            self.limit(&format!("{at}.{verb}"), list.len(), 16);
            // By name, as Istio orders them.
            let mut ops = BTreeMap::new();
            for (index, header) in list.iter().enumerate() {
                let at = format!("{at}.{verb}[{index}]");
                if list[..index].iter().any(|other| other.name == header.name) {
                    self.error(format!("{at}.name"), format!("Duplicate value: {:?}", header.name));
                    continue;
                }
                if header.value.is_empty() {
                    self.error(format!("{at}.value"), "should be at least 1 chars long");
                }
                let Some(value) = self.at(format!("{at}.value"), header_value(&header.value)) else { continue };
                if header.name.eq_ignore_ascii_case("host") {
                    if request && compiled.authority.is_none() {
                        compiled.authority = Some(value);
                    }
                    continue;
                }
                if let Some(name) = self.at(format!("{at}.name"), header_name(&header.name)) {
                    ops.entry(name.as_str().to_owned()).or_insert(match verb {
                        "set" => HeaderOp::Set(name, value),
                        _ => HeaderOp::Add(name, value),
                    });
                }
            }
            compiled.ops.extend(ops.into_values());
        }
        compiled
    }

    /// istio createMirrorFilter: a fraction, else a percentage, else all.
    fn mirror(&mut self, at: &str, spec: &MirrorFilter) -> Option<(Destination, Percent)> {
        let percent = match (&spec.fraction, spec.percent) {
            (Some(_), Some(_)) => {
                self.error(at, "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter");
                return None;
            }
            (Some(fraction), None) => {
                let at = format!("{at}.fraction");
                let (part, whole) = (fraction.numerator, fraction.denominator.unwrap_or(100));
                let (Ok(small), Ok(large)) = (u32::try_from(part), u32::try_from(whole)) else {
                    self.error(at, format!("{part}/{whole} is not a fraction: both are counts"));
                    return None;
                };
                if small > large || large == 0 {
                    self.error(at, "numerator must be less than or equal to denominator");
                    return None;
                }
                100.0 * f64::from(small) / f64::from(large)
            }
            (None, Some(percent)) => match i32::try_from(percent).ok().filter(|percent| (0..=100).contains(percent)) {
                Some(percent) => f64::from(percent),
                None => {
                    self.error(format!("{at}.percent"), format!("percent {percent} must be in the range 0..100"));
                    return None;
                }
            },
            (None, None) => 100.0,
        };
        let share = self.at(at, share(percent))?;
        let at = format!("{at}.backendRef");
        Some((self.destination(&at, &spec.backend_ref, 1)?, share))
    }

    fn redirect(&mut self, at: &str, spec: &RedirectFilter, one_prefix: bool) -> RedirectRule {
        let status = match spec.status_code {
            // gateway API HTTPRequestRedirectFilter.statusCode: default 302.
            None | Some(302) => StatusCode::FOUND,
            Some(301) => StatusCode::MOVED_PERMANENTLY,
            Some(303) => StatusCode::SEE_OTHER,
            Some(307) => StatusCode::TEMPORARY_REDIRECT,
            Some(308) => StatusCode::PERMANENT_REDIRECT,
            Some(code) => {
                let message = format!("Unsupported value: {code}: supported values: 301, 302, 303, 307, 308");
                self.error(format!("{at}.statusCode"), message);
                StatusCode::FOUND
            }
        };
        let scheme = spec.scheme.map(|scheme| match scheme {
            Scheme::Http => "http".into(),
            Scheme::Https => "https".into(),
        });
        if let Some(host) = &spec.hostname {
            self.hostname(&format!("{at}.hostname"), host);
        }
        let path = spec.path.as_ref();
        let path = path.and_then(|path| self.modifier(at, path, FilterType::RequestRedirect, one_prefix));
        let port = spec.port.and_then(|port| self.port(&format!("{at}.port"), port));
        RedirectRule::of_gateway(status, scheme, spec.hostname.as_deref().map(Arc::from), port, path)
    }

    fn modifier(
        &mut self,
        at: &str,
        spec: &PathModifierSpec,
        filter: FilterType,
        one_prefix: bool,
    ) -> Option<PathModifier> {
        let at = format!("{at}.path");
        let (full, prefix) = (spec.replace_full_path.as_deref(), spec.replace_prefix_match.as_deref());
        let Some(kind) = spec.r#type else {
            self.error(format!("{at}.type"), "Required value");
            return None;
        };
        for (member, name, field, given) in [
            (PathModifierType::ReplaceFullPath, "ReplaceFullPath", "replaceFullPath", full.is_some()),
            (PathModifierType::ReplacePrefixMatch, "ReplacePrefixMatch", "replacePrefixMatch", prefix.is_some()),
        ] {
            if given && member != kind {
                self.error(format!("{at}.{field}"), format!("type must be '{name}' when {field} is set"));
            } else if !given && member == kind {
                self.error(&*at, format!("{field} must be specified when type is set to '{name}'"));
            }
        }
        let (field, text) = match kind {
            PathModifierType::ReplaceFullPath => ("replaceFullPath", full?),
            PathModifierType::ReplacePrefixMatch => ("replacePrefixMatch", prefix?),
        };
        if !text.starts_with('/') && (kind == PathModifierType::ReplaceFullPath || !text.is_empty()) {
            self.error(format!("{at}.{field}"), format!("{text:?} is not a path: it must start with '/'"));
        }
        if kind == PathModifierType::ReplaceFullPath {
            return Some(PathModifier::ReplaceFullPath(text.into()));
        }
        if !one_prefix {
            let filter = filter.name();
            let rule = "exactly one PathPrefix match must be specified";
            let message = format!("When using {filter} filter with path.replacePrefixMatch, {rule}");
            self.error(format!("{at}.{field}"), message);
        }
        Some(PathModifier::ReplacePrefixMatch(text.into()))
    }

    fn cors(&mut self, at: &str, spec: &CorsFilter) -> Option<CorsPolicy> {
        let lists = [
            ("allowOrigins", "AllowOrigins", &spec.allow_origins),
            ("allowMethods", "AllowMethods", &spec.allow_methods),
            ("allowHeaders", "AllowHeaders", &spec.allow_headers),
        ];
        for (field, name, list) in lists {
            self.limit(&format!("{at}.{field}"), list.len(), 64);
            if list.len() > 1 && list.iter().any(|entry| entry == "*") {
                let others = field.trim_start_matches("allow").to_ascii_lowercase();
                self.error(format!("{at}.{field}"), format!("{name} cannot contain '*' alongside other {others}"));
            }
        }
        const METHODS: [&str; 10] =
            ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"];
        for (index, method) in spec.allow_methods.iter().enumerate() {
            if !METHODS.contains(&&**method) {
                let message = format!("Unsupported value: {method:?}: supported values: {}", METHODS.join(", "));
                self.error(format!("{at}.allowMethods[{index}]"), message);
            }
        }
        for (field, list) in [("allowHeaders", &spec.allow_headers), ("exposeHeaders", &spec.expose_headers)] {
            for (index, name) in list.iter().enumerate().filter(|(_, name)| *name != "*") {
                self.at(format!("{at}.{field}[{index}]"), header_name(name));
            }
        }
        let origins = spec.allow_origins.iter().enumerate();
        let origins: Vec<_> =
            origins.filter_map(|(index, text)| self.at(format!("{at}.allowOrigins[{index}]"), origin(text))).collect();
        let age = u32::try_from(spec.max_age.unwrap_or(CORS_MAX_AGE)).ok().filter(|age| *age > 0);
        let Some(age) = age else {
            self.error(format!("{at}.maxAge"), "should be greater than or equal to 1");
            return None;
        };
        let (methods, headers) = (&spec.allow_methods, &spec.allow_headers);
        Some(CorsPolicy::of_gateway(origins, methods, headers, &spec.expose_headers, age, spec.allow_credentials))
    }
}

/// gateway API HTTPCORSFilter.allowOrigins: `*`, or `<scheme>://<host>(:<port>)`; a `*` in the host "is interpreted as a
/// greedy match to the left, including any number of DNS labels".
fn origin(text: &str) -> Result<StringMatch, String> {
    if text == "*" {
        return Ok(StringMatch::Prefix("".into()));
    }
    let invalid = || format!("{text:?} is not an origin: `*` or <scheme>://<host>(:<port>)");
    let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let good_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if !good_scheme || !good_port || host.is_empty() || host.contains(['/', '?', '#']) {
        return Err(invalid());
    }
    if !host.contains('*') {
        return Ok(StringMatch::Exact(text.into()));
    }
    let quoted: Vec<_> = text.split('*').map(regex_syntax::escape).collect();
    Ok(StringMatch::Regex(re2::compile(&quoted.join("[^/]+"))?.into()))
}
