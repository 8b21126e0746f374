//! From the documents of conditions to [`Condition`]. Messages are Istio's where Istio has one
//! (pkg/config/security ValidateAttribute).

use std::sync::Arc;

use http::HeaderName;

use super::{
    Action,
    cidr::IpBlock,
    condition::{Condition, HeaderCondition},
    parse::Reader,
    pattern::{Glob, StringPattern},
    rule::Field,
    spec::ConditionSpec,
    subject::SubjectPattern,
};

impl Reader<'_> {
    pub(super) fn condition(&mut self, path: &str, spec: &ConditionSpec, action: Action) -> Option<Condition> {
        let key = &*spec.key;
        if key.is_empty() {
            self.error(format!("{path}.key"), "`key` must not be empty");
            return None;
        }
        if spec.values.is_empty() && spec.not_values.is_empty() {
            let message = format!("at least one of `values` or `notValues` must be set for key {key}");
            self.error(path, message);
            return None;
        }
        if key.starts_with("experimental.envoy.filters.") {
            self.unsupported(format!("{path}.key"), "metadata of Envoy's filters: there are none in-process");
            return None;
        }
        Some(match key {
            "source.ip" => Condition::SourceIp(self.values(path, spec, Self::block)),
            "remote.ip" => Condition::RemoteIp(self.values(path, spec, Self::block)),
            "destination.ip" => Condition::DestinationIp(self.values(path, spec, Self::block)),
            "source.namespace" => {
                Condition::SourceNamespace(self.values(path, spec, |_, _, text| Some(Glob::parse(text))))
            }
            "source.principal" => Condition::SourcePrincipal(self.values(path, spec, Self::principal)),
            "source.serviceAccount" => Condition::SourceServiceAccount(self.values(path, spec, Self::service_account)),
            "source.trustDomain" => Condition::SourceTrustDomain(self.values(path, spec, Self::trust_domain)),
            "request.auth.principal" => Condition::RequestPrincipal(self.values(path, spec, Self::subject)),
            "request.auth.audiences" => Condition::Claim(["aud".into()].into(), self.values(path, spec, Self::text)),
            "request.auth.presenter" => Condition::Claim(["azp".into()].into(), self.values(path, spec, Self::text)),
            "destination.port" => Condition::DestinationPort(self.values(path, spec, Self::port)),
            "connection.sni" => Condition::Sni(self.values(path, spec, Self::text)),
            _ => return self.named(path, spec, action),
        })
    }

    /// Keys with names in brackets.
    fn named(&mut self, path: &str, spec: &ConditionSpec, action: Action) -> Option<Condition> {
        let key = &*spec.key;
        if let Some(names) = key.strip_prefix("request.headers") {
            let name = brackets(names).filter(|names| names.len() == 1);
            let Some(name) = name.and_then(|names| HeaderName::from_bytes(names[0].as_bytes()).ok()) else {
                self.error(format!("{path}.key"), format!("bad key in {key:?}: must be request.headers[<header>]"));
                return None;
            };
            let all = action == Action::Allow;
            return Some(Condition::Header(HeaderCondition { name, field: self.values(path, spec, Self::text), all }));
        }
        if let Some(names) = key.strip_prefix("request.auth.claims") {
            let Some(names) = brackets(names) else {
                self.error(format!("{path}.key"), format!("bad key in {key:?}: must be request.auth.claims[<claim>]"));
                return None;
            };
            let names = names.into_iter().map(Arc::from).collect();
            return Some(Condition::Claim(names, self.values(path, spec, Self::text)));
        }
        self.error(format!("{path}.key"), format!("unknown attribute: {key}"));
        None
    }

    /// `values` and `notValues`.
    fn values<T>(
        &mut self,
        path: &str,
        spec: &ConditionSpec,
        read: impl Fn(&mut Self, String, &str) -> Option<T>,
    ) -> Field<T> {
        let mut list = |name: &str, values: &[String]| {
            let each = values.iter().enumerate();
            each.filter_map(|(index, value)| read(self, format!("{path}.{name}[{index}]"), value)).collect()
        };
        Field { any_of: list("values", &spec.values), none_of: list("notValues", &spec.not_values) }
    }

    pub(super) fn block(&mut self, path: String, text: &str) -> Option<IpBlock> {
        IpBlock::parse(text).map_err(|message| self.error(path, message)).ok()
    }

    pub(super) fn port(&mut self, path: String, text: &str) -> Option<u16> {
        let port = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        if port.is_none() {
            self.error(path, format!("bad port ({text}): must be a number in the range 0..65535"));
        }
        port
    }

    pub(super) fn trust_domain(&mut self, path: String, text: &str) -> Option<Glob> {
        if text.contains('/') {
            self.error(path, format!("bad trust domain ({text}): has a '/'"));
            return None;
        }
        Some(Glob::parse(text))
    }

    pub(super) fn subject(&mut self, path: String, text: &str) -> Option<SubjectPattern> {
        let pattern = SubjectPattern::parse(text);
        if pattern.never_matches() {
            let message = format!("never matches: a request principal is written <issuer>/<subject>, found {text:?}");
            self.warn(path, message);
        }
        Some(pattern)
    }

    /// A value that is compared as text.
    pub(super) fn text(&mut self, path: String, text: &str) -> Option<StringPattern> {
        let pattern = StringPattern::parse(text);
        if pattern.literal().contains('*') {
            let message =
                format!("the `*` inside {text:?} is a plain character: a wildcard stands alone, first or last");
            self.warn(path, message);
        }
        Some(pattern)
    }
}

/// The names of `[a][b]`; `None` for anything else.
fn brackets(text: &str) -> Option<Vec<&str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<_> = inner.split("][").collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::brackets;

    #[test]
    fn names_in_brackets() {
        for (text, names) in [
            ("[a]", Some(&["a"][..])),
            ("[a][b-c]", Some(&["a", "b-c"])),
            ("", None),
            ("a", None),
            ("[]", None),
            ("[a", None),
            ("[a]b", None),
            ("[a][]", None),
            ("[a[b]]", None),
            ("[a]b[c]", None),
        ] {
            assert_eq!(brackets(text).as_deref(), names, "{text}");
        }
    }
}
