//! `corsPolicy` as YAML has it.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use mesh_core::config::DurationText;
use serde::Deserialize;

use super::CorsPolicy;
use crate::{
    string_match::{Kind, StringMatch, StringMatchSpec},
    time,
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct CorsSpec {
    allow_origin: Vec<String>,
    allow_origins: Vec<StringMatchSpec>,
    allow_methods: Vec<String>,
    allow_headers: Vec<String>,
    expose_headers: Vec<String>,
    max_age: Option<DurationText>,
    allow_credentials: bool,
    unmatched_preflights: UnmatchedPreflights,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum UnmatchedPreflights {
    /// istio: "Default to FORWARD".
    #[default]
    Unspecified,
    Forward,
    Ignore,
}

const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

impl CorsSpec {
    /// Compile; errors are (field below `corsPolicy`, Istio's message).
    pub(crate) fn compile(&self) -> Result<CorsPolicy, (String, String)> {
        for (index, method) in self.allow_methods.iter().enumerate() {
            if !METHODS.contains(&&**method) {
                return Err((format!("allowMethods[{index}]"), format!("{method:?} is not a supported HTTP method")));
            }
        }
        check_names("allowHeaders", &self.allow_headers)?;
        check_names("exposeHeaders", &self.expose_headers)?;
        Ok(CorsPolicy {
            origins: self.origins()?,
            methods: list(&self.allow_methods),
            headers: list(&self.allow_headers),
            expose: list(&self.expose_headers),
            max_age: self.max_age.as_deref().map(max_age).transpose()?,
            credentials: self.allow_credentials,
            answers_unmatched: self.unmatched_preflights == UnmatchedPreflights::Ignore,
        })
    }

    /// istio TranslateCORSPolicy: the deprecated `allowOrigin` counts where `allowOrigins` is not given.
    fn origins(&self) -> Result<Box<[StringMatch]>, (String, String)> {
        if self.allow_origins.is_empty() {
            return Ok(self.allow_origin.iter().map(|origin| StringMatch::Exact(origin.as_str().into())).collect());
        }
        let mut origins = Vec::with_capacity(self.allow_origins.len());
        for (index, spec) in self.allow_origins.iter().enumerate() {
            let at = format!("allowOrigins[{index}]");
            if spec.is_empty() {
                return Err((at, "'<nil>' is not a valid match type for CORS allow origins".into()));
            }
            match spec.compile("allowOrigins", Kind::Plain) {
                Ok(origin) => origins.extend(origin),
                Err(message) => return Err((at + spec.field(), message)),
            }
        }
        Ok(origins.into())
    }
}

fn check_names(field: &str, names: &[String]) -> Result<(), (String, String)> {
    let bad = |name: &&String| *name != "*" && HeaderName::try_from(name.as_str()).is_err();
    match names.iter().position(|name| bad(&name)) {
        Some(index) => {
            let message = format!("header name {} is not a valid header name", names[index]);
            Err((format!("{field}[{index}]"), message))
        }
        None => Ok(()),
    }
}

/// measured on Envoy 1.40 (t4): lists are joined with `,`.
pub(super) fn list(entries: &[String]) -> Option<HeaderValue> {
    (!entries.is_empty()).then(|| HeaderValue::from_str(&entries.join(",")).ok()).flatten()
}

fn max_age(text: &str) -> Result<HeaderValue, (String, String)> {
    let at = |message: String| ("maxAge".to_owned(), message);
    let age: Duration = time::duration(text).map_err(at)?;
    if age.subsec_nanos() > 0 {
        return Err(at("max_age duration is accurate only to seconds precision".into()));
    }
    Ok(age.as_secs().into())
}
