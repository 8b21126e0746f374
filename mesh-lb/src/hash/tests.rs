use std::time::Duration;

use http::Request;

use super::{key::Keyed, *};

fn keyed(key: &HashKey, request: http::request::Builder) -> Option<u64> {
    match key.of(&request.body(()).unwrap(), Some(1)) {
        Keyed::Hash(hash) => Some(hash),
        Keyed::Absent => None,
        Keyed::Given(_) => Some(0),
    }
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

/// measured on Envoy 1.40 (t5): user-1 and user-2 in two headers go to D, in one to E.
/// istio.md 1.4: "several values of the header: chained seeds over sorted values"
#[test]
fn several_values_are_a_chain_in_order() {
    let key = HashKey::header("X-User").unwrap();
    let one = |request: http::request::Builder| keyed(&key, request);
    assert_eq!(one(get("/").header("x-user", "user-1")), Some(hash(b"user-1")));
    let chained = hash_seeded(b"user-2", hash(b"user-1"));
    assert_eq!(one(get("/").header("x-user", "user-2").header("x-user", "user-1")), Some(chained));
    assert_eq!(one(get("/").header("x-user", "user-1").header("x-user", "user-2")), Some(chained));
    let twice = hash_seeded(b"a", hash(b"a"));
    assert_eq!(one(get("/").header("x-user", "a").header("x-user", "a")), Some(twice));
    assert_eq!(one(get("/").header("x-user", "")), Some(hash(b"")), "an empty value is a value");
    assert_eq!(one(get("/").header("x-other", "a")), None);
}

#[test]
fn what_is_no_header_here_is_one_for_envoy() {
    let request = || Request::post("http://a.test/p?q=1").header("host", "b.test");
    for (name, value) in [(":authority", "b.test"), ("Host", "b.test"), (":method", "POST"), (":path", "/p?q=1")] {
        assert_eq!(keyed(&HashKey::header(name).unwrap(), request()), Some(hash(value.as_bytes())), "{name}");
    }
    assert_eq!(keyed(&HashKey::header(":scheme").unwrap(), request()), Some(hash(b"http")));
    assert_eq!(keyed(&HashKey::header("host").unwrap(), get("http://a.test:81/")), Some(hash(b"a.test:81")));
    assert!(HashKey::header("x user").is_err() && HashKey::header("").is_err() && HashKey::header(":x").is_err());
}

/// envoy QueryParamsMulti::getFirstValue after parseQueryString: the first, as it stands there.
#[test]
fn query_parameters() {
    let key = HashKey::query_parameter("u");
    for (uri, value) in [
        ("/?u=1", Some("1")),
        ("/?a=2&u=1&u=3", Some("1")),
        ("/?u=a%20b+c", Some("a%20b+c")),
        ("/?u=1=2", Some("1=2")),
        ("/?u", Some("")),
        ("/?u=", Some("")),
        ("/?x=u=1", None),
        ("/?U=1", None),
        ("/u=1", None),
        ("/", None),
    ] {
        assert_eq!(keyed(&key, get(uri)), value.map(|value| hash(value.as_bytes())), "{uri}");
    }
}

/// envoy Http::Utility::forEachCookie.
#[test]
fn cookies() {
    let key = HashKey::cookie(HashCookie::new("user")).unwrap();
    for (lines, value) in [
        (&["user=abc"][..], Some("abc")),
        (&["a=b; user=abc; user=def"], Some("abc")),
        (&["a=b", "user=abc"], Some("abc")),
        (&["user=\"abc\""], Some("abc")),
        (&["user=\""], Some("\"")),
        (&["user=a=b"], Some("a=b")),
        (&[";;   user=abc;"], Some("abc")),
        (&["user; users=1; xuser=2; User=3"], None),
        (&["user=; user=abc"], None),
        (&["user=\"\""], None),
        (&[], None),
    ] {
        let request = lines.iter().fold(get("/"), |request, line| request.header("cookie", *line));
        assert_eq!(keyed(&key, request), value.map(|value| hash(value.as_bytes())), "{lines:?}");
    }
    let given = HashKey::cookie(HashCookie::new("user").with_ttl(Duration::ZERO)).unwrap();
    let without = get("/").header("cookie", "user=").body(()).unwrap();
    assert!(matches!(given.of(&without, None), Keyed::Given(_)), "an empty one is none");
}

/// measured on Envoy 1.40 (t5).
/// istio.md 1.4: "with ttl (0s = session) generates"
#[test]
fn a_cookie_that_is_given() {
    let text = |cookie: HashCookie| cookie.set(0x72d5_ddd7_5a2c_1f5b).unwrap().to_str().unwrap().to_owned();
    let cookie = HashCookie::new("user").with_ttl(Duration::ZERO);
    assert_eq!(text(cookie.clone()), "user=\"72d5ddd75a2c1f5b\"; HttpOnly");
    let lasting = cookie.with_ttl(Duration::from_millis(3_600_900)).with_path("/p");
    assert_eq!(text(lasting.clone()), "user=\"72d5ddd75a2c1f5b\"; Max-Age=3600; Path=/p; HttpOnly");
    // envoy makeSetCookieValue: attributes before HttpOnly.
    let more = lasting.with_attribute("SameSite", "Strict").with_attribute("Secure", "");
    assert!(text(more).ends_with("; Path=/p; SameSite=Strict; Secure; HttpOnly"));
    assert_eq!(HashCookie::value(0xab), "00000000000000ab");
    for bad in ["", "a=b", "a;b", " a", "a\n"] {
        assert!(HashKey::cookie(HashCookie::new(bad)).is_err(), "{bad:?}");
    }
    assert!(HashKey::cookie(HashCookie::new("a").with_path("\n")).is_err());
}

/// Every choice that Envoy 1.40 made for 60 users of five endpoints.
/// istio.md 1.4: "pick first entry >= hash (wrap)"
/// istio.md 1.4: "skip=xxHash64(addr,seed 1)%(S-1)+1, index=hash%S (60/60 verified)"
#[test]
fn choices_are_envoys() {
    let Some(path) = mesh_test::shared("vectors/envoy-hash.json") else { return };
    let vectors: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let endpoints = vectors["endpoints"].as_object().unwrap();
    let hosts: Vec<(&str, u32)> = endpoints.values().map(|address| (address.as_str().unwrap(), 1)).collect();
    let names: Vec<&String> = endpoints.keys().collect();
    let (ring, maglev) = (Ring::new(&hosts, 1024), Maglev::new(&hosts, 65_537));
    let ring = |hash| ring.pick(hash, 0);
    let maglev = |hash| maglev.pick(hash, 0);
    for (policy, pick) in [("ring_hash_1024", &ring as &dyn Fn(u64) -> Option<usize>), ("maglev_65537", &maglev)] {
        let choices = vectors[policy].as_object().unwrap();
        assert_eq!(choices.len(), 60);
        for (user, endpoint) in choices {
            assert_eq!(names[pick(hash(user.as_bytes())).unwrap()], endpoint.as_str().unwrap(), "{policy} {user}");
        }
    }
    // measured on Envoy 1.40 (t5): header values, cookie, query parameter and source IP.
    let at = |hash| names[ring(hash).unwrap()].as_str();
    assert_eq!((at(hash_seeded(b"user-2", hash(b"user-1"))), at(hash(b"user-1,user-2"))), ("D", "E"));
    assert_eq!((at(hash(b"abc")), at(hash(b"1")), at(hash(b"2"))), ("E", "B", "D"));
    assert_eq!(at(SourceIp([127, 0, 0, 1].into()).hash()), "B");
}
