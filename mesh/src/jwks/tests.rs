use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use mesh_authz::jwt::RequestAuthentication;
use mesh_core::{
    Workload,
    config::{Document, Issues},
    registry::SystemResolver,
};
use mesh_tls::EgressTls;
use tokio::{net::TcpListener, task::AbortHandle};

use super::*;
use crate::network::Tcp;

const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"KID","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Path, status, body or location.
type Answers = Vec<(&'static str, u16, String)>;

/// An issuer: answers by path, and counts.
struct Issuer {
    address: SocketAddr,
    answers: Arc<Mutex<Answers>>,
    asked: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuer {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(Answers::new()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (for_task, count) = (Arc::clone(&answers), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, count) = (Arc::clone(&for_task), Arc::clone(&count));
                tokio::spawn(async move {
                    let answer = service_fn(move |request: Request<Incoming>| {
                        count.fetch_add(1, Ordering::SeqCst);
                        let found =
                            answers.lock().unwrap().iter().find(|(path, ..)| *path == request.uri().path()).cloned();
                        let (_, status, text) = found.unwrap_or(("", 404, String::new()));
                        let mut response = Response::builder().status(status);
                        if (300..400).contains(&status) {
                            response = response.header("location", &text);
                        }
                        let response = response.body(Full::new(Bytes::from(text))).unwrap();
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { address, answers, asked, task: task.abort_handle() }
    }

    fn answers(&self, answers: impl IntoIterator<Item = (&'static str, u16, String)>) {
        *self.answers.lock().unwrap() = answers.into_iter().collect();
    }

    fn rules(&self, fields: &str) -> RequestAuthentications {
        let address = self.address;
        let text = format!(
            "kind: RequestAuthentication\nmetadata: {{name: p, namespace: shop}}\nspec: {{jwtRules: [{{audiences: [a], {}}}]}}\n",
            fields.replace("HOST", &address.to_string())
        );
        let mut issues = Issues::default();
        let documents = Document::parse_all("p.yaml", &text, &mut issues);
        let policy = RequestAuthentication::from_document(&documents[0], &mut issues);
        let policy = policy.unwrap_or_else(|| panic!("{issues}"));
        RequestAuthentications::new([&policy], &Workload::new("shop", "reviews"), "istio-system")
    }
}

fn fetcher() -> Fetcher {
    Fetcher { connect: Arc::new(Tcp), resolve: Arc::new(SystemResolver), tls: EgressTls::new() }
}

/// What fetching the keys of the only rule says; empty when it worked.
async fn fetched(rules: &RequestAuthentications) -> String {
    let (source, timeout) = rules.remote_keys().next().unwrap();
    fetcher().keys(source, timeout).await.map_or_else(|error| error.to_string(), |_| String::new())
}

#[tokio::test]
async fn keys_by_uri_and_by_discovery() {
    let issuer = Issuer::new().await;
    let here = format!("http://{}", issuer.address);
    let by_uri = issuer.rules("issuer: me, jwksUri: 'http://HOST/keys'");
    issuer.answers([("/keys", 200, KEYS.into())]);
    assert_eq!(fetched(&by_uri).await, "");
    let discovered = issuer.rules("issuer: 'http://HOST/'");
    let configuration = "/.well-known/openid-configuration";
    issuer.answers([
        (configuration, 200, format!(r#"{{"issuer":"x","jwks_uri":"{here}/elsewhere"}}"#)),
        ("/elsewhere", 302, "/keys".into()),
        ("/keys", 200, KEYS.into()),
    ]);
    assert_eq!(fetched(&discovered).await, "");
    issuer.answers([(configuration, 200, "{}".into())]);
    assert_eq!(fetched(&discovered).await, "the answer: it has no jwks_uri");
}

#[tokio::test]
async fn what_is_no_key_set_is_refused() {
    let issuer = Issuer::new().await;
    let rules = issuer.rules("issuer: me, jwksUri: 'http://HOST/keys', timeout: 2s");
    for (status, text, message) in [
        (500, KEYS.to_owned(), "status 500"),
        (404, String::new(), "status 404"),
        (200, "<html>".to_owned(), "the answer: no JSON object"),
        (200, r#"{"keys":[]}"#.to_owned(), "the answer: no key that can check a signature"),
        (200, " ".repeat(1024 * 1024 + 1), "the answer: length limit exceeded"),
        (302, "/keys".to_owned(), "more than 3 redirects"),
        // GHSA-fgw5-hp8f-xfhc: redirects led to the metadata of the machine.
        (
            302,
            "http://169.254.169.254/latest".to_owned(),
            "169.254.169.254 is an address of this machine's surroundings",
        ),
        (302, "ftp://x/".to_owned(), "is no http or https URL"),
        (304, String::new(), "status 304"),
    ] {
        issuer.answers([("/keys", status, text)]);
        let said = fetched(&rules).await;
        assert!(said.contains(message), "{said}\n wanted: {message}");
    }
    let metadata = issuer.rules("issuer: me, jwksUri: 'http://169.254.169.254/keys'");
    assert!(fetched(&metadata).await.contains("169.254.169.254"));
}

#[tokio::test]
async fn an_issuer_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = Issuer::new().await;
    let silent = listener.local_addr().unwrap();
    let rules = issuer.rules(&format!("issuer: me, jwksUri: 'http://{silent}/keys', timeout: 100ms"));
    assert_eq!(fetched(&rules).await, "no answer within 100ms");
}

#[tokio::test]
async fn keys_are_there_before_their_rules_are_and_fetched_once() {
    let issuer = Issuer::new().await;
    issuer.answers([("/keys", 200, KEYS.into())]);
    let rules = issuer.rules("issuer: me, jwksUri: 'http://HOST/keys'");
    let keys = KeyStore::default();
    prefetch(&fetcher(), &keys, &rules).await;
    let source = rules.remote_keys().next().unwrap().0.clone();
    assert!(keys.get(&source).is_some());
    prefetch(&fetcher(), &keys, &rules).await;
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    // A refresh that fails leaves what was known.
    issuer.answers([]);
    assert!(!fetch(&fetcher(), &keys, &source, Duration::from_secs(2)).await);
    assert!(keys.get(&source).is_some());
}
