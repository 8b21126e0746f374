//! Play against Envoy from the command line. See the library's documentation.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use mesh_interop::{Bug, Options, find, run};

/// Random VirtualServices, compiled by mesh-routing and run by Envoy: do they decide alike?
#[derive(Debug, Parser)]
struct Arguments {
    /// At least so many cases.
    #[arg(long, default_value_t = 20_000)]
    cases: usize,
    /// The same seed is the same cases; by default another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// Envoy's binary; by default the one that interop/envoy.sh installed.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Compile with a bug, and see that it is found: its number, from 0.
    #[arg(long)]
    bug: Option<usize>,
    /// Fail unless every feature was exercised so often.
    #[arg(long, default_value_t = 0)]
    at_least: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(envoy) = arguments.envoy.or_else(find) else {
        eprintln!("Envoy is not installed: run interop/envoy.sh");
        return ExitCode::FAILURE;
    };
    let seed = arguments.seed.unwrap_or_else(|| std::process::id().into());
    println!("seed {seed}");
    let bug = arguments.bug.and_then(|number| Bug::ALL.get(number).copied());
    let directory = std::env::temp_dir().join(format!("mesh-interop-{}", std::process::id()));
    let options = Options { envoy, directory: directory.clone(), cases: arguments.cases, seed, bug };
    if let Err(error) = std::fs::create_dir_all(&directory) {
        eprintln!("{}: {error}", directory.display());
        return ExitCode::FAILURE;
    }
    let result = run(&options).await;
    let _ = std::fs::remove_dir_all(directory);
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{report}");
    let rare: Vec<_> = report
        .features
        .iter()
        .filter(|(feature, count)| **count < arguments.at_least && !feature.starts_with("flags: "))
        .collect();
    for (feature, count) in &rare {
        println!("only {count} cases: {feature}");
    }
    if report.different == 0 && report.late == 0 && rare.is_empty() && report.specific_percent >= 60 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
