//! Where our identity comes from, and how it stays fresh.

#[cfg(any(feature = "dev-ca", test))]
mod dev_ca;
mod file;
mod rotation;

use std::{future::Future, path::PathBuf, time::Duration};

use mesh_core::BoxError;

#[cfg(any(feature = "dev-ca", test))]
pub use dev_ca::{DevCa, DevCaError, DevCaSource, IssuedPem};
pub use file::FileSource;
pub use rotation::{Rotation, renew_at, retry_after, spawn_rotation};

use crate::{Identity, InvalidBundle, InvalidIdentity};

/// Something that hands out our identity: files that an agent renews, a certificate authority.
pub trait IdentitySource: Send + Sync + 'static {
    /// The identity to use from now on.
    fn fetch(&self) -> impl Future<Output = Result<Identity, SourceError>> + Send;

    /// When to fetch again.
    fn schedule(&self) -> Schedule {
        Schedule::HalfLife
    }
}

/// When to fetch an identity again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schedule {
    /// At half of the current one's lifetime: the source makes a new one when asked.
    HalfLife,
    /// At this interval: somebody else makes them, and we look whether there is a new one.
    Every(Duration),
}

/// Why a source has no identity to give.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file that cannot be read.
    #[error("{}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// Roots that cannot be used.
    #[error("{}: {error}", .path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: InvalidBundle,
    },
    /// A certificate and key that are no identity.
    #[error("{}: {error}", .path.display())]
    Identity {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: InvalidIdentity,
    },
    /// The identity has expired already.
    #[error("the identity has expired already")]
    Expired,
    /// The files change faster than they can be read.
    #[error("the identity's files kept changing while they were read")]
    Unstable,
    /// Whatever else a source may fail with.
    #[error(transparent)]
    Other(BoxError),
}
