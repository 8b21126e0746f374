//! `meshctl lint`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

/// What is wrong with configuration.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Files and directories of configuration.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

/// Run it.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let config = mesh::Config::read(&arguments.paths);
    println!("{}", config.issues());
    ExitCode::from(u8::from(config.issues().has_errors()))
}
