//! From a request's host and port to its virtual host.
//!
//! measured on Envoy 1.40 (t1): exact, then the longest `*suffix`, then `*`; without regard to case; `*` stands for at
//! least one character; a trailing dot counts.

use std::collections::HashMap;

use mesh_core::HostPattern;

/// DNS names are shorter. A longer host is no exact match.
const LONGEST: usize = 255;

/// Virtual hosts by host pattern and port.
#[derive(Debug)]
pub(super) struct HostMap<V> {
    exact: HashMap<Box<str>, Ports<V>>,
    /// Longest first.
    wildcards: Vec<(HostPattern, Ports<V>)>,
}

/// The virtual hosts of one host.
#[derive(Debug)]
struct Ports<V> {
    by_port: Vec<(u16, V)>,
    any: Option<V>,
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcards: Vec::new() }
    }
}

impl<V> Default for Ports<V> {
    fn default() -> Self {
        Self { by_port: Vec::new(), any: None }
    }
}

impl<V> Ports<V> {
    fn get(&self, port: u16) -> Option<&V> {
        self.by_port.iter().find(|(known, _)| *known == port).map(|(_, value)| value).or(self.any.as_ref())
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        self.by_port.iter().map(|(_, value)| value).chain(&self.any)
    }

    /// What came first stays.
    fn insert(&mut self, port: Option<u16>, value: V) {
        match port {
            None => {
                self.any.get_or_insert(value);
            }
            Some(port) if self.by_port.iter().all(|(known, _)| *known != port) => self.by_port.push((port, value)),
            Some(_) => {}
        }
    }
}

impl<V> HostMap<V> {
    /// Add a virtual host, for one port or for all that have none of their own. What came first stays.
    pub(super) fn insert(&mut self, pattern: &HostPattern, port: Option<u16>, value: V) {
        if let HostPattern::Exact(name) = pattern {
            self.exact.entry(Box::from(&**name)).or_default().insert(port, value);
            return;
        }
        let at = match self.wildcards.iter().position(|(known, _)| known == pattern) {
            Some(at) => at,
            None => {
                // Longest first, in order of insertion among equals.
                let at = self.wildcards.partition_point(|(known, _)| known.specificity() >= pattern.specificity());
                self.wildcards.insert(at, (pattern.clone(), Ports::default()));
                at
            }
        };
        self.wildcards[at].1.insert(port, value);
    }

    /// The virtual host of a host on a port.
    pub(super) fn find(&self, host: &str, port: u16) -> Option<&V> {
        let mut buffer = [0_u8; LONGEST];
        let host = lower(host, &mut buffer)?;
        let exact = self.exact.get(host).and_then(|ports| ports.get(port));
        exact.or_else(|| {
            self.wildcards.iter().filter(|(pattern, _)| pattern.matches(host)).find_map(|(_, ports)| ports.get(port))
        })
    }

    /// The virtual hosts of an exact host.
    pub(super) fn ports_of(&self, host: &str) -> impl Iterator<Item = &V> {
        let mut buffer = [0_u8; LONGEST];
        let ports = lower(host, &mut buffer).and_then(|host| self.exact.get(host));
        ports.into_iter().flat_map(Ports::values)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.exact.values().chain(self.wildcards.iter().map(|(_, ports)| ports)).flat_map(Ports::values)
    }
}

/// The host in lower case, without an allocation. `None` when it is empty or longer than any DNS name.
fn lower<'a>(host: &'a str, buffer: &'a mut [u8; LONGEST]) -> Option<&'a str> {
    if host.is_empty() || host.len() > LONGEST {
        return None;
    }
    if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(host);
    }
    let copy = &mut buffer[..host.len()];
    copy.copy_from_slice(host.as_bytes());
    copy.make_ascii_lowercase();
    std::str::from_utf8(copy).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // istio.md 1.0: "exact -> longest `*suffix`"
    #[test]
    fn the_most_specific_host_of_the_port_wins() {
        let mut map = HostMap::default();
        for (pattern, port, value) in [
            ("*", None, "any"),
            ("*.com", None, "com"),
            ("*.foo.com", Some(80), "foo"),
            ("a.foo.com", Some(80), "a"),
            ("a.foo.com", Some(81), "a81"),
            ("a.foo.com", Some(80), "late"),
        ] {
            map.insert(&pattern.parse().unwrap(), port, value);
        }
        for (host, port, expected) in [
            ("a.foo.com", 80, "a"),
            ("A.Foo.COM", 80, "a"),
            ("a.foo.com", 81, "a81"),
            // the exact host has nothing on this port
            ("a.foo.com", 82, "com"),
            ("b.foo.com", 80, "foo"),
            ("foo.com", 80, "com"),
            ("com", 80, "any"),
            ("a.foo.com.", 80, "any"),
        ] {
            assert_eq!(map.find(host, port), Some(&expected), "{host}:{port}");
        }
        assert_eq!(map.find("", 80), None);
        assert_eq!(map.find(&"a".repeat(256), 80), None);
    }
}
