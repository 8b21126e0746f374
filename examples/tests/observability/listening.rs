//! What the applications get to see of a request.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use mesh::Mesh;
use mesh_examples::bookinfo::{self, Deployment, Running};
use mesh_test::Scratch;
use tokio::net::TcpListener;
use tower::util::MapRequestLayer;

use crate::{
    browser::{eventually, get},
    world::{all_of_bookinfo, ask, own},
};

/// Bookinfo with somebody who listens between the mesh and each application: productpage, details, reviews v2 and
/// ratings, each the unchanged application on a mesh of its own.
pub(crate) struct Listening {
    running: Running,
    meshes: BTreeMap<&'static str, Mesh>,
    heard: Arc<Mutex<Vec<Arrived>>>,
    _state: Scratch,
}

/// The headers of a request as an application got them.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) service: &'static str,
    pub(crate) trace_id: String,
    pub(crate) parent_id: String,
    pub(crate) flags: String,
    pub(crate) headers: HeaderMap,
}

#[derive(Debug)]
pub(crate) struct Heard(pub(crate) Vec<Arrived>);

impl Listening {
    pub(crate) async fn start() -> Self {
        let state = Scratch::new();
        let mut options = all_of_bookinfo(&state);
        options.deployments = vec!["productpage-v1".parse().unwrap()];
        options.texts.clear();
        options.apply.clear();
        let running = bookinfo::start(options.clone()).await.unwrap();
        let mut meshes = BTreeMap::from([("productpage-v1", running.services[0].mesh().clone())]);
        let heard = Arc::new(Mutex::new(Vec::new()));
        for service in ["details-v1", "reviews-v2", "ratings-v1"] {
            let deployment: Deployment = service.parse().unwrap();
            let workloads = options.state.join("workloads");
            let builder =
                Mesh::builder().workload(deployment.workload()).development_identity(options.state.join("ca"));
            let mesh = builder.config_path(own("registry")).config_path(&workloads).start().await.unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let ear = Arc::clone(&heard);
            let app = bookinfo::router(deployment, service, mesh.client()).layer(MapRequestLayer::new(
                move |request: Request<Body>| {
                    ear.lock().unwrap().push(Arrived::new(service, request.headers()));
                    request
                },
            ));
            let serving = mesh.clone();
            tokio::spawn(async move { serving.serve(listener, app).await });
            mesh.register(&workloads, address).unwrap();
            meshes.insert(service, mesh);
        }
        let listening = Self { running, meshes, heard, _state: state };
        eventually("bookinfo answers", async || {
            let reviews = ask(&listening.running, "jason", "/api/v1/products/0/reviews").await?;
            let details = ask(&listening.running, "jason", "/api/v1/products/0").await?;
            if reviews["ratings_podname"] == "ratings-v1" && details["podname"] == "details-v1" {
                return Ok(());
            }
            Err(format!("{reviews} {details}").into())
        })
        .await;
        listening.heard();
        listening
    }

    pub(crate) fn mesh_of(&self, service: &str) -> &Mesh {
        &self.meshes[service]
    }

    /// Open the page with further headers.
    pub(crate) async fn browse(&self, add: impl FnOnce(http::request::Builder) -> http::request::Builder) -> String {
        let request = add(Request::get("/productpage").header(header::COOKIE, "session=jason"));
        let page = get(self.running.productpage().unwrap(), request).await.unwrap();
        assert_eq!(page.status(), 200);
        for shown in ["details-v1", "reviews-v2", "ratings-v1"] {
            assert!(page.body().contains(shown), "{shown} in {}", page.body());
        }
        page.into_body()
    }

    /// What arrived since this was last asked.
    pub(crate) fn heard(&self) -> Heard {
        Heard(std::mem::take(&mut self.heard.lock().unwrap()))
    }

    pub(crate) async fn end(self) {
        self.running.shutdown().await;
    }
}

impl Arrived {
    fn new(service: &'static str, headers: &HeaderMap) -> Self {
        let mut arrived = Self {
            service,
            trace_id: String::new(),
            parent_id: String::new(),
            flags: String::new(),
            headers: headers.clone(),
        };
        // W3C trace context: version "-" trace-id "-" parent-id "-" trace-flags.
        let traceparent = arrived.only("traceparent").to_owned();
        let parts: Vec<_> = traceparent.split('-').map(str::to_owned).collect();
        let [version, trace_id, parent_id, flags] = <[String; 4]>::try_from(parts).unwrap();
        assert_eq!((&*version, trace_id.len(), parent_id.len()), ("00", 32, 16), "{traceparent}");
        (arrived.trace_id, arrived.parent_id, arrived.flags) = (trace_id, parent_id, flags);
        arrived
    }

    /// The one value of a header; nothing when it is not there.
    pub(crate) fn only(&self, name: &'static str) -> &str {
        let mut values = self.headers.get_all(HeaderName::from_static(name)).iter();
        let value = values.next().map_or("", |value: &HeaderValue| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        value
    }
}

impl Heard {
    /// The one request that a service got.
    pub(crate) fn by(&self, service: &str) -> Arrived {
        let found: Vec<_> = self.0.iter().filter(|arrived| arrived.service == service).collect();
        assert_eq!(found.len(), 1, "requests to {service} in {self:#?}");
        found[0].clone()
    }
}
