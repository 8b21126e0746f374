use axum::http::StatusCode;

use super::*;

fn details() -> Details {
    serde_json::from_str(
        r#"{"id": 0, "author": "A", "year": 1595, "type": "paperback", "pages": 200, "publisher": "P",
            "language": "English", "ISBN-10": "1", "ISBN-13": "2", "podname": "details-v1", "version": "v1"}"#,
    )
    .unwrap()
}

fn reviews(version: &str, rating: &str) -> Reviews {
    serde_json::from_str(&format!(
        r#"{{"id": "0", "podname": "reviews-{version}", "version": "{version}",
             "reviews": [{{"reviewer": "Reviewer1", "text": "Good" {rating}}}]}}"#
    ))
    .unwrap()
}

fn shown(user: Option<&str>, details: Result<Details, CallError>, reviews: Result<Reviews, CallError>) -> String {
    let trace_id = Some("0af7651916cd43dd8448eb211c80319c");
    product(&View { origin: Origin::default(), user, details, reviews, trace_id }).into_string()
}

#[test]
fn names_the_version_and_shows_its_stars() {
    let red = r#", "rating": {"stars": 4, "color": "red"}"#;
    let black = r#", "rating": {"stars": 4, "color": "black"}"#;
    let failed = r#", "rating": {"error": "Ratings service is currently unavailable"}"#;
    for (version, rating, expected) in [
        ("v1", "", "reviews-v1</strong> · no stars"),
        ("v2", black, "reviews-v2</strong> · black stars"),
        ("v3", red, "reviews-v3</strong> · red stars"),
        ("v3", red, r#"class="stars red" role="img" aria-label="4 of 5 stars""#),
        ("v2", failed, "Ratings service is currently unavailable"),
    ] {
        let page = shown(None, Ok(details()), Ok(reviews(version, rating)));
        assert!(page.contains(expected), "{expected} in {page}");
        assert_eq!(page.matches(r#"class="on""#).count(), if rating.contains("stars") { 4 } else { 0 });
        assert!(page.contains("0af7651916cd43dd8448eb211c80319c"));
    }
}

#[test]
fn says_what_is_unavailable() {
    let page = shown(None, Err(CallError::Status(StatusCode::from_u16(555).unwrap())), Err(CallError::Timeout));
    assert!(page.contains("Sorry, product reviews are currently unavailable for this book."));
    assert!(page.contains("Sorry, product details are currently unavailable for this book."));
    assert!(page.contains("answered 555"));
}

#[test]
fn text_stays_text() {
    let mut hostile = reviews("v1", "");
    hostile.reviews[0].text = "<img src=x onerror=alert(1)>".into();
    hostile.origin.podname = r#""><script>"#.into();
    let page = shown(Some("<script>alert(1)</script>"), Ok(details()), Ok(hostile));
    assert!(page.contains("Signed in as <strong>&lt;script&gt;"));
    assert!(!page.contains("<script") && !page.contains("<img"));
}
