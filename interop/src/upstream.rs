//! Upstreams that record what reaches them, byte for byte, and do what the request asks of each attempt.
//!
//! Written on sockets: an HTTP library would already have made one of two different requests of it.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::{clusters::is_shadow, model::Step, wire};

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

/// What reached one side's upstreams of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    /// In their order.
    pub(crate) attempts: Vec<Seen>,
    /// What mirrors got, in no order.
    pub(crate) copies: Vec<Seen>,
}

/// What one side's upstreams saw, by case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record(Arc<(Mutex<HashMap<String, Traffic>>, Notify)>);

impl Record {
    /// What a case has brought so far, forgotten here.
    pub(crate) fn take(&self, case: &str) -> Traffic {
        self.lock().remove(case).unwrap_or_default()
    }

    /// Wait until a case has brought so many copies, but no longer than that.
    pub(crate) async fn copies(&self, case: &str, count: usize, patience: Duration) {
        let arrived = async {
            loop {
                let mut more = pin!(self.0.1.notified());
                more.as_mut().enable();
                if self.lock().get(case).map_or(0, |traffic| traffic.copies.len()) >= count {
                    return;
                }
                more.await;
            }
        };
        let _ = tokio::time::timeout(patience, arrived).await;
    }

    /// Copies that came after their case had been taken.
    pub(crate) fn late(&self) -> BTreeMap<String, Vec<Seen>> {
        let late = std::mem::take(&mut *self.lock());
        late.into_iter().filter(|(_, late)| !late.copies.is_empty()).map(|(case, late)| (case, late.copies)).collect()
    }

    /// Add an attempt and say which it is, from 0.
    fn attempt(&self, case: &str, seen: Seen) -> usize {
        let mut record = self.lock();
        let attempts = &mut record.entry(case.to_owned()).or_default().attempts;
        attempts.push(seen);
        attempts.len() - 1
    }

    fn copy(&self, case: &str, seen: Seen) {
        self.lock().entry(case.to_owned()).or_default().copies.push(seen);
        self.0.1.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Traffic>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let seen = Seen { upstream: name, head, body };
        if is_shadow(name) {
            record.copy(&case, seen);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await?;
            if !without_body {
                stream.write_all(b"copy").await?;
            }
            continue;
        }
        let attempt = record.attempt(&case, seen);
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
