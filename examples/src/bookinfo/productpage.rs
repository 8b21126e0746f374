//! `productpage`: the page, and the same as JSON.

use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    app::{AppClient, ProductId},
    call::CallError,
    origin::{Caller, Pod},
    page,
    session::{SignedIn, User},
    upstream::Upstream,
};

#[derive(Clone)]
struct App {
    pod: Pod,
    client: AppClient,
}

impl App {
    fn upstream(&self, user: Option<&User>) -> Upstream<'_> {
        Upstream { client: &self.client, end_user: user.map(User::end_user) }
    }
}

pub(super) fn router(pod: Pod, client: AppClient) -> Router {
    Router::new()
        .route("/", get(async || Redirect::to("/productpage")))
        .route("/productpage", get(show))
        .route("/login", post(sign_in))
        .route("/logout", get(sign_out))
        .route("/api/v1/products", get(products))
        .route("/api/v1/products/{id}", get(details))
        .route("/api/v1/products/{id}/reviews", get(reviews))
        .route("/api/v1/products/{id}/ratings", get(ratings))
        .with_state(App { pod, client })
}

/// The one book there is.
pub(super) const BOOK: u64 = 0;
pub(super) const TITLE: &str = "The Comedy of Errors";
pub(super) const SUMMARY: &str = "Two brothers, each named Antipholus, and their two servants, each named Dromio, \
    were parted as infants. One day all four are in Ephesus, none of them knowing of the others, and nobody in town \
    can tell who is who.";

async fn show(State(app): State<App>, SignedIn(user): SignedIn, caller: Caller) -> Response {
    let upstream = app.upstream(user.as_ref());
    // On one task, not spawned: the mesh knows by the task which request these calls belong to.
    let (details, reviews) = tokio::join!(upstream.details(BOOK), upstream.reviews(BOOK));
    // Where to find this request in a tracing system: the mesh began or continued the trace.
    let trace_id = mesh::trace::current().map(|context| context.trace_id().to_string());
    let view = page::View {
        origin: app.pod.answering(caller),
        user: user.as_ref().map(User::name),
        details,
        reviews,
        trace_id: trace_id.as_deref(),
    };
    html(StatusCode::OK, page::product(&view))
}

#[derive(Deserialize)]
struct SignIn {
    #[serde(default)]
    username: String,
}

async fn sign_in(Form(form): Form<SignIn>) -> Response {
    match User::new(&form.username) {
        Some(user) => ([(header::SET_COOKIE, user.sign_in())], Redirect::to("/productpage")).into_response(),
        None => {
            html(StatusCode::BAD_REQUEST, page::message("That name cannot be used", "Please give 1 to 64 letters."))
        }
    }
}

async fn sign_out() -> Response {
    ([(header::SET_COOKIE, User::sign_out())], Redirect::to("/productpage")).into_response()
}

async fn products() -> Response {
    Json(json!([{ "id": BOOK, "title": TITLE, "descriptionHtml": SUMMARY }])).into_response()
}

async fn details(State(app): State<App>, SignedIn(user): SignedIn, ProductId(id): ProductId) -> Response {
    answer(app.upstream(user.as_ref()).details(id).await, "details")
}

async fn reviews(State(app): State<App>, SignedIn(user): SignedIn, ProductId(id): ProductId) -> Response {
    answer(app.upstream(user.as_ref()).reviews(id).await, "reviews")
}

async fn ratings(State(app): State<App>, SignedIn(user): SignedIn, ProductId(id): ProductId) -> Response {
    answer(app.upstream(user.as_ref()).ratings(id).await, "ratings")
}

fn answer<T: Serialize>(result: Result<T, CallError>, what: &str) -> Response {
    match result {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => (error.status(), Json(json!({ "error": page::unavailable(what) }))).into_response(),
    }
}

fn html(status: StatusCode, markup: maud::Markup) -> Response {
    // No scripts, nothing from elsewhere: what slipped through escaping would still not run.
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; \
        frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    ];
    (status, headers, markup).into_response()
}
