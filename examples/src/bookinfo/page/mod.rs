//! The product page as HTML. maud escapes every value that is spliced in, so names and reviews are text, never markup.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    call::CallError,
    details::Details,
    origin::Origin,
    productpage::{SUMMARY, TITLE},
    reviews::{Rating, Review, Reviews},
};

const STYLE: &str = include_str!("style.css");

/// Everything that the page shows.
pub(super) struct View<'a> {
    pub(super) origin: Origin,
    pub(super) user: Option<&'a str>,
    pub(super) details: Result<Details, CallError>,
    pub(super) reviews: Result<Reviews, CallError>,
    pub(super) trace_id: Option<&'a str>,
}

/// What Istio's page says where a service does not answer.
pub(super) fn unavailable(what: &str) -> String {
    format!("Sorry, product {what} are currently unavailable for this book.")
}

pub(super) fn product(view: &View<'_>) -> Markup {
    let content = html! {
        section.book aria-labelledby="title" {
            div.cover aria-hidden="true" { span { "The" br; "Comedy" br; "of Errors" } small { "Shakespeare" } }
            div {
                h1 #title { (TITLE) }
                p.summary { (SUMMARY) }
                (details(&view.details))
            }
        }
        section.reviews aria-labelledby="reviews" {
            div.heading { h2 #reviews { "Reviews" } (shown_by(&view.reviews)) }
            @match &view.reviews {
                Ok(answer) => div.cards { @for entry in &answer.reviews { (review(entry)) } },
                Err(error) => (failure("reviews", *error)),
            }
        }
        (served_by(view))
    };
    document(TITLE, view.user, true, &content)
}

/// A page with one thing to say.
pub(super) fn message(title: &str, text: &str) -> Markup {
    let content = html! {
        section.notice { h1 { (title) } p { (text) } p { a href="/productpage" { "Back to the book" } } }
    };
    document(title, None, false, &content)
}

fn document(title: &str, user: Option<&str>, session: bool, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Bookinfo" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                svg.defs aria-hidden="true" {
                    symbol id="star" viewBox="0 0 24 24" {
                        path d="M12 2.2l3 6.3 6.9.9-5 4.8 1.2 6.9L12 17.8l-6.1 3.3 1.2-6.9-5-4.8 6.9-.9z" {}
                    }
                }
                header {
                    a.brand href="/productpage" { "Bookinfo" }
                    @if session { (sign_in_or_out(user)) }
                }
                main { (content) }
            }
        }
    }
}

fn sign_in_or_out(user: Option<&str>) -> Markup {
    html! {
        @if let Some(user) = user {
            p.session { span { "Signed in as " strong { (user) } } a.button href="/logout" { "Sign out" } }
        } @else {
            form.session action="/login" method="post" {
                label for="username" { "Name" }
                input #username name="username" required maxlength="64" placeholder="jason" autocomplete="username"
                    autocapitalize="none" spellcheck="false";
                button type="submit" { "Sign in" }
            }
        }
    }
}

fn details(details: &Result<Details, CallError>) -> Markup {
    let book = match details {
        Ok(book) => book,
        Err(error) => return failure("details", *error),
    };
    let facts: [(&str, &dyn std::fmt::Display); 7] = [
        ("Author", &book.author),
        ("First performed", &book.year),
        ("Binding", &book.binding),
        ("Pages", &book.pages),
        ("Publisher", &book.publisher),
        ("ISBN-10", &book.isbn_10),
        ("ISBN-13", &book.isbn_13),
    ];
    html! {
        dl.facts {
            @for (name, value) in facts { div { dt { (name) } dd { (value) } } }
            div { dt { "Language" } dd { (book.language) } }
            @if let Some(source) = &book.source { div { dt { "Source" } dd { (source) } } }
        }
    }
}

fn shown_by(reviews: &Result<Reviews, CallError>) -> Markup {
    let Ok(reviews) = reviews else { return html! {} };
    html! { p.badge { strong { (reviews.origin.podname) } " · " (stars_of(reviews)) } }
}

fn stars_of(reviews: &Reviews) -> &'static str {
    let mut shown = "no stars";
    for review in &reviews.reviews {
        match &review.rating {
            Some(Rating::Stars { color, .. }) if color == "red" => return "red stars",
            Some(Rating::Stars { .. }) => return "black stars",
            Some(Rating::Unavailable { .. }) => shown = "stars unavailable",
            None => {}
        }
    }
    shown
}

fn review(review: &Review) -> Markup {
    html! {
        article.card {
            @match &review.rating {
                Some(Rating::Stars { stars, color }) => (star_row(*stars, color)),
                Some(Rating::Unavailable { error }) => p.failure role="alert" { (error) },
                None => {},
            }
            blockquote { p { (review.text) } }
            p.reviewer { (review.reviewer) }
        }
    }
}

fn star_row(stars: u8, color: &str) -> Markup {
    let class = if color == "red" { "stars red" } else { "stars black" };
    html! {
        p class=(class) role="img" aria-label={ (stars) " of 5 stars" } {
            @for position in 1..=5 {
                svg class=(if position <= stars { "on" } else { "off" }) aria-hidden="true" { use href="#star" {} }
            }
        }
    }
}

fn failure(what: &str, error: CallError) -> Markup {
    html! {
        div.failure role="alert" { p { strong { (unavailable(what)) } } p { "The call to " (what) ": " (error) "." } }
    }
}

/// The strip at the end: which versions answered, to whom, and the trace that tells the rest.
fn served_by(view: &View<'_>) -> Markup {
    let reviews = view.reviews.as_ref().ok();
    let details = view.details.as_ref().ok();
    let ratings = match reviews {
        Some(Reviews { ratings_podname: Some(podname), .. }) => podname,
        Some(reviews) if stars_of(reviews) == "no stars" => "not asked",
        Some(_) => "no answer",
        None => "unknown",
    };
    let caller = [details.map(|d| &d.origin), reviews.map(|r| &r.origin)].into_iter().flatten();
    let caller = caller.filter_map(|origin| origin.caller.as_deref()).next();
    html! {
        footer {
            h2 { "Who answered" }
            dl.strip {
                div { dt { "productpage" } dd { (view.origin.podname) } }
                div { dt { "details" } dd { (details.map_or("no answer", |d| &d.origin.podname)) } }
                div { dt { "reviews" } dd { (reviews.map_or("no answer", |r| &r.origin.podname)) } }
                div { dt { "ratings" } dd { (ratings) } }
                @if let Some(id) = view.trace_id { div.wide { dt { "trace" } dd { code { (id) } } } }
                @if let Some(id) = caller { div.wide { dt { "called with mutual TLS as" } dd { code { (id) } } } }
            }
        }
    }
}

#[cfg(test)]
mod tests;
