//! The page that the results are written to.

use mesh_sim::{
    one_slow,
    plot::{Marks, Plot, Series},
    supermarket,
};

pub(crate) const SUPERMARKET_HEAD: &str = "\
| policy | d | load | theory | two distinct | measured | standard error | off by | allowed | batch correlation | requests | |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

pub(crate) fn supermarket_row(result: &supermarket::Result) -> String {
    let (case, response) = (result.case, result.response);
    let theory = case.theory();
    let (policy, distinct) = match case.choices {
        1 => ("RANDOM", String::from("-")),
        _ => ("LEAST_REQUEST", format!("{:.4}", supermarket::distinct(case.servers, case.load))),
    };
    format!(
        "| {policy} | {} | {} | {theory:.4} | {distinct} | {:.4} | {:.4} | {:+.2} % | {:.2} % | {:.2} | {} | {} |\n",
        case.choices,
        case.load,
        response.mean,
        response.error,
        100.0 * (response.mean / theory - 1.0),
        100.0 * (supermarket::TOLERANCE + 3.0 * response.error / theory),
        result.correlation,
        result.requests,
        if result.holds() { "holds" } else { "DOES NOT HOLD" },
    )
}

pub(crate) const ONE_SLOW_HEAD: &str = "\
| policy | client gives up after 1 s | outlier detection | answered within 1 s | worst seed | to the slow server | p50 | p99 | p99.9 |
|---|---|---|---|---|---|---|---|---|
";

pub(crate) fn one_slow_row(result: &one_slow::Result) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let success = result.success();
    let to_slow = result.to_slow.iter().sum::<f64>() / result.to_slow.len() as f64;
    let waited = |share: f64| result.waited(share).as_secs_f64() * 1e3;
    format!(
        "| {} | {} | {} | {:.3} % | {:.3} % | {:.3} % | {:.1} ms | {:.1} ms | {:.1} ms |\n",
        result.variant.name,
        yes(result.variant.gives_up),
        yes(result.variant.outlier_detection),
        100.0 * success.mean,
        100.0 * result.in_time.iter().copied().fold(f64::INFINITY, f64::min),
        100.0 * to_slow,
        waited(0.5),
        waited(0.99),
        waited(0.999),
    )
}

pub(crate) fn supermarket_plot(seeds: &[u64], results: &[supermarket::Result]) -> Plot {
    let mut series = Vec::new();
    for (colour, choices, policy, until) in [(1, 1, "RANDOM", 0.93), (0, 2, "LEAST_REQUEST", 0.99)] {
        let loads = (10..=99).map(|percent| f64::from(percent) / 100.0).filter(|load| *load <= until);
        let curve = loads.map(|load| [load, supermarket::theory(choices, load)]).collect();
        let label = format!("theory, d = {choices}");
        series.push(Series { label, points: curve, marks: Marks::Line, colour });
        let of = results.iter().filter(|result| result.case.choices == choices);
        let points = of.map(|result| [result.case.load, result.response.mean]).collect();
        series.push(Series { label: policy.to_owned(), points, marks: Marks::Circles, colour });
    }
    Plot {
        title: format!("Supermarket model, 2,000 servers (seeds {})", listed(seeds)),
        axes: ["load".into(), "mean response, in mean service times".into()],
        ranges: [0.1..=1.0, 1.0..=15.0],
        ticks: [vec![0.2, 0.4, 0.6, 0.8, 1.0], vec![1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0]],
        logarithmic: true,
        series,
    }
}

/// Where a share of nothing is drawn: a logarithm has no place for it. One request of a second, over five seeds, is 0.02 %.
const NONE: f64 = 0.01;

pub(crate) fn one_slow_plot(seeds: &[u64], results: &[one_slow::Result]) -> Plot {
    let series = |(index, result): (usize, &one_slow::Result)| {
        let variant = &result.variant;
        let (marks, kind) = match (variant.gives_up, variant.outlier_detection) {
            (false, _) => (Marks::Line, "waits"),
            (true, false) => (Marks::Dots, "gives up"),
            (true, true) => (Marks::Dashes, "ejects"),
        };
        let failed = |(second, share): (usize, &f64)| [second as f64 + 0.5, (100.0 * (1.0 - share)).max(NONE)];
        let points = result.by_second.iter().enumerate().map(failed);
        Series { label: format!("{}, {kind}", variant.name), points: points.collect(), marks, colour: index / 3 }
    };
    Plot {
        title: format!("One of 11 servers takes 2 s from 10 s to 40 s (seeds {})", listed(seeds)),
        axes: ["time of arrival, s".into(), format!("not answered within 1 s, % ({NONE}: none)")],
        ranges: [0.0..=60.0, NONE..=20.0],
        ticks: [vec![0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0], vec![NONE, 0.1, 1.0, 10.0]],
        logarithmic: true,
        series: results.iter().enumerate().map(series).collect(),
    }
}

fn listed(seeds: &[u64]) -> String {
    seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

pub(crate) fn page(
    seeds: &[u64],
    reduced: bool,
    validated: &[supermarket::Result],
    slow: &[one_slow::Result],
) -> String {
    let list = listed(seeds);
    let size = if reduced { " --reduced" } else { "" };
    let rows: String = validated.iter().map(supermarket_row).collect();
    let slow_rows: String = slow.iter().map(one_slow_row).collect();
    let batches = supermarket::BATCHES;
    format!(
        "\
# Simulation

What a balancing policy does to a service, in virtual time over the policy code that ships. The model is written down in
[mesh-sim](../../mesh-sim/src/lib.rs). This page and its figures are written by

    cargo run --release -p mesh-sim -- --out docs/simulation --seeds {list}{size}

Every figure is over the seeds {list}; one of them alone runs again with `--seeds N`, event by event.

## Validation: the supermarket model

2,000 servers, Poisson arrivals, exponential service of mean 1, one client that sees every queue. Mean response against
the theory for infinitely many servers; a figure holds within 1 % of theory plus 3 standard errors (\"allowed\").
Standard errors are those of {batches} batch means per seed, after a warm-up; the correlation of a batch with the next
says whether batches are long enough to be taken as independent (0: they are).

LEAST_REQUEST draws two different servers, the model two independent ones: \"two distinct\" is what that alone does to
the figure. d = 3 is not measured: LEAST_REQUEST compares two and has no setting for another number.

![mean response by load](supermarket.svg)

{SUPERMARKET_HEAD}{rows}
## One of 11 servers takes 2 s for 30 s

One client, 1,000 requests a second, 10 ms in the mean; no retries. Requests that arrive while the server is slow, from
10 s to 40 s. A client that waits has an answer after 2 s at most; one that gives up at 1 s has none, takes the request
off its count of those in flight, and holds it against the server. Outlier detection with Istio's defaults (5 in a row,
30 s, at most 10 %); without a timeout it would see successes only. \"Answered within 1 s\" is the mean of the seeds.

![not answered within 1 s, by second of arrival](one-slow.svg)

{ONE_SLOW_HEAD}{slow_rows}"
    )
}
