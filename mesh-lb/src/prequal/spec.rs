//! The settings as YAML has them.

use mesh_core::config::{DurationText, parse_duration};
use serde::Deserialize;

use super::{InvalidPrequal, Prequal};
use crate::PeakEwma;

/// `peakEwma`, as it stands in a document: `{decay: 10s, defaultRtt: 30ms}`, both optional.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PeakEwmaSpec {
    decay: Option<DurationText>,
    default_rtt: Option<DurationText>,
}

/// `prequal`, as it stands in a document; every field is optional:
///
/// ```yaml
/// probesPerRequest: 1       # default; above 0, at most 16
/// removalsPerRequest: 0.25  # default; 0 to 16
/// poolSize: 16              # default; 2 to 256
/// probeMaxAge: 1s           # default; at least 1ms
/// hotQuantile: 0.75         # default; 0 to 1
/// window: 128               # default; 1 to 4096
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrequalSpec {
    probes_per_request: Option<f64>,
    removals_per_request: Option<f64>,
    pool_size: Option<u64>,
    probe_max_age: Option<DurationText>,
    hot_quantile: Option<f64>,
    window: Option<u64>,
}

impl PeakEwmaSpec {
    /// The settings. What is wrong goes to `refuse`: the path of the field, below `path`, and why; its default stands in.
    pub fn read(&self, path: &str, mut refuse: impl FnMut(String, String)) -> PeakEwma {
        let mut duration = |text: &Option<DurationText>, field: &str| {
            let read = parse_duration(text.as_deref()?);
            let read = read.map_err(|error| error.to_string()).and_then(|duration| match duration.is_zero() {
                true => Err("must be above 0".to_owned()),
                false => Ok(duration),
            });
            read.map_err(|message| refuse(format!("{path}.{field}"), message)).ok()
        };
        let settings = PeakEwma::default();
        let settings = duration(&self.decay, "decay").map_or(settings, |decay| settings.with_decay(decay));
        duration(&self.default_rtt, "defaultRtt").map_or(settings, |rtt| settings.with_default_rtt(rtt))
    }
}

impl PrequalSpec {
    /// The settings. What is wrong goes to `refuse`: the path of the field, below `path`, and why; its default stands in.
    pub fn read(&self, path: &str, refuse: impl FnMut(String, String)) -> Prequal {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let mut read = Read { path, refuse, settings: Prequal::default() };
        read.set("probesPerRequest", self.probes_per_request, Prequal::with_probes_per_request);
        read.set("removalsPerRequest", self.removals_per_request, Prequal::with_removals_per_request);
        read.set("poolSize", self.pool_size.map(count), Prequal::with_pool_size);
        match self.probe_max_age.as_deref().map(parse_duration).transpose() {
            Ok(age) => read.set("probeMaxAge", age, Prequal::with_probe_max_age),
            Err(error) => read.refuse("probeMaxAge", error.to_string()),
        }
        read.set("hotQuantile", self.hot_quantile, Prequal::with_hot_quantile);
        read.set("window", self.window.map(count), Prequal::with_window);
        read.settings
    }
}

struct Read<'a, F> {
    path: &'a str,
    refuse: F,
    settings: Prequal,
}

impl<F: FnMut(String, String)> Read<'_, F> {
    fn set<T>(&mut self, field: &str, given: Option<T>, with: fn(Prequal, T) -> Result<Prequal, InvalidPrequal>) {
        let Some(given) = given else { return };
        match with(self.settings.clone(), given) {
            Ok(settings) => self.settings = settings,
            Err(error) => self.refuse(field, error.to_string()),
        }
    }

    fn refuse(&mut self, field: &str, message: String) {
        (self.refuse)(format!("{}.{field}", self.path), message);
    }
}

#[cfg(test)]
mod tests;
