//! `meshctl explain`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

/// What becomes of a request, and why.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Files and directories of configuration.
    #[arg(long, required = true)]
    config: Vec<PathBuf>,
}

/// Run it.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let config = mesh::Config::read(&arguments.config);
    println!("{}", config.issues());
    ExitCode::SUCCESS
}
