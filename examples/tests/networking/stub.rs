//! A TLS server outside the mesh, and the resolver that leads to it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use http::{HeaderMap, Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use mesh::{
    Answer, Resolve,
    network::{BoxFuture, BoxIo, Connect, Tcp},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A certificate authority that browsers would know.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub root_pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), root_pem }
    }

    fn server(&self, name: &str) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap()
    }
}

/// What the server saw of a connection.
#[derive(Clone, Debug)]
pub enum Seen {
    /// No TLS, or the client broke the handshake off.
    NoHandshake,
    /// A request over TLS: the server name of the handshake, then what HTTP says.
    Request { sni: Option<String>, path: String, headers: HeaderMap },
}

/// A server that notes what it sees and answers `hello`.
pub struct Stub {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stub {
    /// Serve with a certificate for `name`.
    pub async fn start(authority: &Authority, name: &str) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(authority.server(name)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let notes = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, notes) = (acceptor.clone(), Arc::clone(&notes));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        notes.lock().unwrap().push(Seen::NoHandshake);
                        return;
                    };
                    let sni = stream.get_ref().1.server_name().map(str::to_owned);
                    let answer = service_fn(move |request: Request<Incoming>| {
                        let (path, headers) = (request.uri().to_string(), request.headers().clone());
                        notes.lock().unwrap().push(Seen::Request { sni: sni.clone(), path, headers });
                        let response = Response::builder().header(header::CONTENT_TYPE, "text/plain");
                        std::future::ready(response.body(Full::new(bytes::Bytes::from_static(b"hello"))))
                    });
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { address, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Where the name leads: an address of nobody's (RFC 5737), so that what is dialled there is known by it.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Knows `www.googleapis.com` and no other name, and connects who dials it to one server whatever the port. Notes the
/// ports.
#[derive(Clone, Debug)]
pub struct Names {
    pub address: SocketAddr,
    pub dialled: Arc<Mutex<Vec<u16>>>,
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Answer>> {
        let known = host == "www.googleapis.com";
        let answer = if known { Ok(Answer::addresses([ELSEWHERE])) } else { Err(io::Error::other("no such name")) };
        Box::pin(std::future::ready(answer))
    }
}

impl Connect for Names {
    fn connect(&self, mut address: SocketAddr) -> BoxFuture<'_, io::Result<BoxIo>> {
        if address.ip() == ELSEWHERE {
            self.dialled.lock().unwrap().push(address.port());
            address = self.address;
        }
        Box::pin(async move { Tcp.connect(address).await })
    }
}
