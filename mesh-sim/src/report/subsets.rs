use mesh_sim::subsets::{FLEET, LEAST, MOST, Result, SIZE, Way, ways};

use super::{Asked, Page, Target};

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn name(way: Way) -> String {
    match way {
        Way::Index { lot } => format!("client index, lots of {lot}"),
        Way::Rendezvous => "rendezvous (no index)".into(),
    }
}

fn row(result: &Result) -> String {
    format!(
        "| {} | {:.2} | {:.2} | {:+} | {} | {:.3} |\n",
        name(result.way),
        mean(&result.over_mean),
        most(&result.over_mean),
        result.beyond.iter().max().copied().unwrap_or_default(),
        result.changed.iter().max().copied().unwrap_or_default(),
        mean(&result.changed_mean),
    )
}

pub(super) fn page(asked: &Asked<'_>) -> Page {
    let results: Vec<_> = ways().into_iter().map(|way| way.measure(asked.seeds)).collect();
    let rows: String = results.iter().map(row).collect();
    let one_lot = &results[0];
    let (beyond, changed) = (one_lot.beyond.iter().max().copied(), one_lot.changed.iter().max().copied());
    let targets = vec![
        Target {
            what: "maximum over mean load at most 1.10 at rest".into(),
            found: format!("{:.2} (rendezvous: {:.2})", most(&one_lot.over_mean), mean(&results[2].over_mean)),
            holds: most(&one_lot.over_mean) <= 1.1,
        },
        Target {
            what: "after a server change none above the rounded-up mean".into(),
            found: format!(
                "{:+} at most (lots of 10, the default: {:+})",
                beyond.unwrap_or_default(),
                results[1].beyond.iter().max().copied().unwrap_or_default()
            ),
            holds: beyond.is_some_and(|beyond| beyond <= 0),
        },
        Target {
            what: "at most one connection changed per client".into(),
            found: format!("{} at most, {LEAST} to {MOST} servers", changed.unwrap_or_default()),
            holds: changed.is_some_and(|changed| changed <= 1),
        },
    ];
    let text = format!(
        "\
{FLEET} clients, {FLEET} servers, {SIZE} connections each; then servers come and go one by one, from {LEAST} to {MOST}. The targets are
for clients that know their index, in one lot: `lotSize` is the number of clients. Below and beyond {LEAST} to {MOST} servers a client or
two change two connections at some numbers ([subsetting](../../mesh-lb/src/subsetting/mod.rs) says which and why). The
model: [subsets.rs](../../mesh-sim/src/subsets.rs).

| clients | maximum over mean at rest | worst seed | fullest, beyond the rounded-up mean | connections changed, at most | in the mean |
|---|---|---|---|---|---|
{rows}"
    );
    Page {
        title: "Subsets: 100 clients, 100 servers, 5 connections",
        targets,
        not_measured: None,
        text,
        figures: Vec::new(),
    }
}
