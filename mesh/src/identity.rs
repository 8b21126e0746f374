//! The workload's own identity, from wherever the builder says.

use std::path::PathBuf;

use mesh_core::{BoxError, Workload, identity::TrustDomain};
use mesh_tls::{EgressTls, FileSource, Identity, IdentityHandle, IdentitySource, Rotation, spawn_rotation};

/// Where an identity comes from.
#[derive(Clone, Debug)]
pub(crate) enum IdentityOrigin {
    Files {
        cert: PathBuf,
        key: PathBuf,
        roots: PathBuf,
    },
    #[cfg(feature = "dev-ca")]
    Development(PathBuf),
    None,
}

/// An identity in force, kept fresh while this lives.
#[derive(Debug)]
pub(crate) struct OpenIdentity {
    pub(crate) handle: IdentityHandle,
    _rotation: Rotation,
}

impl IdentityOrigin {
    /// Fetch the first identity, and keep it fresh from then on.
    #[cfg_attr(not(feature = "dev-ca"), allow(unused_variables, reason = "only the development CA asks who we are"))]
    pub(crate) async fn open(
        self,
        workload: &Workload,
        trust_domain: &TrustDomain,
    ) -> Result<Option<OpenIdentity>, BoxError> {
        match self {
            Self::None => Ok(None),
            Self::Files { cert, key, roots } => {
                let source = FileSource::new(trust_domain.clone(), cert, key, roots);
                let first = source.load().await?;
                Ok(Some(OpenIdentity::new(first, source)))
            }
            #[cfg(feature = "dev-ca")]
            Self::Development(directory) => {
                let trust_domain = trust_domain.clone();
                let id = workload.spiffe_id(&trust_domain)?;
                let open = move || mesh_tls::DevCa::open(directory, trust_domain);
                let ca = tokio::task::spawn_blocking(open).await??;
                let source = ca.source(id);
                let first = source.fetch().await?;
                Ok(Some(OpenIdentity::new(first, source)))
            }
        }
    }
}

impl OpenIdentity {
    fn new(first: Identity, source: impl IdentitySource) -> Self {
        let handle = IdentityHandle::new(first);
        let rotation = spawn_rotation(handle.clone(), source);
        Self { handle, _rotation: rotation }
    }
}

/// TLS to servers outside the mesh: the builder's roots, else the operating system's.
pub(crate) fn egress(roots: &[Vec<u8>]) -> Result<EgressTls, BoxError> {
    if roots.is_empty() {
        return Ok(EgressTls::new());
    }
    Ok(EgressTls::with_roots(&roots.join(&b'\n'))?)
}
