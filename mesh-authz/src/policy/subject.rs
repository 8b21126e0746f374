//! `requestPrincipals`: the issuer and the subject of a token, written as one.

use mesh_core::identity::RequestPrincipal;

use super::pattern::StringPattern;

/// `<iss>/<sub>` with a wildcard at either end.
///
/// istio authz/model/generator.go requestPrincipalGenerator: "Use the last index of "/" since issuer may be an URL". Each
/// form maps to a matcher of the issuer and one of the subject; both have to be there. They are compared as a pair: a
/// subject with a slash is not part of anybody's issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubjectPattern {
    issuer: StringPattern,
    subject: StringPattern,
}

impl SubjectPattern {
    pub(super) fn parse(text: &str) -> Self {
        use StringPattern::{Exact, Present};
        let (issuer, subject) = match text.rsplit_once('/') {
            // A star in front is the issuer's, and then one at the end is a character.
            Some((issuer, subject)) if text.starts_with('*') => {
                (StringPattern::parse_head(issuer), Exact(subject.into()))
            }
            Some((issuer, subject)) => (Exact(issuer.into()), StringPattern::parse_tail(subject)),
            None if text == "*" => (Present, Present),
            None if text.starts_with('*') => (Present, StringPattern::parse_head(text)),
            None if text.ends_with('*') => (StringPattern::parse_tail(text), Present),
            None => (Exact(text.into()), Exact("".into())),
        };
        Self { issuer, subject }
    }

    pub(super) fn matches(&self, principal: &RequestPrincipal) -> bool {
        let claims = principal.issuer().zip(principal.subject());
        claims.is_some_and(|(issuer, subject)| self.issuer.matches(issuer) && self.subject.matches(subject))
    }

    /// Nobody has an empty subject.
    pub(super) fn never_matches(&self) -> bool {
        [&self.issuer, &self.subject].into_iter().any(|part| *part == StringPattern::Exact("".into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn issuer_and_subject_are_a_pair() {
        // reference 1.8: "split at **last** `/`: iss/sub; `*`, `iss/*`, `*/sub`, `*suffix`, `prefix*`"
        for (pattern, issuer, subject, matches) in [
            ("*", "a", "b", true),
            ("a/b", "a", "b", true),
            ("a/b", "a", "c", false),
            ("https://x/y/b", "https://x/y", "b", true),
            ("https://x/y/*", "https://x/y", "anybody", true),
            ("https://x/y/*", "https://x", "y/anybody", false),
            ("https://x/y/b*", "https://x/y", "bob", true),
            ("*/b", "anything", "b", true),
            ("*/b", "a/b", "c", false),
            ("*.com/b", "x.com", "b", true),
            ("*.com/b", "x.org", "b", false),
            ("*ob", "anything", "bob", true),
            ("*ob", "anything", "eve", false),
            ("https:*", "https:", "b", true),
            ("a", "a", "b", false),
            // A subject with a slash is a subject.
            ("a/b/c", "a", "b/c", false),
            // Both ends: the one in front counts.
            ("*/b*", "a", "bob", false),
            ("*/b*", "a", "b*", true),
        ] {
            let claims = json!({"iss": issuer, "sub": subject});
            let principal = RequestPrincipal::new(claims.as_object().unwrap().clone());
            assert_eq!(SubjectPattern::parse(pattern).matches(&principal), matches, "{pattern} {issuer} {subject}");
        }
        let anonymous = RequestPrincipal::new(json!({"iss": "a"}).as_object().unwrap().clone());
        assert!(!SubjectPattern::parse("*").matches(&anonymous));
    }
}
