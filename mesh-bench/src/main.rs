//! The mesh beside what a user would pick instead, in one run. Unpublished, and a workspace of its own: peers bring heavy and
//! conflicting dependencies, and none of them is anybody's who uses the mesh.
//!
//! `cargo run --release -- picks [--rounds N] [--json FILE]` measures what choosing an endpoint costs, with its place among
//! the requests in flight taken and given back where the peer counts them; and what it costs that one of many endpoints
//! changes. Cases are interleaved round by round, so that what else the machine does falls on all of them.

mod ours;
mod pingora;
mod table;
mod towers;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use self::table::Table;

/// So many endpoints.
const ENDPOINTS: [usize; 4] = [10, 100, 1_000, 10_000];

#[derive(Debug, Parser)]
#[command(about = "The mesh beside its peers, in one run")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Choosing an endpoint, and one of many endpoints that changes.
    Picks {
        /// Rounds in which every case runs once.
        #[arg(long, default_value_t = 11)]
        rounds: u32,
        /// Every figure, as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

fn main() -> Result<(), tower::BoxError> {
    let What::Picks { rounds, json } = Arguments::parse().what;
    let mut table = Table::default();
    for _ in 0..rounds.max(1) {
        for endpoints in ENDPOINTS {
            ours::round(&mut table, endpoints);
            towers::round(&mut table, endpoints)?;
            pingora::round(&mut table, endpoints)?;
        }
    }
    println!("{table}");
    if let Some(path) = json {
        std::fs::write(path, table.json().to_string())?;
    }
    Ok(())
}
