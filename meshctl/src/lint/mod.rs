//! `meshctl lint`: what is wrong with configuration, before a mesh reads it.
//!
//! Two things are looked at. Each object alone, by the code that a mesh reads it with ([`mesh::Config::check`]), so that
//! what is good here starts there. And objects beside each other, as `istioctl analyze` does: a route to a host that
//! nobody has, a subset that no rule defines, two VirtualServices for one host. A finding has Istio's code and words
//! where Istio has some (`IST…`), and ours where it has none (`MESH…`, [`codes`]).
//!
//! ```text
//! paths ─ gather.rs ─► documents ─┬─ check.rs: each alone ─────────┐
//!                                 └─ resources.rs: by kind, host,  ├─► Finding ─► output/: text, json, github
//!                                    label ─► analyze/: together ──┘
//! ```
//!
//! A new check is a file in `analyze/` and a line in its list. It reads through [`resources`](self)' indices, never over all
//! pairs: directories have thousands of files.
//!
//! ```
//! use meshctl::lint::{File, lint};
//! let file = File::new("reviews.yaml", "
//! apiVersion: networking.istio.io/v1
//! kind: VirtualService
//! metadata: {name: reviews}
//! spec:
//!   hosts: [reviews]
//!   http: [{route: [{destination: {host: reviews}}]}]
//! ");
//! let report = lint(vec![file]);
//! assert_eq!(
//!     report.findings[0].to_string(),
//!     "reviews.yaml:7:40: error: [IST0101] VirtualService default/reviews http[0].route[0].destination.host: \
//!      Referenced host not found: \"reviews\"",
//! );
//! ```

mod analyze;
mod check;
pub mod codes;
mod gather;
mod hosts;
mod message;
mod names;
mod output;
mod report;
mod resources;
mod suppress;
#[cfg(test)]
mod tests;
mod view;
mod workloads;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

pub use gather::File;
pub use message::{Code, Finding, Level};
pub use output::Output;
pub use report::{Report, lint};

/// What is wrong with configuration.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Files, directories (with all below them), or `-` for the standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How findings are written.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// The least level that makes the exit code 1.
    #[arg(long, value_enum, default_value_t = Level::Error, value_name = "LEVEL")]
    fail_on: Level,
}

/// Run it. Exits with 0 when there are no errors, 1 when there are, 2 when a path cannot be read; the others are
/// looked at all the same.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let (files, refused) = gather::gather(&arguments.paths);
    for error in &refused {
        complain(&format!("meshctl lint: {error}"));
    }
    // Somebody may read an empty report as a good one.
    if files.is_empty() && !refused.is_empty() {
        return ExitCode::from(2);
    }
    let report = lint(files);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = arguments.output.write(&report, &mut out).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        complain(&format!("meshctl lint: {error}"));
        return ExitCode::from(2);
    }
    complain(&report.summary());
    if !refused.is_empty() {
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(report.worst().is_some_and(|level| level >= arguments.fail_on)))
}

/// Beside the findings, which programs read.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
