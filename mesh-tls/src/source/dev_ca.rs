//! A certificate authority inside the process, for development and tests.
//!
//! It exists so that mutual TLS is on from the first run. It is no authority for production: its key lies on the disk
//! of whoever runs it, in the clear, and it signs whatever it is asked to.

use std::{
    fmt, fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_core::identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::{IdentitySource, SourceError};
use crate::{Identity, InvalidBundle, InvalidIdentity, TrustBundle, TrustBundles};

const BACKDATED: Duration = Duration::from_secs(60);
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A development certificate authority. Cheap to clone.
#[derive(Clone)]
pub struct DevCa(Arc<Ca>);

struct Ca {
    trust_domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    root: String,
    bundles: TrustBundles,
}

/// What the authority issued, as PEM: for tools that want files.
#[derive(Clone)]
#[non_exhaustive]
pub struct IssuedPem {
    /// The leaf.
    pub certificate: String,
    /// Its key, PKCS#8.
    pub key: String,
}

/// Why the authority cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevCaError {
    /// Its directory or files.
    #[error("development CA, {}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Others can read its key.
    #[error("development CA: {} can be read by others; chmod 600 it, or remove it", .0.display())]
    Exposed(PathBuf),
    /// Its certificate cannot be a root.
    #[error("development CA: its certificate cannot be used, remove its directory: {0}")]
    Root(#[from] InvalidBundle),
    /// It belongs to another trust domain.
    #[error("development CA: its certificate is not for trust domain {0}, remove its directory")]
    ForeignRoot(TrustDomain),
    /// An ID that it does not sign for.
    #[error("development CA of {ca} does not issue for {id}")]
    ForeignId {
        /// Its trust domain.
        ca: TrustDomain,
        /// What was asked for.
        id: SpiffeId,
    },
    /// A lifetime of more than a day, or of nothing.
    #[error("development CA: a lifetime is more than 0 and at most 24 h, asked for {0:?}")]
    Lifetime(Duration),
    /// Key generation or signing.
    #[error("development CA: {0}")]
    Crypto(#[from] rcgen::Error),
    /// What it issued is no identity.
    #[error("development CA: {0}")]
    Issued(#[from] InvalidIdentity),
}

impl DevCa {
    /// A leaf's lifetime where none is given, and the longest: Istio's 24 h.
    pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);

    /// The authority kept in a directory (`ca.pem`, `ca-key.pem`), made there first if there is none.
    ///
    /// The directory is made with mode 0700, the files with 0600. Any number of processes may open it at the same
    /// time, all get the same authority. Blocks for some file system calls.
    ///
    /// # Errors
    /// When the directory cannot be used, others can read the key, or the authority is of another trust domain.
    pub fn open(dir: impl AsRef<Path>, trust_domain: TrustDomain) -> Result<Self, DevCaError> {
        let dir = dir.as_ref();
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |error| DevCaError::Io { path, error }
        };
        create_dir(dir).map_err(fail(dir))?;
        // A lock of the operating system's: a process that dies leaves none behind.
        let lock = dir.join("ca.lock");
        let guard = private().truncate(false).open(&lock).map_err(fail(&lock))?;
        guard.lock().map_err(fail(&lock))?;
        let (root_path, key_path) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
        if !(root_path.exists() && key_path.exists()) {
            let (root, key) = new_root(&trust_domain)?;
            write(&key_path, &key.serialize_pem()).map_err(fail(&key_path))?;
            write(&root_path, &root).map_err(fail(&root_path))?;
        }
        if exposed(&key_path).map_err(fail(&key_path))? {
            return Err(DevCaError::Exposed(key_path));
        }
        let root = fs::read_to_string(&root_path).map_err(fail(&root_path))?;
        let key = KeyPair::from_pem(&fs::read_to_string(&key_path).map_err(fail(&key_path))?)?;
        drop(guard);
        tracing::warn!(
            dir = %dir.display(), %trust_domain,
            "DEVELOPMENT certificate authority in use: anyone who reads its directory can be any workload"
        );
        Self::new(trust_domain, root, key)
    }

    /// An authority that lives as long as this value and its clones, in memory.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn ephemeral(trust_domain: TrustDomain) -> Result<Self, DevCaError> {
        let (root, key) = new_root(&trust_domain)?;
        tracing::warn!(%trust_domain, "DEVELOPMENT certificate authority in use, in memory");
        Self::new(trust_domain, root, key)
    }

    fn new(trust_domain: TrustDomain, root: String, key: KeyPair) -> Result<Self, DevCaError> {
        let bundle = TrustBundle::from_pem(root.as_bytes())?;
        if !names(&bundle, &trust_domain) {
            return Err(DevCaError::ForeignRoot(trust_domain));
        }
        let issuer = Issuer::from_ca_cert_pem(&root, key)?;
        let bundles = TrustBundles::single(trust_domain.clone(), bundle);
        Ok(Self(Arc::new(Ca { trust_domain, issuer, root, bundles })))
    }

    /// Its root, PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.0.root
    }

    /// Trust in this authority, for its trust domain.
    #[must_use]
    pub fn bundles(&self) -> &TrustBundles {
        &self.0.bundles
    }

    /// Its trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// Issue an identity with a new key, valid from a minute ago. [`LIFETIME`](Self::LIFETIME) is a day, the most;
    /// less than an hour is for tests.
    ///
    /// # Errors
    /// When the ID is of another trust domain, or the lifetime is zero or more than a day.
    pub fn issue(&self, id: &SpiffeId, lifetime: Duration) -> Result<Identity, DevCaError> {
        let issued = self.issue_pem(id, lifetime)?;
        let identity =
            Identity::from_pem(issued.certificate.as_bytes(), issued.key.as_bytes(), self.0.bundles.clone())?;
        Ok(identity)
    }

    /// As [`issue`](Self::issue), in PEM.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub fn issue_pem(&self, id: &SpiffeId, lifetime: Duration) -> Result<IssuedPem, DevCaError> {
        if id.trust_domain() != &self.0.trust_domain {
            return Err(DevCaError::ForeignId { ca: self.0.trust_domain.clone(), id: id.clone() });
        }
        if lifetime.is_zero() || lifetime > Self::LIFETIME {
            return Err(DevCaError::Lifetime(lifetime));
        }
        let key = KeyPair::generate()?;
        let certificate = leaf(id, lifetime)?.signed_by(&key, &self.0.issuer)?.pem();
        Ok(IssuedPem { certificate, key: key.serialize_pem() })
    }

    /// A source of identities with this ID, for [`spawn_rotation`](crate::spawn_rotation).
    #[must_use]
    pub fn source(&self, id: SpiffeId) -> DevCaSource {
        DevCaSource { ca: self.clone(), id, lifetime: Self::LIFETIME }
    }
}

impl fmt::Debug for DevCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevCa({})", self.0.trust_domain)
    }
}

impl fmt::Debug for IssuedPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedPem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Issues the same ID again and again, each time with a new key.
#[derive(Clone, Debug)]
pub struct DevCaSource {
    ca: DevCa,
    id: SpiffeId,
    lifetime: Duration,
}

impl DevCaSource {
    /// With this lifetime instead of a day.
    #[must_use]
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }
}

impl IdentitySource for DevCaSource {
    async fn fetch(&self) -> Result<Identity, SourceError> {
        self.ca.issue(&self.id, self.lifetime).map_err(|error| SourceError::Other(error.into()))
    }
}

/// The profile of Istio's CA, with nothing in it that an SVID does not need. No subject, so the SAN is critical
/// (RFC 5280 4.1.2.6).
fn leaf(id: &SpiffeId, lifetime: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = validity(lifetime);
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn new_root(trust_domain: &TrustDomain) -> Result<(String, KeyPair), DevCaError> {
    let key = KeyPair::generate()?;
    let mut params = validity(ROOT_LIFETIME);
    // A subject of its own: path building finds a root by its subject before it tries its key.
    let number = rand::random::<u64>();
    params.distinguished_name.push(DnType::CommonName, format!("mesh development CA {number:016x}"));
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").as_str().try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok((params.self_signed(&key)?.pem(), key))
}

fn validity(lifetime: Duration) -> CertificateParams {
    let not_before: SystemTime = mesh_core::clock::wall() - BACKDATED;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = not_before.into();
    params.not_after = (not_before + BACKDATED + lifetime).into();
    params
}

/// X509-SVID 3.2: the root's own ID is that of its trust domain.
fn names(bundle: &TrustBundle, trust_domain: &TrustDomain) -> bool {
    let id = format!("spiffe://{trust_domain}");
    bundle
        .roots()
        .iter()
        .all(|root| webpki::EndEntityCert::try_from(root).is_ok_and(|root| root.valid_uri_names().eq([id.as_str()])))
}

/// Whole or not at all: written beside its place and moved there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = private().truncate(true).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(unix)]
fn create_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn create_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

#[cfg(unix)]
fn private() -> fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true);
    options
}

#[cfg(unix)]
fn exposed(key: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(key)?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn exposed(_: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::TestDir;

    #[test]
    fn all_who_open_a_directory_at_once_get_one_authority() {
        let dir = TestDir::new();
        let place = dir.path().join("state/ca");
        let open = || DevCa::open(&place, TrustDomain::cluster_local()).unwrap().root_pem().to_owned();
        let roots: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(roots.windows(2).all(|pair| pair[0] == pair[1]));
        let foreign = DevCa::open(&place, "other".parse().unwrap()).unwrap_err();
        assert!(matches!(foreign, DevCaError::ForeignRoot(_)), "{foreign}");
    }

    #[cfg(unix)]
    #[test]
    fn its_files_are_private_and_must_stay_so() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TestDir::new();
        let place = dir.path().join("ca");
        DevCa::open(&place, TrustDomain::cluster_local()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&place), 0o700);
        for file in fs::read_dir(&place).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
        fs::set_permissions(place.join("ca-key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = DevCa::open(&place, TrustDomain::cluster_local()).unwrap_err();
        assert!(matches!(exposed, DevCaError::Exposed(_)), "{exposed}");
    }

    #[test]
    fn it_issues_only_for_its_domain_and_for_at_most_a_day() {
        let ca = DevCa::ephemeral(TrustDomain::cluster_local()).unwrap();
        let foreign = "spiffe://other/ns/a/sa/b".parse().unwrap();
        assert!(matches!(ca.issue(&foreign, DevCa::LIFETIME), Err(DevCaError::ForeignId { .. })));
        let own = "spiffe://cluster.local/ns/a/sa/b".parse().unwrap();
        for lifetime in [Duration::ZERO, DevCa::LIFETIME + Duration::from_secs(1)] {
            assert!(matches!(ca.issue(&own, lifetime), Err(DevCaError::Lifetime(_))));
        }
        assert_eq!(ca.issue(&own, DevCa::LIFETIME).unwrap().id(), &own);
    }
}
