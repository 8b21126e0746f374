//! Figures by case.

use std::{collections::BTreeMap, fmt, time::Instant};

/// Nanoseconds of each round, by case and number of endpoints.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<(String, usize), Vec<f64>>);

impl Table {
    /// One round of a case: so many times, warmed up first.
    pub(crate) fn round(&mut self, case: &str, endpoints: usize, times: u32, mut run: impl FnMut()) {
        (0..times / 4).for_each(|_| run());
        let start = Instant::now();
        (0..times).for_each(|_| run());
        self.add(case, endpoints, start.elapsed().as_nanos() as f64 / f64::from(times));
    }

    /// A figure that was measured elsewhere.
    pub(crate) fn add(&mut self, case: &str, endpoints: usize, nanos: f64) {
        self.0.entry((case.to_owned(), endpoints)).or_default().push(nanos);
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let case = |((case, endpoints), rounds): (&(String, usize), &Vec<f64>)| serde_json::json!({"case": case, "endpoints": endpoints, "nanoseconds": rounds});
        self.0.iter().map(case).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| case | endpoints | median ns | least | most |\n|---|---|---|---|---|")?;
        for ((case, endpoints), rounds) in &self.0 {
            let mut sorted = rounds.clone();
            sorted.sort_by(f64::total_cmp);
            let (median, last) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
            writeln!(f, "| {case} | {endpoints} | {median:.1} | {:.1} | {last:.1} |", sorted[0])?;
        }
        Ok(())
    }
}
