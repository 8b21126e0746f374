//! The `tls` block of a DestinationRule: read by mesh-lb, honoured by mesh-tls.

use std::{path::PathBuf, sync::Arc};

/// How connections to a cluster are secured (istio networking/v1alpha3 ClientTLSSettings).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientTlsSettings {
    /// The mode.
    pub mode: ClientTlsMode,
    /// `sni`: the server name sent. `None`: the mode's default (for SIMPLE and MUTUAL the request's host).
    pub sni: Option<Arc<str>>,
    /// `subjectAltNames`: names one of which the server must prove. Empty: the mode's default.
    pub subject_alt_names: Vec<Arc<str>>,
    /// `caCertificates`: PEM file of roots. `None`: the builder's egress roots, else the operating system's.
    pub ca_certificates: Option<PathBuf>,
    /// `clientCertificate`: PEM file; MUTUAL only.
    pub client_certificate: Option<PathBuf>,
    /// `privateKey`: PEM file; MUTUAL only.
    pub private_key: Option<PathBuf>,
}

/// ClientTLSSettings.TLSmode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientTlsMode {
    /// Plaintext.
    #[default]
    Disable,
    /// TLS to a named server, without a client certificate.
    Simple,
    /// TLS to a named server, with the client certificate of the rule.
    Mutual,
    /// Mutual TLS with mesh identity.
    IstioMutual,
}
