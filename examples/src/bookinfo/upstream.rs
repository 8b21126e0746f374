//! What productpage asks of the other services, with the patience that Istio's has.

use std::time::Duration;

use axum::http::HeaderValue;

use super::{
    app::AppClient,
    call::{CallError, get_json},
    details::Details,
    ratings::Ratings,
    reviews::Reviews,
};

/// istio samples/bookinfo (reference 5): "productpage→details/reviews/ratings 3.0 s timeout".
const PATIENCE: Duration = Duration::from_secs(3);
/// istio samples/bookinfo (reference 5): "reviews called up to 2×", which makes 6 s of an injected delay.
const REVIEWS_CALLS: u32 = 2;

/// The other services, as one user sees them.
pub(super) struct Upstream<'a> {
    pub(super) client: &'a AppClient,
    pub(super) end_user: Option<HeaderValue>,
}

impl Upstream<'_> {
    pub(super) async fn details(&self, id: u64) -> Result<Details, CallError> {
        self.get(&format!("http://details:9080/details/{id}")).await
    }

    pub(super) async fn ratings(&self, id: u64) -> Result<Ratings, CallError> {
        self.get(&format!("http://ratings:9080/ratings/{id}")).await
    }

    pub(super) async fn reviews(&self, id: u64) -> Result<Reviews, CallError> {
        let url = format!("http://reviews:9080/reviews/{id}");
        let mut answer = self.get(&url).await;
        for _ in 1..REVIEWS_CALLS {
            if answer.is_ok() {
                break;
            }
            answer = self.get(&url).await;
        }
        answer
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, CallError> {
        get_json(self.client, url, self.end_user.as_ref(), PATIENCE).await
    }
}
