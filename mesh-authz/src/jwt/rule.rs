//! One issuer: what a token of it has to be.

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderName;
use mesh_core::identity::RequestPrincipal;
use serde_json::Value;

use super::{
    jwk::Verdict,
    keys::{KeySource, KeyStore},
    locate::Location,
    token::Token,
};

/// reference 1.7: "clock skew 60 s on exp and nbf"
const SKEW: u64 = 60;

const ALWAYS_SPACED: [&str; 2] = ["scope", "permission"];

/// One element of `jwtRules`, checked.
#[derive(Clone, Debug)]
pub(super) struct JwtRule {
    pub(super) issuer: Arc<str>,
    /// Without scheme and trailing slash; empty: any.
    pub(super) audiences: Vec<Arc<str>>,
    pub(super) keys: KeySource,
    /// How long fetching the keys may take.
    pub(super) timeout: Duration,
    pub(super) locations: Vec<Location>,
    pub(super) forward: bool,
    pub(super) payload_header: Option<HeaderName>,
    pub(super) claim_headers: Vec<(HeaderName, Arc<str>)>,
    /// Claims whose text is a list, by spaces. `scope` and `permission` always are.
    pub(super) spaced: Vec<Arc<str>>,
}

/// Why a token is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidToken {
    /// One place has several.
    #[error("Jwt is given more than once in one place")]
    Twice,
    /// It is not written as a token is.
    #[error("{0}")]
    Malformed(&'static str),
    /// No rule is about its issuer.
    #[error("Jwt issuer is not configured")]
    Issuer,
    /// Its `exp` has passed.
    #[error("Jwt is expired")]
    Expired,
    /// Its `nbf` has not come.
    #[error("Jwt not yet valid")]
    NotYet,
    /// It is for somebody else: 403, the others are 401.
    #[error("Audiences in Jwt are not allowed")]
    Audience,
    /// The keys of its issuer are not known.
    #[error("Jwks remote fetch is failed")]
    NoKeys,
    /// The issuer has no key of its id and algorithm.
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoKey,
    /// The signature is not the issuer's.
    #[error("Jwt verification fails")]
    Signature,
}

impl JwtRule {
    /// Is this token good? `now` in seconds since 1970.
    ///
    /// envoy jwt_authn authenticator.cc: the issuer, the time and the audience are looked at before the signature.
    pub(super) fn check(&self, text: &str, now: u64, keys: &KeyStore) -> Result<RequestPrincipal, InvalidToken> {
        let token = Token::parse(text)?;
        if token.text("iss") != Some(&self.issuer) {
            return Err(InvalidToken::Issuer);
        }
        if token.seconds("nbf").is_some_and(|from| from > now.saturating_add(SKEW)) {
            return Err(InvalidToken::NotYet);
        }
        if token.seconds("exp").is_some_and(|until| now > until.saturating_add(SKEW)) {
            return Err(InvalidToken::Expired);
        }
        let accepted = |audience: &str| self.audiences.iter().any(|wanted| **wanted == *audience);
        if !self.audiences.is_empty() && !token.audiences().map(plain_audience).any(accepted) {
            return Err(InvalidToken::Audience);
        }
        let set = keys.get(&self.keys).ok_or(InvalidToken::NoKeys)?;
        match set.verify(token.kid.as_deref(), token.alg, token.signed, &token.signature) {
            Verdict::Good => Ok(self.principal(token)),
            Verdict::Bad => Err(InvalidToken::Signature),
            Verdict::NoKey => {
                keys.missed(&self.keys);
                Err(InvalidToken::NoKey)
            }
        }
    }

    /// Is the text of this claim a list, by spaces?
    pub(super) fn is_spaced(&self, claim: &str) -> bool {
        ALWAYS_SPACED.contains(&claim) || self.spaced.iter().any(|name| **name == *claim)
    }

    fn principal(&self, token: Token<'_>) -> RequestPrincipal {
        let mut claims = token.claims;
        for name in ALWAYS_SPACED.into_iter().chain(self.spaced.iter().map(|name| &**name)) {
            // reference 1.7: "spaceDelimitedClaims + always `scope`,`permission` split for matching"
            if let Some(Value::String(text)) = claims.get(name) {
                let list: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).map(Value::from).collect();
                claims.insert(name.into(), list.into());
            }
        }
        RequestPrincipal::new(claims)
    }
}

/// reference 1.7: "`aud1/` ≡ `aud1`"; envoy audience checker: the scheme of a URL does not count either.
pub(super) fn plain_audience(audience: &str) -> &str {
    let bare = audience.strip_prefix("http://").or_else(|| audience.strip_prefix("https://")).unwrap_or(audience);
    bare.strip_suffix('/').unwrap_or(bare)
}

/// A claim by its name, or by its path through nested ones: `a.b`.
pub(super) fn named_claim<'a>(principal: &'a RequestPrincipal, name: &str) -> Option<&'a Value> {
    principal.claims().get(name).or_else(|| principal.claim(name.split('.')))
}

/// A claim as a header carries it: text, a number or a boolean.
///
/// istio security/v1beta1 ClaimToHeader: "Only claims of type string, int or bool are supported."
pub(super) fn claim_text(claim: &Value, spaced: bool) -> Option<String> {
    match claim {
        // It was text, and is a list for policies.
        Value::Array(words) if spaced => {
            let words: Option<Vec<_>> = words.iter().map(Value::as_str).collect();
            words.map(|words| words.join(" "))
        }
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(claim.to_string()),
        _ => None,
    }
}

impl fmt::Display for JwtRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.issuer)
    }
}
