//! Tokens of end users: who they are said to be, and what becomes of a request whose token is no good.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{convert::Infallible, time::UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::{Router, extract::Request as AxumRequest, routing::get as route};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{World, fetch, until};
use http::Request;
use mesh::{Body, RequestPrincipal};
use tokio::net::TcpListener;

/// Who signs, and the set that proves it.
struct Issuer(Ed25519KeyPair);

impl Issuer {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    fn keys(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key());
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#)
    }

    fn token(&self, subject: &str, seconds: i64) -> String {
        let now = mesh_core::clock::wall().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let until = now.saturating_add_signed(seconds);
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let claims = format!(r#"{{"iss":"me","sub":"{subject}","aud":"a","exp":{until},"scope":"read write"}}"#);
        let signed = format!("{}.{}", encode(r#"{"alg":"EdDSA"}"#), encode(&claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes())))
    }
}

fn rules(keys: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: users}}\nspec:\n  selector: \
         {{matchLabels: {{app: a}}}}\n  jwtRules: [{{issuer: me, audiences: [a], {keys}, outputClaimToHeaders: [{{header: x-user, \
         claim: sub}}]}}]\n"
    )
}

const ONLY_READERS: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers}
spec:
  selector: {matchLabels: {app: a}}
  rules: [{from: [{source: {requestPrincipals: [\"me/*\"]}}], when: [{key: \"request.auth.claims[scope]\", values: [read]}]}]
";

async fn who(request: AxumRequest) -> String {
    let user = request.extensions().get::<RequestPrincipal>().and_then(RequestPrincipal::principal);
    let header = |name: &str| request.headers().get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
    format!("{} {} {}", user.as_deref().unwrap_or("nobody"), header("x-user"), header("authorization"))
}

fn asking(token: Option<&str>) -> Request<Body> {
    let request = Request::get("http://a/who").header("x-user", "mallory");
    let request =
        token.into_iter().fold(request, |request, token| request.header("authorization", format!("Bearer {token}")));
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_token_says_who_asks_and_policies_rely_on_it() {
    let (world, issuer) = (World::new(), Issuer::new());
    world.service("a", 80, "http");
    world.write("users.yaml", &rules(&format!("jwks: '{}'", issuer.keys())));
    let _server = world.run("a", "v1", Router::new().route("/who", route(who))).await;
    let caller = world.mesh("caller", "v1").await;
    let client = caller.client();
    let ask = async |token: Option<&str>| {
        let response = fetch(&client, asking(token)).await;
        (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned())
    };
    // istio security/v1beta1 RequestAuthentication: "A request that does not contain any authentication credentials will be
    // accepted but will not have any authenticated identity."
    let nobody = (200, "nobody - -".to_owned());
    assert_eq!(ask(None).await, nobody);
    assert_eq!(ask(Some(&issuer.token("ada", 60))).await, (200, "me/ada ada -".to_owned()));
    assert_eq!(ask(Some(&issuer.token("ada", -120))).await, (401, "Jwt is expired".to_owned()));
    let other = Issuer::new().token("ada", 60);
    assert_eq!(ask(Some(&other)).await, (401, "Jwt verification fails".to_owned()));
    // Policies on what tokens say, from the next request on.
    world.write("users.yaml", &(rules(&format!("jwks: '{}'", issuer.keys())) + ONLY_READERS));
    until("who is nobody gets nothing", async || ask(None).await.0 == 403).await;
    assert_eq!(ask(Some(&issuer.token("ada", 60))).await.0, 200);
    // One set: a bad member leaves the whole one as it was.
    world.write("users.yaml", &rules("jwks: nonsense"));
    let noticed = || caller.issues().iter().any(|issue| issue.to_string().contains("parse jwks error"));
    until("noticed", async || noticed()).await;
    assert_eq!(ask(None).await.0, 403);
    assert_eq!(ask(Some(&issuer.token("ada", 60))).await.0, 200);
}

#[tokio::test]
async fn keys_are_fetched_before_their_rules_are_in_force() {
    let (world, issuer) = (World::new(), Issuer::new());
    world.service("a", 80, "http");
    let keys = issuer.keys();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Router::new().route("/keys", route(async move || Ok::<_, Infallible>(keys)));
    let server = tokio::spawn(async move { axum::serve(listener, answer).await });
    world.write("users.yaml", &rules(&format!("jwksUri: 'http://{address}/keys'")));
    let _server = world.run("a", "v1", Router::new().route("/who", route(who))).await;
    let caller = world.mesh("caller", "v1").await;
    let response = fetch(&caller.client(), asking(Some(&issuer.token("ada", 60)))).await;
    assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"me/ada ada -"[..]));
    server.abort();
}
