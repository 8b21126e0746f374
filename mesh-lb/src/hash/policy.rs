use super::{BoundedLoad, HashKey, Maglev, Ring};

/// `loadBalancer.consistentHash`: by what a request is hashed, and into which table.
///
/// ```
/// use mesh_lb::{ClusterPolicy, ConsistentHash, HashKey, HashTable};
///
/// let by_user = ConsistentHash::new(HashTable::DEFAULT_MAGLEV).with_key(HashKey::header("x-user").unwrap());
/// let policy = ClusterPolicy::default().with_load_balancer(by_user.into());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsistentHash {
    key: Option<HashKey>,
    table: HashTable,
    bound: Option<BoundedLoad>,
}

/// The table that hashes are looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashTable {
    /// `ringHash`.
    Ring {
        /// `minimumRingSize`: at least about as many places. Default 1024; more is evener and takes 24 bytes each.
        minimum_size: u64,
    },
    /// `maglev`.
    Maglev {
        /// `tableSize`: a prime below 5,000,011. Default 65,537; about a hundred times the endpoints is even to 1 %.
        size: u32,
    },
}

impl HashTable {
    /// A ring of Istio's default size.
    pub const DEFAULT_RING: Self = Self::Ring { minimum_size: Ring::DEFAULT_MINIMUM_SIZE };
    /// A Maglev table of Envoy's default size.
    pub const DEFAULT_MAGLEV: Self = Self::Maglev { size: Maglev::DEFAULT_SIZE };
}

impl ConsistentHash {
    /// Without a key: every request goes to any endpoint, by its share of the table.
    #[must_use]
    pub fn new(table: HashTable) -> Self {
        Self { key: None, table, bound: None }
    }

    /// By this key.
    #[must_use]
    pub fn with_key(mut self, key: HashKey) -> Self {
        self.key = Some(key);
        self
    }

    /// With a bound on the load of an endpoint. Costs a look at the load of the chosen one, and of those that it is
    /// passed on to; Istio has no name for it.
    #[must_use]
    pub fn with_bounded_load(mut self, bound: BoundedLoad) -> Self {
        self.bound = Some(bound);
        self
    }

    /// What is hashed.
    #[must_use]
    pub fn key(&self) -> Option<&HashKey> {
        self.key.as_ref()
    }

    /// Where a hash is looked up.
    #[must_use]
    pub fn table(&self) -> HashTable {
        self.table
    }

    /// The bound on an endpoint's load.
    #[must_use]
    pub fn bounded_load(&self) -> Option<BoundedLoad> {
        self.bound
    }
}
