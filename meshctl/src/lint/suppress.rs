//! Findings that an object does not want.

use mesh_core::config::Document;

use super::Code;

/// istio "Suppressing analysis messages": a list of codes, or `*`.
const ANNOTATION: &str = "galley.istio.io/analyze-suppress";

/// Does the object ask not to be told? What a mesh refuses an object for is told all the same.
pub(super) fn suppresses(document: &Document, code: &Code) -> bool {
    let Some(list) = document.annotations().get(ANNOTATION) else { return false };
    list.split(',').map(str::trim).any(|entry| entry == "*" || entry == code.id)
}
