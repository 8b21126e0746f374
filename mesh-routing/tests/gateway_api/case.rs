//! A case of the suite: read, sent, and compared as the suite's own code compares.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header::LOCATION};
use http_body_util::Empty;
use serde_json::Value;

use super::world::{Echo, World};

const INFRA: &str = "gateway-conformance-infra";
const GRPC: &str = "/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/";

pub struct Case {
    pub manifest: String,
    /// The client's namespace: the routes' own, because one of another namespace is for its clients only.
    pub client: String,
    pub grants: bool,
    pub path: String,
    /// What is dialled.
    origin: String,
    backend: String,
    value: Value,
    grpc: bool,
}

/// Cases of a test that are sent to another Gateway than its first: in the suite's code that is a variable.
const GATEWAYS: [(&str, std::ops::Range<usize>, &str); 3] = [
    ("HTTPRouteMultipleGateways", 2..4, "http://all-namespaces"),
    ("HTTPRouteRedirectPortAndScheme", 6..9, "http://same-namespace-with-http-listener-on-8080.:8080"),
    ("HTTPRouteRedirectPortAndScheme", 9..15, "https://same-namespace-with-https-listener"),
];

impl Case {
    /// A case; three where its path is a variable.
    pub fn read(test: &Value, index: usize, value: &Value) -> Vec<Self> {
        let name = test["ShortName"].as_str().unwrap();
        let grpc = value.get("Request").is_none();
        let path = match value["Request"]["Path"].as_str() {
            Some(path) => path.to_owned(),
            None => {
                let method = ["EchoRequest", "EchoTwoRequest", "EchoThreeRequest"];
                let method = method.into_iter().find(|method| value.get(*method).is_some()).unwrap();
                format!("{GRPC}{}", method.trim_end_matches("Request"))
            }
        };
        let names = &test["namespacedNames"];
        let gateway = names["gwNN"]["Name"].as_str().unwrap_or("same-namespace");
        let other = GATEWAYS.iter().find(|(test, cases, _)| *test == name && cases.contains(&index));
        let origin = other.map_or_else(|| format!("http://{gateway}"), |(_, _, origin)| (*origin).to_owned());
        // A service is called by its whole name.
        let origin = match origin.split_once(".:") {
            Some((host, port)) => format!("{host}.{INFRA}.svc.cluster.local:{port}"),
            None => format!("{origin}.{INFRA}.svc.cluster.local"),
        };
        let host = value["Request"]["Host"].as_str().filter(|host| of_a_route(test, host));
        let one = |path: &str, backend: &str| Self {
            manifest: test["Manifests"][0].as_str().unwrap().trim_start_matches("tests/").to_owned(),
            client: names["routeNN"]["Namespace"].as_str().filter(|ns| !ns.contains('(')).unwrap_or(INFRA).to_owned(),
            // The second case is sent when the grant has been deleted.
            grants: (name, index) != ("HTTPRouteReferenceGrant", 1),
            path: path.to_owned(),
            origin: host.map_or_else(|| origin.clone(), |host| format!("http://{host}")),
            backend: backend.to_owned(),
            value: value.clone(),
            grpc,
        };
        if path.contains("<<path>>") {
            // What the pods behind these services are is not for a route to say: here a service answers by its own name.
            let services = ["manual-endpointslices", "headless", "headless-manual-endpointslices"];
            return services.iter().map(|service| one(&format!("/{service}"), service)).collect();
        }
        vec![one(&path, value["Backend"].as_str().unwrap_or(""))]
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let method = match self.grpc {
            true => "POST",
            false => self.value["Request"]["Method"].as_str().unwrap_or("GET"),
        };
        let mut request =
            Request::builder().method(method).uri(format!("{}{}", self.origin, self.path)).body(Empty::new()).unwrap();
        let given =
            if self.grpc { &self.value["RequestMetadata"]["Metadata"] } else { &self.value["Request"]["Headers"] };
        *request.headers_mut() = headers(given);
        if self.grpc {
            request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        }
        request
    }

    /// Send it and compare.
    pub async fn play(&self, world: &World) -> Result<(), String> {
        let (response, seen) = world.send(self.request(), headers(&self.value["BackendSetResponseHeaders"])).await;
        if self.grpc { self.compare_grpc(&response, &seen) } else { self.compare(world, &response, &seen).await }
    }

    /// gateway-api conformance/utils/grpc compareResponse: the code; of an answer also method, namespace and backend. The
    /// headers in its cases are compared by nobody.
    fn compare_grpc(&self, response: &Response<Bytes>, seen: &[Echo]) -> Result<(), String> {
        let status = response.headers().get("grpc-status").map_or("0", |status| status.to_str().unwrap());
        let expected = match self.value["Response"]["Code"].as_str() {
            None | Some("codes.OK") => "0",
            Some("codes.Unimplemented") => "12",
            Some(other) => panic!("{other}"),
        };
        check("grpc-status", status, expected)?;
        if expected == "0" { self.compare_upstream(seen) } else { Ok(()) }
    }

    /// gateway-api conformance/utils/http CompareRoundTrip.
    async fn compare(&self, world: &World, response: &Response<Bytes>, seen: &[Echo]) -> Result<(), String> {
        let expected = &self.value["Response"];
        let status = u64::from(response.status().as_u16());
        let default = if expected.get("StatusCodes").is_some() { None } else { Some(200) };
        let one = expected["StatusCode"].as_u64().filter(|code| *code > 0).or(default);
        let allowed: Vec<u64> = match expected["StatusCodes"].as_array() {
            Some(codes) => codes.iter().map(|code| code.as_u64().unwrap()).collect(),
            None => one.into_iter().collect(),
        };
        if !allowed.contains(&status) {
            return Err(format!("status {status}, expected {allowed:?}"));
        }
        let preflight = self.value["Request"]["Method"] == "OPTIONS";
        if status == 200 && !preflight {
            self.compare_upstream(seen)?;
        }
        for (name, value) in expected["Headers"].as_object().into_iter().flatten() {
            check(name, &joined(response.headers(), name), value.as_str().unwrap())?;
        }
        for (name, values) in expected["ValidHeaderValues"].as_object().into_iter().flatten() {
            let without_spaces = |text: &str| text.replace(' ', "");
            let found = without_spaces(&joined(response.headers(), name));
            let values: Vec<_> =
                values.as_array().unwrap().iter().map(|v| without_spaces(v.as_str().unwrap())).collect();
            if !values.contains(&found) {
                return Err(format!("{name}: {found:?}, expected one of {values:?}"));
            }
        }
        absent(response.headers(), &expected["AbsentHeaders"])?;
        if let Some(redirect) = self.value.get("RedirectRequest") {
            self.compare_redirect(response, redirect)?;
        }
        self.compare_mirrors(world, seen).await
    }

    fn compare_upstream(&self, seen: &[Echo]) -> Result<(), String> {
        let expected = &self.value["ExpectedRequest"];
        let wanted = &expected["Request"];
        let primary = |echo: &&Echo| self.backend.is_empty() || echo.backend == self.backend;
        let Some(echo) = seen.iter().find(primary) else {
            return Err(format!(
                "went to {:?}, expected {}",
                seen.iter().map(|e| &e.backend).collect::<Vec<_>>(),
                self.backend
            ));
        };
        if self.value.get("MirroredTo").is_none() && seen.len() != 1 {
            return Err(format!("{} requests upstream", seen.len()));
        }
        // `ns` is a variable of the suite's code.
        let namespace = self.value["Namespace"].as_str().filter(|namespace| !matches!(*namespace, "" | "ns"));
        check("namespace", &echo.namespace, namespace.unwrap_or(&echo.namespace))?;
        let given = |field: &str| wanted[field].as_str().filter(|text| !text.is_empty());
        check("path", &echo.path, given("Path").unwrap_or(&self.path))?;
        let method = if self.grpc { "POST" } else { self.value["Request"]["Method"].as_str().unwrap_or("GET") };
        check("method", &echo.method, given("Method").unwrap_or(method))?;
        if let Some(host) = given("Host") {
            check("host", &echo.host, host)?;
        }
        for (name, value) in wanted["Headers"].as_object().into_iter().flatten() {
            check(name, &joined(&echo.headers, name), value.as_str().unwrap())?;
        }
        absent(&echo.headers, &expected["AbsentHeaders"])
    }

    /// Fields that are not given are the request's; a port that is not given may be the scheme's own.
    fn compare_redirect(&self, response: &Response<Bytes>, expected: &Value) -> Result<(), String> {
        let location = response.headers().get(LOCATION).ok_or("no location")?.to_str().unwrap();
        let location: Uri = location.parse().map_err(|error| format!("{location}: {error}"))?;
        let origin: Uri = self.origin.parse().unwrap();
        let given = |field: &str| expected[field].as_str().filter(|text| !text.is_empty());
        let scheme = given("Scheme").unwrap_or_else(|| origin.scheme_str().unwrap());
        check("scheme", location.scheme_str().unwrap(), scheme)?;
        check("host", location.host().unwrap(), given("Host").unwrap_or_else(|| origin.host().unwrap()))?;
        check("path", location.path(), given("Path").unwrap_or(&self.path))?;
        let default = if scheme == "https" { "443" } else { "80" };
        let port = location.port_u16().map_or_else(|| default.to_owned(), |port| port.to_string());
        check("port", &port, given("Port").unwrap_or(default))
    }

    async fn compare_mirrors(&self, world: &World, seen: &[Echo]) -> Result<(), String> {
        for mirror in self.value["MirroredTo"].as_array().into_iter().flatten() {
            let name = mirror["BackendRef"]["Name"].as_str().unwrap();
            let Some(percent) = mirror["Percent"].as_u64() else {
                seen.iter().find(|echo| echo.backend == name).ok_or_else(|| format!("not mirrored to {name}"))?;
                continue;
            };
            let mut copies = 0;
            const REQUESTS: u64 = 1_000;
            for _ in 0..REQUESTS {
                let (_, seen) = world.send(self.request(), HeaderMap::new()).await;
                copies += seen.iter().filter(|echo| echo.backend == name).count() as u64;
            }
            // The draws are spread evenly.
            if (copies * 100).abs_diff(percent * REQUESTS) > 2 * REQUESTS {
                return Err(format!("{copies} of {REQUESTS} mirrored, expected {percent} %"));
            }
        }
        Ok(())
    }
}

/// Is a host one of the hostnames of the test's routes? A Gateway takes any host, a service has its own.
fn of_a_route(test: &Value, host: &str) -> bool {
    let file = test["Manifests"][0].as_str().unwrap().trim_start_matches("tests/");
    let path = mesh_test::shared("gateway-api/manifests").unwrap().join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let mut issues = mesh_core::config::Issues::default();
    mesh_core::config::Document::parse_all(file, &text, &mut issues).iter().any(|document| {
        let names = document.spec().and_then(|spec| spec.get("hostnames")).map(|names| &names.value);
        matches!(names, Some(mesh_core::config::Value::Sequence(names)) if names.iter().any(|n| n.as_str() == Some(host)))
    })
}

fn headers(given: &Value) -> HeaderMap {
    let given = given.as_object().into_iter().flatten();
    given.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.as_str().unwrap().parse().unwrap())).collect()
}

fn joined(headers: &HeaderMap, name: &str) -> String {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(",")
}

fn absent(headers: &HeaderMap, names: &Value) -> Result<(), String> {
    let there = names.as_array().into_iter().flatten().find(|name| headers.contains_key(name.as_str().unwrap()));
    there.map_or(Ok(()), |name| Err(format!("{name} is there")))
}

fn check(what: &str, found: &str, expected: &str) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} {found:?}, expected {expected:?}")) }
}
