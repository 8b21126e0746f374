//! What to play, and how it went.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use crate::bugs::Bug;

/// What to play.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "an argument list with names")]
pub struct Options {
    /// Envoy's binary; see [`find`](crate::find).
    pub envoy: PathBuf,
    /// An empty directory for its configuration and its log.
    pub directory: PathBuf,
    /// At least so many cases.
    pub cases: usize,
    /// The same seed is the same cases.
    pub seed: u64,
    /// A bug for our side, to see that it is found: the match ends with the first difference.
    pub bug: Option<Bug>,
}

/// How it went. Displays as a person wants to read it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Requests that went to both sides.
    pub cases: u64,
    /// The share of them, in percent, that matched a rule that is not a catch-all.
    pub specific_percent: u64,
    /// Cases per feature.
    pub features: BTreeMap<String, u64>,
    /// Accepted differences, by reason.
    pub accepted: BTreeMap<&'static str, u64>,
    /// Cases with a difference that is not accepted.
    pub different: u64,
    /// Some of them, as small as they could be made.
    pub examples: Vec<String>,
    /// Differences that were gone when the case was played again.
    pub passing: u64,
    /// Copies for mirrors that came on one side only, when nobody waited for them any more.
    pub late: u64,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for example in &self.examples {
            writeln!(f, "{example}")?;
        }
        for (feature, count) in &self.features {
            writeln!(f, "{count:8}  {feature}")?;
        }
        for (reason, count) in &self.accepted {
            writeln!(f, "{count:8}  accepted: {reason}")?;
        }
        #[allow(clippy::cast_precision_loss, reason = "a rate to look at")]
        let rate = self.cases as f64 / self.took.as_secs_f64() * 60.0;
        writeln!(
            f,
            "{} cases in {:.1} s ({rate:.0} a minute), {} % matched a rule that is no catch-all, {} differ, {} differed once, \
             {} late copies",
            self.cases,
            self.took.as_secs_f64(),
            self.specific_percent,
            self.different,
            self.passing,
            self.late
        )
    }
}
