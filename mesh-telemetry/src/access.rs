//! Access log: one event a request on the target `mesh::access`, in Istio's default text format.
//!
//! The path is written without its query, which often carries what should not be in a log. Whatever a peer chose is
//! escaped: nobody can end a field or a line.

use std::{
    fmt::{self, Write},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header::USER_AGENT};
use mesh_core::{ClusterName, Connection, Endpoint, Exchange, clock};
use tracing::Level;

use crate::{host::Host, metrics::Outcome, trace::REQUEST_ID};

/// The target of access log events.
pub const ACCESS_TARGET: &str = "mesh::access";

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const UPSTREAM_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// What the line says of a request, kept by reference count until its end.
#[derive(Clone, Debug)]
pub(crate) struct AccessLine {
    started: SystemTime,
    method: Method,
    uri: Uri,
    original_path: Option<HeaderValue>,
    version: Version,
    forwarded_for: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    host: Host,
    /// Of an inbound request.
    connection: Option<Connection>,
    upstream_time: Option<HeaderValue>,
    cluster: Option<Arc<ClusterName>>,
    endpoint: Option<Arc<Endpoint>>,
    route: Option<Arc<str>>,
}

impl AccessLine {
    /// `None` while nobody listens on the target: then a request costs this one check.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Box<Self>> {
        if !tracing::enabled!(target: ACCESS_TARGET, Level::INFO) {
            return None;
        }
        Some(Box::new(Self::new(request, clock::wall())))
    }

    fn new<B>(request: &Request<B>, started: SystemTime) -> Self {
        let header = |name: &HeaderName| request.headers().get(name).cloned();
        Self {
            started,
            method: request.method().clone(),
            uri: request.uri().clone(),
            original_path: header(&ORIGINAL_PATH),
            version: request.version(),
            forwarded_for: header(&FORWARDED_FOR),
            user_agent: header(&USER_AGENT),
            request_id: header(&REQUEST_ID),
            host: Host::of(request),
            connection: request.extensions().get().copied(),
            upstream_time: None,
            cluster: None,
            endpoint: None,
            route: None,
        }
    }

    pub(crate) fn request_id(&mut self, id: Option<&HeaderValue>) {
        self.request_id = id.cloned();
    }

    pub(crate) fn response(&mut self, headers: &HeaderMap) {
        self.upstream_time = headers.get(&UPSTREAM_TIME).cloned();
    }

    pub(crate) fn exchange(&mut self, exchange: &Exchange) {
        self.cluster = exchange.cluster.clone();
        self.endpoint = exchange.endpoint.clone();
        self.route = exchange.route.clone();
    }

    pub(crate) fn write(&self, outcome: &Outcome, details: &str, received: u64, sent: u64) {
        let line = self.format(outcome, details, received, sent);
        tracing::event!(target: ACCESS_TARGET, Level::INFO, "{line}");
    }

    // istio pilot/pkg/model/telemetry_logging.go EnvoyTextLogFormat, with %REQ_WITHOUT_QUERY% for the path.
    fn format(&self, outcome: &Outcome, details: &str, received: u64, sent: u64) -> String {
        let mut line = String::with_capacity(512);
        self.try_format(&mut line, outcome, details, received, sent).expect("a String takes every write");
        line
    }

    fn try_format(&self, line: &mut String, outcome: &Outcome, details: &str, received: u64, sent: u64) -> fmt::Result {
        let path = match &self.original_path {
            Some(original) => original.as_bytes().split(|b| *b == b'?').next().unwrap_or_default(),
            None => self.uri.path().as_bytes(),
        };
        let bytes = |value: &Option<HeaderValue>| {
            Field(value.as_ref().map_or(b"".as_slice(), HeaderValue::as_bytes)).to_string()
        };
        write!(
            line,
            "[{}] \"{} {} {}\" {} {} {} - \"-\" {received} {sent} {} {} ",
            Timestamp(self.started),
            self.method,
            Field(path),
            protocol(self.version),
            outcome.code,
            outcome.flags,
            Field(details.as_bytes()),
            outcome.duration.as_millis(),
            bytes(&self.upstream_time),
        )?;
        write!(
            line,
            "\"{}\" \"{}\" \"{}\" \"{}\" ",
            bytes(&self.forwarded_for),
            bytes(&self.user_agent),
            bytes(&self.request_id),
            Field(self.host.as_str().as_bytes()),
        )?;
        write!(line, "\"{}\" ", OrDash(self.endpoint.as_ref().map(|endpoint| &endpoint.address)))?;
        // Istio names the cluster of inbound requests after the workload's port.
        match (&self.cluster, self.connection) {
            (Some(cluster), _) => write!(line, "{cluster} - ")?,
            (None, Some(connection)) => write!(line, "inbound|{}|| - ", connection.local.port())?,
            (None, None) => line.push_str("- - "),
        }
        let (local, peer) = (self.connection.map(|on| on.local), self.connection.map(|on| on.peer));
        write!(line, "{} {} - ", OrDash(local), OrDash(peer))?;
        write!(line, "{}", Field(self.route.as_deref().unwrap_or_default().as_bytes()))
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

struct OrDash<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// Bytes that a peer chose: quotes, backslashes and everything that is not printable ASCII are escaped. Empty is `-`.
struct Field<'a>(&'a [u8]);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        for byte in self.0 {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                0x20..=0x7e => f.write_char(char::from(*byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

/// `2026-11-20T05:50:00.123Z`
struct Timestamp(SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar. Years are counted from March, so that the
/// leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    // Day 0 is 0000-03-01; an era has 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use mesh_core::ResponseFlags;

    use super::*;
    use crate::metrics::Protocol;

    #[test]
    fn dates_are_civil() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_795_154_096, "2026-11-20T05:54:56.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(), text);
        }
    }

    fn line(request: &Request<()>) -> AccessLine {
        AccessLine::new(request, UNIX_EPOCH + Duration::from_millis(1_500))
    }

    fn outcome() -> Outcome {
        Outcome {
            protocol: Protocol::Http,
            code: 200,
            grpc_status: None,
            flags: ResponseFlags::default(),
            duration: Duration::from_micros(7_900),
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    // istio pilot/pkg/model/telemetry_logging.go EnvoyTextLogFormat.
    #[test]
    fn istios_default_format() {
        let request = Request::get("http://reviews:9080/reviews/0?secret=1")
            .header("user-agent", "curl/8")
            .header("x-request-id", "id")
            .body(())
            .unwrap();
        let mut line = line(&request);
        assert_eq!(
            line.format(&outcome(), "via_upstream", 3, 4),
            "[1970-01-01T00:00:01.500Z] \"GET /reviews/0 HTTP/1.1\" 200 - via_upstream - \"-\" 3 4 7 - \"-\" \"curl/8\" \
             \"id\" \"reviews:9080\" \"-\" - - - - - -"
        );
        line.cluster = Some(Arc::new(ClusterName::passthrough()));
        line.endpoint = Some(Arc::new(Endpoint::new(SocketAddr::from(([10, 0, 0, 1], 80)))));
        line.route = Some("default".into());
        let [peer, local] = [([10, 0, 0, 2], 5), ([10, 0, 0, 3], 9080)].map(SocketAddr::from);
        line.connection = Some(Connection::new(peer, local));
        line.upstream_time = Some(HeaderValue::from_static("6"));
        assert!(line.format(&outcome(), "", 0, 0).ends_with(
            "200 - - - \"-\" 0 0 7 6 \"-\" \"curl/8\" \"id\" \"reviews:9080\" \"10.0.0.1:80\" PassthroughCluster - \
             10.0.0.3:9080 10.0.0.2:5 - default"
        ));
        line.cluster = None;
        assert!(line.format(&outcome(), "", 0, 0).contains(" inbound|9080|| - 10.0.0.3:9080 10.0.0.2:5 "));
    }

    #[test]
    fn nobody_can_forge_a_line() {
        let request = Request::get("/")
            .header("user-agent", HeaderValue::from_bytes(b"\" 200 \\ \t \xff").unwrap())
            .header("x-envoy-original-path", "/a\"b?token=1")
            .body(())
            .unwrap();
        let line = line(&request).format(&outcome(), "", 0, 0);
        assert!(line.contains(r#""\" 200 \\ \x09 \xff""#), "{line}");
        assert!(line.contains(r#""GET /a\"b HTTP/1.1""#), "{line}");
    }
}
