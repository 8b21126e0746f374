//! For whom a request is made, by a token that was verified.

use std::sync::Arc;

use serde_json::{Map, Value};

/// The verified claims of a request's token (JWT).
///
/// Put into the extensions of an inbound request after its token was verified against a RequestAuthentication; absent
/// when it brought none. Applications read it, nothing else may write it. Clones share the claims.
///
/// ```
/// use mesh_core::identity::RequestPrincipal;
/// use serde_json::json;
///
/// let claims = json!({"iss": "https://issuer", "sub": "ada", "aud": ["shop"], "groups": {"eu": ["a", "b"]}});
/// let user = RequestPrincipal::new(claims.as_object().unwrap().clone());
/// assert_eq!(user.principal().as_deref(), Some("https://issuer/ada"));
/// assert_eq!(user.claim(["groups", "eu"]).and_then(|eu| eu[0].as_str()), Some("a"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RequestPrincipal(Arc<Map<String, Value>>);

impl RequestPrincipal {
    /// The claims of a token that a verifier has accepted.
    #[must_use]
    pub fn new(claims: Map<String, Value>) -> Self {
        Self(Arc::new(claims))
    }

    /// All claims.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.0
    }

    /// `iss`; `None` where it is absent, empty or no string.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// `sub`; `None` where it is absent, empty or no string.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.text("sub")
    }

    /// `<iss>/<sub>`, where the token has both.
    #[must_use]
    pub fn principal(&self) -> Option<String> {
        Some(format!("{}/{}", self.issuer()?, self.subject()?))
    }

    /// A claim by its path through nested objects.
    #[must_use]
    pub fn claim<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Value> {
        let mut path = path.into_iter();
        let first = self.0.get(path.next()?)?;
        path.try_fold(first, |value, name| value.as_object()?.get(name))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_principal_needs_issuer_and_subject() {
        // reference 1.7: "principal = `iss/sub` only when both non-empty"
        for (claims, principal) in [
            (json!({"iss": "a/b", "sub": "c"}), Some("a/b/c")),
            (json!({"iss": "a", "sub": ""}), None),
            (json!({"iss": "", "sub": "c"}), None),
            (json!({"iss": ["a"], "sub": "c"}), None),
            (json!({"sub": "c"}), None),
        ] {
            let principal_of = RequestPrincipal::new(claims.as_object().unwrap().clone());
            assert_eq!(principal_of.principal().as_deref(), principal, "{claims}");
        }
    }

    #[test]
    fn a_path_leads_through_objects_only() {
        let claims = json!({"a": {"b": {"c": "d"}}, "e": ["f"]});
        let user = RequestPrincipal::new(claims.as_object().unwrap().clone());
        assert_eq!(user.claim(["a", "b", "c"]), Some(&json!("d")));
        for path in [&["a", "x"][..], &["e", "f"], &["a", "b", "c", "d"], &[]] {
            assert_eq!(user.claim(path.iter().copied()), None, "{path:?}");
        }
    }
}
