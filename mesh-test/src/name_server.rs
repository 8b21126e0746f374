//! A name server on loopback that says what a test tells it to, over UDP and TCP.
//!
//! It writes its messages by hand (RFC 1035 section 4), so that a resolver is not tested against its own library. Its
//! threads know nothing of tokio: a paused clock does not reach them.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Types of records (RFC 1035 section 3.2.2, RFC 3596, RFC 2782).
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// Name servers.
    pub const NS: u16 = 2;
    /// An alias.
    pub const CNAME: u16 = 5;
    /// Start of a zone.
    pub const SOA: u16 = 6;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// A service.
    pub const SRV: u16 = 33;
}

const NXDOMAIN: u8 = 3;

/// Owner, type, TTL and data.
pub(crate) type Record = (String, u16, u32, Vec<u8>);

/// What the server says to one question.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Says {
    /// These answers, and these additional records.
    Records(Vec<Record>, Vec<Record>),
    /// The same, but over UDP no more than that there is too much.
    Truncated(Box<Says>),
    /// NXDOMAIN, with an SOA of this TTL.
    NoSuchName(u32),
    /// NOERROR without records, with an SOA of this TTL.
    Nothing(u32),
    /// NOERROR without records: other servers would know.
    Referral,
    /// An error: 2 is SERVFAIL, 5 REFUSED.
    Code(u8),
    /// Nothing at all.
    Silence,
    /// These bytes after the message's header and question.
    Garbage(Vec<u8>),
}

#[derive(Debug, Default)]
struct Zone {
    says: HashMap<(String, u16), Says>,
    asked: Vec<(String, u16, bool)>,
}

/// The server; stops when dropped. Names it was told nothing of do not exist.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    stopped: Arc<AtomicBool>,
}

impl NameServer {
    /// Start one on 127.0.0.1.
    ///
    /// # Panics
    /// When there is no port that is free for both UDP and TCP.
    #[must_use]
    pub fn start() -> Self {
        let both = || {
            let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
            let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
            Some((tcp, udp))
        };
        let (tcp, udp) = (0..100).find_map(|_| both()).expect("a port that is free for UDP and TCP");
        let server = Self {
            address: tcp.local_addr().expect("a bound socket has an address"),
            zone: Arc::default(),
            stopped: Arc::default(),
        };
        let (zone, stopped) = (Arc::clone(&server.zone), Arc::clone(&server.stopped));
        thread::spawn(move || answer_datagrams(&udp, &zone, &stopped));
        let (zone, stopped) = (Arc::clone(&server.zone), Arc::clone(&server.stopped));
        thread::spawn(move || answer_streams(&tcp, &zone, &stopped));
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, say this to that question.
    pub fn say(&self, name: &str, kind: u16, says: Says) {
        self.zone().says.insert((lower(name), kind), says);
    }

    /// From now on a name has these addresses and no others.
    pub fn set(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        for kind in [kind::A, kind::AAAA] {
            let of_kind = addresses.iter().filter(|ip| ip.is_ipv4() == (kind == kind::A));
            let records: Vec<_> = of_kind.map(|ip| (name.to_owned(), kind, ttl, address(*ip))).collect();
            let says = if records.is_empty() { Says::Nothing(ttl) } else { Says::Records(records, Vec::new()) };
            self.say(name, kind, says);
        }
    }

    /// From now on say this to questions for a name's addresses of either family.
    pub fn say_of_addresses(&self, name: &str, says: &Says) {
        self.say(name, kind::A, says.clone());
        self.say(name, kind::AAAA, says.clone());
    }

    /// How often it was asked that, over UDP and TCP.
    #[must_use]
    pub fn asked(&self, name: &str, kind: u16) -> usize {
        self.zone().asked.iter().filter(|(asked, of, _)| *asked == lower(name) && *of == kind).count()
    }

    /// How often it was asked anything over TCP.
    #[must_use]
    pub fn asked_over_tcp(&self) -> usize {
        self.zone().asked.iter().filter(|(_, _, tcp)| *tcp).count()
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Both threads wait for the next question.
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[], self.address));
        let _ = TcpStream::connect(self.address);
    }
}

/// The data of an address record.
fn address(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

impl Says {
    /// Another name for the same (CNAME).
    #[must_use]
    pub fn alias(of: &str, target: &str, ttl: u32) -> Self {
        Self::Records(vec![(of.to_owned(), kind::CNAME, ttl, encode(target))], Vec::new())
    }

    /// Service records: priority, weight, port and target of each.
    #[must_use]
    pub fn services(of: &str, records: &[(u16, u16, u16, &str)], ttl: u32) -> Self {
        let data = |&(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let mut data: Vec<u8> = [priority, weight, port].into_iter().flat_map(u16::to_be_bytes).collect();
            data.extend(encode(target));
            (of.to_owned(), kind::SRV, ttl, data)
        };
        Self::Records(records.iter().map(data).collect(), Vec::new())
    }

    /// And this address in the additional section.
    #[must_use]
    pub fn with_address(self, of: &str, ip: IpAddr, ttl: u32) -> Self {
        let Self::Records(records, mut additional) = self else { return self };
        additional.push((of.to_owned(), if ip.is_ipv4() { kind::A } else { kind::AAAA }, ttl, address(ip)));
        Self::Records(records, additional)
    }

    /// And these records.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Records(mut records, mut additional), Self::Records(more, others)) => {
                records.extend(more);
                additional.extend(others);
                Self::Records(records, additional)
            }
            (first, _) => first,
        }
    }

    /// An address.
    #[must_use]
    pub fn address(of: &str, ip: IpAddr, ttl: u32) -> Self {
        Self::Records(
            vec![(of.to_owned(), if ip.is_ipv4() { kind::A } else { kind::AAAA }, ttl, address(ip))],
            Vec::new(),
        )
    }
}

fn answer_datagrams(socket: &UdpSocket, zone: &Mutex<Zone>, stopped: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        if let Some(answer) = answer(&buffer[..length], zone, false) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn answer_streams(listener: &TcpListener, zone: &Arc<Mutex<Zone>>, stopped: &AtomicBool) {
    while let Ok((mut stream, _)) = listener.accept() {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let zone = Arc::clone(zone);
        thread::spawn(move || {
            // RFC 1035 section 4.2.2: "prefixed with a two byte length field".
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut question = vec![0; u16::from_be_bytes(length).into()];
                if stream.read_exact(&mut question).is_err() {
                    return;
                }
                let Some(answer) = answer(&question, &zone, true) else { return };
                let length = u16::try_from(answer.len()).expect("what a test says fits a message");
                let _ = stream.write_all(&[&length.to_be_bytes()[..], &answer].concat());
            }
        });
    }
}

fn answer(message: &[u8], zone: &Mutex<Zone>, tcp: bool) -> Option<Vec<u8>> {
    let (name, kind, question) = read_question(message)?;
    let says = {
        let mut zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
        zone.asked.push((name.clone(), kind, tcp));
        zone.says.get(&(name.clone(), kind)).cloned().unwrap_or(Says::NoSuchName(1))
    };
    write(message, question, &name, &says, tcp)
}

fn write(message: &[u8], question: &[u8], name: &str, says: &Says, tcp: bool) -> Option<Vec<u8>> {
    let soa = |ttl: u32| {
        let mut data = [encode("ns.test"), encode("admin.test")].concat();
        data.extend([1, 60, 60, 60, ttl].into_iter().flat_map(u32::to_be_bytes));
        vec![record("", kind::SOA, ttl, &data)]
    };
    let records = |records: &[Record]| -> Vec<Vec<u8>> {
        records.iter().map(|(name, kind, ttl, data)| record(name, *kind, *ttl, data)).collect()
    };
    let (code, truncated, sections) = match says {
        Says::Records(answers, additional) => (0, false, [records(answers), Vec::new(), records(additional)]),
        Says::Truncated(whole) if tcp => return write(message, question, name, whole, tcp),
        Says::Truncated(_) => (0, true, [Vec::new(), Vec::new(), Vec::new()]),
        Says::NoSuchName(ttl) => (NXDOMAIN, false, [Vec::new(), soa(*ttl), Vec::new()]),
        Says::Nothing(ttl) => (0, false, [Vec::new(), soa(*ttl), Vec::new()]),
        Says::Referral => (0, false, [Vec::new(), vec![record("test", kind::NS, 60, &encode("ns.test"))], Vec::new()]),
        Says::Code(code) => (*code, false, [Vec::new(), Vec::new(), Vec::new()]),
        Says::Silence => return None,
        Says::Garbage(bytes) => {
            let counts = [1, 2, 0, 0].map(u16::to_be_bytes).concat();
            return Some([&message[..2], &[0x81, 0x80], &counts, question, bytes].concat());
        }
    };
    let flags = [0x81 | if truncated { 0x02 } else { 0 }, 0x80 | code];
    let count = |section: &Vec<Vec<u8>>| u16::try_from(section.len()).expect("what a test says fits a message");
    let counts = [1, count(&sections[0]), count(&sections[1]), count(&sections[2])].map(u16::to_be_bytes).concat();
    let records = sections.concat().concat();
    Some([&message[..2], &flags, &counts, question, &records].concat())
}

/// The name asked for, the type, and the question's bytes.
fn read_question(message: &[u8]) -> Option<(String, u16, &[u8])> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
    Some((labels.join("."), kind, message.get(12..at + 4)?))
}

fn record(name: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("what a test says fits a record");
    let class = [0, 1];
    [&encode(name)[..], &kind.to_be_bytes(), &class, &ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

fn encode(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).expect("a label has at most 63 bytes"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn lower(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}
