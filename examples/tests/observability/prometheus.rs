//! A program that we did not write.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use http::Request;
use mesh::BoxError;
use mesh_examples::bookinfo::Running;
use mesh_test::Scratch;
use serde_json::Value;

use crate::browser::{eventually, get};

/// Debian's Prometheus, on a free port, with a configuration and data of the test's own. Ended when dropped.
pub(crate) struct Prometheus {
    process: Child,
    address: SocketAddr,
    _data: Scratch,
}

impl Prometheus {
    pub(crate) async fn start(running: &Running) -> Option<Self> {
        let program = mesh_test::tool("prometheus")?;
        let data = Scratch::new();
        let mut config = String::from(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n\
             scrape_configs:\n- job_name: bookinfo\n  static_configs:\n",
        );
        for service in &running.services {
            let (name, target) = (&service.name, service.observability);
            writeln!(config, "  - {{targets: ['{target}'], labels: {{service: {name}}}}}").unwrap();
        }
        let config = data.write("prometheus.yml", &config);
        let log = data.path().join("log");
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.dir("tsdb").display()))
            // A free port of its own choice, which it says in its log.
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut started = Self { process, address: SocketAddr::from(([127, 0, 0, 1], 0)), _data: data };
        started.address = eventually("prometheus listens", async || {
            let log = std::fs::read_to_string(&log)?;
            let address = log.split_once("msg=\"Listening on\" address=").and_then(|(_, rest)| rest.lines().next());
            Ok(address.ok_or_else(|| log.clone())?.parse()?)
        })
        .await;
        Some(started)
    }

    pub(crate) async fn api(&self, path: &str) -> Result<Value, BoxError> {
        let answer = get(self.address, Request::get(format!("/api/v1/{path}"))).await?;
        let json: Value = serde_json::from_str(answer.body())?;
        if json["status"] == "success" { Ok(json) } else { Err(format!("{path}: {json}").into()) }
    }

    /// The series that a query finds, as soon as they are what is wanted: it scrapes once a second.
    pub(crate) async fn eventually(&self, query: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut path = String::from("query?query=");
        for byte in query.bytes() {
            write!(path, "%{byte:02X}").unwrap();
        }
        eventually(query, async || {
            let answer = self.api(&path).await?;
            let found = answer["data"]["result"].as_array().ok_or("no series")?;
            if wanted(found) { Ok(found.clone()) } else { Err(answer.to_string().into()) }
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
