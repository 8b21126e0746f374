use std::time::Duration;

use mesh_sim::{
    plot::{Marks, Plot, Series},
    ramp::{FULL, LIMIT, LOADS, PATIENCE, Part, REDUCED, STEPS, contenders, ordered},
};

use super::{Asked, Page, Target, millis};

fn waited(part: &Part, share: f64) -> String {
    match part.all.clone().percentile(share) {
        time if time >= PATIENCE => "timeout".into(),
        time => millis(time),
    }
}

struct Run {
    contender: mesh_sim::ramp::Contender,
    steps: Vec<Part>,
    loads: Vec<Part>,
}

fn plot(asked: &Asked<'_>, runs: &[Run], share: f64, name: &str) -> Plot {
    let series = |(index, run): (usize, &Run)| {
        let point = |part: &Part| [part.load, part.all.clone().percentile(share).as_secs_f64() * 1e3];
        let marks = [Marks::Line, Marks::Dashes][index / 6 % 2];
        let label = run.contender.name.replace(" (simulator only)", " *");
        Series { label, points: run.steps.iter().map(point).collect(), marks, colour: index }
    };
    Plot {
        title: format!("{name} by load, 100 clients, 100 servers (seeds {})", asked.listed()),
        axes: ["load, of what servers are allocated (* simulator only)".into(), "waited, ms (5000: timeout)".into()],
        ranges: [0.7..=1.8, 200.0..=5_500.0],
        ticks: [vec![0.75, 0.93, 1.14, 1.41, 1.74], vec![200.0, 300.0, 500.0, 700.0, 1_000.0, 2_000.0, 5_000.0]],
        logarithmic: true,
        series: runs.iter().enumerate().map(series).collect(),
    }
}

fn comparison(runs: &[Run], seeds: usize) -> (String, Vec<Target>) {
    let (mut rows, mut targets) = (String::new(), Vec::new());
    for (index, load) in LOADS.iter().enumerate() {
        for run in runs {
            let part = &run.loads[index];
            let spread = part.seeds.iter().map(|waits| waits.clone().percentile(0.99));
            let (least, most) = (spread.clone().min().unwrap_or_default(), spread.max().unwrap_or_default());
            rows += &format!(
                "| {} | {:.0} % | {} | {} | {} | {} | {} to {} | {} of {} |\n",
                run.contender.name,
                100.0 * load,
                waited(part, 0.5),
                waited(part, 0.9),
                waited(part, 0.99),
                waited(part, 0.999),
                millis(least),
                millis(most),
                part.all.errors(),
                part.all.count(),
            );
        }
        let by = |of: &dyn Fn(&Part) -> Duration| {
            let each = runs.iter().map(|run| (run.contender.group, of(&run.loads[index])));
            ordered(&each.collect::<Vec<_>>())
        };
        let held = (0..seeds).filter(|seed| by(&|part: &Part| part.seeds[*seed].clone().percentile(0.99))).count();
        targets.push(Target {
            what: format!(
                "{:.0} %: {{round robin, random, WRR}} worse than least loaded, worse than least loaded of two, worse than Prequal",
                100.0 * load
            ),
            found: format!("by p99; in {held} of {seeds} seeds, each alone"),
            holds: by(&|part: &Part| part.all.clone().percentile(0.99)),
        });
    }
    (rows, targets)
}

fn steps(runs: &[Run]) -> String {
    let mut rows = String::new();
    for run in runs {
        for (share, name) in [(0.99, "p99"), (0.999, "p99.9")] {
            let each: String = run.steps.iter().map(|part| format!(" {} |", waited(part, share))).collect();
            rows += &format!("| {} | {name} |{each}\n", run.contender.name);
        }
        let errors = run.steps.iter().map(|part| {
            let share = part.all.errors() as f64 / part.all.count() as f64;
            if part.all.errors() == 0 { " 0 |".to_owned() } else { format!(" {:.3} % |", 100.0 * share) }
        });
        rows += &format!("| {} | errors |{}\n", run.contender.name, errors.collect::<String>());
    }
    rows
}

fn prequal(run: &Run) -> Vec<Target> {
    let name = run.contender.name;
    let errors: u64 = run.steps.iter().map(|part| part.all.errors()).sum();
    let requests: u64 = run.steps.iter().map(|part| part.all.count()).sum();
    let last = run.steps.last().expect("there are steps");
    let waited = last.all.clone().percentile(0.999);
    let worst = last.seeds.iter().map(|waits| waits.clone().percentile(0.999)).max().unwrap_or_default();
    vec![
        Target {
            what: format!("{name}: no error at any step"),
            found: format!("{errors} of {requests} requests"),
            holds: errors == 0,
        },
        Target {
            what: format!("{name}: p99.9 at 1.74x at most {}", millis(LIMIT)),
            found: format!("{}, worst seed {}", millis(waited), millis(worst)),
            holds: waited <= LIMIT,
        },
    ]
}

pub(super) fn page(asked: &Asked<'_>) -> Page {
    let size = if asked.reduced { REDUCED } else { FULL };
    let run = |contender: mesh_sim::ramp::Contender| Run {
        steps: contender.ramp(asked.seeds, size),
        loads: LOADS.iter().map(|load| contender.at(*load, asked.seeds, size)).collect(),
        contender,
    };
    let runs: Vec<Run> = contenders().into_iter().map(run).collect();
    let (compared, mut targets) = comparison(&runs, asked.seeds.len());
    targets.extend(runs.iter().filter(|run| run.contender.is_prequal()).flat_map(prequal));
    let head: String = STEPS.iter().map(|load| format!(" {load} |")).collect();
    let line = "---|".repeat(STEPS.len());
    let steps = steps(&runs);
    let text = format!(
        "\
Prequal's testbed (NSDI'24, section 5): 100 clients, 100 servers, each with a tenth of a machine of 64 cores and what
antagonists leave of it. The model, written down before a policy was run in it: [ramp.rs](../../mesh-sim/src/ramp.rs) and
[machine.rs](../../mesh-sim/src/machine.rs). A request that is not answered after 5 s is an error, and counts as a wait of 5 s.

In this model a request costs the same core time everywhere, so that `q/u` says little of who is in trouble and WRR can be
little else than round robin: that is the paper's point. Least loaded of all takes several least loaded servers in turn, as
NGINX does; with one of them at random it is better than least loaded of two, and the order would not hold. What \"simulator only\" stands beside does not ship.

![p99 by load](ramp-p99.svg)

![p99.9 by load](ramp-p999.svg)

## The ramp

| policy | |{head}
|---|---|{line}
{steps}
## At 70 % and 90 %

| policy | load | p50 | p90 | p99 | p99.9 | p99 by seed | errors |
|---|---|---|---|---|---|---|---|
{compared}"
    );
    let figures =
        vec![("ramp-p99", plot(asked, &runs, 0.99, "p99")), ("ramp-p999", plot(asked, &runs, 0.999, "p99.9"))];
    Page { title: "Prequal's ramp, and policies compared", targets, not_measured: None, text, figures }
}
