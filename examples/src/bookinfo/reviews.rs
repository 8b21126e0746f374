//! `reviews`: what readers think. v1 without stars, v2 with black ones, v3 with red ones.

use std::time::Duration;

use axum::{Json, Router, extract::State, http::HeaderValue, routing::get};
use serde::{Deserialize, Serialize};

use super::{
    app::{AppClient, EndUser, ProductId},
    call::get_json,
    origin::{Caller, Origin, Pod},
    ratings::Ratings,
};

/// What `GET /reviews/{id}` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reviews {
    pub(super) id: String,
    pub(super) reviews: Vec<Review>,
    /// Which ratings answered, where they were asked and did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ratings_podname: Option<String>,
    #[serde(flatten)]
    pub(super) origin: Origin,
}

/// One review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Review {
    pub(super) reviewer: String,
    pub(super) text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rating: Option<Rating>,
}

/// Its rating, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Rating {
    Stars { stars: u8, color: String },
    Unavailable { error: String },
}

const REVIEWS: [(&str, &str); 2] = [
    ("Reviewer1", "Two pairs of twins, one town, no end of confusion. I laughed out loud on the train, twice."),
    ("Reviewer2", "Light and quick, and as funny on the page as on the stage. The great tragedies run deeper, though."),
];

/// What a version shows, and how long it waits for it.
#[derive(Clone, Copy)]
struct Shown {
    color: &'static str,
    patience: Duration,
}

/// istio samples/bookinfo (reference 5): "reviews→ratings 10 s when stars are black (v2), else 2.5 s (v3); v1 never
/// calls ratings". With 7 s of injected delay v2 waits while productpage gives up: the bug the fault demo finds.
fn shown(version: &str) -> Option<Shown> {
    match version {
        "v1" => None,
        "v2" => Some(Shown { color: "black", patience: Duration::from_secs(10) }),
        _ => Some(Shown { color: "red", patience: Duration::from_millis(2_500) }),
    }
}

#[derive(Clone)]
struct App {
    pod: Pod,
    client: AppClient,
}

pub(super) fn router(pod: Pod, client: AppClient) -> Router {
    Router::new().route("/reviews/{id}", get(reviews)).with_state(App { pod, client })
}

async fn reviews(
    State(app): State<App>,
    ProductId(id): ProductId,
    EndUser(end_user): EndUser,
    caller: Caller,
) -> Json<Reviews> {
    let (rating_of, ratings_podname) = match shown(app.pod.version()) {
        Some(shown) => ratings(&app.client, id, end_user, shown).await,
        None => (RatingOf::NotShown, None),
    };
    let reviews = REVIEWS.map(|(reviewer, text)| Review {
        reviewer: reviewer.into(),
        text: text.into(),
        rating: rating_of.reviewer(reviewer),
    });
    Json(Reviews { id: id.to_string(), reviews: reviews.into(), ratings_podname, origin: app.pod.answering(caller) })
}

/// The answer about ratings, for every reviewer.
enum RatingOf {
    NotShown,
    Unavailable,
    Known(Ratings, &'static str),
}

impl RatingOf {
    fn reviewer(&self, reviewer: &str) -> Option<Rating> {
        match self {
            Self::NotShown => None,
            Self::Unavailable => Some(Rating::Unavailable { error: "Ratings service is currently unavailable".into() }),
            Self::Known(ratings, color) => {
                let stars = *ratings.ratings.get(reviewer)?;
                Some(Rating::Stars { stars, color: (*color).into() })
            }
        }
    }
}

async fn ratings(
    client: &AppClient,
    id: u64,
    end_user: Option<HeaderValue>,
    Shown { color, patience }: Shown,
) -> (RatingOf, Option<String>) {
    let url = format!("http://ratings:9080/ratings/{id}");
    match get_json::<Ratings>(client, &url, end_user.as_ref(), patience).await {
        Ok(ratings) => {
            let podname = ratings.origin.podname.clone();
            (RatingOf::Known(ratings, color), Some(podname))
        }
        // A review without stars is still a review: the error stays where the stars would be.
        Err(_) => (RatingOf::Unavailable, None),
    }
}
