//! A short match against Envoy in every `cargo test`; `.ci/run` and `cargo run -p mesh-interop` play longer.

use mesh_interop::{Options, find, run};
use mesh_test::Scratch;

/// `MESH_INTEROP_CASES` for more, `MESH_INTEROP_SEED` for others.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_decide_as_envoy_does() {
    let Some(envoy) = find() else {
        assert!(
            std::env::var_os("MESH_REQUIRE_TOOLS").is_none(),
            "Envoy is required (MESH_REQUIRE_TOOLS): run interop/envoy.sh"
        );
        eprintln!("SKIPPED: Envoy is not installed; interop/envoy.sh does that");
        return;
    };
    let directory = Scratch::new();
    let (cases, seed) = (number("MESH_INTEROP_CASES", 1000), number("MESH_INTEROP_SEED", 1));
    println!("seed {seed}");
    let cases = usize::try_from(cases).unwrap();
    let options = Options { envoy, directory: directory.path().to_owned(), cases, seed };
    let report = run(&options).await.unwrap();
    println!("{report}");
    assert_eq!(report.different, 0, "{report}");
    assert!(report.specific_percent >= 60, "only {} % matched a rule that is no catch-all", report.specific_percent);
}
