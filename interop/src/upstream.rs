//! Upstreams that record what reaches them, byte for byte, and do what the request asks of each attempt.
//!
//! Written on sockets: an HTTP library would already have made one of two different requests of it.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{model::Step, wire};

/// How long an upstream that hangs takes to answer after all.
const HANG: Duration = Duration::from_millis(700);

/// The header that names the case.
pub(crate) const CASE: &str = "x-case";
/// The header that says what to do.
pub(crate) const PLAN: &str = "x-plan";

/// One attempt, as an upstream saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) upstream: &'static str,
    pub(crate) head: wire::Head,
    pub(crate) body: Vec<u8>,
}

/// What one side's upstreams saw, by case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record(Arc<Mutex<HashMap<String, Vec<Seen>>>>);

impl Record {
    /// The attempts of a case, forgotten here.
    pub(crate) fn take(&self, case: &str) -> Vec<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(case).unwrap_or_default()
    }

    /// Add an attempt and say which it is, from 0.
    fn add(&self, case: &str, seen: Seen) -> usize {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts = record.entry(case.to_owned()).or_default();
        attempts.push(seen);
        attempts.len() - 1
    }
}

/// The plan as the request's header has it.
pub(crate) fn plan_text(plan: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Status(status) => status.to_string(),
        Step::Grpc(code) => format!("g{code}"),
        Step::RateLimited => "limited".into(),
        Step::Close => "close".into(),
        Step::Hang => "hang".into(),
    };
    plan.iter().map(step).collect::<Vec<_>>().join(" ")
}

/// Listen on loopback under a name.
pub(crate) async fn listen(name: &'static str, record: Record) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let record = record.clone();
            tokio::spawn(async move {
                let _ = serve(stream, name, &record).await;
            });
        }
    });
    Ok(address)
}

async fn serve(mut stream: TcpStream, name: &'static str, record: &Record) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let Some(head) = wire::read_head(&mut stream, &mut buffer).await? else { return Ok(()) };
        let body = wire::read_body(&mut stream, &mut buffer, &head, false).await?;
        let case = head.value(CASE).unwrap_or_default();
        let plan = head.value(PLAN).unwrap_or_default();
        let without_body = head.first.starts_with(b"HEAD ");
        let attempt = record.add(&case, Seen { upstream: name, head, body });
        let step = plan.split(' ').nth(attempt).or_else(|| plan.split(' ').next_back()).unwrap_or_default();
        let mut status = 200;
        let mut extra = String::new();
        match step {
            "close" => return stream.shutdown().await,
            "limited" => {
                status = 503;
                extra = "x-envoy-ratelimited: true\r\n".into();
            }
            "hang" => {
                // Whoever gives up closes the connection, and nobody waits for the answer.
                let mut byte = [0];
                tokio::select! {
                    () = tokio::time::sleep(HANG) => {}
                    gone = stream.read(&mut byte) => { gone?; return Ok(()) }
                }
            }
            _ => match step.strip_prefix('g') {
                Some(code) => extra = format!("grpc-status: {code}\r\n"),
                None => status = step.parse().unwrap_or(200),
            },
        }
        let body = format!("{name} {}", attempt + 1);
        let mut answer = format!(
            "HTTP/1.1 {status} Because\r\nx-up: {name}\r\nx-up-many: 1\r\nx-up-many: 2\r\nx-a: upstream\r\n{extra}\
             content-type: text/x-up\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if !without_body {
            answer.push_str(&body);
        }
        stream.write_all(answer.as_bytes()).await?;
    }
}
