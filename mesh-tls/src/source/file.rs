//! Certificate, key and roots from files that somebody else renews (a Kubernetes secret, an agent).
//!
//! Files are polled and not only watched: file events do not cross NFS or overlay mounts. Kubernetes swaps a whole
//! directory by a symbolic link, others write one file after the other, so what is read can be half old: the three
//! are read as a unit, twice, until both readings agree and the key fits the certificate.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mesh_core::identity::TrustDomain;

use super::{IdentitySource, Schedule, SourceError};
use crate::{Identity, InvalidBundle, InvalidIdentity, TrustBundle, TrustBundles};

const READINGS: u32 = 5;
const BETWEEN_READINGS: Duration = Duration::from_millis(100);

/// An identity in PEM files.
#[derive(Clone, Debug)]
pub struct FileSource {
    trust_domain: TrustDomain,
    certificate: PathBuf,
    key: PathBuf,
    roots: PathBuf,
    federated: Vec<(TrustDomain, PathBuf)>,
    every: Duration,
}

#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<(TrustDomain, Vec<u8>)>,
}

impl FileSource {
    /// The chain (leaf first), its key, and the roots of our trust domain. The domain's name comes from
    /// configuration; a certificate of another domain is refused.
    pub fn new(
        trust_domain: TrustDomain,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        roots: impl Into<PathBuf>,
    ) -> Self {
        Self {
            trust_domain,
            certificate: certificate.into(),
            key: key.into(),
            roots: roots.into(),
            federated: Vec::new(),
            every: Duration::from_secs(10),
        }
    }

    /// Trust another domain's workloads too, by its own roots.
    #[must_use]
    pub fn with_federated(mut self, trust_domain: TrustDomain, roots: impl Into<PathBuf>) -> Self {
        self.federated.push((trust_domain, roots.into()));
        self
    }

    /// Look for changes this often. Default 10 s; a look reads three small files twice.
    #[must_use]
    pub fn with_interval(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Read the identity that the files hold now.
    ///
    /// # Errors
    /// When a file cannot be read or used, or the identity has expired.
    pub async fn load(&self) -> Result<Identity, SourceError> {
        let mut outcome = Err(SourceError::Unstable);
        for reading in 0..READINGS {
            if reading > 0 {
                tokio::time::sleep(BETWEEN_READINGS).await;
            }
            let contents = self.read().await?;
            if contents != self.read().await? {
                continue;
            }
            outcome = self.parse(&contents);
            let mixed = matches!(outcome, Err(SourceError::Identity { error: InvalidIdentity::KeyMismatch, .. }));
            if !mixed {
                break;
            }
        }
        outcome
    }

    async fn read(&self) -> Result<Contents, SourceError> {
        let mut roots = vec![(self.trust_domain.clone(), read(&self.roots).await?)];
        for (trust_domain, path) in &self.federated {
            roots.push((trust_domain.clone(), read(path).await?));
        }
        Ok(Contents { certificate: read(&self.certificate).await?, key: read(&self.key).await?, roots })
    }

    fn parse(&self, contents: &Contents) -> Result<Identity, SourceError> {
        let paths = std::iter::once(&self.roots).chain(self.federated.iter().map(|(_, path)| path));
        let mut bundles = Vec::new();
        for ((trust_domain, pem), path) in contents.roots.iter().zip(paths) {
            let bundle = TrustBundle::from_pem(pem).map_err(|error| refused_bundle(path, error))?;
            bundles.push((trust_domain.clone(), bundle));
        }
        let bundles = TrustBundles::new(bundles).map_err(|error| refused_bundle(&self.roots, error))?;
        let identity = Identity::from_pem(&contents.certificate, &contents.key, bundles)
            .map_err(|error| SourceError::Identity { path: self.certificate.clone(), error })?;
        if identity.id().trust_domain() != &self.trust_domain {
            let error = crate::Rejected::UnknownTrustDomain(identity.id().trust_domain().clone()).into();
            return Err(SourceError::Identity { path: self.certificate.clone(), error });
        }
        if identity.expired(mesh_core::clock::wall()) {
            return Err(SourceError::Expired);
        }
        Ok(identity)
    }
}

impl IdentitySource for FileSource {
    async fn fetch(&self) -> Result<Identity, SourceError> {
        self.load().await
    }

    fn schedule(&self) -> Schedule {
        Schedule::Every(self.every)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    tokio::fs::read(path).await.map_err(|error| SourceError::Read { path: path.to_owned(), error })
}

fn refused_bundle(path: &Path, error: InvalidBundle) -> SourceError {
    SourceError::Bundle { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        DevCa, IdentityHandle,
        forge::{Forger, REVIEWS, TestDir, expire},
        spawn_rotation,
    };

    fn write(dir: &Path, ca: &DevCa, account: &str) {
        let id = format!("spiffe://cluster.local/ns/default/sa/{account}").parse().unwrap();
        let pem = ca.issue_pem(&id, Duration::from_secs(3600)).unwrap();
        std::fs::write(dir.join("cert.pem"), pem.certificate).unwrap();
        std::fs::write(dir.join("key.pem"), pem.key).unwrap();
        std::fs::write(dir.join("roots.pem"), ca.root_pem()).unwrap();
    }

    fn source(dir: &Path) -> FileSource {
        let file = |name| dir.join(name);
        FileSource::new(TrustDomain::cluster_local(), file("cert.pem"), file("key.pem"), file("roots.pem"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_taken_up_and_a_bad_one_is_not() {
        let dir = TestDir::new();
        let ca = DevCa::ephemeral(TrustDomain::cluster_local()).unwrap();
        write(dir.path(), &ca, "a");
        let source = source(dir.path());
        let handle = IdentityHandle::new(source.load().await.unwrap());
        let mut generations = handle.subscribe();
        let _rotation = spawn_rotation(handle.clone(), source);

        // Not a certificate: the last good one stays. Then a good one.
        std::fs::write(dir.path().join("cert.pem"), "garbage").unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(handle.generation(), 1);
        write(dir.path(), &ca, "b");
        assert_eq!(generations.changed().await, Some(2));
        assert_eq!(handle.current().identity().id().service_account(), Some("b"));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(handle.generation(), 2, "equal content is no change");
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_with_another_key_is_retried_then_refused() {
        let dir = TestDir::new();
        let ca = DevCa::ephemeral(TrustDomain::cluster_local()).unwrap();
        write(dir.path(), &ca, "a");
        let mixed = std::fs::read(dir.path().join("key.pem")).unwrap();
        write(dir.path(), &ca, "a");
        let good = std::fs::read(dir.path().join("key.pem")).unwrap();
        std::fs::write(dir.path().join("key.pem"), &mixed).unwrap();
        let refused = source(dir.path()).load().await.unwrap_err();
        assert!(matches!(refused, SourceError::Identity { error: InvalidIdentity::KeyMismatch, .. }), "{refused}");

        let loading = source(dir.path());
        let (loaded, ()) = tokio::join!(loading.load(), async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            std::fs::write(dir.path().join("key.pem"), &good).unwrap();
        });
        assert_eq!(loaded.unwrap().id().service_account(), Some("a"));
    }

    #[tokio::test]
    async fn an_expired_certificate_is_refused() {
        let dir = TestDir::new();
        let forger = Forger::new();
        let expired = forger.leaf(REVIEWS, expire);
        std::fs::write(dir.path().join("cert.pem"), expired.chain_pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), expired.key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join("roots.pem"), &forger.root_pem).unwrap();
        assert!(matches!(source(dir.path()).load().await, Err(SourceError::Expired)));
    }

    #[tokio::test]
    async fn a_certificate_of_another_trust_domain_is_refused() {
        let dir = TestDir::new();
        let ca = DevCa::ephemeral(TrustDomain::cluster_local()).unwrap();
        write(dir.path(), &ca, "a");
        let mut source = source(dir.path());
        source.trust_domain = "other".parse().unwrap();
        assert!(matches!(source.load().await, Err(SourceError::Identity { .. })));
    }
}
