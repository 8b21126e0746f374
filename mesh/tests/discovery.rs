//! Endpoints from code, files and EndpointSlices, over real connections: what is said is in effect for the next request,
//! and what cannot be read changes nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;

use axum::{Router, routing::get as on_get};
use common::{World, fetch, get, until};
use mesh::{Body, Client, Endpoint, EndpointAddress, Exchange, Mesh, Published, Workload};
use serde_json::json;
use tokio::net::TcpListener;

const HOST: &str = "inventory.internal";

/// A server outside of the mesh that says who it is.
async fn server(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", on_get(async move || name));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn publishing(published: &Published) -> Mesh {
    let entry = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "inventory"},
        "spec": {
            "hosts": [HOST], "resolution": "STATIC", "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        },
    });
    let builder = Mesh::builder().config_value("inventory", &entry).discover(published.clone());
    builder.dangerous().without_identity().start().await.unwrap()
}

async fn ask(client: &Client<Body>, host: &str) -> String {
    let response = fetch(client, get(&format!("http://{host}/"))).await;
    match response.status().as_u16() {
        200 => String::from_utf8(response.body().to_vec()).unwrap(),
        status => format!("{status} {}", response.extensions().get::<Exchange>().unwrap().flags),
    }
}

/// Issue "Discovery": sources are values in code; the first request waits for what they say, and each change is in effect
/// for the next request, but for the hop to the task that carries it.
#[tokio::test]
async fn endpoints_from_code_are_in_effect_for_the_next_request() {
    let (one, two) = (server("one").await, server("two").await);
    let published = Published::new();
    let mesh = publishing(&published).await;
    let (client, other) = (mesh.client(), mesh.client());
    published.set(HOST, 80, [Endpoint::new(one)]);
    assert_eq!(ask(&client, HOST).await, "one", "the first request to the service");
    published.set(HOST, 80, [Endpoint::new(two)]);
    until("two", || async { mesh.endpoints(HOST, 80).first().is_some_and(|e| e.address == two.into()) }).await;
    assert_eq!((ask(&client, HOST).await, ask(&other, HOST).await), ("two".into(), "two".into()));
    published.remove(HOST, 80, &EndpointAddress::from(two));
    until("none", || async { mesh.endpoints(HOST, 80).is_empty() }).await;
    assert_eq!(ask(&client, HOST).await, "503 UH");
    published.withdraw(HOST, 80);
    published.add(HOST, 80, Endpoint::new(one));
    until("one", || async { ask(&client, HOST).await == "one" }).await;
}

/// A service of which code has said nothing is answered at once: nobody keeps the request waiting.
#[tokio::test]
async fn a_service_that_nobody_knows_endpoints_of_is_503_at_once() {
    let published = Published::new();
    let mesh = publishing(&published).await;
    let start = std::time::Duration::from_secs(5);
    let answer = tokio::time::timeout(start, ask(&mesh.client(), HOST)).await.unwrap();
    assert_eq!(answer, "503 UH");
}

fn slice(endpoints: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: shop-1, labels: {{kubernetes.io/service-name: \
         shop}}}}\naddressType: IPv4\nports: [{{name: http, port: PORT}}]\nendpoints:\n{endpoints}"
    )
}

/// EndpointSlices of a headless Service, watched: ready ones get requests, and a slice that cannot be read leaves the last
/// good one. Issue "Discovery": "Losing a source keeps the last good set"; "Bad input": "an address that does not parse: a
/// clear error with position, last good set kept".
#[tokio::test]
async fn slices_are_watched_and_bad_ones_change_nothing() {
    let world = World::new();
    let address = server("shop").await;
    let slice = |endpoints: &str| slice(endpoints).replace("PORT", &address.port().to_string());
    world.write(
        "service.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec: {clusterIP: None, ports: [{name: http, port: 80}]}\n",
    );
    // No Pod says that it is in the mesh; the rule says that it is not.
    world.write(
        "rule.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: shop}\nspec: {host: shop, trafficPolicy: \
         {tls: {mode: DISABLE}}}\n",
    );
    let file = world.write("slice.yaml", &slice("- addresses: [127.0.0.1]\n"));
    let workload = Workload::new("default", "caller");
    let builder = Mesh::builder().workload(workload).config_path(world.config()).development_identity(world.ca());
    let mesh = builder.start().await.unwrap();
    let client = mesh.client();
    assert_eq!(ask(&client, "shop").await, "shop");
    for (text, place) in [
        (
            slice("- addresses: [127.0.0.256]\n"),
            "7:15: error: EndpointSlice default/shop-1 endpoints[0].addresses[0]: ",
        ),
        (slice("- addresses: 127.0.0.1\n"), "7:14: error: EndpointSlice default/shop-1 endpoints[0].addresses: "),
        (slice("- address: 127.0.0.1\n"), "7:3: error: EndpointSlice default/shop-1 endpoints[0]: "),
        ("kind: [\n".into(), "2:1: error: "),
        (String::new(), "1:1: error: "),
    ] {
        world.write("slice.yaml", &text);
        let place = format!("{}:{place}", file.display());
        let found = async || mesh.issues().iter().any(|issue| issue.to_string().starts_with(&place));
        until(&place, &found).await;
        assert_eq!(ask(&client, "shop").await, "shop", "{place}");
    }
    world.write("slice.yaml", &slice("- {addresses: [127.0.0.1], conditions: {ready: false}}\n"));
    until("not ready", || async { ask(&client, "shop").await == "503 UH" }).await;
    world.write("slice.yaml", &slice("- {addresses: [127.0.0.1], conditions: {ready: true}}\n"));
    until("ready", || async { ask(&client, "shop").await == "shop" }).await;
    world.remove("slice.yaml");
    until("gone", || async { ask(&client, "shop").await == "503 UH" }).await;
}

/// Issue "Bad input": "a negative weight, … a locality that is not region/zone/subzone, … an address that does not parse".
#[tokio::test]
async fn bad_workloads_say_where_and_the_last_good_ones_stay() {
    let world = World::new();
    let address = server("vm").await;
    let entry = |fields: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: vm}}\nspec:\n  hosts: [vm.test]\n  \
             resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n  - {fields}\n"
        )
    };
    let port = format!("ports: {{http: {}}}", address.port());
    let file = world.write("vm.yaml", &entry(&format!("{{address: 127.0.0.1, {port}}}")));
    let mesh = world.mesh("caller", "v1").await;
    let client = mesh.client();
    assert_eq!(ask(&client, "vm.test").await, "vm");
    for (fields, place, says) in [
        (
            "{weight: -1, address: 127.0.0.1}",
            "9:14: error: ServiceEntry default/vm endpoints[0].weight: ",
            "integer `-1`",
        ),
        (
            "{address: 127.0.0.256}",
            "9:15: error: ServiceEntry default/vm endpoints[0].address: ",
            "not a valid IP address",
        ),
        (
            "{locality: a/b/c/d, address: 127.0.0.1}",
            "9:16: error: ServiceEntry default/vm endpoints[0].locality: ",
            "region/zone/subzone",
        ),
        (
            "{locality: /b, address: 127.0.0.1}",
            "9:16: error: ServiceEntry default/vm endpoints[0].locality: ",
            "region",
        ),
        ("{ports: {http: -1}, address: 127.0.0.1}", "9:20: error: ServiceEntry default/vm endpoints[0].ports", "-1"),
    ] {
        world.write("vm.yaml", &entry(fields));
        let place = format!("{}:{place}", file.display());
        let found = async || {
            let issues: Vec<_> = mesh.issues().iter().map(ToString::to_string).collect();
            issues.iter().any(|issue| issue.starts_with(&place) && issue.contains(says))
        };
        until(&place, &found).await;
        assert_eq!(ask(&client, "vm.test").await, "vm", "{place}");
    }
}
