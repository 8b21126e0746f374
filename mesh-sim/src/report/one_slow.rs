use mesh_sim::{
    one_slow::{Result, TARGET, variants},
    plot::{Marks, Plot, Series},
};

use super::{Asked, Page, Target, percent};

const HEAD: &str = "\
| policy | client gives up after 1 s | outlier detection | answered within 1 s | worst seed | to the slow server | p50 | p99 | p99.9 |
|---|---|---|---|---|---|---|---|---|
";

fn row(result: &Result) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let to_slow = result.to_slow.iter().sum::<f64>() / result.to_slow.len() as f64;
    let waited = |share: f64| result.waited(share).as_secs_f64() * 1e3;
    format!(
        "| {} | {} | {} | {} | {} | {} | {:.1} ms | {:.1} ms | {:.1} ms |\n",
        result.variant.name,
        yes(result.variant.gives_up),
        yes(result.variant.outlier_detection),
        percent(result.success().mean),
        percent(worst(result)),
        percent(to_slow),
        waited(0.5),
        waited(0.99),
        waited(0.999),
    )
}

fn worst(result: &Result) -> f64 {
    result.in_time.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Where a share of nothing is drawn: a logarithm has no place for it. One request of a second, over five seeds, is 0.02 %.
const NONE: f64 = 0.01;

fn plot(asked: &Asked<'_>, results: &[Result]) -> Plot {
    let series = |(index, result): (usize, &Result)| {
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
        title: format!("One of 11 servers takes 2 s from 10 s to 40 s (seeds {})", asked.listed()),
        axes: ["time of arrival, s".into(), format!("not answered within 1 s, % ({NONE}: none)")],
        ranges: [0.0..=60.0, NONE..=20.0],
        ticks: [vec![0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0], vec![NONE, 0.1, 1.0, 10.0]],
        logarithmic: true,
        series: results.iter().enumerate().map(series).collect(),
    }
}

pub(super) fn page(asked: &Asked<'_>) -> Page {
    let results: Vec<_> = variants().into_iter().map(|variant| variant.measure(asked.seeds)).collect();
    let rows: String = results.iter().map(row).collect();
    let must = results.iter().filter(|result| result.variant.is_target());
    let targets = must.map(|result| Target {
        what: format!("{}: answered within 1 s at least {}", result.variant.name, percent(TARGET)),
        found: format!("{}, worst seed {}", percent(result.success().mean), percent(worst(result))),
        holds: worst(result) >= TARGET,
    });
    let text = format!(
        "\
One client, 1,000 requests a second, 10 ms in the mean; no retries. Requests that arrive while the server is slow, from
10 s to 40 s. A client that waits has an answer after 2 s at most; one that gives up at 1 s has none, takes the request
off its count of those in flight, and holds it against the server. Outlier detection with Istio's defaults (5 in a row,
30 s, at most 10 %); without a timeout it would see successes only. \"Answered within 1 s\" is the mean of the seeds. The
model: [one_slow.rs](../../mesh-sim/src/one_slow.rs).

The target is for clients that give up and have no outlier detection: the policy alone.

![not answered within 1 s, by second of arrival](one-slow.svg)

{HEAD}{rows}"
    );
    let figures = vec![("one-slow", plot(asked, &results))];
    Page {
        title: "One of 11 servers takes 2 s for 30 s",
        targets: targets.collect(),
        not_measured: None,
        text,
        figures,
    }
}
