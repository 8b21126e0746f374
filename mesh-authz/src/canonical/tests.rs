use http::{HeaderName, Method, Version};
use mesh_core::path::PathNormalization::{self, Base, DecodeAndMergeSlashes, MergeSlashes};
use proptest::prelude::*;

use super::*;

fn get(uri: &str) -> Request<()> {
    Request::get(uri).header("host", "reviews:9080").body(()).unwrap()
}

fn canonical(uri: &str, mode: PathNormalization) -> Result<String, NotCanonical> {
    let mut request = get(uri);
    canonicalize(&mut request, mode).map(|()| request.uri().to_string())
}

#[test]
fn paths_become_canonical() {
    // measured on Envoy 1.40 (t1): columns BASE and MERGE_SLASHES; "query never normalized".
    for (uri, base, merged) in [
        ("/", "/", "/"),
        ("/a/./b", "/a/b", "/a/b"),
        ("/x/../admin", "/admin", "/admin"),
        ("/x/%2e%2e/admin", "/admin", "/admin"),
        ("/%61dmin", "/admin", "/admin"),
        ("//admin", "//admin", "/admin"),
        ("/a//b/", "/a//b/", "/a/b/"),
        ("/a?a=//b/../c%2F", "/a?a=//b/../c%2F", "/a?a=//b/../c%2F"),
        ("/%61?", "/a?", "/a?"),
        ("/a%252Fb", "/a%252Fb", "/a%252Fb"),
        ("/a%20b;p=1", "/a%20b;p=1", "/a%20b;p=1"),
        ("http://reviews:9080/x/../a", "http://reviews:9080/a", "http://reviews:9080/a"),
    ] {
        assert_eq!(canonical(uri, Base).as_deref(), Ok(base), "{uri}");
        assert_eq!(canonical(uri, MergeSlashes).as_deref(), Ok(merged), "{uri}");
    }
}

#[test]
fn what_readers_differ_on_is_refused() {
    for (uri, why) in [
        ("/a%00b", NotCanonical::Nul),
        ("/%zz", NotCanonical::Escape),
        ("/a%4", NotCanonical::Escape),
        ("/a%", NotCanonical::Escape),
        ("/a\\b", NotCanonical::Backslash),
        ("/a%5Cb", NotCanonical::Backslash),
        ("/a%5cb", NotCanonical::Backslash),
        ("/a%2Fadmin", NotCanonical::EncodedSlash),
        ("/foo/..%2fadmin", NotCanonical::EncodedSlash),
        ("/..", NotCanonical::EscapesRoot),
        ("/a/../../admin", NotCanonical::EscapesRoot),
        ("/%2e%2e/admin", NotCanonical::EscapesRoot),
        ("/caf\u{e9}", NotCanonical::NonAscii),
    ] {
        assert_eq!(canonical(uri, Base), Err(why), "{uri}");
    }
}

#[test]
fn decoding_slashes_is_opted_into() {
    for (uri, path) in [("/a%2Fadmin", "/a/admin"), ("/a%5C%5cb", "/a/b"), ("/foo/..%2fadmin", "/admin")] {
        assert_eq!(canonical(uri, DecodeAndMergeSlashes).as_deref(), Ok(path), "{uri}");
    }
    assert_eq!(canonical("/..%2fadmin", DecodeAndMergeSlashes), Err(NotCanonical::EscapesRoot));
}

#[test]
fn without_normalisation_a_path_stays_as_sent() {
    // measured on Envoy 1.40 (t5, listener without normalisation): `/%64eny` passes as it is.
    assert_eq!(canonical("/x/../%64eny", PathNormalization::None).as_deref(), Ok("/x/../%64eny"));
    assert_eq!(canonical("/%00", PathNormalization::None), Err(NotCanonical::Nul));
}

#[test]
fn there_is_exactly_one_host() {
    let request = |version: Version, uri: &str, hosts: &[&str]| {
        let mut request = Request::get(uri).version(version).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append("host", host.parse().unwrap());
        }
        canonicalize(&mut request, Base)
    };
    let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
    for (version, uri, hosts, expected) in [
        // RFC 9112 3.2.
        (h1, "/", &["a"][..], Ok(())),
        (h1, "/", &[], Err(NotCanonical::NoHost)),
        (h1, "/", &[""], Err(NotCanonical::NoHost)),
        (h1, "/", &["a", "b"], Err(NotCanonical::TwoHosts)),
        (h1, "/", &["a", "a"], Err(NotCanonical::TwoHosts)),
        (h1, "http://a/", &["A"], Ok(())),
        (h1, "http://a/", &["b"], Err(NotCanonical::HostMismatch)),
        (h1, "http://a/", &["a:80"], Err(NotCanonical::HostMismatch)),
        (h1, "http://a/", &[], Err(NotCanonical::NoHost)),
        (Version::HTTP_10, "/", &[], Ok(())),
        // RFC 9113 8.3.1.
        (h2, "http://a:80/", &[], Ok(())),
        (h2, "http://a/", &["a"], Ok(())),
        (h2, "http://a/", &["b"], Err(NotCanonical::HostMismatch)),
        (h2, "/", &["a"], Ok(())),
        (h2, "/", &[], Err(NotCanonical::NoHost)),
        (h2, "http://user@a/", &[], Err(NotCanonical::Host)),
        (h1, "/", &["[::1]:80"], Ok(())),
        (h1, "/", &["[::1]"], Ok(())),
        (h1, "/", &["a:99999"], Err(NotCanonical::Host)),
        (h1, "/", &["a:080"], Err(NotCanonical::Host)),
        (h1, "/", &["a:"], Err(NotCanonical::Host)),
        (h1, "/", &["a b"], Err(NotCanonical::Host)),
        (h1, "/", &["u@a"], Err(NotCanonical::Host)),
        (h1, "/", &["a/b"], Err(NotCanonical::Host)),
        (h1, "/", &["::1"], Err(NotCanonical::Host)),
        (h1, "/", &["[::1"], Err(NotCanonical::Host)),
        (h1, "/", &[":80"], Err(NotCanonical::Host)),
    ] {
        assert_eq!(request(version, uri, hosts), expected, "{version:?} {uri} {hosts:?}");
    }
}

#[test]
fn methods_are_upper_case() {
    // measured on Envoy 1.40 (t1): lower-case method `put` is 400.
    for (method, expected) in
        [("GET", Ok(())), ("M-SEARCH", Ok(())), ("put", Err(NotCanonical::Method)), ("Get", Err(NotCanonical::Method))]
    {
        let mut request = get("/");
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(canonicalize(&mut request, Base), expected, "{method}");
    }
}

#[test]
fn connect_and_star_have_no_path() {
    let mut connect = Request::connect("reviews:9080").header("host", "reviews:9080").body(()).unwrap();
    assert_eq!(canonicalize(&mut connect, Base), Ok(()));
    assert_eq!(connect.uri(), "reviews:9080");
    let mut options = Request::options("*").header("host", "a").body(()).unwrap();
    assert_eq!(canonicalize(&mut options, Base), Ok(()));
    assert_eq!(options.uri(), "*");
    // RFC 8441: a WebSocket over HTTP/2 is a CONNECT with a path, which policies are about.
    let mut extended = Request::connect("http://reviews/x/../admin").version(Version::HTTP_2).body(()).unwrap();
    assert_eq!(canonicalize(&mut extended, Base), Ok(()));
    assert_eq!(extended.uri().path(), "/admin");
}

#[test]
fn nobody_says_who_they_are() {
    let mut request = get("/");
    let kept = ["host", "x-request-id", "client-certificate", "x-meshed", "l5-d", "cookie", "x-envoy-attempt-count"];
    let stripped = [
        "x-forwarded-client-cert",
        "X-Forwarded-Client-Cert",
        "x_forwarded_client_cert",
        "x-forwarded_client-cert",
        "client-cert",
        "Client_Cert",
        "client-cert-chain",
        "l5d-client-id",
        "L5D_client_id",
        "x-mesh-peer",
        "X_Mesh_Principal",
        "x-envoy-peer-metadata",
        "x-envoy-peer-metadata-id",
    ];
    for name in kept.into_iter().skip(1).chain(stripped) {
        request.headers_mut().append(HeaderName::try_from(name).unwrap(), "spiffe://td/ns/a/sa/admin".parse().unwrap());
    }
    canonicalize(&mut request, Base).unwrap();
    let mut left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    let mut expected = kept;
    expected.sort_unstable();
    assert_eq!(left, expected);
}

#[test]
fn grpc_and_upgrades_pass_untouched() {
    let mut grpc = Request::post("http://greeter/helloworld.Greeter/SayHello")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    canonicalize(&mut grpc, Base).unwrap();
    assert_eq!(grpc.uri(), "http://greeter/helloworld.Greeter/SayHello");
    assert_eq!(grpc.headers().len(), 2);
    let mut upgrade = get("/ws");
    upgrade.headers_mut().insert("connection", "upgrade".parse().unwrap());
    upgrade.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    canonicalize(&mut upgrade, Base).unwrap();
    assert_eq!(upgrade.headers().len(), 3);
}

proptest! {
    #[test]
    fn twice_is_once(path in "/([./%a\\\\]|%2[eEfF5]|%61|%5c|\\.\\./|[a-z]){0,16}(\\?[a-z%./]{0,6})?") {
        for mode in [PathNormalization::None, Base, MergeSlashes, DecodeAndMergeSlashes] {
            let Ok(once) = canonical(&path, mode) else { continue };
            prop_assert_eq!(canonical(&once, mode), Ok(once.clone()));
        }
    }
}
