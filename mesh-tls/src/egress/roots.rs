//! Where egress roots come from.

use std::{path::Path, sync::Arc};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::OnceCell;

use super::EgressError;

/// All certificates of a PEM text; one that cannot be used rejects it.
pub(super) fn from_pem(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem) {
        let root = root.map_err(|error| error.to_string())?;
        store.add(root).map_err(|error| error.to_string())?;
    }
    if store.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    Ok(store)
}

pub(super) async fn from_file(path: &Path) -> Result<RootCertStore, EgressError> {
    let pem = read(path).await?;
    from_pem(&pem).map_err(|why| EgressError::File { path: path.to_owned(), why })
}

pub(super) async fn read(path: &Path) -> Result<Vec<u8>, EgressError> {
    let fail = |error: std::io::Error| EgressError::File { path: path.to_owned(), why: error.to_string() };
    tokio::fs::read(path).await.map_err(fail)
}

/// The operating system's, read once: they are hundreds, and change when the machine is updated. Those that cannot be
/// used are left out, as everywhere: a machine's store holds old ones that nobody can parse.
pub(super) async fn native() -> Result<Arc<RootCertStore>, EgressError> {
    static NATIVE: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();
    NATIVE.get_or_try_init(load_native).await.cloned()
}

async fn load_native() -> Result<Arc<RootCertStore>, EgressError> {
    let none = |why: String| EgressError::NoNativeRoots(why);
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
    let found = found.await.map_err(|error| none(error.to_string()))?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        return Err(none(found.errors.first().map(ToString::to_string).unwrap_or_default()));
    }
    Ok(Arc::new(store))
}
