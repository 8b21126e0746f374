//! The pages that the results are written to.

mod one_slow;
mod ramp;
mod scale;
mod storm;
mod subsets;
mod twenty;
mod validation;

use std::{fmt::Write, fs, io, path::Path, time::Duration};

use mesh_sim::plot::Plot;

/// What is run.
pub(crate) struct Asked<'a> {
    pub(crate) seeds: &'a [u64],
    pub(crate) reduced: bool,
}

/// A scenario's results.
pub(crate) struct Page {
    title: &'static str,
    targets: Vec<Target>,
    /// Rows beside these.
    not_measured: Option<String>,
    text: String,
    figures: Vec<(&'static str, Plot)>,
}

/// What should hold, and what was found.
pub(crate) struct Target {
    what: String,
    found: String,
    holds: bool,
}

/// Runs a scenario.
type Writer = fn(&Asked<'_>) -> Page;

/// All of them, in order.
pub(crate) const PAGES: [(&str, Writer); 8] = [
    ("validation", validation::page),
    ("ramp", ramp::page),
    ("one-slow", one_slow::page),
    ("failing", twenty::failing),
    ("tower", twenty::tower),
    ("storm", storm::page),
    ("subsets", subsets::page),
    ("scale", scale::page),
];

/// Their names.
pub(crate) const NAMES: [&str; 8] = ["validation", "ramp", "one-slow", "failing", "tower", "storm", "subsets", "scale"];

impl Asked<'_> {
    fn listed(&self) -> String {
        self.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
    }

    fn command(&self, only: Option<&str>) -> String {
        let only = only.map_or_else(String::new, |name| format!(" --only {name}"));
        let size = if self.reduced { " --reduced" } else { "" };
        format!("    cargo run --release -p mesh-sim -- --out docs/simulation --seeds {}{only}{size}\n", self.listed())
    }
}

const HEAD: &str = "| target | found | |\n|---|---|---|\n";

impl Page {
    pub(crate) fn holds(&self) -> bool {
        self.targets.iter().all(|target| target.holds)
    }

    pub(crate) fn markdown(&self, name: &str, asked: &Asked<'_>) -> String {
        let rows: String = self.targets.iter().map(Target::row).chain(self.not_measured.clone()).collect();
        let (title, command, text) = (self.title, asked.command(Some(name)), &self.text);
        format!("# {title}\n\nWritten by\n\n{command}\n{HEAD}{rows}\n{text}")
    }

    pub(crate) fn write(&self, name: &str, asked: &Asked<'_>, out: &Path) -> io::Result<()> {
        fs::create_dir_all(out)?;
        for (file, figure) in &self.figures {
            fs::write(out.join(format!("{file}.svg")), figure.to_string())?;
        }
        fs::write(out.join(format!("{name}.md")), self.markdown(name, asked))
    }
}

impl Target {
    fn row(&self) -> String {
        format!("| {} | {} | {} |\n", self.what, self.found, if self.holds { "holds" } else { "DOES NOT HOLD" })
    }

    /// One that nothing was run for.
    fn not_measured(what: &str, why: &str) -> String {
        format!("| {what} | {why} | NOT MEASURED |\n")
    }
}

/// README.md, of all pages that there are, also of those that were written by another run.
pub(crate) fn index(asked: &Asked<'_>, out: &Path) -> io::Result<()> {
    let mut rows = String::new();
    for name in NAMES {
        let Ok(page) = fs::read_to_string(out.join(format!("{name}.md"))) else { continue };
        let title = page.lines().next().unwrap_or_default().trim_start_matches("# ");
        let Some((_, targets)) = page.split_once(HEAD) else { continue };
        for row in targets.lines().take_while(|line| line.starts_with('|')) {
            let _ = writeln!(rows, "| [{title}]({name}.md) {row}");
        }
    }
    let (list, command) = (asked.listed(), asked.command(None));
    fs::write(
        out.join("README.md"),
        format!(
            "\
# Simulation

What a balancing policy does to a service, in virtual time over the policy code that ships. The models are written down in
[mesh-sim](../../mesh-sim/src/lib.rs) and in the modules of its scenarios, before anything was tuned. These pages and their
figures are written by

{command}
and one of them by `--only` and its name. Figures are over the seeds {list}; one of them alone runs again with `--seeds N`,
event by event. The same seeds give the same bytes. What Prequal does beyond its paper was chosen with seeds 1 and 2 of
some of these scenarios in sight (see [prequal](../../mesh-lb/src/prequal/mod.rs)); the others it had not seen. `cargo test -p mesh-sim` runs all of it at a reduced size.

| scenario | target | found | |
|---|---|---|---|
{rows}"
        ),
    )
}

fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

fn percent(share: f64) -> String {
    format!("{:.3} %", 100.0 * share)
}
