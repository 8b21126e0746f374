//! The decision, as the layers make it, told instead of acted on.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, header};
use mesh_core::{ClusterHandle, Error, LocalReply, Reason, ResponseFlag, ResponseFlags};

use super::{
    Destination, Explanation, Fault, Mirror, Operation, Outcome, Retries, Upstream, draw::Draw, note, rejected::Search,
};
use crate::{
    FaultDecision, Redirect, RequestHead, RoutePolicy, RouteTable,
    header_ops::HeaderOp,
    mirror::can_be_mirrored,
    shape::Shape,
    table::{self, Action, VirtualHost},
    taken::{self, Taken},
    timeout,
};

/// A request that is explained.
struct Asked<'a, C> {
    table: &'a RouteTable<C>,
    request: &'a Request<()>,
    head: RequestHead<'a>,
    draw: Draw,
}

pub(super) fn explain<C: ClusterHandle>(table: &RouteTable<C>, request: &Request<()>, draw: Draw) -> Explanation {
    let head = match RequestHead::new(request, table.path_normalization()) {
        Ok(head) => head,
        Err(error) => return answer(&Error::new(Reason::BadRequest("path")).with_source(error), request),
    };
    let asked = Asked { table, request, head, draw };
    let host = table.virtual_host(&asked.head);
    let chosen = host.and_then(|host| host.first(&asked.head));
    let mut explanation = asked.decision(host, chosen);
    if let Some((host, at)) = host.zip(chosen) {
        place(host, at, &mut explanation);
    }
    let search = Search { table, head: &asked.head, host, chosen };
    explanation.rejected = search.rejected();
    explanation.unreachable = search.unreachable();
    if host.is_none() {
        explanation.note = note::elsewhere(table, &asked.head);
    }
    explanation
}

/// Where the rule stands that the chosen entry is from.
fn place<C>(host: &VirtualHost<C>, at: usize, explanation: &mut Explanation) {
    let entry = &host.entries()[at];
    let (Some(owner), Some(origin)) = (&host.about().owner, entry.origin) else { return };
    let rule = &owner.rules()[origin.rule as usize];
    let lender = rule.lender.as_deref();
    explanation.kind = rule.kind(owner);
    explanation.delegate = rule.delegate();
    explanation.rule_index = Some(rule.at.index);
    explanation.match_index = entry.matcher.as_ref().map(|matcher| matcher.at.index);
    explanation.source = Some(owner.place(lender, entry.matcher.as_ref().map_or(rule.at, |matcher| matcher.at)));
}

impl<C: ClusterHandle> Asked<'_, C> {
    fn decision(&self, host: Option<&VirtualHost<C>>, chosen: Option<usize>) -> Explanation {
        let refused = |reason| answer(&Error::new(reason), self.request);
        match (host, chosen) {
            (Some(host), Some(at)) => match host.entries()[at].route.action() {
                Action::Forward(destinations) => {
                    let all: Vec<_> = destinations.weighted().collect();
                    let drawn = match &*all {
                        [(_, alone)] => Some(*alone),
                        _ => self.draw.below(destinations.total()).map(|number| destinations.at(number)),
                    };
                    match drawn.and_then(|drawn| Some((drawn.redirect()?, drawn.policy()))) {
                        Some((redirect, policy)) => self.redirect(redirect, policy),
                        None => self.forward(&all, drawn, Outcome::Forward),
                    }
                }
                Action::Redirect(redirect, policy) => self.redirect(redirect, policy),
                Action::DirectResponse(response, policy) => {
                    let taken = Taken::new(policy, self.request);
                    let told = taken.ended(self.faults(policy), || taken::direct(response, &self.head));
                    self.named(policy, answer(&told, self.request))
                }
            },
            (Some(_), None) => refused(Reason::NoRoute),
            (None, _) => match self.table.passthrough() {
                Some(destination) => self.forward(&[(100, destination)], Some(destination), Outcome::Passthrough),
                None => {
                    let mut blocked = refused(Reason::Blackhole);
                    blocked.cluster = Some(BLACK_HOLE.into());
                    blocked
                }
            },
        }
    }

    fn redirect(&self, redirect: &Redirect, policy: &Arc<RoutePolicy<C>>) -> Explanation {
        let told = taken::redirect(redirect, &self.head);
        let told = told.map(|told| Taken::new(policy, self.request).ended(self.faults(policy), || told));
        let mut explanation = answer(&told.unwrap_or_else(|error| error), self.request);
        if explanation.outcome == Outcome::DirectResponse {
            explanation.outcome = Outcome::Redirect;
        }
        self.named(policy, explanation)
    }

    /// Through the layers, in their order: router, fault, CORS, mirror, timeout, retry.
    fn forward(
        &self,
        all: &[(u64, &table::Destination<C>)],
        drawn: Option<&table::Destination<C>>,
        outcome: Outcome,
    ) -> Explanation {
        let first = all.first().map(|(_, destination)| *destination);
        let destination = drawn.or(first).expect("a route that forwards has a destination");
        let policy = destination.policy();
        let mut taken = Taken::new(policy, self.request);
        taken.cluster = Some(Arc::clone(destination.name()));
        let fault = self.faults(policy);
        let is_defined =
            |destination: &table::Destination<C>| destination.cluster().is_some() || destination.redirect().is_some();
        let defined = drawn.map_or_else(|| all.iter().any(|(_, each)| is_defined(each)), is_defined);
        let known = all.iter().map(|(weight, destination)| Destination {
            cluster: destination.name().to_string(),
            weight: *weight,
            defined: is_defined(destination),
        });
        let told = if defined {
            self.sent(all, drawn, &taken, fault)
        } else {
            Err(taken.ended(fault, || taken.without_cluster(self.request)))
        };
        let mut explanation = match told {
            Ok((request, sent)) => Explanation {
                outcome,
                request: Some(request),
                response_operations: operations(policy),
                response_flags: fault.delay.map(|_| ResponseFlags::from(ResponseFlag::DelayInjected).to_string()),
                timeout_ms: timeout::effective(policy.timeout(), &sent).map(milliseconds),
                retries: retries(policy),
                mirrors: self.mirrors(policy),
                ..empty(outcome)
            },
            Err(error) => answer(&error, self.request),
        };
        explanation.cluster = drawn.map(|drawn| drawn.name().to_string());
        explanation.destinations = known.collect();
        let possible = drawn.into_iter().chain(all.iter().map(|(_, each)| *each).filter(|_| drawn.is_none()));
        explanation.note = possible.filter_map(table::Destination::refused).next().map(ToString::to_string);
        self.named(policy, explanation)
    }

    /// What goes upstream, with the headers that the inner layers see; an error where nothing does.
    fn sent(
        &self,
        all: &[(u64, &table::Destination<C>)],
        drawn: Option<&table::Destination<C>>,
        taken: &Taken<C>,
        fault: FaultDecision,
    ) -> Result<(Upstream, HeaderMap), Error> {
        let mut shaped = Vec::new();
        let destinations = drawn.into_iter().chain(all.iter().map(|(_, each)| *each).filter(|_| drawn.is_none()));
        for destination in destinations {
            let mut request = self.request.clone();
            Shape::new(destination.policy(), &self.head).apply(destination.policy(), &mut request)?;
            shaped.push(request);
        }
        let request = shaped.first().expect("a route that forwards has a destination");
        let preflight = || taken.policy.cors().and_then(|cors| cors.preflight(request.method(), request.headers()));
        if let Some(early) = fault.abort.map(Error::new).or_else(preflight) {
            return Err(taken.ended(fault, || early));
        }
        let mut upstream = upstream(request);
        for other in &shaped[1..] {
            let other = self::upstream(other);
            upstream.authority = upstream.authority.filter(|authority| Some(authority) == other.authority.as_ref());
            upstream.headers = upstream.headers.filter(|headers| Some(headers) == other.headers.as_ref());
        }
        Ok((upstream, request.headers().clone()))
    }

    /// What is injected.
    fn faults(&self, policy: &RoutePolicy<C>) -> FaultDecision {
        policy.fault().map(|fault| fault.decide_by(|share| self.draw.certain(share))).unwrap_or_default()
    }

    fn named(&self, policy: &RoutePolicy<C>, explanation: Explanation) -> Explanation {
        Explanation {
            virtual_service: policy.virtual_service().cloned(),
            route: policy.name().cloned(),
            fault: self.fault(policy),
            ..explanation
        }
    }

    fn fault(&self, policy: &RoutePolicy<C>) -> Option<Fault> {
        let fault = policy.fault()?;
        let delay = fault.delay().filter(|(_, share)| self.draw.possible(*share));
        let abort = fault.abort().filter(|(_, share)| self.draw.possible(*share));
        (delay.is_some() || abort.is_some()).then(|| Fault {
            delay_ms: delay.map(|(delay, _)| milliseconds(delay)),
            delay_percent: delay.map(|(_, share)| share.value()),
            abort_status: abort.map(|(reason, _)| reason.status().as_u16()),
            abort_grpc_status: abort.and_then(|(reason, _)| match reason {
                Reason::FaultAbortGrpc(status) => Some(status),
                _ => None,
            }),
            abort_percent: abort.map(|(_, share)| share.value()),
        })
    }

    fn mirrors(&self, policy: &RoutePolicy<C>) -> Vec<Mirror> {
        let all = policy.mirrors.iter().flat_map(|mirrors| mirrors.iter());
        let all = all.filter(|mirror| can_be_mirrored(self.request) && self.draw.possible(mirror.share));
        all.map(|mirror| Mirror { cluster: mirror.cluster.name().to_string(), percent: mirror.share.value() }).collect()
    }
}

/// Istio's name for where blocked requests go.
pub(super) const BLACK_HOLE: &str = "BlackHoleCluster";

/// What the caller is told here.
fn answer(error: &Error, request: &Request<()>) -> Explanation {
    let outcome = match error.reason() {
        Reason::FaultAbort(_) | Reason::FaultAbortGrpc(_) => Outcome::Abort,
        Reason::Answered(_) | Reason::Preflight => Outcome::DirectResponse,
        Reason::NoRoute => Outcome::NoRoute,
        Reason::Blackhole | Reason::BadRequest(_) => Outcome::Blocked,
        _ => Outcome::Unavailable,
    };
    let reply = LocalReply::new(error, timeout::is_grpc(request.headers()));
    // RFC 9110 9.3.2: the headers of a GET, no body.
    let body = if request.method() == Method::HEAD { Cow::Borrowed("") } else { String::from_utf8_lossy(&reply.body) };
    let flags = error.exchange().flags;
    Explanation {
        route: error.exchange().route.clone(),
        status: Some(reply.status.as_u16()),
        location: reply.headers.get(header::LOCATION).map(text),
        body: Some(body.into_owned()),
        response_headers: Some(pairs(&reply.headers)),
        response_flags: (!flags.is_empty()).then(|| flags.to_string()),
        ..empty(outcome)
    }
}

fn upstream(request: &Request<()>) -> Upstream {
    let mut headers = request.headers().clone();
    let host = headers.remove(header::HOST);
    let dialled = || request.uri().authority().map(|authority| authority.as_str());
    let dialled = || dialled().map(|authority| authority.rsplit_once('@').map_or(authority, |(_, host)| host));
    Upstream {
        method: request.method().to_string(),
        authority: host.as_ref().map(text).or_else(|| dialled().map(str::to_owned)),
        path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: Some(pairs(&headers)),
    }
}

fn operations<C>(policy: &RoutePolicy<C>) -> Vec<Operation> {
    let ops = policy.response_headers.iter().flat_map(|ops| ops.iter());
    let ops = ops.map(|op| match op {
        HeaderOp::Remove(name) => ("remove", name, None),
        HeaderOp::Set(name, value) => ("set", name, Some(value)),
        HeaderOp::Add(name, value) => ("add", name, Some(value)),
    });
    ops.map(|(op, name, value)| Operation { op, name: name.to_string(), value: value.map(text) }).collect()
}

fn retries<C>(policy: &RoutePolicy<C>) -> Option<Retries> {
    policy.retry().map(|retry| Retries {
        attempts: retry.retries(),
        retry_on: retry.retry_on().words().collect::<Vec<_>>().join(","),
        per_try_timeout_ms: retry.per_try_timeout().map(milliseconds),
        backoff_ms: milliseconds(retry.backoff().bound(1)),
        ignore_previous_hosts: retry.avoids_previous(),
    })
}

pub(super) fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn empty(outcome: Outcome) -> Explanation {
    Explanation {
        outcome,
        virtual_service: None,
        kind: None,
        delegate: None,
        route: None,
        rule_index: None,
        match_index: None,
        source: None,
        cluster: None,
        destinations: Vec::new(),
        request: None,
        status: None,
        location: None,
        body: None,
        response_headers: None,
        response_operations: Vec::new(),
        response_flags: None,
        timeout_ms: None,
        retries: None,
        fault: None,
        mirrors: Vec::new(),
        rejected: Vec::new(),
        unreachable: Vec::new(),
        note: None,
    }
}
