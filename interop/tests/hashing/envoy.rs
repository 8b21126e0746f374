//! A real Envoy with one cluster for each case, and endpoints enough for all of them.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep},
};

const TYPE: &str = "type.googleapis.com/";

/// An endpoint: where it is, its weight, and whether it may be chosen.
#[derive(Clone, Debug)]
pub struct Host {
    pub address: SocketAddr,
    pub weight: u32,
    pub healthy: bool,
    /// Its locality, as `region/zone/subzone`; may be empty.
    pub place: &'static str,
}

/// A locality of a case: its priority, and its share where places have shares.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    pub name: &'static str,
    pub priority: u32,
    pub share: Option<u32>,
}

/// One route and one cluster.
pub struct Case {
    pub name: String,
    pub hosts: Vec<Host>,
    pub places: Vec<Place>,
    /// Added to the cluster.
    pub cluster: Value,
    /// Added to the route's action.
    pub action: Value,
}

/// A running Envoy; ended when it drops.
pub struct Envoy {
    process: Child,
    pub address: SocketAddr,
}

impl Envoy {
    pub async fn start(binary: &Path, directory: &Path, cases: &[Case]) -> io::Result<Self> {
        let (config, admin, log) = (directory.join("envoy.json"), directory.join("admin"), directory.join("log"));
        fs::write(&config, bootstrap(cases).to_string())?;
        let process = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .args(["--disable-hot-restart", "--concurrency", "1", "-l", "warn", "--admin-address-path"])
            .arg(&admin)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let mut envoy = Self { process, address: ([127, 0, 0, 1], 0).into() };
        let started = Instant::now();
        loop {
            if let Some(address) = listening(&admin).await {
                envoy.address = address;
                return Ok(envoy);
            }
            if started.elapsed() > Duration::from_secs(60) || envoy.process.try_wait()?.is_some() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(io::Error::other(format!("Envoy did not start:\n{log}")));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Send requests, one after the other on one connection from `source`, and read the answers.
    pub async fn send(&self, source: SocketAddr, requests: &[Vec<u8>]) -> io::Result<Vec<Answer>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(source)?;
        let mut stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (mut answers, mut buffer) = (Vec::with_capacity(requests.len()), Vec::new());
        // Not all at once, or both sides would be writing to a full socket.
        for batch in requests.chunks(50) {
            stream.write_all(&batch.concat()).await?;
            for _ in batch {
                answers.push(read_answer(&mut stream, &mut buffer).await?);
            }
        }
        Ok(answers)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn listening(admin: &PathBuf) -> Option<SocketAddr> {
    let mut stream = TcpStream::connect(fs::read_to_string(admin).ok()?.trim()).await.ok()?;
    stream.write_all(b"GET /listeners HTTP/1.1\r\nhost: admin\r\n\r\n").await.ok()?;
    let answer = read_answer(&mut stream, &mut Vec::new()).await.ok()?;
    String::from_utf8_lossy(&answer.body).lines().find_map(|line| line.strip_prefix("hashing::")?.trim().parse().ok())
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ str| line.split_once(':').is_some_and(|(known, _)| known.eq_ignore_ascii_case(name));
        let found = self.head.lines().skip(1).find(|text| line(text))?;
        found.split_once(':').map(|(_, value)| value.trim())
    }

    /// The endpoint that Envoy chose.
    pub fn endpoint(&self) -> SocketAddr {
        let endpoint = self.header("x-endpoint").and_then(|value| value.parse().ok());
        endpoint.unwrap_or_else(|| panic!("no endpoint in {}", self.head))
    }
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Answer> {
    let head = read_until(stream, buffer, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
    let mut answer = Answer { status, head, body: Vec::new() };
    if answer.header("transfer-encoding").is_some() {
        loop {
            let line = read_until(stream, buffer, b"\r\n").await?;
            let length = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap_or_default();
            let mut chunk = take(stream, buffer, length + 2).await?;
            chunk.truncate(length);
            answer.body.extend(chunk);
            if length == 0 {
                return Ok(answer);
            }
        }
    }
    let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    answer.body = take(stream, buffer, length).await?;
    Ok(answer)
}

async fn read_until(stream: &mut TcpStream, buffer: &mut Vec<u8>, end: &[u8]) -> io::Result<Vec<u8>> {
    loop {
        if let Some(at) = buffer.windows(end.len()).position(|window| window == end) {
            return Ok(buffer.drain(..at + end.len()).collect());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..length).collect())
}

/// Answers on every loopback address with one port: 127.0.0.0/8 is this machine's. A first attempt that asks for it is
/// refused with a 503.
pub async fn endpoints(port: u16) -> io::Result<u16> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = Vec::new();
                while let Ok(request) = read_until(&mut stream, &mut buffer, b"\r\n\r\n").await {
                    let has = |text: &str| String::from_utf8_lossy(&request).contains(text);
                    let fails = has("x-fail: first") && has("x-envoy-attempt-count: 1\r\n");
                    let status = if fails { "503 Busy" } else { "200 OK" };
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(port)
}

/// `base` with the fields of `more`.
fn with(mut base: Value, more: &Value) -> Value {
    if let (Some(base), Some(more)) = (base.as_object_mut(), more.as_object()) {
        base.extend(more.clone());
    }
    base
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn bootstrap(cases: &[Case]) -> Value {
    let routes: Vec<_> = cases.iter().map(route).collect();
    let clusters: Vec<_> = cases.iter().map(cluster).collect();
    let any_port = socket_address(([127, 0, 0, 1], 0).into());
    let manager = json!({
        "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "hashing", "codec_type": "HTTP1", "generate_request_id": false,
        "use_remote_address": false, "skip_xff_append": true,
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": routes, "include_request_attempt_count": true,
            "response_headers_to_add": [{"header": {"key": "x-endpoint", "value": "%UPSTREAM_REMOTE_ADDRESS%"}}]
        }]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": format!("{TYPE}envoy.extensions.filters.http.router.v3.Router")}}]
    });
    json!({
        "node": {"id": "hashing", "cluster": "hashing"},
        "admin": {"address": any_port},
        "static_resources": {
            "listeners": [{"name": "hashing", "address": any_port,
                           "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}],
            "clusters": clusters
        }
    })
}

fn route(case: &Case) -> Value {
    let action = with(json!({"cluster": case.name}), &case.action);
    json!({"match": {"prefix": format!("/{}", case.name)}, "route": action})
}

fn cluster(case: &Case) -> Value {
    let most = u32::MAX;
    let endpoint = |host: &Host| {
        json!({"endpoint": {"address": socket_address(host.address)}, "load_balancing_weight": host.weight,
               "health_status": if host.healthy { "HEALTHY" } else { "UNHEALTHY" }})
    };
    let place = |place: &Place| {
        let there = case.hosts.iter().filter(|host| host.place == place.name);
        let endpoints: Vec<_> = there.map(endpoint).collect();
        let mut place_of = json!({"lb_endpoints": endpoints, "priority": place.priority});
        place_of["locality"] = json!({"region": place.name});
        if let Some(share) = place.share {
            place_of["load_balancing_weight"] = json!(share);
        }
        place_of
    };
    let places: Vec<_> = case.places.iter().map(place).collect();
    let cluster = json!({
        "name": case.name, "type": "STATIC", "connect_timeout": "10s",
        // istio applyOutlierDetection: no panic unless minHealthPercent asks for it.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        // A thousand endpoints, and not more connections than a process may have.
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
            "common_http_protocol_options": {"idle_timeout": "0.1s"},
            "explicit_http_config": {"http_protocol_options": {}}}},
        "circuit_breakers": {"thresholds": [{"max_retries": most, "max_requests": most, "max_connections": most,
                                             "max_pending_requests": most}]},
        "load_assignment": {"cluster_name": case.name, "endpoints": places}
    });
    with(cluster, &case.cluster)
}
