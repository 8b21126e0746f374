//! The fields as Istio writes them.

use std::collections::BTreeMap;

use mesh_core::Labels;
use serde::Deserialize;

use super::PeerAuthMode;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Spec {
    pub(super) selector: Option<Selector>,
    pub(super) mtls: Option<MutualTls>,
    pub(super) port_level_mtls: Option<BTreeMap<String, MutualTls>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Selector {
    pub(super) match_labels: Labels,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct MutualTls {
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Mode {
    #[default]
    Unset,
    Disable,
    Permissive,
    Strict,
}

impl MutualTls {
    /// The mode, `None` for UNSET: "Inherit from parent, if has one. Otherwise treated as PERMISSIVE."
    pub(super) fn mode(&self) -> Option<PeerAuthMode> {
        match self.mode {
            Mode::Unset => None,
            Mode::Disable => Some(PeerAuthMode::Disable),
            Mode::Permissive => Some(PeerAuthMode::Permissive),
            Mode::Strict => Some(PeerAuthMode::Strict),
        }
    }
}
