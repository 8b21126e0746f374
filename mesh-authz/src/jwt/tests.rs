use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use mesh_core::{
    LocalReplyLayer, Workload,
    config::{Document, Issues},
    identity::RequestPrincipal,
};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use super::*;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that signs, and its public half as a JWK.
struct Signer {
    key: SigningKey,
    alg: &'static str,
    jwk: Value,
}

enum SigningKey {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn ec(alg: &'static str, curve: &str, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let key = EcdsaKeyPair::generate(algorithm).unwrap();
        let point = key.public_key().as_ref()[1..].to_vec();
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)});
        Self { key: SigningKey::Ec(key), alg, jwk }
    }

    fn es256() -> Self {
        Self::ec("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    fn rsa(alg: &'static str, encoding: &'static dyn RsaEncoding) -> Self {
        let key = RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        let n = base64(key.public_key().modulus().big_endian_without_leading_zero());
        let e = base64(key.public_key().exponent().big_endian_without_leading_zero());
        Self { key: SigningKey::Rsa(key, encoding), alg, jwk: json!({"kty": "RSA", "n": n, "e": e}) }
    }

    fn ed25519() -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key())});
        Self { key: SigningKey::Ed(key), alg: "EdDSA", jwk }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.jwk[name] = value;
        self
    }

    fn sign(&self, text: &str) -> String {
        let (random, text) = (SystemRandom::new(), text.as_bytes());
        match &self.key {
            SigningKey::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, text, &mut signature).unwrap();
                base64(signature)
            }
            SigningKey::Ec(key) => base64(key.sign(&random, text).unwrap()),
            SigningKey::Ed(key) => base64(key.sign(text)),
        }
    }

    /// A token with these claims over those of a good one.
    fn token(&self, claims: Value) -> String {
        let mut all = json!({"iss": "iss1", "sub": "alice", "aud": "aud1", "exp": NOW + 3600});
        for (name, value) in claims.as_object().unwrap() {
            if value.is_null() {
                all.as_object_mut().unwrap().remove(name);
            } else {
                all[name] = value.clone();
            }
        }
        self.raw(&json!({"alg": self.alg, "typ": "JWT"}).to_string(), &all.to_string())
    }

    fn raw(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", base64(header), base64(payload));
        format!("{signed}.{}", self.sign(&signed))
    }
}

const NOW: u64 = 1_700_000_000;

fn jwks(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>()}).to_string()
}

/// A rule of `iss1` and `aud1` with these keys and fields.
fn rule(issuer: &str, signer: &Signer, fields: &str) -> String {
    format!("{{issuer: {issuer}, audiences: [aud1], jwks: '{}'{fields}}}", jwks(&[signer]))
}

fn read(rules: &str) -> (Option<RequestAuthentication>, Issues) {
    let text =
        format!("kind: RequestAuthentication\nmetadata: {{name: p, namespace: shop}}\nspec:\n  jwtRules: [{rules}]\n");
    let mut issues = Issues::default();
    let documents = Document::parse_all("p.yaml", &text, &mut issues);
    (RequestAuthentication::from_document(&documents[0], &mut issues), issues)
}

fn set(rules: &str) -> RequestAuthentications {
    let (policy, issues) = read(rules);
    let policy = policy.unwrap_or_else(|| panic!("{issues}"));
    RequestAuthentications::new([&policy], &Workload::new("shop", "reviews"), "istio-system")
}

struct Checked {
    by: Authenticated,
    uri: Uri,
    headers: HeaderMap,
}

fn check(set: &RequestAuthentications, method: Method, uri: &str, headers: &[(&'static str, &str)]) -> Checked {
    let mut uri: Uri = uri.parse().unwrap();
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        sent.append(*name, value.parse().unwrap());
    }
    let by = set.authenticate(&method, &mut uri, &mut sent, NOW, &KeyStore::default());
    Checked { by, uri, headers: sent }
}

fn bearer(set: &RequestAuthentications, token: &str) -> Authenticated {
    check(set, Method::GET, "/", &[("authorization", &format!("Bearer {token}"))]).by
}

fn refused(message: &str, by: &Authenticated) {
    let Authenticated::Refused(why) = by else { panic!("{message}: {by:?}") };
    assert_eq!(why.to_string(), message);
}

#[test]
fn verdicts_are_envoys() {
    // reference 1.7, as measured (t7): "bad => 401", "clock skew 60 s on exp and nbf", "aud string or list; `aud1/` ≡ `aud1`"
    let signer = Signer::es256();
    let set = set(&rule("iss1", &signer, ""));
    for (claims, message) in [
        (json!({}), None),
        (json!({"exp": NOW - 10}), None),
        (json!({"exp": NOW - 60}), None),
        (json!({"exp": NOW - 61}), Some("Jwt is expired")),
        (json!({"exp": null}), None),
        (json!({"nbf": NOW + 60}), None),
        (json!({"nbf": NOW + 61}), Some("Jwt not yet valid")),
        (json!({"iss": "other"}), Some("Jwt issuer is not configured")),
        (json!({"iss": null}), Some("Jwt issuer is not configured")),
        (json!({"aud": "nope"}), Some("Audiences in Jwt are not allowed")),
        (json!({"aud": null}), Some("Audiences in Jwt are not allowed")),
        (json!({"aud": []}), Some("Audiences in Jwt are not allowed")),
        (json!({"aud": ["x", "aud1"]}), None),
        (json!({"aud": "aud1/"}), None),
        (json!({"aud": "https://aud1"}), None),
    ] {
        let by = bearer(&set, &signer.token(claims.clone()));
        match message {
            None => assert!(matches!(by, Authenticated::By(_)), "{claims}: {by:?}"),
            Some(message) => refused(message, &by),
        }
    }
    // envoy authenticator.cc: time before signature.
    let expired = signer.token(json!({"exp": NOW - 3600}));
    refused("Jwt is expired", &bearer(&set, &format!("{}AAAA", &expired[..expired.len() - 4])));
    let good = signer.token(json!({}));
    refused("Jwt verification fails", &bearer(&set, &format!("{}AAAA", &good[..good.len() - 4])));
}

#[test]
fn what_is_no_token_says_so() {
    let signer = Signer::es256();
    let set = set(&rule("iss1", &signer, ""));
    let sections = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
    for (token, message) in [
        ("garbage".into(), sections),
        ("a.b".into(), sections),
        ("a.b.c.d".into(), sections),
        ("a=.b.c".into(), "Jwt header is an invalid Base64url encoded"),
        (format!("{}.b.c", base64("[]")), "Jwt header is an invalid JSON"),
        (signer.raw("{}", "{}"), "Jwt header [alg] field is required and must be a string"),
        (signer.raw(r#"{"alg":5}"#, "{}"), "Jwt header [alg] field is required and must be a string"),
        (signer.raw(r#"{"alg":"none"}"#, "{}"), "Jwt header [alg] is not supported"),
        (signer.raw(r#"{"alg":"HS256"}"#, "{}"), "Jwt header [alg] is not supported"),
        (signer.raw(r#"{"alg":"ES256","kid":1}"#, "{}"), "Jwt header [kid] field is not a string"),
        (signer.raw(r#"{"alg":"ES256","crit":["x"]}"#, "{}"), "Jwt header has extensions that are not supported"),
        (signer.raw(r#"{"alg":"ES256","b64":false}"#, "{}"), "Jwt header has extensions that are not supported"),
        (signer.raw(r#"{"alg":"ES256","alg":"none"}"#, "{}"), "Jwt header is an invalid JSON"),
        (signer.raw(r#"{"alg":"ES256"}"#, "x"), "Jwt payload is an invalid JSON"),
        (signer.raw(r#"{"alg":"ES256"}"#, r#"{"iss":"iss1","iss":"x"}"#), "Jwt payload is an invalid JSON"),
        (format!("{}.=.c", base64(r#"{"alg":"ES256"}"#)), "Jwt payload is an invalid Base64url encoded"),
        ("a".repeat(20_000), "Jwt is too long"),
    ] {
        refused(message, &bearer(&set, &token));
    }
    // CVE-2026-25537: claims of another type than theirs. Each is refused, none is taken as absent.
    for (name, good) in [
        ("iss", "string"),
        ("sub", "string"),
        ("jti", "string"),
        ("iat", "int"),
        ("nbf", "int"),
        ("exp", "int"),
        ("aud", "list"),
    ] {
        for (kind, value) in [
            ("string", json!("x")),
            ("int", json!(5)),
            ("bool", json!(true)),
            ("object", json!({"a": 1})),
            ("list", json!(["x"])),
            ("numbers", json!([5])),
            ("negative", json!(-5)),
            ("huge", json!(1e300)),
        ] {
            if kind == good || (name == "aud" && kind == "string") {
                continue;
            }
            let Authenticated::Refused(why) = bearer(&set, &signer.token(json!({name: value}))) else {
                panic!("{name} {kind}")
            };
            assert!(why.to_string().contains(&format!("[{name}]")), "{name} {kind}: {why}");
        }
    }
}

#[test]
fn every_algorithm_with_its_own_kind_of_key() {
    let signers = [
        Signer::es256(),
        Signer::ec("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
        Signer::rsa("RS256", &RSA_PKCS1_SHA256),
        Signer::rsa("PS512", &RSA_PSS_SHA512),
        Signer::ed25519(),
    ];
    for (at, signer) in signers.iter().enumerate() {
        for (other, keys) in signers.iter().enumerate() {
            let set = set(&rule("iss1", keys, ""));
            let by = bearer(&set, &signer.token(json!({})));
            assert_eq!(matches!(by, Authenticated::By(_)), at == other, "{} by a key of {}", signer.alg, keys.alg);
        }
        // With all keys in one set, without ids: the one that fits is found.
        let all: Vec<_> = signers.iter().collect();
        let set = set(&format!("{{issuer: iss1, audiences: [aud1], jwks: '{}'}}", jwks(&all)));
        assert!(matches!(bearer(&set, &signer.token(json!({}))), Authenticated::By(_)), "{}", signer.alg);
    }
}

#[test]
fn keys_by_id_and_algorithm() {
    // envoy jwt_verify_lib verifyJwt: ids and algorithms must not contradict each other.
    let signer = Signer::es256().with("kid", json!("one")).with("alg", json!("ES256"));
    let other = Signer::es256().with("kid", json!("two"));
    let set = set(&format!("{{issuer: iss1, audiences: [aud1], jwks: '{}'}}", jwks(&[&signer, &other])));
    let payload = json!({"iss": "iss1", "sub": "a", "aud": "aud1"}).to_string();
    let with = |header: Value| bearer(&set, &signer.raw(&header.to_string(), &payload));
    assert!(matches!(with(json!({"alg": "ES256", "kid": "one"})), Authenticated::By(_)));
    assert!(matches!(with(json!({"alg": "ES256"})), Authenticated::By(_)));
    refused("Jwt verification fails", &with(json!({"alg": "ES256", "kid": "two"})));
    let no_key = "Jwks doesn't have key to match kid or alg from Jwt";
    refused(no_key, &with(json!({"alg": "ES256", "kid": "three"})));
    refused(no_key, &with(json!({"alg": "RS256"})));
}

#[test]
fn key_sets_are_checked() {
    let (ec, rsa) = (Signer::es256(), Signer::rsa("RS256", &RSA_PKCS1_SHA256));
    let with = |signer: &Signer, name: &str, value: Value| {
        let mut jwk = signer.jwk.clone();
        jwk[name] = value;
        json!({"keys": [jwk]}).to_string()
    };
    for (set, message) in [
        ("".into(), "no JSON object"),
        ("[]".into(), "no JSON object"),
        ("{}".into(), "no list of keys"),
        (r#"{"keys":[]}"#.into(), "no key that can check a signature"),
        (r#"{"keys":[5]}"#.into(), "key 0: no object"),
        (r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#.into(), "no key that can check a signature"),
        (with(&ec, "use", json!("enc")), "no key that can check a signature"),
        (with(&ec, "key_ops", json!(["sign"])), "no key that can check a signature"),
        (with(&ec, "alg", json!("HS256")), "no key that can check a signature"),
        (with(&ec, "alg", json!("RS256")), "key 0: alg does not go with the key"),
        (with(&ec, "crv", json!("P-384")), "key 0: a coordinate has not the size of the curve"),
        (with(&ec, "x", json!("AA")), "key 0: a coordinate has not the size of the curve"),
        (with(&rsa, "n", json!(base64([255; 128]))), "key 0: an RSA key below 2048 bits"),
        (with(&rsa, "n", json!("*")), "key 0: a part of the key is no base64url"),
        (with(&rsa, "kid", json!(5)), "key 0: a field that has to be a string is none"),
        (json!({"keys": vec![ec.jwk.clone(); 101]}).to_string(), "101 keys, more than 100"),
    ] {
        let error = JwkSet::parse(&set).unwrap_err().to_string();
        assert!(error.contains(message), "{set}: {error}");
    }
    assert!(JwkSet::parse(&with(&rsa, "alg", json!("PS256"))).is_ok());
}

#[test]
fn tokens_are_taken_out_or_passed_on() {
    // reference 1.7: "token stripped from header **and query** unless `forwardOriginalToken`", "outputPayloadToHeader = base64url
    // payload; outputClaimToHeaders (nested `a.b`); forged copies of those headers are removed even without token"
    let signer = Signer::es256();
    let fields = ", outputPayloadToHeader: x-payload, outputClaimToHeaders: [{header: x-sub, claim: sub}, \
                  {header: x-nested, claim: a.b}, {header: x-number, claim: n}, {header: x-list, claim: l}]";
    let set_of = |fields: &str| set(&rule("iss1", &signer, fields));
    let (plain, forwarding) = (set_of(fields), set_of(", forwardOriginalToken: true"));
    let token = signer.token(json!({"a": {"b": "deep"}, "n": 5, "l": ["x"]}));
    let authorization = format!("Bearer {token}");

    let checked = check(&plain, Method::GET, "/", &[("authorization", &authorization), ("x-sub", "mallory")]);
    assert!(matches!(checked.by, Authenticated::By(_)));
    let header = |name: &str| checked.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("authorization"), None);
    assert_eq!(header("x-payload"), token.split('.').nth(1));
    assert_eq!([header("x-sub"), header("x-nested"), header("x-number")], [Some("alice"), Some("deep"), Some("5")]);
    assert_eq!(header("x-list"), None);

    let checked = check(&plain, Method::GET, &format!("/p?access_token={token}&z=1"), &[]);
    assert!(matches!(checked.by, Authenticated::By(_)));
    assert_eq!(checked.uri, "/p?z=1");

    let checked = check(&forwarding, Method::GET, "/", &[("authorization", &authorization)]);
    assert_eq!(checked.headers["authorization"], authorization);

    let forged = [("x-sub", "mallory"), ("x-payload", "zzz"), ("x_sub", "mallory"), ("x-other", "1")];
    let forged = check(&plain, Method::GET, "/", &forged);
    assert_eq!((forged.by, forged.headers.len()), (Authenticated::Anonymous, 1));
}

#[test]
fn what_is_no_bearer_is_no_token() {
    // reference 1.7: "default locations `Authorization: Bearer ` (case-sensitive; `bearer`/`Basic` = no token)"
    let signer = Signer::es256();
    let set = set(&rule("iss1", &signer, ""));
    let token = signer.token(json!({}));
    for authorization in ["Basic abc".into(), format!("bearer {token}"), token.clone()] {
        let checked = check(&set, Method::GET, "/", &[("authorization", &authorization)]);
        assert_eq!(checked.by, Authenticated::Anonymous, "{authorization}");
        assert_eq!(checked.headers["authorization"], authorization);
    }
    // reference 1.7: "CORS preflight bypasses JWT"
    let preflight =
        [("authorization", "Bearer garbage"), ("origin", "https://o"), ("access-control-request-method", "GET")];
    assert_eq!(check(&set, Method::OPTIONS, "/", &preflight).by, Authenticated::Anonymous);
    refused(
        "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        &check(&set, Method::GET, "/", &preflight).by,
    );
}

#[test]
fn one_good_token_is_enough() {
    // reference 1.7: "n rules => OR(P1..Pn, AND(valid-or-missing each)) => **one valid token suffices even if another location
    // holds a bad one**"
    let (one, two) = (Signer::es256(), Signer::es256());
    let rules = format!(
        "{}, {}",
        rule("iss1", &one, ", forwardOriginalToken: true"),
        rule("iss2", &two, ", fromHeaders: [{name: x-jwt, prefix: 'Tok '}]")
    );
    let set = set(&rules);
    let (first, second) = (one.token(json!({})), two.token(json!({"iss": "iss2"})));
    let (bearer, tok) = (|token: &str| format!("Bearer {token}"), |token: &str| format!("Tok {token}"));
    let check = |headers: &[(&'static str, &str)]| check(&set, Method::GET, "/", headers);
    let issuer = |checked: &Checked| match &checked.by {
        Authenticated::By(principal) => principal.issuer().map(String::from),
        _ => None,
    };
    assert_eq!(check(&[]).by, Authenticated::Anonymous);
    let checked = check(&[("authorization", &bearer(&first)), ("x-jwt", "Tok bad")]);
    assert_eq!((issuer(&checked).as_deref(), checked.headers["x-jwt"].to_str().unwrap()), (Some("iss1"), "Tok bad"));
    let checked = check(&[("authorization", "Bearer bad"), ("x-jwt", &tok(&second))]);
    assert_eq!(issuer(&checked).as_deref(), Some("iss2"));
    assert!(!checked.headers.contains_key("x-jwt") && checked.headers["authorization"] == "Bearer bad");
    refused("Jwt issuer is not configured", &check(&[("authorization", &bearer(&second))]).by);
    // Wrong prefix: no token.
    assert_eq!(check(&[("x-jwt", &second)]).by, Authenticated::Anonymous);
}

#[test]
fn two_tokens_in_one_place_are_none() {
    // reference security 2.4: ">1 token => [...] **reject 401**": a good one must not carry a forged one past.
    let signer = Signer::es256();
    let set =
        set(&rule("iss1", &signer, ", fromHeaders: [{name: a, prefix: 'T '}], fromParams: [t], fromCookies: [t]"));
    let good = signer.token(json!({}));
    let (twice, tok, cookie) = (format!("/?t={good}&%74=forged"), format!("T {good}"), format!("t=forged; t={good}"));
    for (uri, headers) in [
        (twice.as_str(), &[][..]),
        ("/", &[("a", tok.as_str()), ("a", "T forged")]),
        ("/", &[("cookie", cookie.as_str())]),
    ] {
        refused("Jwt is given more than once in one place", &check(&set, Method::GET, uri, headers).by);
    }
    let comma = format!("T {good}, T forged");
    refused("Jwt signature is an invalid Base64url encoded", &check(&set, Method::GET, "/", &[("a", &comma)]).by);
    assert!(matches!(check(&set, Method::GET, &format!("/?%74={good}"), &[]).by, Authenticated::By(_)));
}

#[test]
fn scopes_are_text_for_the_application() {
    let signer = Signer::es256();
    let set = set(&rule("iss1", &signer, ", outputClaimToHeaders: [{header: x-scope, claim: scope}]"));
    let authorization = format!("Bearer {}", signer.token(json!({"scope": "read write"})));
    let checked = check(&set, Method::GET, "/", &[("authorization", &authorization)]);
    assert_eq!(checked.headers["x-scope"], "read write");
}

#[test]
fn a_bad_key_of_somebody_elses_set_spoils_no_other() {
    // RFC 7517 section 5: "Implementations SHOULD ignore JWKs within a JWK Set that use [...] values that are out of the
    // supported ranges."
    let (good, mut small) = (Signer::es256(), Signer::rsa("RS256", &RSA_PKCS1_SHA256));
    small.jwk["n"] = json!(base64([255; 128]));
    let text = jwks(&[&small, &good]);
    assert!(JwkSet::parse(&text).is_err());
    let (_, bad) = JwkSet::parse_lenient(&text).unwrap();
    assert_eq!(bad.iter().map(ToString::to_string).collect::<Vec<_>>(), ["key 0: an RSA key below 2048 bits"]);
}

#[test]
fn without_keys_no_token_is_good() {
    // reference 1.7: "**fetch failure fails closed** (a JWKS nobody can sign for => every presented token 401)"
    let signer = Signer::es256();
    let set = set("{issuer: iss1, audiences: [aud1], jwksUri: 'https://keys.example.com/a'}");
    let keys = KeyStore::default();
    let check = |token: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        set.authenticate(&Method::GET, &mut Uri::from_static("/"), &mut headers, NOW, &keys)
    };
    refused("Jwks remote fetch is failed", &check(&signer.token(json!({}))));
    assert!(!keys.take_missed());
    let location = set.remote_keys().next().unwrap().0.location().unwrap().clone();
    assert_eq!(&*location, "https://keys.example.com/a");
    keys.insert(&location, Arc::new(JwkSet::parse(&jwks(&[&signer.with("kid", json!("k"))])).unwrap()));
    let other = Signer::es256();
    let strange = other.raw(r#"{"alg":"ES256","kid":"new"}"#, &json!({"iss": "iss1", "aud": "aud1"}).to_string());
    refused("Jwks doesn't have key to match kid or alg from Jwt", &check(&strange));
    assert!(keys.take_missed() && !keys.take_missed());
    refused("Jwt verification fails", &check(&other.token(json!({}))));
    keys.retain(|_| false);
    refused("Jwks remote fetch is failed", &check(&other.token(json!({}))));
}

#[test]
fn the_principal_splits_scopes() {
    let signer = Signer::es256();
    let set = set(&rule("iss1", &signer, ", spaceDelimitedClaims: [roles]"));
    let token = signer.token(json!({"scope": "read write", "roles": "a b", "other": "c d"}));
    let Authenticated::By(user) = bearer(&set, &token) else { panic!() };
    assert_eq!(user.claim(["scope"]), Some(&json!(["read", "write"])));
    assert_eq!(user.claim(["roles"]), Some(&json!(["a", "b"])));
    assert_eq!(user.claim(["other"]), Some(&json!("c d")));
    assert_eq!(user.principal().as_deref(), Some("iss1/alice"));
}

#[test]
fn errors_say_where_and_what() {
    let jwks = jwks(&[&Signer::es256()]).replace('"', "\\\"");
    for (rule, message) in [
        ("{}".into(), "jwtRules[0].issuer: issuer must be non-empty string"),
        ("{issuer: a, audiences: ['']}".into(), "jwtRules[0].audiences[0]: audience must be non-empty string"),
        ("{issuer: a}".into(), "jwtRules[0]: neither jwks nor jwksUri, and the issuer is no URL"),
        ("{issuer: a, jwks: x}".into(), "jwtRules[0].jwks: parse jwks error: no JSON object"),
        ("{issuer: a, jwksUri: 'ftp://x'}".into(), "jwtRules[0].jwksUri: invalid URL \"ftp://x\""),
        ("{issuer: a, jwksUri: '/x'}".into(), "jwtRules[0].jwksUri: invalid URL"),
        (format!("{{issuer: a, jwks: \"{jwks}\", jwksUri: 'http://x'}}"), "only one of jwks or jwksUri can be set"),
        (
            "{issuer: 'http://a', fromHeaders: [{prefix: x}]}".into(),
            "fromHeaders[0].name: location header name must be non-empty",
        ),
        (
            "{issuer: 'http://a', fromHeaders: [{name: 'a b'}]}".into(),
            "fromHeaders[0].name: invalid header name \"a b\"",
        ),
        ("{issuer: 'http://a', fromParams: ['']}".into(), "fromParams[0]: location query must be non-empty string"),
        (
            "{issuer: 'http://a', outputClaimToHeaders: [{header: x}]}".into(),
            "header and claim value must be non-empty",
        ),
        ("{issuer: 'http://a', timeout: 5}".into(), "jwtRules[0].timeout"),
        ("{issuer: 'http://a', audience: [x]}".into(), "unknown field `audience`"),
    ] {
        let (policy, issues) = read(&rule);
        assert!(policy.is_none(), "{rule}");
        assert!(issues.to_string().contains(message), "{rule}\n found: {issues}\n wanted: {message}");
    }
    let (policy, issues) = read("{issuer: 'https://accounts.example.com/'}");
    assert!(issues.to_string().contains("no audiences"), "{issues}");
    let policy = policy.unwrap();
    let source = &policy.rules()[0].keys;
    let location = "https://accounts.example.com/.well-known/openid-configuration";
    assert!(matches!(source, KeySource::Discovery(found) if **found == *location), "{source:?}");
}

#[tokio::test]
async fn the_layer_answers_as_envoy_does() {
    // reference 1.7: "401 + `www-authenticate: Bearer realm=\"…\", error=\"invalid_token\"`; [...] wrong/missing aud => **403**"
    let signer = Signer::es256();
    let rules = Arc::new(ArcSwap::from_pointee(set(&rule("iss1", &signer, ""))));
    let layer = AuthenticateLayer::new(rules, KeyStore::default());
    let service = || {
        ServiceBuilder::new().layer(LocalReplyLayer).layer(layer.clone()).service(service_fn(
            |request: Request<Empty<&'static [u8]>>| async move {
                let user = request.extensions().get::<RequestPrincipal>().and_then(RequestPrincipal::principal);
                Ok::<_, std::convert::Infallible>(Response::new(user.unwrap_or_default()))
            },
        ))
    };
    let send = async |token: Option<String>| {
        let mut request = Request::get("/a?b=c").header("host", "h").extension(forged());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = service().oneshot(request.body(Empty::new()).unwrap()).await.unwrap();
        let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap(), challenge)
    };
    // Real time here.
    let now = mesh_core::clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(send(None).await, (StatusCode::OK, String::new(), None));
    assert_eq!(send(Some(signer.token(json!({"exp": now + 60})))).await.1, "iss1/alice");
    let challenge = Some(r#"Bearer realm="http://h/a?b=c", error="invalid_token""#.to_owned());
    let expired = send(Some(signer.token(json!({"exp": now - 120})))).await;
    assert_eq!(expired, (StatusCode::UNAUTHORIZED, "Jwt is expired".into(), challenge.clone()));
    let other = send(Some(signer.token(json!({"exp": now + 60, "aud": "x"})))).await;
    assert_eq!(other, (StatusCode::FORBIDDEN, "Audiences in Jwt are not allowed".into(), challenge));
}

/// What a layer outside may have left there.
fn forged() -> RequestPrincipal {
    RequestPrincipal::new(json!({"iss": "forged", "sub": "admin"}).as_object().unwrap().clone())
}
