//! For people, on a terminal.

use std::fmt::{self, Display, Formatter, Write as _};

use super::{Explanation, Outcome, Rejection, decide::BLACK_HOLE};

/// Of the column that says what a line is about.
const WIDTH: usize = 10;

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.outcome(f)?;
        self.rule(f)?;
        self.upstream(f)?;
        self.policy(f)?;
        self.answer(f)?;
        list(f, "\nnot taken:", &self.rejected)?;
        list(f, "\nnever reached:", &self.unreachable)
    }
}

impl Explanation {
    fn outcome(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let status = self.status.unwrap_or_default();
        match self.outcome {
            Outcome::Forward => f.write_str("forward")?,
            Outcome::Passthrough => {
                write!(f, "pass through: {} (ALLOW_ANY)", self.note_or("the host is not in the registry"))?;
            }
            Outcome::Redirect => {
                write!(f, "redirect: {status} to {}", self.location.as_deref().unwrap_or_default())?;
            }
            Outcome::DirectResponse => write!(f, "direct response: {status}")?,
            Outcome::Abort => write!(f, "abort: {status}, an injected fault")?,
            Outcome::NoRoute => write!(f, "no route: {status}, no rule of the host matches")?,
            Outcome::Unavailable => {
                write!(f, "unavailable: {status}, {}", self.note_or("the cluster is not defined"))?;
            }
            Outcome::Blocked if self.cluster.as_deref() == Some(BLACK_HOLE) => {
                let why = self.note_or("the host is not in the registry");
                write!(f, "blocked: {status}, {why} (REGISTRY_ONLY)")?;
            }
            Outcome::Blocked => write!(f, "blocked: {status}, the path cannot be sent")?,
        }
        match &self.response_flags {
            Some(flags) => writeln!(f, " ({flags})")?,
            None => writeln!(f)?,
        }
        let told = matches!(self.outcome, Outcome::Passthrough | Outcome::Unavailable | Outcome::Blocked);
        self.note.iter().filter(|_| !told).try_for_each(|note| line(f, "note", format_args!("{note}")))
    }

    fn note_or<'a>(&'a self, reason: &'a str) -> &'a str {
        self.note.as_deref().unwrap_or(reason)
    }

    fn rule(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(virtual_service) = &self.virtual_service else {
            return self.route.iter().try_for_each(|name| line(f, "route", format_args!("{name}")));
        };
        let rule = Indexed { kind: self.kind.as_deref(), rule: self.rule_index, entry: self.match_index };
        line(f, "rule", format_args!("{virtual_service}{rule}{}", Named(self.route.as_deref())))?;
        if let Some(delegate) = &self.delegate {
            line(f, "from", format_args!("{delegate}, its delegate"))?;
        }
        self.source.iter().try_for_each(|source| line(f, "at", format_args!("{source}")))
    }

    fn upstream(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sum: u64 = self.destinations.iter().map(|destination| destination.weight).sum();
        for destination in &self.destinations {
            let drawn = if self.cluster.as_ref() == Some(&destination.cluster) { ", drawn" } else { "" };
            let share = format_args!(" ({} of {sum}{drawn})", destination.weight).to_string();
            let share = if self.destinations.len() > 1 { &*share } else { "" };
            let undefined = match (destination.defined, self.kind.as_deref()) {
                (true, _) => "",
                (false, Some("HTTPRoute" | "GRPCRoute")) => ": not defined, 500 (NC)",
                (false, _) => ": not defined, 503 (NC)",
            };
            line(f, "to", format_args!("{}{share}{undefined}", destination.cluster))?;
        }
        let Some(request) = &self.request else { return Ok(()) };
        let authority = request.authority.as_deref().unwrap_or("(depends on the draw)");
        line(f, "request", format_args!("{} {} at {authority}", request.method, request.path))?;
        match &request.headers {
            Some(headers) => {
                headers.iter().try_for_each(|(name, value)| line(f, "", format_args!("{name}: {}", Visible(value))))
            }
            None => line(f, "", format_args!("(headers depend on the draw)")),
        }
    }

    fn policy(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(fault) = &self.fault {
            if let (Some(delay), Some(share)) = (fault.delay_ms, fault.delay_percent) {
                line(f, "delay", format_args!("{delay} ms, {share} % of requests"))?;
            }
            if let (Some(status), Some(share)) = (fault.abort_status, fault.abort_percent) {
                let grpc = fault.abort_grpc_status.map(|status| format!(", gRPC status {status}")).unwrap_or_default();
                line(f, "abort", format_args!("{status}{grpc}, {share} % of requests"))?;
            }
        }
        for mirror in &self.mirrors {
            line(f, "mirror", format_args!("{}, {} % of requests", mirror.cluster, mirror.percent))?;
        }
        if let Some(timeout) = self.timeout_ms {
            line(f, "timeout", format_args!("{timeout} ms"))?;
        }
        if let Some(retries) = &self.retries {
            line(f, "retries", format_args!("{} on {}", retries.attempts, retries.retry_on))?;
            let each = retries.per_try_timeout_ms.map(|each| format!("{each} ms for each try, "));
            let backoff = retries.backoff_ms;
            line(f, "", format_args!("{}back-off from {backoff} ms", each.unwrap_or_default()))?;
        }
        for operation in &self.response_operations {
            let value = operation.value.as_deref().map(|value| format!(": {value}")).unwrap_or_default();
            line(f, "response", format_args!("{} {}{value}", operation.op, operation.name))?;
        }
        Ok(())
    }

    fn answer(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, value) in self.response_headers.iter().flatten() {
            line(f, "response", format_args!("{name}: {}", Visible(value)))?;
        }
        let body = self.body.iter().filter(|body| !body.is_empty());
        body.flat_map(|body| body.lines()).try_for_each(|text| line(f, "body", format_args!("{}", Visible(text))))
    }
}

fn line(f: &mut Formatter<'_>, about: &str, what: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "  {about:WIDTH$}{what}")
}

fn list(f: &mut Formatter<'_>, title: &str, rejections: &[Rejection]) -> fmt::Result {
    if !rejections.is_empty() {
        writeln!(f, "{title}")?;
    }
    rejections.iter().try_for_each(|rejection| writeln!(f, "  {rejection}"))
}

impl Display for Rejection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.virtual_service.as_deref().unwrap_or("default"))?;
        let rule = Indexed { kind: self.kind.as_deref(), rule: self.rule_index, entry: self.match_index };
        write!(f, "{rule}{}", Named(self.route.as_deref()))?;
        if let Some(delegate) = &self.delegate {
            write!(f, ", from {delegate}")?;
        }
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        write!(f, ": {}", self.because)
    }
}

/// Text of a rule or a request, whose control characters are not the terminal's business.
struct Visible<'a>(&'a str);

impl Display for Visible<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\t' => f.write_char('\t'),
            _ if character.is_control() => write!(f, "{}", character.escape_default()),
            _ => f.write_char(character),
        })
    }
}

struct Indexed<'a> {
    kind: Option<&'a str>,
    rule: Option<u32>,
    entry: Option<u32>,
}

impl Display for Indexed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (rules, matches) = match self.kind {
            None | Some("VirtualService") => ("http", "match"),
            Some(_) => ("rules", "matches"),
        };
        self.rule.iter().try_for_each(|rule| write!(f, " {rules}[{rule}]"))?;
        self.entry.iter().try_for_each(|entry| write!(f, ".{matches}[{entry}]"))
    }
}

struct Named<'a>(Option<&'a str>);

impl Display for Named<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, " {name:?}"))
    }
}
