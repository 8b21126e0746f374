//! Names that answer differently while requests run: a real name server on loopback, real sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(feature = "dns")]

mod common;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, routing::get as route};
use common::{World, fetch, get, load, until};
use http::StatusCode;
use mesh::{Body, Client, Exchange, HickoryResolver, Mesh, ResponseFlag};
use mesh_test::{NameServer, Says, kind};
use tokio::net::TcpListener;

const SERVFAIL: u8 = 2;

fn ip(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

/// A server that says who it is.
async fn server(listener: TcpListener, says: &'static str) {
    let router = Router::new().route("/", route(move || async move { says }));
    tokio::spawn(async move { axum::serve(listener, router).await });
}

/// Servers on the same port of these addresses.
async fn servers(addresses: &[(IpAddr, &'static str)]) -> u16 {
    'ports: loop {
        let mut listeners = Vec::new();
        let mut port = 0;
        for (ip, _) in addresses {
            let Ok(listener) = TcpListener::bind(SocketAddr::new(*ip, port)).await else { continue 'ports };
            port = listener.local_addr().unwrap().port();
            listeners.push(listener);
        }
        for (listener, (_, says)) in listeners.into_iter().zip(addresses) {
            server(listener, says).await;
        }
        return port;
    }
}

fn entry(resolution: &str, port: u16, endpoints: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: db}}\nspec:\n  hosts: [db.test]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]\n  resolution: {resolution}\n{endpoints}"
    )
}

async fn caller(world: &World, names: &NameServer) -> (Mesh, Client<Body>) {
    let resolver = HickoryResolver::with_servers([names.address()]).unwrap();
    let mesh = world.builder("caller", "v1").resolver(resolver).start().await.unwrap();
    let client = mesh.client();
    (mesh, client)
}

async fn status(client: &Client<Body>) -> StatusCode {
    fetch(client, get("http://db.test/")).await.status()
}

/// No endpoint is left: 503, and Envoy's flag UH.
async fn is_unhealthy(client: &Client<Body>) -> bool {
    let response = fetch(client, get("http://db.test/")).await;
    let exchange = response.extensions().get::<Exchange>().cloned().unwrap_or_default();
    response.status() == 503 && exchange.flags.contains(ResponseFlag::NoHealthyUpstream)
}

/// issue 4: "A change is in effect for the next pick"; nobody who is served notices.
#[tokio::test]
async fn a_name_moves_between_two_addresses_without_a_failed_request() {
    let names = NameServer::start();
    let port = servers(&[(ip(1), "one"), (ip(2), "two")]).await;
    names.set("db.test", &[ip(1)], 1);
    let world = World::new();
    world.write("db.yaml", &entry("DNS", port, ""));
    let (mesh, client) = caller(&world, &names).await;
    let (seen, done) = (Arc::new(Mutex::new("")), Arc::new(AtomicBool::new(false)));
    let (last, enough) = (Arc::clone(&seen), Arc::clone(&done));
    let running = tokio::spawn(async move {
        let check = move |index: usize, response: http::Response<bytes::Bytes>| {
            assert_eq!(response.status(), 200, "request {index}: {response:?}");
            *last.lock().unwrap() = if &response.body()[..] == b"one" { "one" } else { "two" };
        };
        load(&client, 4, |_| get("http://db.test/"), check, move |_| enough.load(Ordering::Relaxed)).await
    });
    for (last, says) in [(2, "two"), (1, "one"), (2, "two")] {
        names.set("db.test", &[ip(last)], 1);
        until(says, || async { *seen.lock().unwrap() == says }).await;
        let moved = || async { mesh.endpoints("db.test", 80)[0].address == SocketAddr::new(ip(last), port).into() };
        until("the endpoint is the new address", moved).await;
    }
    done.store(true, Ordering::Relaxed);
    let requests = running.await.unwrap();
    assert!(requests > 10, "{requests}");
}

/// issue 4: "DNS that goes empty, SERVFAIL, TTL 0 and back".
#[tokio::test]
async fn a_name_that_fails_goes_empty_and_comes_back() {
    let names = NameServer::start();
    let four = [ip(1), ip(2), ip(3), ip(4)];
    let port = servers(&four.map(|ip| (ip, "here"))).await;
    names.set("db.test", &four, 0);
    let world = World::new();
    world.write("db.yaml", &entry("DNS", port, ""));
    let (mesh, client) = caller(&world, &names).await;
    let known = |count: usize| {
        let mesh = mesh.clone();
        move || {
            let mesh = mesh.clone();
            async move { mesh.endpoints("db.test", 80).len() == count }
        }
    };
    until("four endpoints", known(4)).await;
    let asked = || names.asked("db.test", kind::A);
    // "SERVFAIL and a timeout are not" an answer.
    names.say_of_addresses("db.test", &Says::Code(SERVFAIL));
    let before = asked();
    until("asked in vain", || async { asked() > before + 1 }).await;
    assert_eq!((known(4)().await, status(&client).await), (true, StatusCode::OK));
    // "NXDOMAIN or an empty answer is an answer"; one that removes more than half of four is believed the second time.
    names.say_of_addresses("db.test", &Says::NoSuchName(1));
    let before = asked();
    until("503 UH", || is_unhealthy(&client)).await;
    assert!(asked() >= before + 2, "{} {before}", asked());
    // And back: what holds for a second is asked for again in a second.
    names.set("db.test", &[ip(3)], 0);
    until("served again", || async { status(&client).await == 200 }).await;
    assert!(known(1)().await);
    // Of one, the first answer is believed.
    names.say_of_addresses("db.test", &Says::Nothing(1));
    until("503 UH", || is_unhealthy(&client)).await;
}

/// RFC 2782, in a ServiceEntry's endpoint, looked up in the background or when it is dialled.
#[tokio::test]
async fn service_records_name_the_ports() {
    let names = NameServer::start();
    let (one, two) = (servers(&[(ip(1), "one")]).await, servers(&[(ip(1), "two")]).await);
    let service = "_http._tcp.web.test";
    let records = [(1, 1, one, "a.test"), (1, 1, two, "b.test"), (9, 1, 9, "far.test")];
    names.say(service, kind::SRV, Says::services(service, &records, 60).with_address("a.test", ip(1), 60));
    names.set("b.test", &[ip(1)], 60);
    let endpoints = format!("  endpoints: [{{address: {service}}}]\n");
    for (resolution, count) in [("DNS", 2), ("DNS_ROUND_ROBIN", 1)] {
        let world = World::new();
        world.write("db.yaml", &entry(resolution, 80, &endpoints));
        let (mesh, client) = caller(&world, &names).await;
        assert_eq!(status(&client).await, 200, "{resolution}");
        let expected = || async { mesh.endpoints("db.test", 80).len() == count };
        until("its endpoints", expected).await;
        if resolution == "DNS" {
            let mut seen = BTreeSet::new();
            while seen.len() < 2 {
                let response = fetch(&client, get("http://db.test/")).await;
                assert_eq!(response.status(), 200);
                seen.insert(response.into_body());
            }
        }
    }
}

/// A name that a ServiceEntry may have and DNS may not: the mesh stays up, and says that it cannot connect.
#[tokio::test]
async fn a_name_that_dns_cannot_ask_for_is_a_failed_connection() {
    let names = NameServer::start();
    let long = ["a"; 127].join(".") + ".b";
    let world = World::new();
    world.write("db.yaml", &entry("DNS", 80, &format!("  endpoints: [{{address: {long}}}]\n")));
    let (_mesh, client) = caller(&world, &names).await;
    let response = fetch(&client, get("http://db.test/")).await;
    let exchange = response.extensions().get::<Exchange>().unwrap();
    assert!(exchange.flags.contains(ResponseFlag::UpstreamConnectionFailure), "{exchange:?}");
}
