//! A bookinfo with some of Istio's files applied, and two ways to ask it: as a browser, and as one of its services.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use mesh::{Body, Client, Exchange, ResponseFlag};
use mesh_examples::bookinfo::{self, Options, Running};
use mesh_test::Scratch;
use serde_json::Value;
use tower::ServiceExt;

use crate::common::{acquainted, browse};

pub const DESTINATION_RULE_ALL: &str = "destination-rule-all.yaml";
pub const REVIEWS: &str = "http://reviews:9080/reviews/0";
pub const RATINGS: &str = "http://ratings:9080/ratings/0";
pub const DETAILS: &str = "http://details:9080/details/0";

/// Shares are counted over this many requests.
pub const REQUESTS: usize = 2_000;

/// A bookinfo that runs, and the directory it keeps its state in.
pub struct World {
    pub running: Running,
    _scratch: Scratch,
}

/// What came back for a request of a service.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
    pub exchange: Exchange,
}

impl World {
    /// Bookinfo with these of Istio's files for traffic rules, and nothing else.
    pub async fn start(directory: &Path, files: &[&str]) -> Self {
        Self::start_with(directory, files, |options| options).await
    }

    pub async fn start_with(directory: &Path, files: &[&str], change: impl FnOnce(Options) -> Options) -> Self {
        let scratch = Scratch::new();
        let mut options = Options::new(scratch.path().join("state"));
        options.productpage = SocketAddr::from(([127, 0, 0, 1], 0));
        options.apply = files.iter().map(|file| directory.join(file)).collect();
        let running = bookinfo::start(change(options)).await.unwrap();
        let world = Self { running, _scratch: scratch };
        acquainted(&world.running).await;
        world
    }

    /// The client that a service calls the others with.
    pub fn client(&self, service: &str) -> Client {
        self.running.service(service).unwrap().mesh().client()
    }

    /// Warnings in force, the same for every service, by their place: file name and line, then object and message.
    pub fn warnings(&self) -> Vec<String> {
        let of = |mesh: &mesh::Mesh| -> Vec<String> {
            let shown = |issue: &mesh::Issue| {
                assert_eq!(issue.severity, mesh::Severity::Warning, "{issue}");
                let file = Path::new(&*issue.source).file_name().unwrap().to_string_lossy();
                let object = issue.object.as_ref().unwrap();
                format!("{file}:{}: {object}: {}", issue.position.line, issue.message)
            };
            let mut issues = mesh.issues();
            issues.sort_by_key(|issue| (issue.source.clone(), issue.position.line));
            issues.iter().map(shown).collect()
        };
        let first = of(self.running.services[0].mesh());
        for service in &self.running.services {
            assert_eq!(of(service.mesh()), first, "{}", service.name);
        }
        first
    }

    async fn browse(&self, request: Request<Full<bytes::Bytes>>) -> Response<String> {
        browse(self.running.productpage().unwrap(), request).await
    }

    /// Sign in as a browser does. Gives the cookie.
    pub async fn sign_in(&self, user: &str) -> String {
        let form = Request::post("/login")
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("username={user}").into());
        let response = self.browse(form.unwrap()).await;
        assert_eq!(response.status(), 303);
        response.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    /// A path of productpage, with a cookie from [`sign_in`](Self::sign_in) or none.
    pub async fn visit(&self, path: &str, cookie: &str) -> Response<String> {
        let request = Request::get(path).header(header::HOST, "localhost").header(header::COOKIE, cookie);
        self.browse(request.body(Full::default()).unwrap()).await
    }

    /// The product page, which must show all of these.
    pub async fn page_shows(&self, cookie: &str, shown: &[&str]) {
        let page = self.visit("/productpage", cookie).await;
        assert_eq!(page.status(), 200);
        for text in shown {
            assert!(page.body().contains(text), "{text:?} is not in {}", page.body());
        }
    }
}

impl Answer {
    pub fn has(&self, flag: ResponseFlag) -> bool {
        self.exchange.flags.contains(flag)
    }

    /// Who answered, in the words of the application.
    pub fn pod(&self) -> &str {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["podname"].as_str().unwrap()
    }

    /// Not from an application but from the caller's mesh, for this reason.
    #[track_caller]
    pub fn assert_local(&self, status: u16, flag: ResponseFlag) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.has(flag), "{self:?}");
        assert!(self.exchange.endpoint.is_none(), "nobody was asked: {self:?}");
    }
}

pub async fn ask(client: &Client, url: &str) -> Answer {
    send(client, Request::get(url).body(Body::empty()).unwrap()).await
}

/// Ask on behalf of a user, as productpage and reviews do.
pub async fn ask_as(client: &Client, url: &str, user: &str) -> Answer {
    send(client, Request::get(url).header("end-user", user).body(Body::empty()).unwrap()).await
}

/// Ask, and read no more than the head of the response.
pub async fn open(client: &Client, url: &str) -> Response<mesh::ResponseBody> {
    client.clone().oneshot(Request::get(url).body(Body::empty()).unwrap()).await.unwrap()
}

async fn send(client: &Client, request: Request<Body>) -> Answer {
    let (parts, body) = client.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = || Value::String(String::from_utf8(body.to_vec()).unwrap());
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
    let exchange = parts.extensions.get::<Exchange>().cloned().unwrap_or_default();
    Answer { status: parts.status, body, exchange }
}

/// How many of [`REQUESTS`] each pod answered, 16 at a time. Every one must be answered.
pub async fn shares(client: &Client, url: &str) -> BTreeMap<String, usize> {
    let answers = stream::iter(0..REQUESTS).map(|_| ask(client, url)).buffer_unordered(16);
    let mut shares = BTreeMap::new();
    answers
        .for_each(|answer| {
            *shares.entry(answer.pod().to_owned()).or_default() += 1;
            std::future::ready(())
        })
        .await;
    shares
}

/// Shares as expected, in percent, for all pods that answered.
#[track_caller]
pub fn assert_shares(shares: &BTreeMap<String, usize>, expected: &[(&str, f64)]) {
    assert_eq!(shares.values().sum::<usize>(), REQUESTS);
    for (pod, percent) in expected {
        let share = percent / 100.0;
        let requests = REQUESTS as f64;
        let (mean, deviation) = (requests * share, (requests * share * (1.0 - share)).sqrt());
        let count = *shares.get(*pod).unwrap_or(&0) as f64;
        assert!(
            (count - mean).abs() <= 5.0 * deviation,
            "{pod}: {count} is not {mean} ± {:.0}: {shares:?}",
            5.0 * deviation
        );
    }
    let expected: Vec<&str> = expected.iter().map(|(pod, _)| *pod).collect();
    assert!(shares.keys().all(|pod| expected.contains(&pod.as_str())), "{shares:?}");
}

/// All requests to one pod.
#[track_caller]
pub fn assert_all(shares: &BTreeMap<String, usize>, pod: &str) {
    assert_eq!(*shares, BTreeMap::from([(pod.to_owned(), REQUESTS)]));
}

/// The line of a file, from 1, on which a text stands for the `nth` time.
pub fn line(directory: &Path, file: &str, text: &str, nth: usize) -> usize {
    let content = std::fs::read_to_string(directory.join(file)).unwrap();
    let mut lines = content.lines().enumerate().filter(|(_, line)| line.contains(text));
    lines.nth(nth).unwrap().0 + 1
}

/// A file of Istio's put into a directory that is watched.
pub fn put(directory: &Path, file: &str, into: &Path) -> PathBuf {
    let path = into.join(file);
    std::fs::copy(directory.join(file), &path).unwrap();
    path
}
