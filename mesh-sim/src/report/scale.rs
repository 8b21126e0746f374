use mesh_sim::{
    plot::{Marks, Plot, Series},
    scale::{FLEETS, Result, contenders, run},
};

use super::{Asked, Page, Target, millis};

fn row(name: &str, result: &Result) -> String {
    let mut waits = result.waits.clone();
    format!(
        "| {name} | {} | {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {} | {} |\n",
        result.fleet,
        waits.count(),
        millis(waits.percentile(0.5)),
        millis(waits.percentile(0.99)),
        result.busiest,
        result.subset.draws,
        result.all.draws,
        result.subset.allocations.max(result.all.allocations),
        result.subset.bytes,
        result.all.bytes,
    )
}

pub(super) fn page(asked: &Asked<'_>) -> Page {
    let fleets = if asked.reduced { &FLEETS[..2] } else { &FLEETS[..] };
    let (mut rows, mut series, mut last) = (String::new(), Vec::new(), Vec::new());
    let (names, policies): (Vec<_>, Vec<_>) = contenders().into_iter().unzip();
    // One seed: the fleet is the sample.
    let mut results: Vec<_> = fleets.iter().map(|fleet| run(&policies, *fleet, asked.seeds[0]).into_iter()).collect();
    for (colour, name) in names.into_iter().enumerate() {
        let mut points = [Vec::new(), Vec::new()];
        for (&fleet, results) in fleets.iter().zip(&mut results) {
            let result = results.next().expect("one of each policy");
            rows += &row(name, &result);
            eprintln!(
                "{name}, {fleet}: a decision took {:.0} ns of a subset, {:.0} ns of all",
                result.subset.nanos, result.all.nanos
            );
            points[0].push([(fleet as f64).log10(), result.subset.bytes as f64 / 1e3]);
            points[1].push([(fleet as f64).log10(), result.all.bytes as f64 / 1e3]);
            last.push((fleet, result));
        }
        let [subset, all] = points;
        series.push(Series { label: format!("{name}, subset"), points: subset, marks: Marks::Line, colour });
        series.push(Series { label: format!("{name}, all"), points: all, marks: Marks::Dashes, colour });
    }
    let of = |fleet: usize| last.iter().filter(move |(of, _)| *of == fleet).map(|(_, result)| result);
    let (small, large) = (fleets[0], fleets[fleets.len() - 1]);
    let costs = of(small).zip(of(large)).map(|(small, large)| (small.subset, large.subset));
    let same = |(small, large): (mesh_sim::scale::Cost, mesh_sim::scale::Cost)| {
        small.bytes == large.bytes && (small.draws - large.draws).abs() < 0.1 && large.allocations == 0.0
    };
    let holds = costs.clone().all(same);
    let targets = vec![Target {
        what: format!(
            "{large} clients and {large} servers in one run, cost per decision and memory of a client as the fleet grows"
        ),
        found: format!("{} of {small}", if holds { "the same as in a fleet" } else { "not the same as in a fleet" }),
        holds,
    }];
    let plot = Plot {
        title: "Memory of a client as the fleet grows".into(),
        axes: ["servers, powers of ten".into(), "allocated by a client, kB".into()],
        ranges: [2.0..=4.0, 1.0..=20_000.0],
        ticks: [vec![2.0, 3.0, 4.0], vec![1.0, 10.0, 100.0, 1_000.0, 10_000.0]],
        logarithmic: true,
        series,
    };
    let text = format!(
        "\
As many clients as servers, subsets of 20, a load of 0.7. The model: [scale.rs](../../mesh-sim/src/scale.rs). One seed: the
first. \"Draws\" are numbers taken from the random generator for one decision and its probes, \"allocations\" those of a decision
with the request's count and probes, bytes what a client has allocated for its endpoints' members, without their descriptions, which the
clients of a process share. Nanoseconds are the machine's: the program prints them.

![memory of a client](scale.svg)

| policy | clients, servers | requests | p50 | p99 | busiest over mean | draws, subset | draws, all | allocations | bytes, subset | bytes, all |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}"
    );
    Page {
        title: "10,000 clients and 10,000 servers",
        targets,
        not_measured: None,
        text,
        figures: vec![("scale", plot)],
    }
}
