//! The balancer of mesh-lb.

use std::{hint::black_box, sync::Arc};

use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName, clock, discover::Update};
use mesh_lb::{Cluster, ClusterPolicy, InFlight};
use rand::{SeedableRng as _, rngs::SmallRng};

use crate::table::Table;

const PICKS: u32 = 100_000;

fn endpoint(n: usize, weighted: bool) -> Arc<Endpoint> {
    let address = EndpointAddress::new(&format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250 + 1), 8080);
    Arc::new(Endpoint::new(address).with_weight(if weighted { [1, 2, 5, 3, 7][n % 5] } else { 1 }))
}

pub(crate) fn round(table: &mut Table, endpoints: usize) {
    for (name, weighted) in [("least request", false), ("least request, weighted", true)] {
        let service = ServiceName::of_host("reviews.default.svc.cluster.local", "default");
        let name_of = ClusterName { service, port: 9080, subset: None };
        let all: Vec<_> = (0..endpoints).map(|n| endpoint(n, weighted)).collect();
        let cluster = Cluster::new(name_of, ClusterPolicy::default(), all.clone());
        let (mut rng, now) = (SmallRng::seed_from_u64(1), clock::now());
        table.round(&format!("mesh-lb: {name}"), endpoints, PICKS, || {
            let member = cluster.pick(now, &mut rng, &[]);
            black_box(member.and_then(|member| InFlight::of(&cluster, member)));
        });
        let last = Arc::clone(&all[endpoints - 1]);
        table.round(&format!("mesh-lb: {name}: one goes and comes back"), endpoints, 500, || {
            cluster.apply([Update::Remove(last.address.clone())]);
            cluster.apply([Update::Add(Arc::clone(&last))]);
        });
    }
}
