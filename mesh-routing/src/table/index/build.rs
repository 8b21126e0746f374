//! Sorting the routes into buckets.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use aho_corasick::AhoCorasick;

use super::{
    Bucket, By, Candidates, Index, Split,
    texts::{Literals, Texts},
    trie::{Ends, Trie},
};
use crate::{
    matcher::{Named, RouteMatch},
    re2::AnyOf,
    string_match::StringMatch,
};

/// So many candidates are asked one after the other: less than another look at the request costs.
const FEW: usize = 4;
/// Every split leaves at most three quarters of a bucket together, so this is for tables made to be slow.
const DEEPEST: u32 = 16;
/// Below, a regex with alternatives lies in one bucket only, so that copies of copies cannot fill the memory.
const DEEPEST_COPY: u32 = 1;

pub(super) fn build(matchers: Vec<Option<&RouteMatch>>) -> Index {
    let all = (0..).take(matchers.len()).collect();
    let mut builder = Builder { matchers, buckets: Vec::new() };
    let root = builder.bucket(all, false, 0);
    Index { buckets: builder.buckets.into(), root }
}

struct Builder<'a> {
    matchers: Vec<Option<&'a RouteMatch>>,
    buckets: Vec<Candidates>,
}

/// A part of the request that buckets can be made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Path,
    Header,
    Query,
    Method,
    Authority,
}

const PARTS: [Part; 5] = [Part::Path, Part::Header, Part::Query, Part::Method, Part::Authority];

/// Where a route may lie: a request that it matches visits all of these places.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place<'a> {
    /// Of the header or parameter.
    name: &'a str,
    key: Key<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key<'a> {
    Exact(Cow<'a, [u8]>, Case),
    Prefix(Cow<'a, [u8]>, Case),
    Inside(&'a [Box<[u8]>]),
    /// Of a header or parameter: it is there.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Case {
    Counts,
    Ignored,
}

/// Routes by their place, and those that have none.
struct Grouped<'a> {
    part: Part,
    groups: BTreeMap<Place<'a>, Vec<u32>>,
    rest: Vec<u32>,
}

impl Grouped<'_> {
    /// How many routes are left together at worst.
    fn left(&self) -> usize {
        self.rest.len() + self.groups.values().map(Vec::len).max().unwrap_or(0)
    }
}

impl<'a> Builder<'a> {
    /// A bucket of these routes, which are in order. `path` says that the path led here.
    fn bucket(&mut self, numbers: Vec<u32>, path: bool, depth: u32) -> Bucket {
        let Some(least) = numbers.first().copied() else { return Bucket::NONE };
        let candidates = if let Some(grouped) = self.worthwhile(&numbers, depth) {
            let by_path = grouped.part == Part::Path;
            let by = self.by(grouped.part, grouped.groups, path || by_path, depth + 1);
            Candidates::Split(Box::new(Split { least, by, rest: self.bucket(grouped.rest, path, depth + 1) }))
        } else {
            let candidate = |number: u32| Bucket::candidate(number, self.must_be_asked(number, path));
            if let [number] = *numbers {
                return candidate(number);
            }
            Candidates::Few(numbers.into_iter().map(candidate).collect())
        };
        self.buckets.push(candidates);
        let at = u32::try_from(self.buckets.len() - 1).ok().filter(|at| *at < Bucket::MANY - 1);
        Bucket(Bucket::MANY | at.expect("a virtual host has less than a billion routes"))
    }

    fn must_be_asked(&self, number: u32, path: bool) -> bool {
        self.matchers[number as usize].is_some_and(|matcher| {
            let settled = match &matcher.uri {
                None => true,
                Some(StringMatch::Regex(_)) => false,
                // The place is the text: that a segment ends there is asked.
                Some(StringMatch::Segments(prefix)) => path && prefix.is_empty(),
                Some(_) => path,
            };
            !settled || !matcher.asks_only_for_path(false)
        })
    }

    /// The split that parts the routes best, where one does.
    fn worthwhile(&self, numbers: &[u32], depth: u32) -> Option<Grouped<'a>> {
        if numbers.len() <= FEW || depth == DEEPEST {
            return None;
        }
        // The first of equals: the path is the cheapest to look at.
        let grouped = PARTS.iter().map(|part| self.group(*part, numbers, depth)).min_by_key(Grouped::left)?;
        (grouped.left() <= numbers.len() - numbers.len().div_ceil(4)).then_some(grouped)
    }

    /// Each route goes to the place that it shares with the fewest.
    fn group(&self, part: Part, numbers: &[u32], depth: u32) -> Grouped<'a> {
        let places = |number: u32| {
            let mut places = Vec::new();
            if let Some(matcher) = self.matchers[number as usize] {
                places_of(part, matcher, depth <= DEEPEST_COPY, &mut places);
            }
            places
        };
        let mut shared: HashMap<Place<'a>, usize> = HashMap::new();
        for place in numbers.iter().flat_map(|number| places(*number)) {
            *shared.entry(place).or_default() += 1;
        }
        let mut grouped = Grouped { part, groups: BTreeMap::new(), rest: Vec::new() };
        for number in numbers {
            match places(*number).into_iter().min_by_key(|place| shared[place]) {
                Some(place) => grouped.groups.entry(place).or_default().push(*number),
                None => grouped.rest.push(*number),
            }
        }
        grouped
    }

    fn by(&mut self, part: Part, groups: BTreeMap<Place<'a>, Vec<u32>>, path: bool, depth: u32) -> By {
        let mut names: BTreeMap<&'a str, Vec<(Key<'a>, Vec<u32>)>> = BTreeMap::new();
        for (place, numbers) in groups {
            names.entry(place.name).or_default().push((place.key, numbers));
        }
        let texts = names.into_iter().map(|(name, keys)| (name, self.texts(keys, path, depth)));
        let mut texts: Vec<_> = texts.collect();
        let mut alone = || texts.pop().expect("a split has a group").1;
        match part {
            Part::Path => By::Path(alone()),
            Part::Method => By::Method(alone()),
            Part::Authority => By::Authority(alone()),
            Part::Query => By::Query(texts.into_iter().map(|(name, texts)| (name.into(), texts)).collect()),
            Part::Header => {
                let name = |name: &str| name.parse().expect("it was the name of a header");
                By::Header(texts.into_iter().map(|(text, texts)| (name(text), texts)).collect())
            }
        }
    }

    fn texts(&mut self, keys: Vec<(Key<'a>, Vec<u32>)>, path: bool, depth: u32) -> Texts {
        let mut trees: [BTreeMap<Vec<u8>, Ends>; 2] = Default::default();
        let mut inside: BTreeMap<&[u8], BTreeSet<u32>> = BTreeMap::new();
        let mut any = Bucket::NONE;
        for (key, numbers) in keys {
            match key {
                Key::Exact(text, case) => {
                    trees[case as usize].entry(text.into_owned()).or_default().exact =
                        self.bucket(numbers, path, depth);
                }
                Key::Prefix(text, case) => {
                    trees[case as usize].entry(text.into_owned()).or_default().prefix =
                        self.bucket(numbers, path, depth);
                }
                Key::Inside(literals) => {
                    for literal in literals {
                        inside.entry(literal).or_default().extend(&numbers);
                    }
                }
                Key::Any => any = self.bucket(numbers, path, depth),
            }
        }
        let [plain, folded] = trees;
        Texts {
            trie: Trie::new(plain),
            folded: (!folded.is_empty()).then(|| Trie::new(folded)),
            literals: (!inside.is_empty()).then(|| self.literals(inside, path, depth)),
            any,
        }
    }

    fn literals(&mut self, inside: BTreeMap<&[u8], BTreeSet<u32>>, path: bool, depth: u32) -> Literals {
        let searcher = AhoCorasick::new(inside.keys()).expect("a route table is smaller than 4 GiB");
        let buckets = inside.into_values().map(|numbers| self.bucket(numbers.into_iter().collect(), path, depth));
        Literals { searcher, buckets: buckets.collect() }
    }
}

/// Where a route can be found by a part of the request; nowhere if it does not ask for it, or for too little.
fn places_of<'a>(part: Part, matcher: &'a RouteMatch, copies: bool, places: &mut Vec<Place<'a>>) {
    let case = if part == Part::Path && matcher.ignore_uri_case { Case::Ignored } else { Case::Counts };
    let mut alone = |condition: &'a Option<StringMatch>| {
        if let Some(condition) = condition {
            keys_of(condition, case, copies, |key| places.push(Place { name: "", key }));
        }
    };
    match part {
        Part::Path => alone(&matcher.uri),
        Part::Method => alone(&matcher.method),
        Part::Authority => alone(&matcher.authority),
        Part::Header => matcher.headers.iter().for_each(|header| named(header.name.as_str(), header, copies, places)),
        Part::Query => matcher.query.iter().for_each(|parameter| named(&parameter.name, parameter, copies, places)),
    }
}

fn named<'a, K>(name: &'a str, condition: &'a Named<K>, copies: bool, places: &mut Vec<Place<'a>>) {
    let before = places.len();
    if let Some(value) = &condition.value {
        keys_of(value, Case::Counts, copies, |key| places.push(Place { name, key }));
    }
    if places.len() == before {
        places.push(Place { name, key: Key::Any });
    }
}

fn keys_of<'a>(condition: &'a StringMatch, case: Case, copies: bool, mut push: impl FnMut(Key<'a>)) {
    let folded = |text: &'a str| match case {
        Case::Counts => Cow::Borrowed(text.as_bytes()),
        Case::Ignored => Cow::Owned(text.to_ascii_lowercase().into_bytes()),
    };
    match condition {
        StringMatch::Exact(text) => push(Key::Exact(folded(text), case)),
        StringMatch::Prefix(text) if text.is_empty() => {}
        StringMatch::Prefix(text) => push(Key::Prefix(folded(text), case)),
        StringMatch::Segments(text) if text.is_empty() => push(Key::Prefix(Cow::Borrowed(b"/"), case)),
        StringMatch::Segments(text) => push(Key::Prefix(folded(text), case)),
        StringMatch::Regex(regex) => {
            // istio ignoreUriCase: "only in the case of `exact` and `prefix` URI matches". A regex says it itself.
            let literals = regex.literals();
            if !literals.prefix.is_empty() {
                let case = if literals.ignores_case { Case::Ignored } else { Case::Counts };
                push(Key::Prefix(Cow::Borrowed(&literals.prefix), case));
            }
            let useful = |any: &&AnyOf| copies || any.len() == 1;
            literals.inside.iter().filter(useful).for_each(|any| push(Key::Inside(any)));
        }
    }
}
