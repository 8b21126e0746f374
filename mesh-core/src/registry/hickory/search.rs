//! Which whole names a name may mean.

use std::io;

use hickory_resolver::{config::ResolverConfig, proto::rr::Name};

/// Search domains and `ndots` (resolv.conf(5)).
#[derive(Debug)]
pub(super) struct Search {
    domains: Vec<Name>,
    ndots: usize,
}

impl Search {
    /// resolv.conf(5): "By default, the search list contains one entry, the local domain name", which is no more than a
    /// default: where there is a list, the domain is not searched.
    pub(super) fn new(config: &ResolverConfig, ndots: usize) -> Self {
        let domains = match config.search() {
            [] => config.domain().into_iter().cloned().collect(),
            search => search.to_vec(),
        };
        Self { domains: domains.into_iter().filter(|domain| !domain.is_root()).collect(), ndots }
    }

    /// The names to ask for, the first first.
    ///
    /// resolv.conf(5), ndots: "a threshold for the number of dots which must appear in a name … before an initial
    /// absolute query will be made. … if there are any dots in a name, the name will be tried first as an absolute name
    /// before any search list elements are appended to it." A name that ends with a dot is a whole one.
    pub(super) fn names(&self, host: &str) -> io::Result<Vec<Name>> {
        let invalid =
            |error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no name of DNS: {error}"));
        let mut whole = Name::from_ascii(host).map_err(invalid)?.to_lowercase();
        if whole.num_labels() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root is no host"));
        }
        if whole.is_fqdn() {
            return Ok(vec![whole]);
        }
        let dots = host.bytes().filter(|byte| *byte == b'.').count();
        // A name that is too long with a domain is not in it.
        let searched = self.domains.iter().filter_map(|domain| whole.clone().append_domain(domain).ok());
        let mut names: Vec<Name> = searched.collect();
        whole.set_fqdn(true);
        names.insert(if dots >= self.ndots { 0 } else { names.len() }, whole);
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(domain: Option<&str>, search: &[&str], ndots: usize, host: &str) -> Vec<String> {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let search = search.iter().copied().map(name).collect();
        let config = ResolverConfig::from_parts(domain.map(name), search, Vec::new());
        Search::new(&config, ndots).names(host).unwrap().iter().map(Name::to_ascii).collect()
    }

    #[test]
    fn names_are_searched_as_the_operating_system_does() {
        // resolv.conf(5): as a pod of Kubernetes has it, ndots:5.
        let pod = ["ns.svc.cluster.local", "svc.cluster.local"];
        let short = ["db.ns.svc.cluster.local.", "db.svc.cluster.local.", "db."];
        assert_eq!(names(None, &pod, 5, "db"), short);
        assert_eq!(names(None, &pod, 5, "DB"), short);
        let whole = ["a.b.test.ns.svc.cluster.local.", "a.b.test.svc.cluster.local.", "a.b.test."];
        assert_eq!(names(None, &pod, 5, "a.b.test"), whole);
        assert_eq!(names(None, &pod, 5, "a.b.test."), ["a.b.test."]);
        assert_eq!(names(None, &pod, 1, "a.b"), ["a.b.", "a.b.ns.svc.cluster.local.", "a.b.svc.cluster.local."]);
        assert_eq!(names(Some("corp.test"), &[], 1, "db"), ["db.corp.test.", "db."]);
        assert_eq!(names(Some("corp.test"), &["x.test"], 1, "db"), ["db.x.test.", "db."]);
        assert_eq!(names(None, &[], 1, "_http._tcp.db.test"), ["_http._tcp.db.test."]);
    }

    #[test]
    fn what_is_no_name_is_refused_and_not_asked_for() {
        let search = Search::new(&ResolverConfig::from_parts(None, Vec::new(), Vec::new()), 1);
        let long = ["a"; 130].join(".");
        let label = "a".repeat(64);
        for host in ["", ".", "a..b", ".a", &long, &label, "\\", "\\25", "é.test", "a\u{0}b..c"] {
            assert!(search.names(host).is_err(), "{host:?}");
        }
        // One that is too long with a search domain alone is asked for without.
        let domain = Name::from_ascii("d".repeat(60)).unwrap();
        let search = Search::new(&ResolverConfig::from_parts(None, vec![domain], Vec::new()), 1);
        let fits = ["a"; 120].join(".");
        assert_eq!(search.names(&fits).unwrap().len(), 1);
    }
}
