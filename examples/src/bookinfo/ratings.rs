//! `ratings`: stars by reviewer. v1 keeps what is posted to it, v2 reads a store that others fill.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    app::ProductId,
    origin::{Caller, Origin, Pod},
    store::{Stars, Store},
};

/// What `GET /ratings/{id}` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ratings {
    pub(super) id: u64,
    pub(super) ratings: Stars,
    #[serde(flatten)]
    pub(super) origin: Origin,
}

#[derive(Clone)]
struct App {
    pod: Pod,
    store: Arc<Store>,
}

pub(super) fn router(pod: Pod) -> Router {
    let app = App { pod, store: Arc::default() };
    Router::new().route("/ratings/{id}", get(read).post(rate)).with_state(app)
}

async fn read(State(app): State<App>, ProductId(id): ProductId, caller: Caller) -> Json<Ratings> {
    Json(Ratings { id, ratings: app.store.stars(id), origin: app.pod.answering(caller) })
}

async fn rate(
    State(app): State<App>,
    ProductId(id): ProductId,
    caller: Caller,
    body: Result<Json<Stars>, JsonRejection>,
) -> Response {
    // Istio's ratings v2 reads a database and takes no ratings itself.
    if app.pod.version() != "v1" {
        return refuse(StatusCode::NOT_IMPLEMENTED, "this version only reads its store");
    }
    let Ok(Json(stars)) = body else {
        return refuse(StatusCode::BAD_REQUEST, "please give a JSON object of stars by reviewer");
    };
    if stars.len() > 20 || stars.iter().any(|(reviewer, stars)| reviewer.len() > 100 || *stars > 5) {
        return refuse(StatusCode::BAD_REQUEST, "please give 0 to 5 stars by at most 20 reviewers");
    }
    match app.store.rate(id, stars) {
        Ok(()) => read(State(app), ProductId(id), caller).await.into_response(),
        Err(_) => refuse(StatusCode::INSUFFICIENT_STORAGE, "too many books are rated already"),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::bookinfo::Deployment;

    async fn ask(app: &Router, method: &str, path: &str, body: &'static str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let response = app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn app(name: &str) -> Router {
        router(Pod::new(name, name.parse::<Deployment>().unwrap()))
    }

    #[tokio::test]
    async fn v1_takes_ratings() {
        let app = app("ratings-v1");
        let (status, body) = ask(&app, "GET", "/ratings/0", "").await;
        assert_eq!(status, 200);
        assert!(
            body.starts_with(r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4},"podname":"ratings-v1""#),
            "{body}"
        );
        assert_eq!(ask(&app, "POST", "/ratings/0", r#"{"Reviewer1": 1}"#).await.0, 200);
        assert!(ask(&app, "GET", "/ratings/0", "").await.1.contains(r#""ratings":{"Reviewer1":1}"#));
        for (path, body) in [("/ratings/0", "[]"), ("/ratings/0", r#"{"a": 6}"#), ("/ratings/x", "{}")] {
            assert_eq!(ask(&app, "POST", path, body).await.0, 400, "{path} {body}");
        }
    }

    #[tokio::test]
    async fn v2_only_reads() {
        assert_eq!(ask(&app("ratings-v2"), "POST", "/ratings/0", "{}").await.0, 501);
        assert_eq!(ask(&app("ratings-v2"), "GET", "/ratings/7", "").await.0, 200);
    }
}
