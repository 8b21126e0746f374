//! The referee's process: found, configured as Istio configures a sidecar, given routes through a file it watches.

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use mesh_core::path::PathNormalization;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    model::{Mode, PORTS, Table},
    translate::{REVEALED, route_configuration},
    wire::Connection,
};

const TYPE: &str = "type.googleapis.com/";

/// How paths are normalised, under the names of the listeners.
pub(crate) const MODES: [(&str, PathNormalization); 4] = [
    ("base", PathNormalization::Base),
    ("none", PathNormalization::None),
    ("merge", PathNormalization::MergeSlashes),
    ("decode", PathNormalization::DecodeAndMergeSlashes),
];

/// Where `interop/envoy.sh` put the binary: `MESH_ENVOY`, else below `MESH_ENVOY_HOME`, else below the target directory.
///
/// `None` where there is none.
#[must_use]
pub fn find() -> Option<PathBuf> {
    if let Some(binary) = std::env::var_os("MESH_ENVOY") {
        return Some(binary.into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let home = std::env::var_os("MESH_ENVOY_HOME").map_or_else(|| target.join("envoy"), PathBuf::from);
    // lib/python3.x/site-packages: x is whatever Python made the environment.
    let pythons = fs::read_dir(home.join("lib")).ok()?;
    let binaries = pythons.flatten().map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    binaries.into_iter().find(|binary| binary.is_file())
}

/// A running Envoy; ended when it drops.
#[derive(Debug)]
pub(crate) struct Envoy {
    process: Child,
    directory: PathBuf,
    listeners: HashMap<String, SocketAddr>,
    pushed: u64,
}

impl Envoy {
    /// Start one in an empty directory.
    pub(crate) async fn start(
        binary: &Path,
        directory: &Path,
        upstreams: &HashMap<String, SocketAddr>,
    ) -> io::Result<Self> {
        let directory = directory.to_owned();
        let mut envoy_config = bootstrap(&directory, upstreams);
        let first = Mode { paths: 0, registry_only: false };
        write_routes(&directory, &[], first, 0)?;
        let config = directory.join("envoy.json");
        envoy_config["node"] = json!({"id": "referee", "cluster": "referee"});
        fs::write(&config, envoy_config.to_string())?;
        let admin = directory.join("admin");
        let log = fs::File::create(directory.join("log"))?;
        let process = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .args(["--disable-hot-restart", "--concurrency", "1", "-l", "warn", "--admin-address-path"])
            .arg(&admin)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut envoy = Self { process, directory, listeners: HashMap::new(), pushed: 0 };
        let started = Instant::now();
        while envoy.listeners.len() < MODES.len() * PORTS.len() {
            if started.elapsed() > Duration::from_secs(30) || envoy.process.try_wait()?.is_some() {
                return Err(io::Error::other(format!("Envoy did not start:\n{}", envoy.log())));
            }
            sleep(Duration::from_millis(20)).await;
            let Some(address) = fs::read_to_string(&admin).ok().and_then(|text| text.trim().parse().ok()) else {
                continue;
            };
            let request = b"GET /listeners?format=json HTTP/1.1\r\nhost: admin\r\n\r\n";
            if let Ok(answer) = Connection::new(address).exchange(request, false).await {
                envoy.listeners = listeners(&answer.body);
            }
        }
        envoy.push(&[], first).await?;
        Ok(envoy)
    }

    /// Put tables in force and wait until they are.
    pub(crate) async fn push(&mut self, tables: &[Table], mode: Mode) -> io::Result<()> {
        self.pushed += 1;
        write_routes(&self.directory, tables, mode, self.pushed)?;
        let version = self.pushed.to_string();
        let started = Instant::now();
        for port in PORTS {
            let mut connection = Connection::new(self.address(mode, port));
            let request = b"GET / HTTP/1.1\r\nhost: version.referee\r\n\r\n";
            loop {
                if connection.exchange(request, false).await.is_ok_and(|answer| answer.body == version.as_bytes()) {
                    break;
                }
                if started.elapsed() > Duration::from_secs(10) {
                    return Err(io::Error::other(format!("Envoy did not take the routes:\n{}", self.log())));
                }
                sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    }

    pub(crate) fn address(&self, mode: Mode, port: u16) -> SocketAddr {
        self.listeners[&format!("{}-{port}", MODES[mode.paths].0)]
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let from = log.len().saturating_sub(4000);
        log.get(from..).unwrap_or(&log).to_owned()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn listeners(body: &[u8]) -> HashMap<String, SocketAddr> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let address = |status: &Value| {
        let port = status["local_address"]["socket_address"]["port_value"].as_u64()?;
        Some((status["name"].as_str()?.to_owned(), SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).ok()?))))
    };
    answer["listener_statuses"].as_array().into_iter().flatten().filter_map(address).collect()
}

fn routes_file(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!("routes/{port}.json"))
}

fn write_routes(directory: &Path, tables: &[Table], mode: Mode, version: u64) -> io::Result<()> {
    fs::create_dir_all(directory.join("routes"))?;
    for port in PORTS {
        let version = version.to_string();
        let routes = route_configuration(&format!("http-{port}"), port, tables, mode.registry_only, &version);
        let file = routes_file(directory, port);
        let unfinished = directory.join("unfinished");
        fs::write(&unfinished, json!({"version_info": version, "resources": [routes]}).to_string())?;
        fs::rename(unfinished, file)?;
    }
    Ok(())
}

fn bootstrap(directory: &Path, upstreams: &HashMap<String, SocketAddr>) -> Value {
    let listeners: Vec<_> = MODES
        .iter()
        .flat_map(|(name, mode)| PORTS.map(|port| listener(directory, &format!("{name}-{port}"), *mode, port)))
        .collect();
    let clusters: Vec<_> = upstreams.iter().map(|(name, address)| cluster(name, *address)).collect();
    json!({
        "admin": {"address": socket_address(0)},
        // istio pkg/bootstrap/config.go extractRuntimeFlags
        "layered_runtime": {"layers": [{"name": "istio", "static_layer": {
            "re2.max_program_size.error_level": "32768",
            "envoy.reloadable_features.http_reject_path_with_fragment": false
        }}]},
        "static_resources": {"listeners": listeners, "clusters": clusters}
    })
}

fn socket_address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn listener(directory: &Path, name: &str, mode: PathNormalization, port: u16) -> Value {
    let filter = |name: &str, kind: &str| json!({"name": name, "typed_config": {"@type": format!("{TYPE}{kind}")}});
    // Local replies that no route has a part in say what they are here.
    let reveal: Vec<_> = REVEALED
        .iter()
        .map(|(key, value)| {
            json!({"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"})
        })
        .collect();
    let every = json!({"status_code_filter": {"comparison": {"op": "GE",
        "value": {"default_value": 100, "runtime_key": "referee.unset"}}}});
    let mut manager = json!({
        "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name, "codec_type": "HTTP1", "stream_idle_timeout": "0s", "generate_request_id": false,
        "server_header_transformation": "PASS_THROUGH",
        "local_reply_config": {"mappers": [{"filter": every, "headers_to_add": reveal}]},
        "rds": {"route_config_name": format!("http-{port}"), "config_source": {
            "resource_api_version": "V3",
            "path_config_source": {"path": routes_file(directory, port),
                                   "watched_directory": {"path": directory.join("routes")}}}},
        "http_filters": [
            filter("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
            filter("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors"),
            filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")
        ]
    });
    // istio listener_builder.go: what each pathNormalization switches on
    let (normalize, merge, decode) = match mode {
        PathNormalization::None => (false, false, false),
        PathNormalization::Base => (true, false, false),
        PathNormalization::MergeSlashes => (true, true, false),
        PathNormalization::DecodeAndMergeSlashes => (true, true, true),
    };
    manager["normalize_path"] = json!(normalize);
    manager["merge_slashes"] = json!(merge);
    if decode {
        manager["path_with_escaped_slashes_action"] = json!("UNESCAPE_AND_FORWARD");
    }
    json!({"name": name, "address": socket_address(0),
           "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]})
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    let most = u32::MAX;
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [{"max_retries": most, "max_requests": most, "max_connections": most,
                                             "max_pending_requests": most}]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": socket_address(address.port())}}]}]}
    })
}
