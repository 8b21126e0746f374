//! `loadBalancer.consistentHash`.

use std::time::Duration;

use mesh_core::config::parse_duration;

use super::{read::Read, spec};
use crate::{ConsistentHash, HashCookie, HashKey, HashTable, Maglev, Ring};

impl Read<'_> {
    /// istio validateLoadBalancer, and what the tables ask for.
    pub(super) fn consistent_hash(&mut self, path: &str, spec: &spec::ConsistentHash) -> ConsistentHash {
        let keys = [
            spec.http_header_name.is_some(),
            spec.http_cookie.is_some(),
            spec.use_source_ip.is_some(),
            spec.http_query_parameter_name.is_some(),
        ];
        if keys.into_iter().filter(|given| *given).count() > 1 {
            let message = "only one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName can be set";
            self.error(path, message);
        }
        let hash = ConsistentHash::new(self.hash_table(path, spec));
        match self.hash_key(path, spec) {
            Some(key) => hash.with_key(key),
            None => hash,
        }
    }

    fn hash_key(&mut self, path: &str, spec: &spec::ConsistentHash) -> Option<HashKey> {
        if let Some(name) = &spec.http_header_name {
            return self.valid(format!("{path}.httpHeaderName"), HashKey::header(name));
        }
        if let Some(cookie) = &spec.http_cookie {
            return self.hash_cookie(&format!("{path}.httpCookie"), cookie);
        }
        if let Some(name) = &spec.http_query_parameter_name {
            if name.is_empty() {
                self.error(format!("{path}.httpQueryParameterName"), "a query parameter has a name");
            }
            return Some(HashKey::query_parameter(name));
        }
        spec.use_source_ip.unwrap_or(false).then(HashKey::source_ip)
    }

    fn hash_cookie(&mut self, path: &str, spec: &spec::HttpCookie) -> Option<HashKey> {
        if spec.name.is_empty() {
            self.error(format!("{path}.name"), "name required for HttpCookie");
            return None;
        }
        let mut cookie = HashCookie::new(&spec.name).with_path(&spec.path);
        if let Some(ttl) = spec.ttl.as_deref() {
            // Any duration: zero is a session, and parts of a second do not count.
            let ttl = parse_duration(ttl).map_err(|error| self.error(format!("{path}.ttl"), error.to_string()));
            cookie = cookie.with_ttl(ttl.unwrap_or(Duration::ZERO));
        }
        for (index, attribute) in spec.attributes.iter().enumerate() {
            if attribute.name.is_empty() {
                self.error(format!("{path}.attributes[{index}].name"), "an attribute has a name");
            }
            cookie = cookie.with_attribute(&attribute.name, &attribute.value);
        }
        self.valid(path.to_owned(), HashKey::cookie(cookie))
    }

    fn valid<E: std::fmt::Display>(&mut self, path: String, key: Result<HashKey, E>) -> Option<HashKey> {
        key.map_err(|error| self.error(path, error.to_string())).ok()
    }

    fn hash_table(&mut self, path: &str, spec: &spec::ConsistentHash) -> HashTable {
        // istio ApplyRingHashLoadBalancer: 0 is not set.
        let old_size = spec.minimum_ring_size.filter(|size| *size > 0);
        if old_size.is_some() {
            let path = format!("{path}.minimumRingSize");
            let message = "consistent hash MinimumRingSize is deprecated, use ConsistentHashLB's RingHash \
                           configuration instead";
            self.warn(&path, message);
            if spec.ring_hash.is_some() || spec.maglev.is_some() {
                self.error(path, "only one of MinimumRingSize or Maglev/Ringhash can be specified");
            }
        }
        match (&spec.ring_hash, &spec.maglev) {
            (Some(_), Some(_)) => {
                self.error(path, "only one of ringHash and maglev can be set");
                HashTable::DEFAULT_RING
            }
            (Some(ring), None) => self.ring(format!("{path}.ringHash.minimumRingSize"), ring.minimum_ring_size),
            (None, Some(maglev)) => self.maglev(format!("{path}.maglev.tableSize"), maglev.table_size),
            (None, None) => self.ring(format!("{path}.minimumRingSize"), old_size),
        }
    }

    fn ring(&mut self, path: String, size: Option<u64>) -> HashTable {
        let minimum_size = size.filter(|size| *size > 0).unwrap_or(Ring::DEFAULT_MINIMUM_SIZE);
        if minimum_size > Ring::MAX_SIZE {
            // envoy RingHashLbConfig.minimum_ring_size: such a cluster is refused.
            self.error(path, format!("minimumRingSize must be at most {}", Ring::MAX_SIZE));
        }
        HashTable::Ring { minimum_size }
    }

    /// istio validateLoadBalancer.
    fn maglev(&mut self, path: String, size: Option<u64>) -> HashTable {
        let size = size.unwrap_or_default();
        if size == 0 {
            self.error(path, "tableSize must be set for maglev");
            return HashTable::DEFAULT_MAGLEV;
        }
        match u32::try_from(size) {
            Ok(size) if size < Maglev::MAX_SIZE => {
                if !is_prime(size) {
                    self.error(path, "tableSize must be a prime number for maglev");
                }
                HashTable::Maglev { size }
            }
            _ => {
                self.error(path, format!("tableSize must be less than {} for maglev", Maglev::MAX_SIZE));
                HashTable::DEFAULT_MAGLEV
            }
        }
    }
}

fn is_prime(number: u32) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number > 1 && divisors.all(|divisor| !number.is_multiple_of(divisor))
}
