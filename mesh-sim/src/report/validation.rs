use mesh_sim::{
    plot::{Marks, Plot, Series},
    supermarket::{BATCHES, Result, TOLERANCE, distinct, full, reduced, theory},
};

use super::{Asked, Page, Target};

const HEAD: &str = "\
| policy | d | load | theory | two distinct | measured | standard error | off by | allowed | batch correlation | requests | |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

fn row(result: &Result) -> String {
    let (case, response) = (result.case, result.response);
    let theory = case.theory();
    let (policy, distinct) = match case.choices {
        1 => ("RANDOM", String::from("-")),
        _ => ("LEAST_REQUEST", format!("{:.4}", distinct(case.servers, case.load))),
    };
    format!(
        "| {policy} | {} | {} | {theory:.4} | {distinct} | {:.4} | {:.4} | {:+.2} % | {:.2} % | {:.2} | {} | {} |\n",
        case.choices,
        case.load,
        response.mean,
        response.error,
        100.0 * (response.mean / theory - 1.0),
        100.0 * (TOLERANCE + 3.0 * response.error / theory),
        result.correlation,
        result.requests,
        if result.holds() { "holds" } else { "DOES NOT HOLD" },
    )
}

fn plot(asked: &Asked<'_>, results: &[Result]) -> Plot {
    let mut series = Vec::new();
    for (colour, choices, policy, until) in [(1, 1, "RANDOM", 0.93), (0, 2, "LEAST_REQUEST", 0.99)] {
        let loads = (10..=99).map(|percent| f64::from(percent) / 100.0).filter(|load| *load <= until);
        let curve = loads.map(|load| [load, theory(choices, load)]).collect();
        let label = format!("theory, d = {choices}");
        series.push(Series { label, points: curve, marks: Marks::Line, colour });
        let of = results.iter().filter(|result| result.case.choices == choices);
        let points = of.map(|result| [result.case.load, result.response.mean]).collect();
        series.push(Series { label: policy.to_owned(), points, marks: Marks::Circles, colour });
    }
    Plot {
        title: format!("Supermarket model, 2,000 servers (seeds {})", asked.listed()),
        axes: ["load".into(), "mean response, in mean service times".into()],
        ranges: [0.1..=1.0, 1.0..=15.0],
        ticks: [vec![0.2, 0.4, 0.6, 0.8, 1.0], vec![1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0]],
        logarithmic: true,
        series,
    }
}

pub(super) fn page(asked: &Asked<'_>) -> Page {
    let cases = if asked.reduced { reduced() } else { full() };
    let results: Vec<_> = cases.into_iter().map(|case| case.measure(asked.seeds)).collect();
    let rows: String = results.iter().map(row).collect();
    let target = |choices: u32| {
        let of = || results.iter().filter(move |result| result.case.choices == choices);
        let off = |result: &Result| (result.response.mean / result.case.theory() - 1.0).abs();
        let most = of().map(|result| result.case.load).fold(0.0, f64::max);
        Target {
            what: format!("d = {choices} to a load of {most}: within 1 % of theory and 3 standard errors"),
            found: format!("at most {:.2} % off", 100.0 * of().map(off).fold(0.0, f64::max)),
            holds: of().all(Result::holds),
        }
    };
    let text = format!(
        "\
2,000 servers, Poisson arrivals, exponential service of mean 1, one client that sees every queue. Mean response against
the theory for infinitely many servers; a figure holds within 1 % of theory plus 3 standard errors (\"allowed\").
Standard errors are those of {BATCHES} batch means per seed, after a warm-up; the correlation of a batch with the next
says whether batches are long enough to be taken as independent (0: they are). The model:
[supermarket.rs](../../mesh-sim/src/supermarket.rs).

LEAST_REQUEST draws two different servers, the model two independent ones: \"two distinct\" is what that alone does to
the figure. d = 3 is not measured: LEAST_REQUEST compares two and has no setting for another number.

![mean response by load](supermarket.svg)

{HEAD}{rows}"
    );
    let targets = vec![target(1), target(2)];
    let figures = vec![("supermarket", plot(asked, &results))];
    let why = "LEAST_REQUEST compares two and has no setting for another number";
    let not_measured = Some(Target::not_measured("d = 3 to a load of 0.99", why));
    Page { title: "Validation: the supermarket model", targets, not_measured, text, figures }
}
