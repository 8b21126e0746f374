//! A short match against Envoy in every `cargo test`; `.ci/run` and `cargo run -p mesh-interop` play longer.

use std::{io::Write as _, path::PathBuf};

use mesh_interop::{Bug, Options, find, run};
use mesh_test::Scratch;
use tokio::task::JoinSet;

/// `MESH_INTEROP_CASES` for more, `MESH_INTEROP_SEED` for others.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Envoy, or a visible skip.
fn envoy() -> Option<PathBuf> {
    let found = find();
    if found.is_none() {
        let required = std::env::var_os("MESH_REQUIRE_TOOLS").is_some();
        assert!(!required, "Envoy is required (MESH_REQUIRE_TOOLS) and not installed: run interop/envoy.sh");
        // Past the test runner, which keeps what a passing test prints to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: Envoy is not installed; interop/envoy.sh does that");
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_decide_as_envoy_does() {
    let Some(envoy) = envoy() else { return };
    let directory = Scratch::new();
    let (cases, seed) = (number("MESH_INTEROP_CASES", 2000), number("MESH_INTEROP_SEED", 1));
    let cases = usize::try_from(cases).unwrap();
    println!("seed {seed}");
    let options = Options { envoy, directory: directory.path().to_owned(), cases, seed, bug: None };
    let report = run(&options).await.unwrap();
    println!("{report}");
    assert_eq!(report.different, 0, "seed {seed}\n{report}");
    assert_eq!(report.late, 0, "seed {seed}\n{report}");
    assert!(report.specific_percent >= 60, "only {} % matched a rule that is no catch-all", report.specific_percent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bugs_in_a_compiler_are_found() {
    let Some(envoy) = envoy() else { return };
    // A few at a time: most of a match is waiting.
    for bugs in Bug::ALL.chunks(4) {
        let mut matches = JoinSet::new();
        for bug in bugs.iter().copied() {
            let envoy = envoy.clone();
            matches.spawn(async move {
                let scratch = Scratch::new();
                let directory = scratch.path().to_owned();
                (bug, run(&Options { envoy, directory, cases: 20_000, seed: 1, bug: Some(bug) }).await.unwrap())
            });
        }
        while let Some(played) = matches.join_next().await {
            let (bug, report) = played.unwrap();
            assert!(report.different > 0, "{bug:?} was not found in {} cases", report.cases);
            println!("{bug:?} was found within {} cases:\n{}", report.cases, report.examples.concat());
        }
    }
}
