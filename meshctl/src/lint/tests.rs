//! Istio's own cases, and ours for what Istio has none for.

mod codes_table;
mod crds;
mod istio;
mod ours;

use super::{File, Finding, lint};

/// Everything that lint says about one text.
fn found(text: &str) -> Vec<Finding> {
    lint(vec![File::new("t.yaml", text)]).findings
}

/// The findings of one code, as lines.
fn lines(text: &str, code: &str) -> Vec<String> {
    found(text).iter().filter(|finding| finding.code.id == code).map(Finding::to_string).collect()
}
