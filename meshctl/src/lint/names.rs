//! Names as Istio resolves them, and lists as it prints them.

use mesh_core::service_host;

/// The host that a name in an object of `namespace` means, lower-cased.
///
/// istio ResolveShortnameToFQDN: a name without a dot is a service of the rule's own namespace; `*` and IP addresses are
/// left alone.
pub(super) fn resolve(host: &str, namespace: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host.is_empty() || host.contains(['.', ':', '*']) { host } else { service_host(&host, namespace).to_string() }
}

/// Do two hosts overlap, wildcards in either? istio host.Name.Matches.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let covers = |wide: &str, narrow: &str| match wide.strip_prefix('*') {
        Some(suffix) => narrow.strip_prefix('*').unwrap_or(narrow).ends_with(suffix),
        None => wide == narrow,
    };
    covers(a, b) || covers(b, a)
}

/// The wildcards that cover a host, the closest first, with `*` last: `*.b.c`, `*.c`, `*` for `a.b.c`.
pub(super) fn wildcards(host: &str) -> impl Iterator<Item = &str> {
    let below = host.strip_prefix('*').unwrap_or(host);
    let from = usize::from(below.starts_with('.') && host.starts_with('*'));
    below.match_indices('.').skip(from).map(|(at, _)| &below[at..]).chain([""])
}

/// So many are named in one message.
pub(super) const NAMED: usize = 10;

/// The first of many names, and how many more there are: a message for each of thousands does not name thousands.
pub(super) fn few(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(NAMED);
    if more > 0 {
        names.truncate(NAMED);
        names.push(format!("and {more} more"));
    }
    names
}

/// Go's `%v` of a list of strings.
pub(super) fn go_list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.as_ref().to_owned()).collect();
    format!("[{}]", items.join(" "))
}

/// Kubernetes' print of a selector: sorted `key=value` pairs.
pub(super) fn selector(labels: &[(&str, &str)]) -> String {
    let mut pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_where_the_rule_stands() {
        for (host, resolved) in [
            ("reviews", "reviews.ns.svc.cluster.local"),
            ("Reviews", "reviews.ns.svc.cluster.local"),
            ("reviews.other", "reviews.other"),
            ("*", "*"),
            ("", ""),
            ("::1", "::1"),
        ] {
            assert_eq!(resolve(host, "ns"), resolved);
        }
    }

    #[test]
    fn hosts_overlap_either_way() {
        for (a, b, expected) in [
            ("*.foo.com", "a.foo.com", true),
            ("a.foo.com", "*.foo.com", true),
            ("*.foo.com", "foo.com", false),
            ("*", "a", true),
            ("*.d", "*.productpage.d", true),
            ("*.c", "*.productpage.d", false),
            ("a", "a", true),
        ] {
            assert_eq!(overlap(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_host_is_covered_by_the_wildcards_above_it() {
        let all = |host| wildcards(host).collect::<Vec<_>>();
        assert_eq!(all("a.b.c"), [".b.c", ".c", ""]);
        // A wildcard by those above it, and not by itself.
        assert_eq!(all("*.b.c"), [".c", ""]);
        assert_eq!(all("a"), [""]);
    }
}
