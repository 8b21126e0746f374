//! `mirrors` and their percentages as YAML has them.

use serde::Deserialize;

use crate::{
    percent::{Percent, PercentSpec},
    virtual_service::DestinationSpec,
};

/// An entry of `mirrors`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct MirrorSpec {
    pub(crate) destination: Option<DestinationSpec>,
    pub(crate) percentage: Option<PercentSpec>,
}

/// istio validation: at most 100; translated as `int(p * 10000) / 1e6`, so that what is smaller is none.
pub(crate) fn share(value: f64) -> Result<Percent, String> {
    if !(0.0..=100.0).contains(&value) {
        return Err(format!("mirror_percentage must have a max value of 100 (it has {value:.6})"));
    }
    Ok(Percent::truncated(value))
}
