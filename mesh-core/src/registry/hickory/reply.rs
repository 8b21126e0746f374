//! What a response says of a name.

use std::{io, time::Duration};

use hickory_resolver::{
    net::{DnsError, NetError, NoRecords},
    proto::{
        op::{Message, ResponseCode},
        rr::{Name, RData, Record, RecordType},
    },
};

/// Aliases followed in one response.
const ALIASES: usize = 16;

/// One response, read for the records of one kind of one name.
#[derive(Debug)]
pub(super) enum Reply {
    /// These, and what came along in the additional section.
    Records(Records),
    /// There are none; the time is of the zone's SOA (RFC 2308).
    Nothing(Option<Duration>),
    /// It is another name of this one, of which the response says no more; the alias holds so long.
    Alias(Name, Duration),
}

/// Records of the kind asked for.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) data: Vec<RData>,
    pub(super) additional: Vec<Record>,
    pub(super) ttl: Duration,
}

/// Read what a name server was heard to say.
///
/// # Errors
/// When that is not an answer: nothing was learnt.
pub(super) fn read(name: &Name, kind: RecordType, heard: Result<Message, NetError>) -> io::Result<Reply> {
    match heard {
        Ok(message) => answered(name, kind, message),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => nothing(&none),
        Err(NetError::Io(error)) => Err(io::Error::new(error.kind(), error.to_string())),
        Err(NetError::Timeout) => Err(io::Error::new(io::ErrorKind::TimedOut, "no name server answered in time")),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

fn nothing(none: &NoRecords) -> io::Result<Reply> {
    match none.response_code {
        ResponseCode::NXDomain => {}
        // RFC 2308 section 2.2: a response without an answer and with "NS records in the authority section" but no SOA is "a
        // REFERRAL", from a server that does not know.
        ResponseCode::NoError if none.ns.is_some() && none.soa.is_none() => {
            return Err(io::Error::other("the name server refers to others"));
        }
        ResponseCode::NoError => {}
        code => return Err(io::Error::other(format!("the name server answered {code}"))),
    }
    Ok(Reply::Nothing(none.negative_ttl.map(seconds)))
}

fn answered(name: &Name, kind: RecordType, mut message: Message) -> io::Result<Reply> {
    let code = message.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Err(io::Error::other(format!("the name server answered {code}")));
    }
    let (mut owner, mut ttl, mut aliases) = (name, u32::MAX, 0);
    while let Some((target, alias_ttl)) = alias(&message.answers, owner) {
        (owner, ttl, aliases) = (target, ttl.min(alias_ttl), aliases + 1);
        if aliases > ALIASES {
            return Err(io::Error::other("an alias that leads in a circle"));
        }
    }
    let owned = |record: &&Record| record.name == *owner && record.record_type() == kind;
    let records: Vec<_> = message.answers.iter().filter(owned).collect();
    if !records.is_empty() {
        let ttl = records.iter().map(|record| record.ttl).fold(ttl, u32::min);
        let data = records.into_iter().map(|record| record.data.clone()).collect();
        return Ok(Reply::Records(Records {
            data,
            additional: std::mem::take(&mut message.additionals),
            ttl: seconds(ttl),
        }));
    }
    if aliases == 0 {
        return Err(io::Error::other("a response to another question"));
    }
    // RFC 2308 section 2.1, 2.2: with aliases, the code and the SOA are those of the last one's target.
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    if code == ResponseCode::NXDomain || soa.is_some() {
        return Ok(Reply::Nothing(soa.map(|soa| seconds(soa.min(ttl)))));
    }
    Ok(Reply::Alias(owner.clone(), seconds(ttl)))
}

fn alias<'a>(answers: &'a [Record], owner: &Name) -> Option<(&'a Name, u32)> {
    answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *owner => Some((&target.0, record.ttl)),
        _ => None,
    })
}

/// RFC 2181 section 8: a TTL with the most significant bit set is "zero".
pub(super) fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(if ttl > i32::MAX as u32 { 0 } else { ttl.into() })
}
