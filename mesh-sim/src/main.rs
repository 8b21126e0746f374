//! Runs the simulations and writes their tables and figures: `cargo run --release -p mesh-sim -- --out docs/simulation`.

mod report;

use std::{fs, io, path::PathBuf, process::ExitCode};

use clap::Parser;
use mesh_sim::{one_slow, supermarket};

/// What each balancing policy does, in virtual time.
#[derive(Parser)]
struct Arguments {
    /// Where README.md and the figures go; without it tables are only printed.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The seeds, for instance `--seeds 3` to replay one.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 4, 5])]
    seeds: Vec<u64>,
    /// The cases that the tests run, rather than all.
    #[arg(long)]
    reduced: bool,
}

fn main() -> io::Result<ExitCode> {
    let Arguments { out, seeds, reduced } = Arguments::parse();
    let mut validated = Vec::new();
    print!("{}", report::SUPERMARKET_HEAD);
    for case in if reduced { supermarket::reduced() } else { supermarket::full() } {
        let result = case.measure(&seeds);
        print!("{}", report::supermarket_row(&result));
        validated.push(result);
    }
    let mut slow = Vec::new();
    print!("\n{}", report::ONE_SLOW_HEAD);
    for variant in one_slow::variants() {
        let result = variant.measure(&seeds);
        print!("{}", report::one_slow_row(&result));
        slow.push(result);
    }
    if let Some(out) = out {
        fs::create_dir_all(&out)?;
        fs::write(out.join("supermarket.svg"), report::supermarket_plot(&seeds, &validated).to_string())?;
        fs::write(out.join("one-slow.svg"), report::one_slow_plot(&seeds, &slow).to_string())?;
        fs::write(out.join("README.md"), report::page(&seeds, reduced, &validated, &slow))?;
    }
    // What fails its own validation has nothing to say.
    let holds = validated.iter().all(supermarket::Result::holds);
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
