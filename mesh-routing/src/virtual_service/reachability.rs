//! Rules that can never be used: a warning, in the words of Istio's analyzer.
//!
//! istio pkg/config/validation analyzeUnreachableHTTPRules. Rules without a name are numbered from 0. Where Istio compares
//! every pair of prefixes, this looks up the prefixes that an earlier rule has: thousands of rules take no longer per rule.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};

use mesh_core::config::{Document, Issues, Topic};

use super::spec::{HttpMatch, HttpRoute};

/// A match with more conditions than this is compared with those that have all of them, or none, and not with every
/// subset.
const MAX_SUBSETS_OF: usize = 5;

pub(super) fn warn(document: &Document, routes: &[HttpRoute], issues: &mut Issues) {
    // By their printed form: matches have no hash of their own, and there may be thousands.
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut prefixes = Prefixes::default();
    let mut catch_all = None;
    for (number, route) in routes.iter().enumerate() {
        let mut unused = |why: &str| {
            let message = format!("virtualService rule {} not used ({why})", rule_name(route, number));
            issues.push(document.warning(format!("http[{number}]"), message).about(Topic::UnreachableRule));
        };
        if route.r#match.is_empty() {
            if catch_all.is_some() {
                unused("only the last rule can have no matches");
            }
            catch_all = Some(number);
            continue;
        }
        if catch_all.is_some() {
            unused("route without matches defined before");
            continue;
        }
        let mut duplicates = 0;
        for (index, entry) in route.r#match.iter().enumerate() {
            let nameless = HttpMatch { name: String::new(), ..entry.clone() };
            let here = match_name(entry, index);
            let (this, that) = match seen.entry(format!("{nameless:?}")) {
                Entry::Occupied(known) => {
                    duplicates += 1;
                    (here, rule_name(&routes[*known.get()], *known.get()))
                }
                Entry::Vacant(new) => {
                    new.insert(number);
                    let Some(prefix) = prefix(entry) else { continue };
                    let conditions = conditions(entry);
                    let covering = prefixes.covering(prefix, &conditions);
                    prefixes.insert(prefix, &conditions, (number, index));
                    let Some((rule, earlier)) = covering else { continue };
                    let known = &routes[rule].r#match[earlier];
                    let shorter = self::prefix(known).unwrap_or_default();
                    let known = match_name(known, earlier);
                    let rule = rule_name(&routes[rule], rule);
                    (format!("{here} of prefix {prefix}"), format!("{known} of prefix {shorter} on {rule}"))
                }
            };
            let message = format!(
                "virtualService rule {} match {this} is not used (duplicate/overlapping match in rule {that})",
                rule_name(route, number),
            );
            let issue = document.warning(format!("http[{number}].match[{index}]"), message);
            issues.push(issue.about(Topic::IneffectiveMatch));
        }
        if duplicates == route.r#match.len() {
            let message =
                format!("virtualService rule {} not used (all matches used by prior rules)", rule_name(route, number));
            issues.push(document.warning(format!("http[{number}]"), message).about(Topic::UnreachableRule));
        }
    }
}

/// The URI's prefix, where the match has one; a catch-all's says nothing that a person would not see.
fn prefix(entry: &HttpMatch) -> Option<&str> {
    entry.uri.as_ref()?.prefix.as_deref().filter(|prefix| !prefix.is_empty())
}

/// Everything that a match asks for beside its URI, each condition on its own.
fn conditions(entry: &HttpMatch) -> Vec<String> {
    let mut conditions = BTreeSet::new();
    for (field, matcher) in [("scheme", &entry.scheme), ("method", &entry.method), ("authority", &entry.authority)] {
        conditions.extend(matcher.as_ref().map(|matcher| format!("{field} {matcher:?}")));
    }
    for (field, map) in
        [("header", &entry.headers), ("without", &entry.without_headers), ("query", &entry.query_params)]
    {
        conditions.extend(map.iter().map(|(name, matcher)| format!("{field} {name:?} {matcher:?}")));
    }
    conditions.extend(entry.port.map(|port| format!("port {port}")));
    conditions.extend(entry.source_labels.iter().map(|(key, value)| format!("label {key:?} {value:?}")));
    if !entry.gateways.is_empty() {
        conditions.insert(format!("gateways {:?}", entry.gateways));
    }
    if !entry.source_namespace.is_empty() {
        conditions.insert(format!("namespace {:?}", entry.source_namespace));
    }
    if !entry.ignore_uri_case {
        conditions.insert("case".into());
    }
    conditions.into_iter().collect()
}

/// The first match of each prefix and set of conditions.
#[derive(Default)]
struct Prefixes<'a> {
    known: HashMap<&'a str, HashMap<String, (usize, usize)>>,
    lengths: BTreeSet<usize>,
}

impl<'a> Prefixes<'a> {
    fn insert(&mut self, prefix: &'a str, conditions: &[String], at: (usize, usize)) {
        self.lengths.insert(prefix.len());
        self.known.entry(prefix).or_default().entry(conditions.join("\n")).or_insert(at);
    }

    /// The first earlier match of a shorter prefix that asks for nothing that this one does not ask for.
    fn covering(&self, prefix: &str, conditions: &[String]) -> Option<(usize, usize)> {
        let shorter = self.lengths.range(..prefix.len()).filter_map(|length| prefix.get(..*length));
        let known: Vec<_> = shorter.filter_map(|shorter| self.known.get(shorter)).collect();
        if known.is_empty() {
            return None;
        }
        let subsets = subsets(conditions);
        let found = known.iter().flat_map(|known| subsets.iter().filter_map(|subset| known.get(subset)));
        found.min().copied()
    }
}

fn subsets(conditions: &[String]) -> Vec<String> {
    if conditions.len() > MAX_SUBSETS_OF {
        return vec![String::new(), conditions.join("\n")];
    }
    let subset = |bits: usize| {
        let chosen = conditions.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
        chosen.map(|(_, condition)| condition.as_str()).collect::<Vec<_>>().join("\n")
    };
    (0..1 << conditions.len()).map(subset).collect()
}

fn match_name(entry: &HttpMatch, index: usize) -> String {
    if entry.name.is_empty() { format!("#{index}") } else { format!("{:?}", entry.name) }
}

fn rule_name(route: &HttpRoute, number: usize) -> String {
    if route.name.is_empty() { format!("#{number}") } else { format!("{:?}", route.name) }
}
