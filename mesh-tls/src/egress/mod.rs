//! TLS to servers outside the mesh: a DestinationRule's `tls` in mode SIMPLE or MUTUAL.
//!
//! A type of its own, because everything differs from mesh identity: public roots, DNS names, TLS 1.2 as well. What
//! verifies names must never verify identities, nor the other way round.

mod roots;
mod settings;
#[cfg(test)]
mod tests;
mod verifier;

use std::{io, path::PathBuf, sync::Arc};

use mesh_core::{ClientTlsMode, ClientTlsSettings};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::Alpn;

/// Makes TLS connections to the outside. Clones share the roots.
///
/// The server's certificate is always verified: there is no `insecureSkipVerify`.
#[derive(Clone, Debug, Default)]
pub struct EgressTls {
    roots: Option<Arc<RootCertStore>>,
}

/// A verified connection to the outside.
#[derive(Debug)]
#[non_exhaustive]
pub struct EgressStream<IO> {
    /// The encrypted stream.
    pub stream: TlsStream<IO>,
    /// The protocol to speak: the one asked for, by the server's choice or because it made none.
    pub protocol: Alpn,
}

/// Why there is no connection to the outside. Nothing of the request has left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// DISABLE and ISTIO_MUTUAL are other crates' and types' business.
    #[error("egress TLS is for modes SIMPLE and MUTUAL, not {0:?}")]
    Mode(ClientTlsMode),
    /// MUTUAL without a client certificate.
    #[error("client certificate required for mutual tls")]
    NoClientCertificate,
    /// MUTUAL without a private key.
    #[error("private key required for mutual tls")]
    NoPrivateKey,
    /// A name that no certificate can prove.
    #[error("{0:?} is neither a DNS name, an IP address nor a URI")]
    Name(Arc<str>),
    /// A PEM file that cannot be used.
    #[error("{}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Roots given in code that cannot be used.
    #[error("egress roots: {0}")]
    Roots(String),
    /// The operating system has no roots, and none are configured.
    #[error("the operating system has no root certificates; set caCertificates or give egress roots: {0}")]
    NoNativeRoots(String),
    /// The handshake failed: the server's certificate, the transport, or an alert of the server's.
    #[error("TLS handshake: {0}")]
    Handshake(#[source] io::Error),
}

impl EgressTls {
    /// With the operating system's roots where a rule has no `caCertificates`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With these roots (PEM) in the place of the operating system's.
    ///
    /// # Errors
    /// When the text holds no certificate, or one that cannot be used.
    pub fn with_roots(pem: &[u8]) -> Result<Self, EgressError> {
        let roots = roots::from_pem(pem).map_err(EgressError::Roots)?;
        Ok(Self { roots: Some(Arc::new(roots)) })
    }

    /// Shake hands over `io`. The caller bounds the time.
    ///
    /// `host` is the request's host without its port. The server name sent is `sni`, else the host; the name proved is
    /// one of `subjectAltNames`, else the one sent. The rule's files are read anew each time, so a renewed certificate
    /// is used from the next connection on.
    ///
    /// # Errors
    /// When the settings cannot be used or the server does not prove its name.
    pub async fn connect<IO>(
        &self,
        io: IO,
        settings: &ClientTlsSettings,
        host: &str,
        protocol: Alpn,
    ) -> Result<EgressStream<IO>, EgressError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = settings::server_name(settings, host)?;
        let config = self.client_config(settings, protocol).await?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, io).await.map_err(EgressError::Handshake)?;
        // rustls has refused a protocol that was not offered, and only one was.
        Ok(EgressStream { stream, protocol })
    }

    async fn client_config(&self, settings: &ClientTlsSettings, protocol: Alpn) -> Result<ClientConfig, EgressError> {
        let roots = match (&settings.ca_certificates, &self.roots) {
            (Some(path), _) => Arc::new(roots::from_file(path).await?),
            (None, Some(roots)) => Arc::clone(roots),
            (None, None) => roots::native().await?,
        };
        settings::client_config(settings, roots, protocol).await
    }
}
