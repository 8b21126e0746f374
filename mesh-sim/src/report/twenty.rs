use std::time::Duration;

use mesh_sim::{
    plot::{Marks, Plot, Series},
    statistics::Waits,
    twenty::{Contender, Failures, MEASURED, contenders},
};

use super::{Asked, Page, Target, millis, percent};

fn measured(asked: &Asked<'_>) -> Duration {
    if asked.reduced { MEASURED / 6 } else { MEASURED }
}

fn plot(asked: &Asked<'_>, all: &[(Contender, Waits)]) -> Plot {
    let series = |(index, (contender, waits)): (usize, &(Contender, Waits))| {
        let shares = (0..=60).map(|tenth| 10_f64.powf(f64::from(tenth) / -20.0));
        let mut waits = waits.clone();
        let point = |share: f64| [waits.percentile(1.0 - share).as_secs_f64() * 1e3, 100.0 * share];
        let points = shares.map(point).filter(|[waited, _]| *waited <= 300.0).collect();
        let marks = if contender.ours { Marks::Line } else { Marks::Dashes };
        Series { label: contender.name.to_owned(), points, marks, colour: index }
    };
    Plot {
        title: format!("20 servers at 0.9 load (seeds {})", asked.listed()),
        axes: ["waited longer than, ms".into(), "% of requests".into()],
        ranges: [0.0..=300.0, 0.1..=100.0],
        ticks: [vec![0.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0], vec![0.1, 1.0, 10.0, 100.0]],
        logarithmic: true,
        series: all.iter().enumerate().map(series).collect(),
    }
}

pub(super) fn tower(asked: &Asked<'_>) -> Page {
    let each = |contender: Contender| {
        let seeds = contender.at_nine_tenths(asked.seeds, measured(asked));
        (Waits::join(&seeds), seeds, contender)
    };
    let mut all: Vec<_> = contenders().into_iter().map(each).collect();
    let peer = all.iter_mut().filter(|(.., contender)| !contender.ours);
    let peer = peer.map(|(waits, ..)| waits.percentile(0.99)).min().expect("there is a peer");
    let (mut rows, mut targets) = (String::new(), Vec::new());
    for (waits, seeds, contender) in &mut all {
        let below = 1.0 - waits.percentile(0.99).as_secs_f64() / peer.as_secs_f64();
        let mut by_seed: Vec<_> = seeds.iter_mut().map(|waits| waits.percentile(0.99)).collect();
        by_seed.sort_unstable();
        rows += &format!(
            "| {} | {} | {} | {} | {} | {} to {} | {:+.1} % |\n",
            contender.name,
            millis(waits.percentile(0.5)),
            millis(waits.percentile(0.9)),
            millis(waits.percentile(0.99)),
            millis(waits.percentile(0.999)),
            millis(by_seed[0]),
            millis(by_seed[by_seed.len() - 1]),
            // Nothing is not less than nothing.
            0.0 - 100.0 * below,
        );
        if contender.prequal {
            targets.push(Target {
                what: format!("{}: p99 at least 30 % below tower's (40 % is the goal)", contender.name),
                found: format!("{:.1} % below{}", 100.0 * below, if below < 0.4 { "; the goal is missed" } else { "" }),
                holds: below >= 0.3,
            });
        }
    }
    let text = format!(
        "\
10 clients, 20 servers of 4 cores, requests of 20 ms in the mean, exponential: 92 ms is the p99 of what requests need
alone. tower's own code, `tower::balance::p2c` with `tower::load::PeakEwma`, runs in the same harness, on a paused tokio
clock that the simulator moves. The model, written down before a policy was run in it:
[twenty.rs](../../mesh-sim/src/twenty.rs).

\"Against tower\" is p99 against the better of tower's two.

![share of requests that waited longer](tower.svg)

| policy | p50 | p90 | p99 | p99.9 | p99 by seed | against tower |
|---|---|---|---|---|---|---|
{rows}"
    );
    let curves: Vec<_> = all.into_iter().map(|(waits, _, contender)| (contender, waits)).collect();
    let figures = vec![("tower", plot(asked, &curves))];
    Page { title: "20 servers at 0.9 load, against tower", targets, not_measured: None, text, figures }
}

pub(super) fn failing(asked: &Asked<'_>) -> Page {
    let (mut rows, mut targets) = (String::new(), Vec::new());
    let mut series = Vec::new();
    for (index, contender) in contenders().into_iter().enumerate() {
        let seeds = contender.while_two_fail(asked.seeds, measured(asked));
        let sum = |of: fn(&Failures) -> u64| seeds.iter().map(of).sum::<u64>();
        let random: f64 = seeds.iter().map(Failures::of_random).sum();
        let (failed, at_first) = (sum(|failures| failures.failed), sum(|failures| failures.at_first));
        let avoided = 1.0 - failed as f64 / random;
        let worst = seeds.iter().map(Failures::avoided).fold(f64::INFINITY, f64::min);
        rows += &format!(
            "| {} | {failed} of {} | {at_first} | {} | {} |\n",
            contender.name,
            sum(|failures| failures.requests),
            percent(avoided),
            percent(worst),
        );
        if contender.prequal {
            targets.push(Target {
                what: format!(
                    "{}: avoids at least 99 % of the failures that random suffers beyond an oracle",
                    contender.name
                ),
                found: format!("{}, worst seed {}", percent(avoided), percent(worst)),
                holds: avoided >= 0.99,
            });
        }
        let by_second = |second: usize| seeds.iter().map(|failures| failures.by_second[second]).sum::<u64>();
        let per_second = random / measured(asked).as_secs_f64();
        let point = |second: usize| [second as f64 + 0.5, (100.0 * by_second(second) as f64 / per_second).max(0.1)];
        let points = (0..measured(asked).as_secs() as usize).map(point).collect();
        let marks = if contender.ours { Marks::Line } else { Marks::Dashes };
        series.push(Series { label: contender.name.to_owned(), points, marks, colour: index });
    }
    let plot = Plot {
        title: format!("2 of 20 servers fail fast (seeds {})", asked.listed()),
        axes: ["s since they fail".into(), "failures, % of those of random (0.1: none)".into()],
        ranges: [0.0..=measured(asked).as_secs_f64(), 0.1..=300.0],
        ticks: [vec![0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0], vec![0.1, 1.0, 10.0, 100.0]],
        logarithmic: true,
        series,
    };
    let text = format!(
        "\
10 clients, 20 servers, of which two answer 503 after 1 ms for a minute: they look idle and fast. No outlier detection, no
retries. Random choice sends them a tenth, an oracle nothing. The model, written down before a policy was run in it:
[twenty.rs](../../mesh-sim/src/twenty.rs).

![failures by second](failing.svg)

| policy | failed | of these in the first second | avoided | worst seed |
|---|---|---|---|---|
{rows}"
    );
    Page { title: "2 of 20 servers fail fast", targets, not_measured: None, text, figures: vec![("failing", plot)] }
}
