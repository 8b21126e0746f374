//! What the whole mesh says of clusters that no DestinationRule says it of.

use mesh_core::{
    MeshConfig,
    config::{Document, Field, Issues, fields},
};

use super::{read, spec::MeshDefaults};
use crate::policy::Blocks;

/// MeshConfig.defaultTrafficPolicy: `connectionPool` and `outlierDetection` for clusters that are left without.
///
/// istio applyDefaultTrafficPolicy: after subset, port and rule have had their say, a block that is still missing is the
/// mesh's.
///
/// ```
/// use mesh_core::config::{Document, Issues};
/// use mesh_lb::{DefaultPolicy, TrafficPolicy};
///
/// let mut issues = Issues::default();
/// let yaml = "mesh: {defaultTrafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}}}";
/// let documents = Document::parse_all("mesh.yaml", yaml, &mut issues);
/// let defaults = DefaultPolicy::from_mesh_document(&documents[0], &mut issues).unwrap();
/// assert_eq!(TrafficPolicy::layer_over(&defaults, None, None, 80).max_requests, 7);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DefaultPolicy(Blocks);

impl DefaultPolicy {
    /// Where it stands in MeshConfig.
    pub const MESH_FIELD: &str = "defaultTrafficPolicy";

    /// The fields that its YAML has.
    #[must_use]
    pub fn fields() -> Vec<Field> {
        fields::<MeshDefaults>()
    }

    /// The defaults of a `mesh:` document; none where it has none. `None` after an error, which is in `issues`.
    pub fn from_mesh_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        read::mesh_defaults(document, issues).map(Self)
    }

    /// The same from the settings of the mesh, which are in force only without an error.
    #[must_use]
    pub fn from_mesh(mesh: &MeshConfig) -> Self {
        let document = mesh.document.as_ref();
        document.and_then(|document| Self::from_mesh_document(document, &mut Issues::default())).unwrap_or_default()
    }

    /// Fill in what is missing.
    pub(crate) fn fill(&self, blocks: &mut Blocks) {
        if blocks.connection_pool.is_none() {
            blocks.connection_pool.clone_from(&self.0.connection_pool);
        }
        if blocks.outlier_detection.is_none() {
            blocks.outlier_detection.clone_from(&self.0.outlier_detection);
        }
    }
}
