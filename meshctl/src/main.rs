//! The command line of [`meshctl`].

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use meshctl::{explain, lint};

/// Ask a mesh's configuration.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one is made, once")]
enum Command {
    /// What becomes of a request, and why.
    Explain(explain::Arguments),
    /// What is wrong with configuration.
    Lint(lint::Arguments),
}

fn main() -> ExitCode {
    // clap exits with 2 for usage.
    match Arguments::parse().command {
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
    }
}
