//! What a side did with a request, and what two sides did differently.

use crate::{accepted, upstream::Seen, wire::Answer};

/// What one side did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// `None` where the connection ended instead.
    pub(crate) answer: Option<Answer>,
    pub(crate) seen: Vec<Seen>,
    /// What mirrors got.
    pub(crate) copies: Vec<Seen>,
}

/// A field in which the sides differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) field: &'static str,
    pub(crate) envoy: String,
    pub(crate) ours: String,
}

impl Outcome {
    /// What a revealing header says; `-` for nothing.
    pub(crate) fn says(&self, header: &str) -> String {
        let headers = self.answer.iter().flat_map(|answer| &answer.headers);
        let values: Vec<_> = headers.filter(|(name, _)| name == header).map(|(_, value)| value).collect();
        match values.last() {
            Some(value) if !value.is_empty() => String::from_utf8_lossy(value).into_owned(),
            _ => "-".into(),
        }
    }

    fn response_headers(&self) -> String {
        let headers = self.answer.iter().flat_map(|answer| &answer.headers);
        let told = headers.filter(|(name, value)| !name.starts_with("x-o-") && !accepted::response_header(name, value));
        listed(told.map(|(name, value)| (name.as_str(), value.as_slice())))
    }

    fn attempts(&self) -> String {
        match self.says("x-o-attempts") {
            text if text == "-" => "0".into(),
            text => text,
        }
    }

    /// In alphabetical order: Envoy lists them as they were set, we as they are declared.
    fn flags(&self) -> String {
        let text = self.says("x-o-flags");
        let mut flags: Vec<_> = text.split(',').collect();
        flags.sort_unstable();
        flags.join(",")
    }

    fn per_attempt(&self, of: impl Fn(&Seen) -> String) -> String {
        self.seen.iter().map(of).collect::<Vec<_>>().join("\n")
    }

    fn request_headers(&self) -> String {
        let of_attempt = |(attempt, seen): (usize, &Seen)| {
            let told = seen.head.headers.iter();
            let told = told.filter(|(name, value)| name != "host" && !accepted::request_header(name, value));
            let value = |name: &str, value: &'_ [u8]| match name {
                // What is left of it when a retry begins is another number each time.
                "x-envoy-expected-rq-timeout-ms" | "grpc-timeout" if attempt > 0 => b"what is left".to_vec(),
                _ => value.to_vec(),
            };
            let told: Vec<_> = told.map(|(name, found)| (name.as_str(), value(name, found))).collect();
            listed(told.iter().map(|(name, value)| (*name, value.as_slice())))
        };
        self.seen.iter().enumerate().map(of_attempt).collect::<Vec<_>>().join("\n")
    }

    /// In the order of their upstreams: which of them is asked first is nobody's.
    fn copied(&self) -> String {
        let copy = |seen: &Seen| {
            let headers = seen.head.headers.iter();
            let told = headers.filter(|(name, value)| name != "host" && !accepted::copied_header(name, value));
            let headers = listed(told.map(|(name, value)| (name.as_str(), value.as_slice())));
            let host = seen.head.value("host").unwrap_or_default();
            let (first, body) = (printable(&seen.head.first), printable(&seen.body));
            format!("{} {first} host {host} | {headers} | {body}", seen.upstream)
        };
        let mut all: Vec<_> = self.copies.iter().map(copy).collect();
        all.sort_unstable();
        all.join("\n")
    }

    fn fields(&self) -> [(&'static str, String); 15] {
        let answer = self.answer.as_ref();
        [
            ("status", answer.map_or_else(|| "connection closed".into(), |answer| answer.status.to_string())),
            ("route", self.says("x-o-route")),
            ("cluster", self.says("x-o-cluster")),
            ("flags", self.flags()),
            ("attempts", self.attempts()),
            ("response headers", self.response_headers()),
            ("body", answer.map(|answer| printable(&answer.body)).unwrap_or_default()),
            ("upstreams", self.per_attempt(|seen| seen.upstream.to_owned())),
            ("request line", self.per_attempt(|seen| printable(&seen.head.first))),
            ("host", self.per_attempt(|seen| seen.head.value("host").unwrap_or_default())),
            ("request headers", self.request_headers()),
            ("request body", self.per_attempt(|seen| printable(&seen.body))),
            ("attempts seen", self.seen.len().to_string()),
            ("mirrors", self.copies.len().to_string()),
            ("copies", self.copied()),
        ]
    }
}

/// In the order of their names; values of one name in the order in which they came.
fn listed<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut all: Vec<_> = headers.map(|(name, value)| (name, format!("{name}: {}", printable(value)))).collect();
    all.sort_by_key(|(name, _)| *name);
    all.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join(" | ")
}

pub(crate) fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The fields in which two outcomes differ.
pub(crate) fn differences(envoy: &Outcome, ours: &Outcome) -> Vec<Difference> {
    let pairs = envoy.fields().into_iter().zip(ours.fields());
    let different = pairs.filter(|((_, envoy), (_, ours))| envoy != ours);
    different.map(|((field, envoy), (_, ours))| Difference { field, envoy, ours }).collect()
}
