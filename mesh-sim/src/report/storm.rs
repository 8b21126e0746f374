use mesh_sim::{
    plot::{Marks, Plot, Series},
    storm::{FULL, Outage, REDUCED, Result, Variant, variants},
};

use super::{Asked, Page, Target};

fn name(variant: Variant) -> String {
    let outage = match variant.outage {
        Outage::Refuses => "refuses",
        Outage::Hangs => "hangs",
    };
    let protection = match (variant.budget, variant.header) {
        (true, true) => "budget, header",
        (true, false) => "budget",
        (false, true) => "header",
        (false, false) => "neither",
    };
    format!("{outage}; {protection}")
}

fn row(result: &Result) -> String {
    let back = result.back().map_or_else(|| "never in this run".to_owned(), |seconds| format!("{seconds} s"));
    format!(
        "| {} | {:.3} | {:.2} | {:.2} | {back} |\n",
        name(result.variant),
        result.attempts(),
        result.worst_second(),
        result.attempts_during(),
    )
}

fn plot(asked: &Asked<'_>, results: &[Result]) -> Plot {
    let series = |(index, result): (usize, &Result)| {
        let point = |(second, share): (usize, &f64)| [second as f64 + 0.5, 100.0 * share];
        let points = result.goodput().iter().enumerate().map(point).collect();
        let marks = if result.variant.outage == Outage::Refuses { Marks::Line } else { Marks::Dashes };
        Series { label: name(result.variant), points, marks, colour: index }
    };
    let end = results.first().map_or(0, |result| result.size.end);
    Plot {
        title: format!("Five tiers, three retries each, an outage of 10 s (seeds {})", asked.listed()),
        axes: ["time of arrival, s".into(), "answered with success, %".into()],
        ranges: [0.0..=end as f64, 0.0..=105.0],
        ticks: [(0..=end / 10).map(|ten| 10.0 * ten as f64).collect(), vec![0.0, 25.0, 50.0, 75.0, 95.0]],
        logarithmic: false,
        series: results.iter().enumerate().map(series).collect(),
    }
}

pub(super) fn page(asked: &Asked<'_>) -> Page {
    let size = if asked.reduced { REDUCED } else { FULL };
    let results: Vec<_> = variants().into_iter().map(|variant| variant.measure(asked.seeds, size)).collect();
    let rows: String = results.iter().map(row).collect();
    let mut targets = Vec::new();
    for result in results.iter().filter(|result| result.variant.ships()) {
        let outage = if result.variant.outage == Outage::Refuses { "refuses" } else { "hangs" };
        targets.push(Target {
            what: format!("the leaf {outage}: leaf attempts over front requests at most 1.2 outside the outage"),
            found: format!("{:.3}, in the worst second {:.2}", result.attempts(), result.worst_second()),
            holds: result.attempts() <= 1.2,
        });
        targets.push(Target {
            what: format!("the leaf {outage}: goodput back to 95 % within 5 s by itself"),
            found: result.back().map_or_else(|| "not back".to_owned(), |seconds| format!("after {seconds} s")),
            holds: result.back().is_some_and(|seconds| seconds <= 5),
        });
    }
    let text = format!(
        "\
The layers that ship, `TimeoutLayer` around `RetryLayer` around `BalanceLayer`, at the front and in each of the four servers
of four tiers, in front of a leaf at a load of 0.8. Each hop retries three times on 5xx and on tries longer than 250 ms. For
10 s the leaf refuses (503 at once), or hangs (begins nothing). \"Budget\" is the default of 20 % and at least 3; without it there
is no limit, as in Istio. \"Header\": applications pass on `x-mesh-retries-exhausted`. The model, written down before anything
was run in it: [storm.rs](../../mesh-sim/src/storm.rs).

Figures are those of the worst seed. \"Back\" counts seconds from the end of the outage until at least 95 % of the requests of
every second are answered with success.

![answered with success, by second of arrival](storm.svg)

| the leaf; protection | attempts over requests, outside the outage | in the worst second outside | during the outage | goodput back after |
|---|---|---|---|---|
{rows}"
    );
    let figures = vec![("storm", plot(asked, &results))];
    Page { title: "A retry storm through five tiers", targets, not_measured: None, text, figures }
}
