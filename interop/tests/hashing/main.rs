//! Consistent hashing against a real Envoy: the same endpoints, the same requests, the same choices.
//!
//! A thousand endpoints need no thousand servers: every address of 127.0.0.0/8 is this machine, one socket answers for
//! all that share a port, and Envoy says in a header where it went.
#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations, reason = "a test binary")]

mod envoy;
mod ours;

use std::{collections::HashSet, io::Write as _, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use envoy::{Answer, Case, Envoy, Host, Place};
use http::Request;
use mesh_core::Attempt;
use mesh_interop::find;
use mesh_lb::SourceIp;
use mesh_test::Scratch;
use rand::{Rng, SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};
use serde_json::{Value, json};

/// Envoy, or a visible skip.
fn binary() -> Option<PathBuf> {
    let found = find();
    if found.is_none() {
        let required = std::env::var_os("MESH_REQUIRE_TOOLS").is_some();
        assert!(!required, "Envoy is required (MESH_REQUIRE_TOOLS) and not installed: run interop/envoy.sh");
        // Past the test runner, which keeps what a passing test prints to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: Envoy is not installed; interop/envoy.sh does that");
    }
    found
}

/// `MESH_INTEROP_SEED` for other addresses and orders.
fn seed() -> u64 {
    let seed = std::env::var("MESH_INTEROP_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("seed {seed}");
    seed
}

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Ports of four and of five digits.
async fn ports() -> [u16; 2] {
    let mut short = None;
    for port in 2_000..10_000 {
        if let Ok(port) = envoy::endpoints(port).await {
            short = Some(port);
            break;
        }
    }
    [short.expect("a free port below 10,000"), envoy::endpoints(0).await.unwrap()]
}

const WEIGHTS: [u32; 5] = [1, 2, 5, 3, 7];

/// Endpoints whose addresses have 14 to 21 characters, in no order.
fn hosts(count: usize, weights: &[u32], ports: [u16; 2], rng: &mut SmallRng) -> Vec<Host> {
    let mut hosts: Vec<Host> = (0..count)
        .map(|n| {
            let ip = [127, (n / 500 * 113) as u8, (n / 25 % 20 * 13) as u8, (n % 25 * 10 + 1) as u8];
            let address = SocketAddr::from((ip, ports[n % 2]));
            Host { address, weight: weights[n % weights.len()], healthy: true, place: "" }
        })
        .collect();
    hosts.shuffle(rng);
    hosts
}

/// The one place of hosts that are in none.
fn nowhere() -> Vec<Place> {
    vec![Place::default()]
}

/// The same policy as Istio's field and as Envoy's clusters have it.
fn policies() -> [(&'static str, String, Value); 4] {
    let ring = |size: u64| json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": size}});
    let maglev = |size: u64| json!({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": size}});
    [
        ("ring", String::new(), ring(1024)),
        ("ring-large", "ringHash: {minimumRingSize: 100003}".into(), ring(100_003)),
        ("maglev", "maglev: {tableSize: 65537}".into(), maglev(65_537)),
        ("maglev-small", "maglev: {tableSize: 1009}".into(), maglev(1_009)),
    ]
}

fn lb(key: &str, table: &str) -> String {
    format!("{{consistentHash: {{{key}, {table}}}}}").replace(", }", "}")
}

fn by_header(name: &str) -> Value {
    json!({"hash_policy": [{"header": {"header_name": name}}]})
}

fn request(path: &str, headers: &[(&str, &str)]) -> (Vec<u8>, Request<()>) {
    let mut bytes = format!("GET /{path} HTTP/1.1\r\n");
    let mut ours = Request::get(format!("/{path}"));
    let host = [("host", "hashed.test")].into_iter().filter(|_| headers.iter().all(|(name, _)| *name != "host"));
    for (name, value) in host.chain(headers.iter().copied()) {
        bytes.push_str(&format!("{name}: {value}\r\n"));
        // RFC 9112 5: what is around a value is not part of it.
        ours = ours.header(name, value.trim());
    }
    bytes.push_str("\r\n");
    (bytes.into_bytes(), ours.body(()).unwrap())
}

/// What Envoy chooses.
async fn choices(envoy: &Envoy, case: &Case, keys: &[String]) -> Vec<SocketAddr> {
    let requests: Vec<_> = keys.iter().map(|key| request(&case.name, &[("x-user", key)]).0).collect();
    envoy.send(LOCAL, &requests).await.unwrap().iter().map(Answer::endpoint).collect()
}

/// How often we choose something else, and the first time.
async fn differences(cluster: &mesh_lb::Cluster, keys: &[String], choices: &[SocketAddr]) -> (usize, String) {
    let (mut different, mut first) = (0, String::new());
    for (key, envoys) in keys.iter().zip(choices) {
        let (endpoint, _) = ours::send(cluster, request("", &[("x-user", key)]).1, Attempt::default()).await;
        if endpoint != *envoys {
            different += 1;
            first = format!("{key}: {endpoint}, Envoy {envoys}");
        }
    }
    (different, first)
}

const NONE: (usize, String) = (0, String::new());

/// Our choices become Envoy's. Whoever asks first after an ejection has a table made, which takes a moment.
async fn settles(envoy: &Envoy, case: &Case, cluster: &mesh_lb::Cluster, keys: &[String]) {
    let choices = choices(envoy, case, keys).await;
    let settled = async {
        while differences(cluster, keys, &choices).await != NONE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(20), settled).await.is_ok();
    assert!(settled, "{}: {:?}", case.name, differences(cluster, keys, &choices).await);
}

fn keys(count: usize, rng: &mut SmallRng) -> Vec<String> {
    // Up to 40 characters: xxHash64 works in blocks of 32.
    (0..count)
        .map(|n| format!("user-{n}-{:x}", u128::from(rng.next_u64()) << (n % 64)).chars().take(8 + n % 33).collect())
        .collect()
}

/// istio.md 1.4, ringHash.minimumRingSize and maglev.tableSize.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn choices_are_envoys() {
    let Some(binary) = binary() else { return };
    let (scratch, ports, mut rng) = (Scratch::new(), ports().await, SmallRng::seed_from_u64(seed()));
    let mut cases = Vec::new();
    let mut clusters = Vec::new();
    for (policy, field, config) in policies() {
        for (count, weights) in [
            (1, &[1][..]),
            (5, &WEIGHTS),
            (100, &[1]),
            (100, &WEIGHTS),
            (100, &[1, 1000]),
            (1000, &[1]),
            (1000, &WEIGHTS),
        ] {
            let name = format!("{policy}-{count}-{}", weights.len());
            let hosts = hosts(count, weights, ports, &mut rng);
            clusters.push(ours::cluster(&hosts, &lb("httpHeaderName: x-user", &field), 0));
            cases.push(Case { name, hosts, places: nowhere(), cluster: config.clone(), action: by_header("x-user") });
        }
    }
    let envoy = Envoy::start(&binary, scratch.path(), &cases).await.unwrap();
    let (few, many) = (keys(1_000, &mut rng), keys(10_000, &mut rng));
    let mut played = 0;
    for (case, cluster) in cases.iter().zip(&clusters) {
        let large = case.hosts.len() >= 100 && !case.name.contains("large") && !case.name.contains("small");
        let keys = if large { &many } else { &few };
        let choices = choices(&envoy, case, keys).await;
        assert_eq!(differences(cluster, keys, &choices).await, NONE, "{}", case.name);
        played += keys.len();
    }
    println!("{played} choices of {} clusters, 0 differences", cases.len());
}

/// envoy thread_aware_lb_impl: over the healthy hosts, and over all in panic mode.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn choices_are_envoys_when_some_are_out_of_service() {
    let Some(binary) = binary() else { return };
    let (scratch, ports, mut rng) = (Scratch::new(), ports().await, SmallRng::seed_from_u64(seed()));
    let (mut cases, mut clusters) = (Vec::new(), Vec::new());
    for (policy, field, config) in policies() {
        for (percent, min_health) in [(10, 0), (60, 0), (60, 50)] {
            let mut hosts = hosts(100, &WEIGHTS, ports, &mut rng);
            hosts.iter_mut().take(percent).for_each(|host| host.healthy = false);
            let mut config = config.clone();
            config["common_lb_config"] = json!({"healthy_panic_threshold": {"value": min_health}});
            clusters.push(ours::cluster(&hosts, &lb("httpHeaderName: x-user", &field), min_health));
            let name = format!("{policy}-{percent}-{min_health}");
            cases.push(Case { name, hosts, places: nowhere(), cluster: config, action: by_header("x-user") });
        }
    }
    let envoy = Envoy::start(&binary, scratch.path(), &cases).await.unwrap();
    let keys = keys(1_000, &mut rng);
    for (case, cluster) in cases.iter().zip(&clusters) {
        settles(&envoy, case, cluster, &keys).await;
    }
}

/// envoy LoadBalancerBase::choosePriority, thread_aware_lb_impl normalizeLocalityWeights: the hash chooses the level, and
/// places with shares are in one table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_and_levels_are_envoys() {
    const NEAR: &str = "r1/z1/s1";
    const NEARBY: &str = "r1/z2/s1";
    const AS_NEARBY: &str = "r1/z3/s1";
    const FAR: &str = "r2/z1/s1";
    let Some(binary) = binary() else { return };
    let (scratch, ports, mut rng) = (Scratch::new(), ports().await, SmallRng::seed_from_u64(seed()));
    let distribute = "localityLbSetting: {distribute: [{from: r1/*, to: {r1/z1/*: 61, r2/*: 39}}]}";
    let (mut cases, mut clusters) = (Vec::new(), Vec::new());
    for (policy, field, config) in policies() {
        for (setting, unhealthy) in
            ["levels", "shares", "failover"].into_iter().flat_map(|s| [(s, 0), (s, 12), (s, 20)])
        {
            // 20 in each place; those out of service are near, and some nearby.
            let mut hosts = hosts(80, &WEIGHTS, ports, &mut rng);
            for (n, host) in hosts.iter_mut().enumerate() {
                host.place = [NEAR, FAR, NEARBY, AS_NEARBY][n % 4];
                host.healthy = n / 4 >= [unhealthy, 0, unhealthy / 2, 0][n % 4];
            }
            let mut config = config.clone();
            let weight = |place| hosts.iter().filter(|host| host.place == place).map(|host| host.weight).sum();
            let place = |name, priority, share| Place { name, priority, share };
            let weighed = |name, priority| place(name, priority, Some(weight(name)));
            let (places, more) = match setting {
                "levels" => (vec![place(NEAR, 0, None), place(NEARBY, 1, None), place(FAR, 2, None)], String::new()),
                "failover" => (
                    vec![weighed(NEAR, 0), weighed(NEARBY, 1), weighed(AS_NEARBY, 1), weighed(FAR, 2)],
                    ", localityLbSetting: {failover: [{from: r1, to: r2}]}".into(),
                ),
                _ => (vec![place(NEAR, 0, Some(61)), place(FAR, 0, Some(39))], format!(", {distribute}")),
            };
            if setting != "levels" {
                let by_weight = json!({"healthy_panic_threshold": {"value": 0}, "locality_weighted_lb_config": {}});
                config["common_lb_config"] = by_weight;
            }
            // In the order of their places, as Envoy is told of them.
            hosts.sort_by_key(|host| places.iter().position(|place| place.name == host.place).unwrap_or(usize::MAX));
            hosts.retain(|host| places.iter().any(|place| place.name == host.place));
            let hash = lb("httpHeaderName: x-user", &field);
            let hash = hash.strip_prefix('{').and_then(|hash| hash.strip_suffix('}')).unwrap();
            clusters.push(ours::cluster(&hosts, &format!("{{{hash}{more}}}"), 0));
            let name = format!("{policy}-{setting}-{unhealthy}");
            cases.push(Case { name, hosts, places, cluster: config, action: by_header("x-user") });
        }
    }
    let envoy = Envoy::start(&binary, scratch.path(), &cases).await.unwrap();
    let keys = keys(1_000, &mut rng);
    for (case, cluster) in cases.iter().zip(&clusters) {
        settles(&envoy, case, cluster, &keys).await;
    }
}

/// istio ConsistentHashToHashPolicy, envoy HashPolicyImpl: what is hashed, to the byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_envoys() {
    let Some(binary) = binary() else { return };
    let (scratch, ports, mut rng) = (Scratch::new(), ports().await, SmallRng::seed_from_u64(seed()));
    let hosts = hosts(1000, &[1], ports, &mut rng);
    let table = "maglev: {tableSize: 65537}";
    let policies = [
        ("header", "httpHeaderName: X-User", by_header("X-User")),
        ("authority", "httpHeaderName: ':authority'", by_header(":authority")),
        ("host", "httpHeaderName: host", by_header("host")),
        ("path", "httpHeaderName: ':path'", by_header(":path")),
        ("method", "httpHeaderName: ':method'", by_header(":method")),
        ("cookie", "httpCookie: {name: user}", json!({"hash_policy": [{"cookie": {"name": "user"}}]})),
        ("query", "httpQueryParameterName: u", json!({"hash_policy": [{"query_parameter": {"name": "u"}}]})),
        ("ip", "useSourceIp: true", json!({"hash_policy": [{"connection_properties": {"source_ip": true}}]})),
    ];
    let case = |(name, _, action): &(&str, &str, Value)| Case {
        name: (*name).into(),
        hosts: hosts.clone(),
        places: nowhere(),
        cluster: json!({"lb_policy": "MAGLEV"}),
        action: action.clone(),
    };
    let cases: Vec<_> = policies.iter().map(case).collect();
    let envoy = Envoy::start(&binary, scratch.path(), &cases).await.unwrap();
    let requests: &[(&str, &[(&str, &str)])] = &[
        ("header", &[("x-user", "a")]),
        ("header", &[("x-user", "b"), ("X-User", "a")]),
        ("header", &[("x-user", "a"), ("x-user", "b")]),
        ("header", &[("x-user", "a"), ("x-user", "a")]),
        ("header", &[("x-user", "a,b")]),
        ("header", &[("x-user", "c"), ("x-user", "Z"), ("x-user", "abc"), ("x-user", "ab")]),
        ("header", &[("x-user", "")]),
        ("header", &[("x-user", ""), ("x-user", "a")]),
        ("header", &[("x-user", "  spaces around  ")]),
        ("header", &[("x-user", "caf\u{e9}")]),
        ("authority", &[("host", "some.test")]),
        ("authority", &[("host", "Some.test:80")]),
        ("host", &[("host", "some.test")]),
        ("path", &[]),
        ("path/longer?with=query&and=more%20", &[]),
        ("method", &[]),
        ("cookie", &[("cookie", "user=abc")]),
        ("cookie", &[("cookie", "a=b; user=abc; user=def")]),
        ("cookie", &[("cookie", "a=b"), ("cookie", "user=abc")]),
        ("cookie", &[("cookie", "user=first"), ("cookie", "user=second")]),
        ("cookie", &[("cookie", "user=\"abc\"")]),
        ("cookie", &[("cookie", "user=\"")]),
        ("cookie", &[("cookie", "user=\"abc")]),
        ("cookie", &[("cookie", "user=a=b")]),
        ("cookie", &[("cookie", "user= abc ")]),
        ("cookie", &[("cookie", ";;   user=abc;")]),
        ("cookie", &[("cookie", "user ; xuser=1;user=2;User=3")]),
        ("query?u=1", &[]),
        ("query?a=2&u=1&u=3", &[]),
        ("query?u=a%20b+c", &[]),
        ("query?u=1=2", &[]),
        ("query?u", &[]),
        ("query?u=", &[]),
        ("query?u=a/b?c", &[]),
        ("query?x&&u=4", &[]),
    ];
    for (path, headers) in requests {
        let (bytes, ours) = request(path, headers);
        let (_, field, _) = policies.iter().find(|(name, ..)| path.starts_with(name)).unwrap();
        let answers = envoy.send(LOCAL, &[bytes.clone(), bytes]).await.unwrap();
        assert_eq!(answers[0].endpoint(), answers[1].endpoint(), "Envoy found no key in {path} {headers:?}");
        let cluster = ours::cluster(&hosts, &lb(field, table), 0);
        let (endpoint, _) = ours::send(&cluster, ours, Attempt::default()).await;
        assert_eq!(endpoint, answers[0].endpoint(), "{path} {headers:?}");
    }
    let by_ip = ours::cluster(&hosts, &lb("useSourceIp: true", table), 0);
    for last in 1..20 {
        let (bytes, mut ours) = request("ip", &[]);
        let source = SocketAddr::from(([127, 0, 0, last], 0));
        ours.extensions_mut().insert(SourceIp(source.ip()));
        let answers = envoy.send(source, &[bytes]).await.unwrap();
        let (endpoint, _) = ours::send(&by_ip, ours, Attempt::default()).await;
        assert_eq!(endpoint, answers[0].endpoint(), "from {source}");
    }
    // No key: both go anywhere.
    for (path, headers) in [
        ("header", &[][..]),
        ("cookie", &[("cookie", "user=")][..]),
        ("cookie", &[("cookie", "user=; user=abc")]),
        ("cookie", &[("cookie", "user")]),
        ("query?U=1", &[]),
        ("query?x=u=1", &[]),
    ] {
        let (bytes, _) = request(path, headers);
        let (_, field, _) = policies.iter().find(|(name, ..)| path.starts_with(name)).unwrap();
        let answers = envoy.send(LOCAL, &vec![bytes; 20]).await.unwrap();
        assert!(answers.iter().any(|answer| answer.endpoint() != answers[0].endpoint()), "Envoy, {path} {headers:?}");
        let (cluster, mut seen) = (ours::cluster(&hosts, &lb(field, table), 0), HashSet::new());
        for _ in 0..20 {
            seen.insert(ours::send(&cluster, request(path, headers).1, Attempt::default()).await.0);
        }
        assert!(seen.len() > 1, "{path} {headers:?}");
    }
}

/// The cookies that are given, and where the requests go that bring them back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_are_envoys() {
    let Some(binary) = binary() else { return };
    let (scratch, ports, mut rng) = (Scratch::new(), ports().await, SmallRng::seed_from_u64(seed()));
    let hosts = hosts(100, &[1], ports, &mut rng);
    let cookies = [
        ("session", "{name: user, ttl: 0s}", json!({"name": "user", "ttl": "0s"})),
        ("lasting", "{name: user, ttl: 3600s, path: /p}", json!({"name": "user", "ttl": "3600s", "path": "/p"})),
        ("parts", "{name: u-1, ttl: 1500ms}", json!({"name": "u-1", "ttl": "1.5s"})),
        (
            "attributes",
            "{name: user, ttl: 1m, path: /, attributes: [{name: SameSite, value: Strict}, {name: Secure}]}",
            json!({"name": "user", "ttl": "60s", "path": "/",
                   "attributes": [{"name": "SameSite", "value": "Strict"}, {"name": "Secure"}]}),
        ),
        ("none", "{name: user}", json!({"name": "user"})),
    ];
    let case = |(name, _, cookie): &(&str, &str, Value)| Case {
        name: (*name).into(),
        hosts: hosts.clone(),
        places: nowhere(),
        cluster: json!({"lb_policy": "RING_HASH"}),
        action: json!({"hash_policy": [{"cookie": cookie}]}),
    };
    let mut cases: Vec<_> = cookies.iter().map(case).collect();
    let dead = Host { address: ([127, 0, 0, 1], 1).into(), weight: 1, healthy: true, place: "" };
    cases.push(Case { hosts: vec![dead], name: "dead".into(), ..case(&cookies[0]) });
    let envoy = Envoy::start(&binary, scratch.path(), &cases).await.unwrap();
    for (path, field, _) in &cookies {
        let cluster = ours::cluster(&hosts, &lb(&format!("httpCookie: {field}"), ""), 0);
        let (bytes, request_of_ours) = request(path, &[]);
        let answer = envoy.send(LOCAL, &[bytes]).await.unwrap().remove(0);
        let (_, headers) = ours::send(&cluster, request_of_ours, Attempt::default()).await;
        let given = headers.get("set-cookie").map(|cookie| cookie.to_str().unwrap());
        let form = |cookie: &str| {
            let (name, rest) = cookie.split_once("=\"").unwrap();
            let (value, rest) = rest.split_once('"').unwrap();
            assert!(value.len() == 16 && value.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
            (name.to_owned(), rest.to_owned())
        };
        assert_eq!(given.map(form), answer.header("set-cookie").map(form), "{path}");
        let Some(envoys) = answer.header("set-cookie") else { continue };
        // Envoy's cookie brought to us goes where Envoy went, and ours brought to Envoy where we did.
        for cookie in [envoys, given.unwrap()] {
            let pair = cookie.split(';').next().unwrap();
            let (bytes, request_of_ours) = request(path, &[("cookie", pair)]);
            let again = envoy.send(LOCAL, &[bytes]).await.unwrap().remove(0);
            let (endpoint, headers) = ours::send(&cluster, request_of_ours, Attempt::default()).await;
            assert_eq!(endpoint, again.endpoint(), "{path} {pair}");
            assert!(again.header("set-cookie").is_none() && !headers.contains_key("set-cookie"));
            if cookie == envoys {
                assert_eq!(endpoint, answer.endpoint(), "the value decided about the first request already");
            }
        }
    }
    let (bytes, _) = request("dead", &[]);
    let answer = envoy.send(LOCAL, &[bytes]).await.unwrap().remove(0);
    // Nobody answered, and nobody is given a cookie.
    assert_eq!((answer.status, answer.header("set-cookie")), (503, None));
}

/// istio retry.go ConvertPolicy with `retryIgnorePreviousHosts: true`, envoy chooseHost: where the second attempt goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_hosts_are_envoys() {
    let Some(binary) = binary() else { return };
    let (scratch, ports, mut rng) = (Scratch::new(), ports().await, SmallRng::seed_from_u64(seed()));
    let predicate = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
    let (mut cases, mut clusters) = (Vec::new(), Vec::new());
    for (policy, field, config) in policies() {
        for insists in [true, false] {
            let hosts = hosts(20, &WEIGHTS, ports, &mut rng);
            let mut retry = json!({"retry_on": "5xx", "num_retries": 1, "host_selection_retry_max_attempts": 5});
            if insists {
                retry["retry_host_predicate"] = json!([{"name": "envoy.retry_host_predicates.previous_hosts",
                                                        "typed_config": {"@type": predicate}}]);
            }
            let mut action = by_header("x-user");
            action["retry_policy"] = retry;
            clusters.push((ours::cluster(&hosts, &lb("httpHeaderName: x-user", &field), 0), insists));
            let name = format!("{policy}-{insists}");
            cases.push(Case { name, hosts, places: nowhere(), cluster: config.clone(), action });
        }
    }
    let envoy = Envoy::start(&binary, scratch.path(), &cases).await.unwrap();
    let keys = keys(300, &mut rng);
    for (case, (cluster, insists)) in cases.iter().zip(&clusters) {
        let failing = |key: &String| request(&case.name, &[("x-user", key), ("x-fail", "first")]);
        let (bytes, ours): (Vec<_>, Vec<_>) = keys.iter().map(failing).unzip();
        let answers = envoy.send(LOCAL, &bytes).await.unwrap();
        let mut moved = 0;
        for (answer, request) in answers.iter().zip(ours) {
            assert_eq!(answer.status, 200, "{}", answer.head);
            let (first, _) = ours::send(cluster, request.clone(), Attempt::default()).await;
            let tried = cluster.endpoints().into_iter().filter(|known| known.address == first.into());
            let attempt = Attempt {
                number: 1,
                tried: tried.map(|known| Arc::clone(&known)).collect(),
                insists: *insists,
                leaving: Vec::new(),
            };
            let (second, _) = ours::send(cluster, request, attempt).await;
            // Six looks at the table can all find the one host: Envoy then goes there again, we do not.
            if answer.endpoint() != first || !insists {
                assert_eq!(second, answer.endpoint(), "{}", case.name);
            }
            moved += usize::from(answer.endpoint() != first);
        }
        assert!(if *insists { moved > 290 } else { moved == 0 }, "{}: {moved}", case.name);
    }
}
