//! HTTP/1.1 as bytes: enough to send exactly what a case says and to read what comes back without interpreting it.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A first line and headers, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) first: Vec<u8>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// The first value of a header.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first = lines.next().unwrap_or_default().to_vec();
        let headers = lines.filter(|line| !line.is_empty()).map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').ok_or_else(|| broken("a header without a colon"))?;
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            Ok((name, line[colon + 1..].trim_ascii().to_vec()))
        });
        Ok(Self { first, headers: headers.collect::<io::Result<_>>()? })
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.reserve(4096);
    stream.read_buf(buffer).await
}

/// Read a head; what follows it stays in the buffer. `None` when the stream ended before it began.
pub(crate) async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            return Head::parse(&head[..end]).map(Some);
        }
        if fill(stream, buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// Read the body that belongs to a head; `to_end` when one without a length goes on until the connection ends.
pub(crate) async fn read_body(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    head: &Head,
    to_end: bool,
) -> io::Result<Vec<u8>> {
    if head.value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return read_chunks(stream, buffer).await;
    }
    if let Some(length) = head.value("content-length") {
        let length = length.parse().map_err(|_| broken("content-length"))?;
        return take(stream, buffer, length).await;
    }
    if to_end {
        while fill(stream, buffer).await? > 0 {}
        return Ok(std::mem::take(buffer));
    }
    Ok(Vec::new())
}

async fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    while buffer.len() < length {
        if fill(stream, buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..length).collect())
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(end) = buffer.windows(2).position(|window| window == b"\r\n") {
                break buffer.drain(..end + 2).collect::<Vec<_>>();
            }
            if fill(stream, buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let size = String::from_utf8_lossy(&line);
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| broken("chunk size"))?;
        body.extend(take(stream, buffer, size).await?);
        take(stream, buffer, 2).await?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// A response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// A connection that is kept open between requests, and opened again when the other side closed it.
#[derive(Debug)]
pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Send bytes, read an answer. A kept connection that turns out to be closed is replaced once.
    pub(crate) async fn exchange(&mut self, bytes: &[u8], head_only: bool) -> io::Result<Answer> {
        if self.stream.is_some()
            && let Ok(answer) = self.once(bytes, head_only).await
        {
            return Ok(answer);
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        self.stream = Some(stream);
        self.once(bytes, head_only).await
    }

    async fn once(&mut self, bytes: &[u8], head_only: bool) -> io::Result<Answer> {
        let mut stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        stream.write_all(bytes).await?;
        let mut buffer = Vec::new();
        let head = read_head(&mut stream, &mut buffer).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.first.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let status = status.ok_or_else(|| broken("a status line"))?;
        let body = if head_only || status == 204 || status == 304 {
            Vec::new()
        } else {
            read_body(&mut stream, &mut buffer, &head, true).await?
        };
        let closes = head.value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !closes && ["content-length", "transfer-encoding"].iter().any(|name| head.value(name).is_some()) {
            self.stream = Some(stream);
        }
        Ok(Answer { status, headers: head.headers, body })
    }
}
