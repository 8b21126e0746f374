//! RequestAuthentication: Istio's document, checked. Messages are Istio's where Istio has one.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, Uri};
use mesh_core::{
    Labels, Workload,
    config::{Document, DurationText, Field, Issues, fields, parse_duration},
};
use serde::Deserialize;

use super::{
    JwkSet,
    keys::KeySource,
    locate::Location,
    rule::{JwtRule, plain_audience},
};
use crate::selector::{Selector, TargetRef, selector};

/// A checked RequestAuthentication.
///
/// ```
/// use mesh_authz::jwt::RequestAuthentication;
/// use mesh_core::config::{Document, Issues};
///
/// let text = "
/// kind: RequestAuthentication
/// metadata: {name: users, namespace: shop}
/// spec:
///   selector: {matchLabels: {app: reviews}}
///   jwtRules:
///   - issuer: https://issuer.example.com
///     jwksUri: https://issuer.example.com/keys
///     audiences: [reviews]
/// ";
/// let mut issues = Issues::default();
/// let documents = Document::parse_all("users.yaml", text, &mut issues);
/// assert!(RequestAuthentication::from_document(&documents[0], &mut issues).is_some());
/// assert!(issues.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct RequestAuthentication {
    namespace: Arc<str>,
    selector: Labels,
    /// Names a Gateway, Service or the like instead of workloads.
    targeted: bool,
    rules: Vec<Arc<JwtRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Spec {
    selector: Option<Selector>,
    target_ref: Option<TargetRef>,
    target_refs: Vec<TargetRef>,
    jwt_rules: Vec<RuleSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RuleSpec {
    issuer: String,
    audiences: Vec<String>,
    jwks_uri: String,
    jwks: String,
    from_headers: Vec<HeaderSpec>,
    from_params: Vec<String>,
    from_cookies: Vec<String>,
    output_payload_to_header: String,
    output_claim_to_headers: Vec<ClaimSpec>,
    forward_original_token: bool,
    timeout: Option<DurationText>,
    space_delimited_claims: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct HeaderSpec {
    name: String,
    prefix: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ClaimSpec {
    header: String,
    claim: String,
}

impl RequestAuthentication {
    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<Spec>()
    }

    /// Read a document of kind RequestAuthentication. `None` when it has errors; they are in `issues`.
    pub fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let before = issues.errors().count();
        let spec: Spec = document.decode(issues)?;
        let targets = [("targetRef", spec.target_ref.is_some()), ("targetRefs", !spec.target_refs.is_empty())];
        let targeted = targets.iter().any(|(_, given)| *given);
        let selector = selector(document, issues, spec.selector.as_ref(), targets);
        let rules = spec.jwt_rules.iter().enumerate();
        let rules: Vec<_> =
            rules.filter_map(|(at, rule)| Reader { document, issues, at }.rule(rule)).map(Arc::new).collect();
        let namespace = Arc::clone(document.namespace());
        (issues.errors().count() == before).then_some(Self { namespace, selector, targeted, rules })
    }

    /// Is it in force at a workload?
    ///
    /// istio type/v1beta1 WorkloadSelector, as for AuthorizationPolicy: its own namespace, or all of them from the root.
    #[must_use]
    pub fn selects(&self, workload: &Workload, root_namespace: &str) -> bool {
        !self.targeted
            && (*self.namespace == *workload.namespace || *self.namespace == *root_namespace)
            && workload.labels.contains_all(&self.selector)
    }

    pub(super) fn rules(&self) -> &[Arc<JwtRule>] {
        &self.rules
    }
}

struct Reader<'a> {
    document: &'a Document,
    issues: &'a mut Issues,
    at: usize,
}

impl Reader<'_> {
    fn error(&mut self, field: &str, message: impl Into<String>) {
        let path = format!("jwtRules[{}]{}{field}", self.at, if field.is_empty() { "" } else { "." });
        self.issues.push(self.document.error(path, message));
    }

    fn rule(mut self, spec: &RuleSpec) -> Option<JwtRule> {
        if spec.issuer.is_empty() {
            self.error("issuer", "issuer must be non-empty string");
        }
        for (index, audience) in spec.audiences.iter().enumerate() {
            if audience.is_empty() {
                self.error(&format!("audiences[{index}]"), "audience must be non-empty string");
            }
        }
        if spec.audiences.is_empty() {
            let path = format!("jwtRules[{}]", self.at);
            let message = "no audiences: a token that the issuer made for anybody else is good here too";
            self.issues.push(self.document.warning(path, message));
        }
        let keys = self.keys(spec);
        let locations = self.locations(spec);
        let timeout = spec.timeout.as_ref().map_or(Some(Duration::from_secs(5)), |text| {
            parse_duration(text).map_err(|error| self.error("timeout", error.to_string())).ok()
        });
        let payload_header = match &*spec.output_payload_to_header {
            "" => None,
            name => self.header("outputPayloadToHeader", name),
        };
        let mut claim_headers = Vec::with_capacity(spec.output_claim_to_headers.len());
        for (index, ClaimSpec { header, claim }) in spec.output_claim_to_headers.iter().enumerate() {
            let path = format!("outputClaimToHeaders[{index}]");
            if header.is_empty() || claim.is_empty() {
                self.error(&path, "outputClaimToHeaders header and claim value must be non-empty string");
                continue;
            }
            let header = self.header(&format!("{path}.header"), header);
            claim_headers.extend(header.map(|header| (header, claim.as_str().into())));
        }
        Some(JwtRule {
            issuer: spec.issuer.as_str().into(),
            audiences: spec.audiences.iter().map(|audience| plain_audience(audience).into()).collect(),
            keys: keys?,
            timeout: timeout?,
            locations,
            forward: spec.forward_original_token,
            payload_header,
            claim_headers,
            spaced: spec.space_delimited_claims.iter().map(|name| name.as_str().into()).collect(),
        })
    }

    /// reference 1.7: "jwks inline > jwksUri > OIDC discovery of issuer"
    fn keys(&mut self, spec: &RuleSpec) -> Option<KeySource> {
        if !spec.jwks.is_empty() && !spec.jwks_uri.is_empty() {
            self.error("jwks", "only one of jwks or jwksUri can be set");
            return None;
        }
        if !spec.jwks.is_empty() {
            let set = JwkSet::parse(&spec.jwks).map_err(|why| self.error("jwks", format!("parse jwks error: {why}")));
            return set.ok().map(|set| KeySource::Inline(Arc::new(set)));
        }
        if !spec.jwks_uri.is_empty() {
            let good = is_http(&spec.jwks_uri);
            if !good {
                self.error("jwksUri", format!("invalid URL {:?}: must be http or https, with a host", spec.jwks_uri));
            }
            return good.then(|| KeySource::Uri(spec.jwks_uri.as_str().into()));
        }
        // OpenID Connect Discovery 1.0 section 4: the issuer is a URL, below which the configuration stands.
        let location = format!("{}/.well-known/openid-configuration", spec.issuer.trim_end_matches('/'));
        if !is_http(&location) {
            self.error("", "neither jwks nor jwksUri, and the issuer is no URL where its keys could be looked up");
            return None;
        }
        Some(KeySource::Discovery(location.into()))
    }

    /// reference 1.7: "fromHeaders(name,prefix)/fromParams/fromCookies replace defaults"
    fn locations(&mut self, spec: &RuleSpec) -> Vec<Location> {
        let mut locations = Vec::new();
        for (index, HeaderSpec { name, prefix }) in spec.from_headers.iter().enumerate() {
            let path = format!("fromHeaders[{index}].name");
            if name.is_empty() {
                self.error(&path, "location header name must be non-empty string");
            } else {
                let name = self.header(&path, name);
                locations.extend(name.map(|name| Location::Header(name, prefix.as_str().into())));
            }
        }
        for (index, name) in spec.from_params.iter().enumerate() {
            if name.is_empty() {
                self.error(&format!("fromParams[{index}]"), "location query must be non-empty string");
            }
            locations.push(Location::Param(name.as_str().into()));
        }
        for (index, name) in spec.from_cookies.iter().enumerate() {
            if name.is_empty() {
                self.error(&format!("fromCookies[{index}]"), "cookie name must be non-empty string");
            }
            locations.push(Location::Cookie(name.as_str().into()));
        }
        if locations.is_empty() { Location::defaults() } else { locations }
    }

    fn header(&mut self, path: &str, name: &str) -> Option<HeaderName> {
        let header = HeaderName::from_bytes(name.as_bytes());
        header.map_err(|_| self.error(path, format!("invalid header name {name:?}"))).ok()
    }
}

fn is_http(text: &str) -> bool {
    let uri: Option<Uri> = text.parse().ok();
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}
