//! A client of a large fleet keeps to some endpoints, as a MeshPolicy and its place in the fleet say.

use std::collections::BTreeMap;

use crate::{
    common::{World, until},
    upstream::service,
};

const POLICY: &str = "apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {name: large}\nspec: {loadBalancing: [{subsetting: {size: 3, lotSize: 4}}]}\n";

#[tokio::test]
async fn clients_of_a_fleet_share_out_the_endpoints() {
    let world = World::new();
    let ips: Vec<String> = (1..=12).map(|n| format!("127.0.0.{n}")).collect();
    service(&world, "http", 80, &ips, "");
    let mut clients = Vec::new();
    for index in 0..4 {
        let builder = world.builder("caller", "v1").client_index(index);
        clients.push(builder.start().await.unwrap_or_else(|error| panic!("{error}")));
    }
    let seen = |client: &mesh::Mesh| client.endpoints("all.example", 80);
    assert!(clients.iter().all(|client| seen(client).len() == 12), "off by default");
    world.write("large.yaml", POLICY);
    until("all have some", async || clients.iter().all(|client| seen(client).len() == 3)).await;
    let mut loads = BTreeMap::new();
    for endpoint in clients.iter().flat_map(seen) {
        *loads.entry(endpoint.address.to_string()).or_insert(0) += 1;
    }
    assert_eq!((loads.len(), loads.values().max()), (12, Some(&1)), "each endpoint has one client");
    world.remove("large.yaml");
    until("all have all", async || clients.iter().all(|client| seen(client).len() == 12)).await;
}
