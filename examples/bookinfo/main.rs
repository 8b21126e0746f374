//! Istio's bookinfo on the in-process mesh.
//!
//! ```text
//! cargo run --release --example bookinfo                           # everything; open http://localhost:9080/productpage
//! cargo run --release --example bookinfo -- --apply my-rules.yaml  # other traffic rules
//! cargo run --release --example bookinfo -- --service reviews-v2   # one service alone, found by the others
//! ```

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, IsTerminal as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use mesh_examples::bookinfo::{self, Deployment, Options, Running, ServiceKind};

/// Istio's bookinfo as real services that talk to each other through the mesh, in one process or in many.
#[derive(Debug, Parser)]
struct Arguments {
    /// Port of the product page.
    #[arg(long, default_value_t = 9080)]
    port: u16,
    /// Run this service alone (reviews-v2, for instance); the others run in other terminals. Repeatable.
    #[arg(long, value_name = "NAME")]
    service: Vec<Deployment>,
    /// Traffic rules: a file or directory of Istio YAML, watched. Replaces examples/bookinfo/mesh/*.yaml. Repeatable.
    #[arg(long, value_name = "PATH")]
    apply: Vec<PathBuf>,
    /// What the processes of one bookinfo share: development CA and service addresses.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Arguments {
    fn options(self) -> Options {
        let mut options = Options::new(self.state.unwrap_or_else(default_state));
        options.productpage = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port);
        if !self.service.is_empty() {
            options.deployments = self.service;
        }
        if !self.apply.is_empty() {
            options.apply = self.apply;
        }
        options
    }
}

/// `target/bookinfo` of the workspace where that is still there, else of the current directory.
fn default_state() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(|path| path.join("Cargo.toml").is_file());
    workspace.unwrap_or_else(|| Path::new("")).join("target/bookinfo")
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What eight meshes in one process would each say, `welcome` and `report_issues` say once.
    let quiet = "warn,mesh_tls::source::dev_ca=error,mesh::config=off";
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| quiet.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();

    let mut stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => {
            report(&error);
            return ExitCode::FAILURE;
        }
    };
    let options = arguments.options();
    let state = options.state.clone();
    let running = match bookinfo::start(options).await {
        Ok(running) => running,
        Err(error) => {
            report(&error);
            return ExitCode::FAILURE;
        }
    };
    welcome(&running, &state);
    tokio::select! {
        () = report_issues(&running) => {}
        () = stop.requested() => {}
    }
    println!("\nFinishing the requests at hand. Ctrl-C again ends at once.");
    tokio::select! {
        () = running.shutdown() => ExitCode::SUCCESS,
        () = stop.requested() => ExitCode::FAILURE,
    }
}

fn report(error: &dyn Error) {
    eprintln!("bookinfo does not start: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("{error}");
        cause = error.source();
    }
}

fn welcome(running: &Running, state: &Path) {
    println!("DEVELOPMENT CERTIFICATES: identities come from a CA whose key lies in {}.", state.join("ca").display());
    println!("Whoever reads that key can be anybody in this mesh. Never use it for anything but development.\n");
    if let Some(page) = running.productpage() {
        println!("  Open     http://localhost:{}/productpage     (sign in as jason for black stars)", page.port());
        println!("  Or       curl -s http://localhost:{}/api/v1/products/0/reviews\n", page.port());
    }
    println!("  {:<16} {:<22} {:<32} admin", "service", "address", "metrics and health");
    for service in &running.services {
        let tls = if service.deployment.service == ServiceKind::Productpage { "" } else { " mTLS" };
        let address = format!("{}{tls}", service.address);
        let metrics = format!("http://{}/metrics", service.observability);
        println!("  {:<16} {address:<22} {metrics:<32} http://{}/", service.name, service.admin);
    }
    println!("\nCtrl-C ends it.");
}

/// Say what is wrong with the configuration, now and whenever it changes. Each service reads the same files; each issue
/// is worth one line.
async fn report_issues(running: &Running) {
    let mut known = BTreeMap::new();
    loop {
        let issues = running.services.iter().flat_map(|service| service.mesh().issues());
        // In the order of files and lines.
        let issues: BTreeMap<_, _> =
            issues.map(|issue| ((Arc::clone(&issue.source), issue.position, issue.path.clone()), issue)).collect();
        for (place, issue) in &issues {
            if known.get(place) != Some(issue) {
                eprintln!("{issue}");
            }
        }
        if issues.is_empty() && !known.is_empty() {
            eprintln!("Configuration is in order again.");
        }
        known = issues;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// SIGTERM and Ctrl-C, caught from the moment this is made: before anybody is told that the services are there.
#[cfg(unix)]
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Stop {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Stop;

#[cfg(not(unix))]
impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn requested(&mut self) {
        drop(tokio::signal::ctrl_c().await);
    }
}
