//! From a deployment to its router, and what all routers share.

use axum::{
    Json, Router,
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::{Deployment, ServiceKind, details, origin::Pod, productpage, ratings, reviews};

/// The client that the applications call each other with.
pub type AppClient = mesh::Client;

/// Who the user is. Set by productpage, copied on by reviews and details; traffic rules match on it.
pub(super) const END_USER: HeaderName = HeaderName::from_static("end-user");

/// The application of a deployment, named `pod` in its answers, as a router that any HTTP server can serve.
pub fn router(deployment: Deployment, pod: &str, client: AppClient) -> Router {
    let pod = Pod::new(pod, deployment);
    let app = match deployment.service {
        ServiceKind::Productpage => productpage::router(pod.clone(), client),
        ServiceKind::Details => details::router(pod.clone()),
        ServiceKind::Reviews => reviews::router(pod.clone(), client),
        ServiceKind::Ratings => ratings::router(pod.clone()),
    };
    let health = Json(json!({ "status": format!("{} {} is healthy", deployment.service.name(), pod.version()) }));
    app.route("/health", get(async move || health.clone()))
}

/// The header `end-user` of the request at hand.
pub(super) struct EndUser(pub(super) Option<HeaderValue>);

impl<S: Sync> FromRequestParts<S> for EndUser {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.headers.get(END_USER).cloned()))
    }
}

/// A book's number, as every path but productpage's own ends in it.
pub(super) struct ProductId(pub(super) u64);

impl<S: Send + Sync> FromRequestParts<S> for ProductId {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        match axum::extract::Path::<u64>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(id)) => Ok(Self(id)),
            Err(_) => {
                let body = json!({ "error": "please give a numeric product ID" });
                Err((StatusCode::BAD_REQUEST, Json(body)).into_response())
            }
        }
    }
}
