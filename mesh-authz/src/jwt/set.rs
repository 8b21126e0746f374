//! The rules in force at one workload, and what they make of a request together.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, Uri, header};
use mesh_core::{Workload, identity::RequestPrincipal};

use super::{
    InvalidToken, KeySource, KeyStore, RequestAuthentication,
    locate::{Location, header_value},
    rule::{JwtRule, claim_text, named_claim},
};

/// RequestAuthentications of one workload: a snapshot.
///
/// istio security/v1beta1 RequestAuthentication: "multiple policies are combined", all rules of all that select the
/// workload count.
#[derive(Clone, Debug, Default)]
pub struct RequestAuthentications {
    rules: Vec<Arc<JwtRule>>,
    /// Headers that only a verified token may set.
    ours: Vec<HeaderName>,
}

/// What a request's tokens say.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Authenticated {
    /// It brought none.
    Anonymous,
    /// A good one.
    By(RequestPrincipal),
    /// None of those it brought is good.
    Refused(InvalidToken),
}

impl RequestAuthentications {
    /// The rules in force at `workload`, out of all of the mesh.
    #[must_use]
    pub fn new<'a>(
        policies: impl IntoIterator<Item = &'a RequestAuthentication>,
        workload: &Workload,
        root_namespace: &str,
    ) -> Self {
        let selected = policies.into_iter().filter(|policy| policy.selects(workload, root_namespace));
        let mut rules: Vec<_> = selected.flat_map(|policy| policy.rules().iter().cloned()).collect();
        // istio authn newPolicyApplier: "rules concatenated, sorted by issuer" (reference 1.7).
        rules.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        let mut ours: Vec<_> = rules
            .iter()
            .flat_map(|rule| rule.payload_header.iter().chain(rule.claim_headers.iter().map(|(name, _)| name)))
            .cloned()
            .collect();
        ours.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        ours.dedup();
        Self { rules, ours }
    }

    /// Is there nothing to check?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Keys that have to be fetched, and how long that may take.
    pub fn remote_keys(&self) -> impl Iterator<Item = (&KeySource, std::time::Duration)> {
        self.rules.iter().filter(|rule| rule.keys.location().is_some()).map(|rule| (&rule.keys, rule.timeout))
    }

    /// Check a request's tokens. What a good one is passed on as is in the headers then, copies that the caller wrote are
    /// not, and the token itself is taken out unless its rule forwards it.
    ///
    /// `now` in seconds since 1970.
    pub fn authenticate(
        &self,
        method: &Method,
        uri: &mut Uri,
        headers: &mut HeaderMap,
        now: u64,
        keys: &KeyStore,
    ) -> Authenticated {
        // reference 1.7: "forged copies of those headers are removed even without token"; in every spelling that an
        // application may take for the same name.
        let forged = |name: &HeaderName| self.ours.iter().any(|ours| is_same(ours, name));
        while let Some(name) = headers.keys().find(|name| forged(name)).cloned() {
            headers.remove(name);
        }
        // reference 1.7: "CORS preflight bypasses JWT"
        let preflight = method == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if preflight || self.rules.is_empty() {
            return Authenticated::Anonymous;
        }
        let mut refused: Option<InvalidToken> = None;
        for rule in &self.rules {
            for location in &rule.locations {
                let tokens = location.tokens(uri, headers);
                if tokens.len() > 1 {
                    // reference security 2.4: of two tokens in one place the application may read the other one.
                    return Authenticated::Refused(InvalidToken::Twice);
                }
                for token in tokens {
                    match rule.check(&token, now, keys) {
                        // reference 1.7: "one valid token suffices even if another location holds a bad one"
                        Ok(principal) => {
                            let payload = token.split('.').nth(1).unwrap_or_default().to_owned();
                            rule.pass_on(&principal, &payload, location, uri, headers);
                            return Authenticated::By(principal);
                        }
                        // What is wrong with it says more than that it is somebody else's.
                        Err(InvalidToken::Issuer) => refused = refused.or(Some(InvalidToken::Issuer)),
                        Err(why) => refused = Some(why),
                    }
                }
            }
        }
        refused.map_or(Authenticated::Anonymous, Authenticated::Refused)
    }
}

/// `_` and `-` are one to CGI and its descendants.
fn is_same(a: &HeaderName, b: &HeaderName) -> bool {
    let plain = |name: &'_ HeaderName| {
        name.as_str().bytes().map(|byte| if byte == b'_' { b'-' } else { byte }).collect::<Vec<_>>()
    };
    a.as_str().len() == b.as_str().len() && plain(a) == plain(b)
}

impl JwtRule {
    fn pass_on(
        &self,
        principal: &RequestPrincipal,
        payload: &str,
        location: &Location,
        uri: &mut Uri,
        headers: &mut HeaderMap,
    ) {
        if !self.forward {
            location.remove(uri, headers);
        }
        if let Some(name) = &self.payload_header
            && let Some(value) = header_value(payload)
        {
            headers.insert(name, value);
        }
        for (name, claim) in &self.claim_headers {
            let spaced = self.is_spaced(claim);
            let claim = named_claim(principal, claim).and_then(|claim| claim_text(claim, spaced));
            if let Some(value) = claim.and_then(|text| header_value(&text)) {
                headers.insert(name, value);
            }
        }
    }
}
