//! `details`: facts about a book. v2 knows where its facts come from, so that one sees which version answered.

use axum::{Json, Router, extract::State, routing::get};
use serde::{Deserialize, Serialize};

use super::{
    app::ProductId,
    origin::{Caller, Origin, Pod},
};

/// What `GET /details/{id}` answers, with the field names that Istio's bookinfo has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Details {
    pub(super) id: u64,
    pub(super) author: String,
    pub(super) year: u16,
    #[serde(rename = "type")]
    pub(super) binding: String,
    pub(super) pages: u32,
    pub(super) publisher: String,
    pub(super) language: String,
    #[serde(rename = "ISBN-10")]
    pub(super) isbn_10: String,
    #[serde(rename = "ISBN-13")]
    pub(super) isbn_13: String,
    /// Only v2 says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    #[serde(flatten)]
    pub(super) origin: Origin,
}

pub(super) fn router(pod: Pod) -> Router {
    Router::new().route("/details/{id}", get(details)).with_state(pod)
}

async fn details(State(pod): State<Pod>, ProductId(id): ProductId, caller: Caller) -> Json<Details> {
    let second = pod.version() != "v1";
    Json(Details {
        id,
        author: "William Shakespeare".into(),
        year: 1595,
        binding: if second { "hardcover" } else { "paperback" }.into(),
        pages: if second { 224 } else { 200 },
        publisher: if second { "PublisherB" } else { "PublisherA" }.into(),
        language: "English".into(),
        isbn_10: "1234567890".into(),
        isbn_13: "123-1234567890".into(),
        source: second.then(|| "library catalogue".into()),
        origin: pod.answering(caller),
    })
}
