use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{AcceptError, Accepted, Acceptor};
use crate::{
    Alpn, MeshTls, PeerAuthMode,
    forge::{ByteByByte, PRODUCTPAGE, REVIEWS},
    handshakes::{SNI, dev_ca, handle, reviews},
};

#[tokio::test]
async fn plaintext_is_closed_in_strict_and_kept_whole_in_permissive() {
    let server = Acceptor::new(handle(&dev_ca(), REVIEWS));
    let request = b"GET /reviews/0 HTTP/1.1\r\nhost: reviews\r\n\r\n";
    for (mode, allowed) in
        [(PeerAuthMode::Strict, false), (PeerAuthMode::Permissive, true), (PeerAuthMode::Disable, true)]
    {
        // A pipe one byte wide: every write and every read is a single byte.
        let (mut near, far) = duplex(1);
        let send = async {
            let written = near.write_all(request).await;
            let closed = near.read_u8().await.is_err();
            (written, closed)
        };
        let serve = async {
            match server.accept(far, mode).await {
                Ok(Accepted::Plain { mut stream }) => {
                    let mut received = vec![0; request.len()];
                    stream.read_exact(&mut received).await.unwrap();
                    Ok(received)
                }
                Ok(Accepted::Mtls { .. }) => panic!("plaintext is no proof"),
                Err(error) => Err(error),
            }
        };
        let ((_, closed), received) = tokio::join!(send, serve);
        assert!(closed);
        match received {
            Ok(received) => assert!(allowed && received == request),
            Err(error) => assert!(!allowed && matches!(error, AcceptError::Plaintext), "{error}"),
        }
    }
}

/// CVE-2020-8660: TLS is recognized however its first record is cut up.
#[tokio::test]
async fn tls_is_recognized_byte_by_byte() {
    let ca = dev_ca();
    let client = MeshTls::new(handle(&ca, PRODUCTPAGE));
    let server = Acceptor::new(handle(&ca, REVIEWS));
    for mode in [PeerAuthMode::Strict, PeerAuthMode::Permissive] {
        let (near, far) = duplex(64 * 1024);
        let (near, far) = (ByteByByte(near), ByteByByte(far));
        let expected = reviews();
        let (connected, accepted) =
            tokio::join!(client.connect(near, SNI, &expected, Alpn::H1), server.accept(far, mode));
        connected.unwrap();
        assert!(matches!(accepted.unwrap(), Accepted::Mtls { .. }));
    }
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_is_closed() {
    let server = Acceptor::new(handle(&dev_ca(), REVIEWS));
    for mode in [PeerAuthMode::Strict, PeerAuthMode::Permissive] {
        for bytes in [&b"\x16\x02"[..], b"\r\n", b"\0\0", b"\xff"] {
            let (mut near, far) = duplex(64);
            near.write_all(bytes).await.unwrap();
            assert!(matches!(server.accept(far, mode).await, Err(AcceptError::UnknownProtocol)), "{bytes:?}");
        }
        let (near, far) = duplex(64);
        drop(near);
        assert!(matches!(server.accept(far, mode).await, Err(AcceptError::Closed)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_closed() {
    let server = Acceptor::new(handle(&dev_ca(), REVIEWS));
    for (bytes, seconds) in [(&b""[..], 5), (b"\x16", 5), (b"\x16\x03", 10), (b"\x16\x03\x01\x02\x00", 10)] {
        let (mut near, far) = duplex(64);
        near.write_all(bytes).await.unwrap();
        let started = mesh_core::clock::now();
        let error = server.accept(far, PeerAuthMode::Permissive).await.unwrap_err();
        assert_eq!(started.elapsed().as_secs(), seconds, "{error}");
        assert!(matches!(error, AcceptError::Silent(_) | AcceptError::HandshakeTimeout(_)), "{error}");
    }
}
