//! The first route that matches, without asking each.
//!
//! Rules are read from the top, so the obvious lookup costs as much as the list is long. Here the conditions of all
//! routes are sorted into buckets once: by path (exact texts and prefixes in a trie, regexes by a literal that they
//! need), and where many routes share a path, again by a header, a query parameter, the method or the authority. A
//! request visits the few buckets that its own values name. Each candidate in them is still asked its whole condition,
//! unless the path was all of it, and the lowest number wins: so the answer is the scan's, and the buckets only decide
//! who is asked.
//!
//! ```text
//!  path ──▶ trie ──▶ /api/v1/svc42        ──▶ 7
//!                    /reviews             ──▶ by header end-user ──▶ jason ──▶ 3
//!                                         │                      └▶ jane  ──▶ 5
//!                                         └▶ without a header    ──▶ 9
//!  path ──▶ literals ─▶ "/items/"         ──▶ 12 (a regex: ask it)
//! ```
//!
//! Each route lies in one bucket (a regex with alternatives in up to four at the first levels), so memory grows with
//! the routes and not with their combinations.

mod build;
mod seen;
mod texts;
mod trie;

use std::sync::Arc;

use http::HeaderName;

use crate::{RequestHead, matcher::RouteMatch};
use seen::Seen;
use texts::Texts;

/// The routes of a virtual host by what they ask for.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Box<[Candidates]>,
    root: Bucket,
}

/// Nothing, one candidate, or an index into the buckets: most buckets hold one route and cost no further cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket(u32);

/// A route's number, and whether it is still to be asked.
type Candidate = Bucket;

/// The candidates of a bucket.
#[derive(Debug)]
enum Candidates {
    /// In order.
    Few(Box<[Candidate]>),
    /// By one more text of the request.
    Split(Box<Split>),
}

#[derive(Debug)]
struct Split {
    /// No candidate has a lower number.
    least: u32,
    by: By,
    /// Those that do not ask for it.
    rest: Bucket,
}

/// Buckets by a part of the request.
#[derive(Debug)]
enum By {
    Path(Texts),
    Method(Texts),
    Authority(Texts),
    /// By name, in order.
    Header(Box<[(HeaderName, Texts)]>),
    Query(Box<[(Arc<str>, Texts)]>),
}

impl Bucket {
    const NONE: Self = Self(u32::MAX);
    const MANY: u32 = 1 << 31;
    const ASK: u32 = 1 << 30;

    fn candidate(number: u32, ask: bool) -> Self {
        assert!(number < Self::ASK, "a virtual host has less than a billion routes");
        Self(if ask { number | Self::ASK } else { number })
    }

    fn is_some(self) -> bool {
        self != Self::NONE
    }

    fn number(self) -> u32 {
        self.0 & !Self::ASK
    }
}

impl Index {
    pub(super) fn new<'a>(matchers: impl IntoIterator<Item = Option<&'a RouteMatch>>) -> Self {
        build::build(matchers.into_iter().collect())
    }

    /// The lowest number of a route that matches. `ask` says whether the route of a number does.
    ///
    /// istio networking/v1alpha3 VirtualService.http: "The first rule matching an incoming request is used."
    pub(super) fn first(&self, head: &RequestHead<'_>, ask: impl Fn(usize) -> bool) -> Option<usize> {
        let mut search = Search { buckets: &self.buckets, head, ask, best: u32::MAX };
        search.bucket(self.root);
        (search.best < u32::MAX).then_some(search.best as usize)
    }
}

struct Search<'a, F> {
    buckets: &'a [Candidates],
    head: &'a RequestHead<'a>,
    ask: F,
    best: u32,
}

impl<F: Fn(usize) -> bool> Search<'_, F> {
    fn bucket(&mut self, bucket: Bucket) {
        if bucket.0 & Bucket::MANY == 0 {
            self.candidate(bucket);
        } else if bucket.is_some() {
            match &self.buckets[(bucket.0 & !Bucket::MANY) as usize] {
                Candidates::Few(few) => {
                    for candidate in few {
                        if candidate.number() >= self.best || self.candidate(*candidate) {
                            break;
                        }
                    }
                }
                Candidates::Split(split) if split.least < self.best => self.split(split),
                Candidates::Split(_) => {}
            }
        }
    }

    fn candidate(&mut self, candidate: Candidate) -> bool {
        let number = candidate.number();
        let wins = number < self.best && (candidate.0 & Bucket::ASK == 0 || (self.ask)(number as usize));
        if wins {
            self.best = number;
        }
        wins
    }

    fn split(&mut self, split: &Split) {
        let head = self.head;
        let mut seen = Seen::new();
        let mut found = |bucket| {
            if seen.is_first(bucket) {
                self.bucket(bucket);
            }
        };
        match &split.by {
            By::Path(texts) => texts.visit(head.path.as_bytes(), found),
            By::Method(texts) => texts.visit(head.method.as_bytes(), found),
            By::Authority(texts) => texts.visit(head.authority.as_bytes(), found),
            By::Header(names) => headers(names, head, found),
            By::Query(names) => {
                // A repeated parameter's later values are visited too: the candidates there are asked and refuse.
                for pair in head.query.unwrap_or_default().split('&') {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    if let Ok(at) = names.binary_search_by(|(known, _)| (**known).cmp(name)) {
                        names[at].1.visit(value.as_bytes(), &mut found);
                    }
                }
            }
        }
        self.bucket(split.rest);
    }
}

fn headers(names: &[(HeaderName, Texts)], head: &RequestHead<'_>, mut found: impl FnMut(Bucket)) {
    // Whichever are fewer: the names that routes ask for or those that the request has.
    if names.len() <= head.headers.keys_len() {
        for (name, texts) in names {
            for value in head.headers.get_all(name) {
                texts.visit(value.as_bytes().trim_ascii(), &mut found);
            }
        }
        return;
    }
    for (name, value) in head.headers {
        if let Ok(at) = names.binary_search_by(|(known, _)| known.as_str().cmp(name.as_str())) {
            names[at].1.visit(value.as_bytes().trim_ascii(), &mut found);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
