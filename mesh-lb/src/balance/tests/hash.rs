//! Consistent hashing from a request to an endpoint and back.

use std::collections::HashMap;

use http::header::SET_COOKIE;
use mesh_core::Attempt;

use super::*;
use crate::{HashCookie, HashKey, HashTable};

const FIVE: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"];

fn by(key: HashKey) -> ClusterPolicy {
    ClusterPolicy::default().with_load_balancer(ConsistentHash::new(HashTable::DEFAULT_RING).with_key(key).into())
}

fn header() -> HashKey {
    HashKey::header("x-user").unwrap()
}

fn user(n: usize) -> Request<Empty<Bytes>> {
    Request::get("http://reviews:9080/").header("x-user", format!("user-{n}")).body(Empty::new()).unwrap()
}

/// Where a request went, and the cookies that came back.
async fn send(layer: &BalanceLayer, cluster: &Cluster, request: Request<Empty<Bytes>>) -> (String, Vec<String>) {
    let mut routed = Routed::new(request, cluster.clone(), ());
    routed.attempt = Attempt::default();
    went(layer, routed).await
}

async fn went(layer: &BalanceLayer, routed: Routed<Request<Empty<Bytes>>, Cluster>) -> (String, Vec<String>) {
    let service = layer.layer(service_fn(|_: Picked<Request<Empty<Bytes>>>| {
        let mut response = Response::new(Full::<Bytes>::from("hello"));
        response.headers_mut().insert(SET_COOKIE, http::HeaderValue::from_static("own=1"));
        ready(Ok::<_, Error>(response))
    }));
    let response = service.oneshot(routed).await.unwrap();
    let endpoint = response.extensions().get::<Exchange>().unwrap().endpoint.clone().unwrap();
    let cookies = response.headers().get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap().to_owned());
    (endpoint.address.host().into_owned(), cookies.collect())
}

#[tokio::test]
async fn the_same_key_goes_to_the_same_endpoint() {
    let (cluster, layer) = (cluster(by(header()), &FIVE), BalanceLayer::new());
    let hosts: Vec<(String, u32)> = FIVE.iter().map(|ip| (format!("{ip}:9080"), 1)).collect();
    let ring = crate::Ring::new(&hosts, 1024);
    let mut counts = HashMap::<_, u32>::new();
    for n in 0..200 {
        let expected = FIVE[ring.pick(crate::hash(format!("user-{n}").as_bytes()), 0).unwrap()];
        // Another call of `layer`, another service: the same place.
        for _ in 0..2 {
            assert_eq!(send(&layer, &cluster, user(n)).await, (expected.to_owned(), vec!["own=1".to_owned()]));
        }
        *counts.entry(expected).or_default() += 1;
    }
    assert!(counts.len() == 5 && counts.values().all(|count| *count > 15), "{counts:?}");
}

/// istio ConsistentHashToHashPolicy, measured on Envoy 1.40 (t5: "ring, no header (20)"): no key, any endpoint.
/// istio.md 1.4: "No key in request => random"
#[tokio::test]
async fn without_the_key_it_goes_anywhere() {
    let layer = BalanceLayer::seeded(1);
    for policy in [by(header()), by(HashKey::query_parameter("u")), by(HashKey::cookie(HashCookie::new("u")).unwrap())]
    {
        let cluster = cluster(policy, &FIVE);
        let mut counts = HashMap::<_, u32>::new();
        for _ in 0..200 {
            let (endpoint, cookies) = send(&layer, &cluster, request("http://reviews:9080/?x=1")).await;
            assert_eq!(cookies, ["own=1"], "without a ttl none is made");
            *counts.entry(endpoint).or_default() += 1;
        }
        assert!(counts.len() == 5 && counts.values().all(|count| *count > 15), "{counts:?}");
    }
}

/// measured on Envoy 1.40 (t5): a cookie is given where there is none, and decides about this request already.
/// istio.md 1.4: "[Max-Age;][Path;] HttpOnly` when absent; without ttl never generated"
#[tokio::test]
async fn a_cookie_is_given_and_holds() {
    let cookie = HashCookie::new("user").with_ttl(Duration::from_secs(3600)).with_path("/p");
    let (cluster, layer) = (cluster(by(HashKey::cookie(cookie).unwrap()), &FIVE), BalanceLayer::new());
    let mut seen = HashMap::<_, u32>::new();
    for _ in 0..50 {
        let (first, cookies) = send(&layer, &cluster, request("http://reviews:9080/")).await;
        assert_eq!(cookies.len(), 2, "beside the endpoint's own");
        let value = cookies[1].strip_suffix("; Max-Age=3600; Path=/p; HttpOnly").unwrap();
        let bare = value.strip_prefix("user=\"").and_then(|value| value.strip_suffix('"')).unwrap();
        assert!(bare.len() == 16 && bare.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{bare}");
        for brought in [value.to_owned(), format!("user={bare}")] {
            let again = Request::get("http://reviews:9080/").header("cookie", brought).body(Empty::new()).unwrap();
            assert_eq!(send(&layer, &cluster, again).await, (first.clone(), vec!["own=1".into()]));
        }
        *seen.entry(first).or_default() += 1;
    }
    assert!(seen.len() > 1, "clients are spread: {seen:?}");
}

/// measured on Envoy 1.40 (t5): the value is the connection's, so all attempts at a request have the same.
#[tokio::test]
async fn another_attempt_gives_the_same_cookie() {
    let key = HashKey::cookie(HashCookie::new("user").with_ttl(Duration::ZERO)).unwrap();
    let (cluster, layer) = (cluster(by(key), &FIVE), BalanceLayer::new());
    let progress = Progress::default();
    let attempt = || {
        let mut request = request("http://reviews:9080/");
        request.extensions_mut().insert(progress.clone());
        send(&layer, &cluster, request)
    };
    assert_eq!(attempt().await, attempt().await);
}

/// istio retry.go ConvertPolicy: previous hosts are not avoided where there is a hash policy, unless the route says so.
#[tokio::test]
async fn a_retry_stays_unless_the_route_insists() {
    let layer = BalanceLayer::new();
    let hosts: Vec<(String, u32)> = FIVE.iter().map(|ip| (format!("{ip}:9080"), 1)).collect();
    let ring = crate::Ring::new(&hosts, 1024);
    for (policy, insists, stays) in [
        (by(header()), false, true),
        (by(header()), true, false),
        // No key, no hash policy.
        (
            ClusterPolicy::default().with_load_balancer(ConsistentHash::new(HashTable::DEFAULT_RING).into()),
            false,
            false,
        ),
    ] {
        let cluster = cluster(policy, &FIVE);
        for n in 0..50 {
            let hash = crate::hash(format!("user-{n}").as_bytes());
            let first = ring.pick(hash, 0).unwrap();
            let mut routed = Routed::new(user(n), cluster.clone(), ());
            let tried = vec![Arc::clone(cluster.members()[first].endpoint())];
            routed.attempt = Attempt { number: 1, tried, insists, leaving: Vec::new() };
            let (endpoint, _) = went(&layer, routed).await;
            assert_eq!(endpoint == FIVE[first], stays, "{insists}");
            if insists {
                // envoy Ring::chooseHost: the next place that is another's.
                let next = (1..).map(|attempt| ring.pick(hash, attempt).unwrap()).find(|host| *host != first);
                assert_eq!(Some(endpoint.as_str()), next.map(|host| FIVE[host]));
            }
        }
    }
}

#[tokio::test]
async fn a_source_that_is_said_one_that_is_told_and_the_processs_own() {
    let cluster = cluster(by(HashKey::source_ip()), &FIVE);
    let from = |ip: [u8; 4]| {
        let mut request = request("http://reviews:9080/");
        request.extensions_mut().insert(SourceIp(ip.into()));
        request
    };
    let silent = || request("http://reviews:9080/");
    let (plain, told) = (BalanceLayer::new(), BalanceLayer::new().with_source_ip([10, 9, 9, 9].into()));
    let mut seen = HashMap::<_, u32>::new();
    for n in 0..50 {
        let said = send(&plain, &cluster, from([192, 0, 2, n])).await.0;
        assert_eq!(send(&told, &cluster, from([192, 0, 2, n])).await.0, said);
        *seen.entry(said).or_default() += 1;
    }
    assert_eq!(seen.len(), 5);
    assert_eq!(send(&told, &cluster, silent()).await, send(&plain, &cluster, from([10, 9, 9, 9])).await);
    let own = send(&plain, &cluster, silent()).await.0;
    for _ in 0..10 {
        assert_eq!(send(&BalanceLayer::new(), &cluster, silent()).await.0, own, "always the same");
    }
}

#[tokio::test]
async fn no_endpoint_for_any_key() {
    let layer = BalanceLayer::new();
    let service = layer.layer(service_fn(|_: Picked<Request<Empty<Bytes>>>| answer(200)));
    for table in [HashTable::DEFAULT_RING, HashTable::DEFAULT_MAGLEV] {
        let policy = ClusterPolicy::default().with_load_balancer(ConsistentHash::new(table).with_key(header()).into());
        let cluster = cluster(policy, &[]);
        let error = service.clone().oneshot(Routed::new(user(1), cluster, ())).await.unwrap_err();
        assert_eq!(error.reason(), Reason::NoHealthyUpstream);
    }
}

/// An ejected endpoint's keys go elsewhere at once, the others stay where the new table has them, and all come back.
#[tokio::test(start_paused = true)]
async fn an_ejected_endpoint_gets_none_and_its_keys_come_back() {
    let detecting = OutlierDetection { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierDetection::default() };
    let cluster = cluster(by(header()).with_outlier_detection(detecting), &FIVE);
    let layer = BalanceLayer::new();
    let before: Vec<String> = places(&layer, &cluster).await;
    let bad = Arc::clone(&cluster.members()[2]);
    cluster.record(&bad, crate::Outcome::ServerError, clock::now());
    let hosts: Vec<(String, u32)> =
        FIVE.iter().filter(|ip| **ip != FIVE[2]).map(|ip| (format!("{ip}:9080"), 1)).collect();
    let ring = crate::Ring::new(&hosts, 1024);
    let expected: Vec<String> = (0..100)
        .map(|n| hosts[ring.pick(crate::hash(format!("user-{n}").as_bytes()), 0).unwrap()].0.replace(":9080", ""))
        .collect();
    let now = places(&layer, &cluster).await;
    assert!(now.iter().all(|endpoint| endpoint != FIVE[2]), "from the first pick on");
    // The table is made by a thread that is not paused; virtual time waits for it.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(places(&layer, &cluster).await, expected, "Envoy's ring over the four");
    tokio::time::advance(Duration::from_secs(41)).await;
    assert_eq!(places(&layer, &cluster).await, before);
}

async fn places(layer: &BalanceLayer, cluster: &Cluster) -> Vec<String> {
    let mut places = Vec::new();
    for n in 0..100 {
        places.push(send(layer, cluster, user(n)).await.0);
    }
    places
}
