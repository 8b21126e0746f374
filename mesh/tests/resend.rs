//! Requests that meet the end of a connection, over real sockets: what is sent again, and what is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use common::{World, fetch};
use http::{Request, Response};
use mesh::{Body, Exchange, Mesh};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What an upstream does with a request, after it has read all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Answer,
    Close,
    /// The beginning of an answer, then the end.
    Stutter,
}

/// What arrived: the connection's number, method, attempt and body.
type Seen = Arc<Mutex<Vec<(usize, String, String, String)>>>;

/// An HTTP/1.1 server that acts by its script, one act for each request in the order they come; the last act repeats.
async fn scripted(script: &'static [Act]) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, connection, script, Arc::clone(&log)));
        }
    });
    (address, seen)
}

async fn serve(mut stream: TcpStream, connection: usize, script: &[Act], log: Seen) {
    let mut unread = Vec::new();
    while let Some((method, attempt, body)) = request(&mut stream, &mut unread).await {
        let act = {
            let mut log = log.lock().unwrap();
            log.push((connection, method, attempt, body));
            script[(log.len() - 1).min(script.len() - 1)]
        };
        match act {
            Act::Answer => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap(),
            Act::Stutter => return stream.write_all(b"HTTP/1.1 200 OK\r\nx-half").await.unwrap(),
            Act::Close => return,
        }
    }
}

/// The next request of a connection, as method, attempt and body.
async fn request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<(String, String, String)> {
    let head = loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break unread.drain(..end + 4).collect::<Vec<_>>();
        }
        if stream.read_buf(unread).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().to_owned()
    };
    let length = header("content-length").parse().unwrap_or(0);
    while unread.len() < length {
        if stream.read_buf(unread).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(unread.drain(..length).collect()).unwrap();
    Some((head.split(' ').next()?.to_owned(), header("x-envoy-attempt-count"), body))
}

/// A caller of one server outside the mesh, with this protocol, this in its VirtualService's rule, and ejection of the
/// server after so many failures.
async fn caller(address: SocketAddr, protocol: &str, rule: &str, failures: u32) -> (World, Mesh) {
    let world = World::new();
    let (ip, port) = (address.ip(), address.port());
    world.write(
        "upstream.yaml",
        &format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: upstream}}
spec:
  hosts: [upstream.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: web, protocol: {protocol}}}]
  endpoints: [{{address: {ip}, ports: {{web: {port}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: upstream}}
spec:
  host: upstream.example
  trafficPolicy:
    outlierDetection: {{consecutive5xxErrors: {failures}, maxEjectionPercent: 100, baseEjectionTime: 1h}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: upstream}}
spec:
  hosts: [upstream.example]
  http:
  - route: [{{destination: {{host: upstream.example}}}}]
    {rule}
"
        ),
    );
    let mesh = world.mesh("caller", "v1").await;
    (world, mesh)
}

async fn send(mesh: &Mesh, method: &str, body: &'static str) -> (u16, String, u32) {
    let request = Request::builder().method(method).uri("http://upstream.example/").body(Body::from(body)).unwrap();
    let response = fetch(&mesh.client(), request).await;
    let exchange = response.extensions().get::<Exchange>().unwrap();
    (response.status().as_u16(), exchange.flags.to_string(), exchange.attempts)
}

const NO_RETRIES: &str = "retries: {attempts: 0}";

/// RFC 9110 9.2.2: idempotent methods are PUT, DELETE and the safe ones; "A proxy MUST NOT automatically retry
/// non-idempotent requests." Neither retries nor outlier detection know of it: attempts are off, and the first
/// failure would eject.
#[tokio::test]
async fn a_used_connection_that_ends_costs_an_idempotent_request_nothing() {
    use Act::{Answer, Close};
    for (method, body) in [("GET", ""), ("HEAD", ""), ("OPTIONS", ""), ("TRACE", ""), ("DELETE", ""), ("PUT", "whole")]
    {
        let (address, seen) = scripted(&[Answer, Close, Answer]).await;
        let (_world, mesh) = caller(address, "HTTP", NO_RETRIES, 1).await;
        assert_eq!(send(&mesh, "POST", "first").await, (200, "-".into(), 1));
        assert_eq!(send(&mesh, method, body).await, (200, "-".into(), 1), "{method}");
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        let row = |connection, method: &str, body: &str| (connection, method.into(), "1".into(), body.into());
        assert_eq!(seen, [row(0, "POST", "first"), row(0, method, body), row(1, method, body)]);
        // The endpoint is not ejected.
        assert_eq!(send(&mesh, "POST", "last").await, (200, "-".into(), 1));
    }
}

#[tokio::test]
async fn what_may_have_been_acted_on_is_not_sent_twice() {
    use Act::{Answer, Close, Stutter};
    type Row = (&'static [Act], &'static str, usize);
    let rows: [Row; 5] = [
        // Not idempotent.
        (&[Answer, Close], "POST", 2),
        (&[Answer, Close], "PATCH", 2),
        // The answer had begun.
        (&[Answer, Stutter], "GET", 2),
        // The resend failed too: "A client SHOULD NOT automatically retry a failed automatic retry."
        (&[Answer, Close, Close], "GET", 3),
        (&[Answer, Close, Stutter], "GET", 3),
    ];
    for (script, method, arrived) in rows {
        let (address, seen) = scripted(script).await;
        let (_world, mesh) = caller(address, "HTTP", NO_RETRIES, 1).await;
        assert_eq!(send(&mesh, "GET", "").await.0, 200);
        assert_eq!(send(&mesh, method, "").await, (503, "UC".into(), 1), "{script:?} {method}");
        assert_eq!(seen.lock().unwrap().len(), arrived, "{script:?} {method}");
    }
    // A new connection that ends: the next may well end the same.
    let (address, seen) = scripted(&[Close]).await;
    let (_world, mesh) = caller(address, "HTTP", NO_RETRIES, 1).await;
    assert_eq!(send(&mesh, "GET", "").await, (503, "UC".into(), 1));
    assert_eq!(seen.lock().unwrap().len(), 1);
}

/// It is sent once more, not twice: so not on another connection that may have ended as well.
#[tokio::test]
async fn a_resend_goes_on_a_new_connection() {
    use Act::{Answer, Close};
    let (address, seen) = scripted(&[Answer, Answer, Close, Answer]).await;
    let (_world, mesh) = caller(address, "HTTP", NO_RETRIES, 1).await;
    tokio::join!(send(&mesh, "GET", ""), send(&mesh, "GET", ""));
    assert_eq!(send(&mesh, "GET", "").await, (200, "-".into(), 1));
    let mut connections: Vec<_> = seen.lock().unwrap().iter().map(|(connection, ..)| *connection).collect();
    let last = connections.split_off(3);
    connections[..2].sort_unstable();
    assert_eq!((&connections[..2], &last[..]), (&[0, 1][..], &[2][..]));
}

/// Past what is kept of a body, it goes through once.
#[tokio::test]
async fn a_body_past_the_cap_is_not_sent_twice() {
    let large: &'static str = Box::leak("x".repeat((1 << 20) + 1).into_boxed_str());
    for (body, outcome) in [(&large[1..], 200), (large, 503)] {
        let (address, _) = scripted(&[Act::Answer, Act::Close, Act::Answer]).await;
        let (_world, mesh) = caller(address, "HTTP", NO_RETRIES, 1).await;
        assert_eq!(send(&mesh, "GET", "").await.0, 200);
        assert_eq!(send(&mesh, "PUT", body).await.0, outcome, "{}", body.len());
    }
}

/// The same with retries on: the resend is not one of them.
#[tokio::test]
async fn a_resend_is_none_of_the_retries() {
    use Act::{Answer, Close};
    let (address, seen) = scripted(&[Answer, Close, Close, Close, Answer]).await;
    let (_world, mesh) = caller(address, "HTTP", "retries: {attempts: 2, retryOn: reset, backoff: 1ms}", 9).await;
    assert_eq!(send(&mesh, "GET", "").await.0, 200);
    assert_eq!(send(&mesh, "GET", "").await, (200, "-".into(), 3));
    let attempts: Vec<_> = seen.lock().unwrap().iter().map(|(_, _, attempt, _)| attempt.clone()).collect();
    assert_eq!(attempts, ["1", "1", "1", "2", "3"]);
}

/// However many connections have ended unnoticed: what hyper hands back was not written, and goes out on another one,
/// whatever its method.
#[tokio::test]
async fn a_pool_of_dead_connections_costs_no_request() {
    const CONNECTIONS: usize = 6;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (leave, left) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
    // A thread of its own, so that the runtime hears of nothing while it is held up.
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let answer = |streams: &mut [std::net::TcpStream]| {
            for stream in streams {
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
            }
        };
        let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| listener.accept().unwrap().0).collect();
        answer(&mut streams);
        leave.1.recv().unwrap();
        drop(streams);
        left.0.send(()).unwrap();
        answer(&mut [listener.accept().unwrap().0]);
    });
    let (_world, mesh) = caller(address, "HTTP", NO_RETRIES, 1).await;
    let all = futures_util::future::join_all((0..CONNECTIONS).map(|_| send(&mesh, "GET", ""))).await;
    assert!(all.iter().all(|(status, ..)| *status == 200), "{all:?}");
    leave.0.send(()).unwrap();
    left.1.recv().unwrap();
    assert_eq!(send(&mesh, "POST", "").await, (200, "-".into(), 1));
    server.join().unwrap();
}

/// What an HTTP/2 server does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act2 {
    Answer,
    Refuse,
    /// The connection ends.
    End,
    /// To the first of a connection: GOAWAY that names the last stream looked at, then the end.
    GoAway(u8),
}

type Acted = Arc<Mutex<Vec<Act2>>>;

/// An HTTP/2 server that acts by its script, one act for each request in the order they come; the last act repeats.
async fn scripted_h2(script: &'static [Act2]) -> (SocketAddr, Acted) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acted = Acted::default();
    let log = Arc::clone(&acted);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let act = *script.get(log.lock().unwrap().len()).unwrap_or(&script[script.len() - 1]);
            if let Act2::GoAway(last) = act {
                tokio::spawn(go_away(stream, last, Arc::clone(&log)));
            } else {
                tokio::spawn(serve_h2(stream, script, Arc::clone(&log)));
            }
        }
    });
    (address, acted)
}

async fn serve_h2(stream: TcpStream, script: &[Act2], log: Acted) {
    let mut h2 = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((_, mut reply))) = h2.accept().await {
        let act = {
            let mut log = log.lock().unwrap();
            let act = script[log.len().min(script.len() - 1)];
            log.push(act);
            act
        };
        if act == Act2::End {
            return;
        }
        if act == Act2::Refuse {
            reply.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        let mut body = reply.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
    }
}

/// The server leaves when it has a request, so that the request crosses its GOAWAY.
async fn go_away(mut stream: TcpStream, last: u8, log: Acted) {
    // RFC 9113 4.1: length (3), type, flags, stream (4). SETTINGS, and none of them.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    stream.read_exact(&mut [0; 24]).await.unwrap();
    let mut head = [0; 9];
    while head[3] != 1 {
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
    }
    log.lock().unwrap().push(Act2::GoAway(last));
    // The last stream, NO_ERROR. Then this end says no more.
    stream.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0]).await.unwrap();
    stream.shutdown().await.unwrap();
    // Closing before the client does would reset the connection.
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

/// RFC 9113 8.7: "Requests on streams with higher numbers are therefore guaranteed to be safe to retry", and
/// REFUSED_STREAM says "prior to any processing": any method, whatever the policy.
#[tokio::test]
async fn what_http2_says_was_not_looked_at_is_sent_again() {
    use Act2::{Answer, GoAway, Refuse};
    for script in [&[GoAway(0), Answer], &[Refuse, Answer]] {
        let (address, acted) = scripted_h2(script).await;
        let (_world, mesh) = caller(address, "HTTP2", NO_RETRIES, 9).await;
        assert_eq!(send(&mesh, "POST", "once").await, (200, "-".into(), 1), "{script:?}");
        assert_eq!(*acted.lock().unwrap(), script);
    }
    // Once for each request.
    let (address, acted) = scripted_h2(&[Refuse, Refuse, Answer]).await;
    let (_world, mesh) = caller(address, "HTTP2", NO_RETRIES, 9).await;
    assert_eq!(send(&mesh, "POST", "once").await, (503, "UR".into(), 1));
    assert_eq!(*acted.lock().unwrap(), [Refuse, Refuse]);
}

/// That a connection is closed says nothing about the server's health; that it refuses does.
#[tokio::test]
async fn a_refusal_counts_against_the_server_and_goaway_does_not() {
    use Act2::{Answer, GoAway, Refuse};
    for (script, outcome) in [(&[GoAway(0), Answer], (200, "-")), (&[Refuse, Answer], (503, "UH"))] {
        let (address, _) = scripted_h2(script).await;
        let (_world, mesh) = caller(address, "HTTP2", NO_RETRIES, 1).await;
        assert_eq!(send(&mesh, "POST", "once").await, (outcome.0, outcome.1.into(), 1), "{script:?}");
    }
}

/// The same as on HTTP/1.1, where nothing says what became of a request: RFC 9110 9.2.2.
#[tokio::test]
async fn an_http2_connection_that_ends_costs_an_idempotent_request_nothing() {
    use Act2::{Answer, End};
    for (method, outcome, acts) in [
        ("GET", (200, "-"), &[Answer, End, Answer][..]),
        ("PUT", (200, "-"), &[Answer, End, Answer]),
        ("POST", (503, "UC"), &[Answer, End]),
    ] {
        let (address, acted) = scripted_h2(&[Answer, End, Answer]).await;
        let (_world, mesh) = caller(address, "HTTP2", NO_RETRIES, 1).await;
        assert_eq!(send(&mesh, "POST", "first").await, (200, "-".into(), 1));
        assert_eq!(send(&mesh, method, "whole").await, (outcome.0, outcome.1.into(), 1), "{method}");
        assert_eq!(*acted.lock().unwrap(), acts);
    }
    // On a connection made for it, nothing says that another would not end the same.
    let (address, acted) = scripted_h2(&[End, Answer]).await;
    let (_world, mesh) = caller(address, "HTTP2", NO_RETRIES, 1).await;
    assert_eq!(send(&mesh, "GET", "").await, (503, "UC".into(), 1));
    assert_eq!(*acted.lock().unwrap(), [End]);
}

/// What GOAWAY does not leave out may have been acted on: it ends with the connection.
#[tokio::test]
async fn a_stream_that_goaway_includes_is_not_sent_again() {
    use Act2::{Answer, GoAway};
    let (address, acted) = scripted_h2(&[GoAway(1), Answer]).await;
    let (_world, mesh) = caller(address, "HTTP2", NO_RETRIES, 1).await;
    assert_eq!(send(&mesh, "POST", "once").await, (503, "UC".into(), 1));
    assert_eq!(*acted.lock().unwrap(), [GoAway(1)]);
}
