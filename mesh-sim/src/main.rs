//! Runs the simulations and writes their tables and figures: `cargo run --release -p mesh-sim -- --out docs/simulation`.

mod report;

use std::{io, path::PathBuf, process::ExitCode};

use clap::Parser;

/// What each balancing policy does, in virtual time.
#[derive(Parser)]
struct Arguments {
    /// Where README.md, the pages and the figures go; without it they are only printed.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The seeds, for instance `--seeds 3` to replay one.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 4, 5])]
    seeds: Vec<u64>,
    /// The sizes that the tests run, rather than the full ones.
    #[arg(long)]
    reduced: bool,
    /// These pages rather than all, for instance `--only ramp,storm`.
    #[arg(long, value_delimiter = ',', value_parser = report::NAMES)]
    only: Vec<String>,
}

fn main() -> io::Result<ExitCode> {
    let Arguments { out, seeds, reduced, only } = Arguments::parse();
    let asked = report::Asked { seeds: &seeds, reduced };
    let mut valid = true;
    for (name, page) in report::PAGES {
        if !only.is_empty() && !only.iter().any(|asked| asked == name) {
            continue;
        }
        let page = page(&asked);
        print!("{}", page.markdown(name, &asked));
        if let Some(out) = &out {
            page.write(name, &asked, out)?;
        }
        // What fails its own validation has nothing to say.
        valid &= name != "validation" || page.holds();
    }
    if let Some(out) = &out {
        report::index(&asked, out)?;
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
