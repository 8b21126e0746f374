//! Why it was none of the others.

use std::sync::Arc;

use mesh_core::HostPattern;

use super::{Rejection, because};
use crate::{
    RequestHead, RouteTable, VirtualService,
    matcher::RouteMatch,
    table::{Bystander, Entry, Origin, Standing, VirtualHost, route_name},
    virtual_service::{LeftOut, Rule, Semantics},
};

/// What did not take a request that found `host`, and of its entries took `chosen`.
pub(super) struct Search<'a, C> {
    pub(super) table: &'a RouteTable<C>,
    pub(super) head: &'a RequestHead<'a>,
    pub(super) host: Option<&'a VirtualHost<C>>,
    pub(super) chosen: Option<usize>,
}

impl<C> Search<'_, C> {
    /// The entries before, in their order, then whole VirtualServices.
    pub(super) fn rejected(&self) -> Vec<Rejection> {
        let mut rejected = Vec::new();
        if let Some(host) = self.host {
            match &host.about().owner {
                Some(owner) if host.about().http => {
                    let passed = host.about().passed.iter();
                    passed.for_each(|passed| self.before(host, passed, None, &mut rejected));
                    let chosen = self.chosen.and_then(|chosen| host.entries()[chosen].origin);
                    self.before(host, owner, chosen, &mut rejected);
                }
                Some(owner) => {
                    let port = host.about().port.unwrap_or_default();
                    let because = format!("port {port} carries TCP or TLS, and rules under `http` are for HTTP");
                    let all = host.about().passed.iter().chain([owner]);
                    rejected.extend(all.map(|each| whole(each, because.clone())));
                }
                None => rejected.extend(host.entries()[..self.end(host)].iter().map(|entry| self.alone(entry))),
            }
        }
        self.others(&mut rejected);
        rejected
    }

    fn end(&self, host: &VirtualHost<C>) -> usize {
        self.chosen.unwrap_or_else(|| host.entries().len())
    }

    /// The rules of the owner as far as the chosen entry, those that the table left out among them.
    fn before(
        &self,
        host: &VirtualHost<C>,
        owner: &VirtualService,
        chosen: Option<Origin>,
        rejected: &mut Vec<Rejection>,
    ) {
        let (port, client) = (host.about().port, self.table.client());
        let mut left_out = owner.left_out().iter().peekable();
        let out = |left: &LeftOut| Rejection {
            route: left.name.clone(),
            rule_index: Some(left.at.index),
            source: Some(owner.place(None, left.at)),
            ..whole(owner, left.because.to_string())
        };
        for (number, rule) in owner.rules().iter().enumerate() {
            while let Some(left) = left_out.next_if(|left| left.before <= number) {
                rejected.push(out(left));
            }
            for (origin, matcher) in entries(number, rule) {
                if Some(origin) == chosen {
                    return;
                }
                // One without `match` takes everything, and was chosen if it was reached.
                let Some(matcher) = matcher else { return };
                let elsewhere = because::not_here(matcher, port, client, self.head);
                let unmet = || matcher.unmet(self.head).map(|unmet| because::unmet(matcher, unmet, self.head));
                if let Some(because) = elsewhere.or_else(unmet) {
                    rejected.push(of_rule(owner, rule, Some(matcher), because));
                }
            }
        }
        rejected.extend(left_out.map(out));
    }

    /// An entry that no rule of the host's owner made.
    fn alone(&self, entry: &Entry<C>) -> Rejection {
        let policy = entry.route.policy();
        let unmet = entry.matcher.as_deref().and_then(|matcher| Some((matcher, matcher.unmet(self.head)?)));
        Rejection {
            virtual_service: policy.virtual_service().cloned(),
            kind: None,
            delegate: None,
            route: policy.name().cloned(),
            rule_index: None,
            match_index: None,
            source: None,
            because: unmet.map(|(matcher, unmet)| because::unmet(matcher, unmet, self.head)).unwrap_or_default(),
        }
    }

    /// VirtualServices that name the host and do not route it.
    fn others(&self, rejected: &mut Vec<Rejection>) {
        let about = self.host.map(VirtualHost::about);
        let told = |other: &Arc<VirtualService>| {
            about.is_some_and(|about| about.passed.iter().chain(&about.owner).any(|told| Arc::ptr_eq(told, other)))
        };
        let named = self.named();
        let Some(named) = &named else { return };
        if self.host.is_none() {
            let mut others = self.table.ports_of(self.head.host());
            let port = others.next().filter(|host| host.about().port.is_some());
            if let Some((port, owner)) = port.and_then(|host| Some((host.about().port?, host.about().owner.as_ref()?)))
            {
                let because = format!("the service has no port {}: it has {port}", self.head.port());
                let more = others.filter_map(|host| host.about().port).map(|port| format!(", {port}"));
                rejected.push(whole(owner, more.fold(because, |because, port| because + &port)));
            }
        }
        for bystander in self.table.bystanders(named) {
            if told(&bystander.virtual_service) {
                continue;
            }
            rejected.push(whole(&bystander.virtual_service, self.standing(bystander, named)));
        }
    }

    /// The host as VirtualServices name it.
    fn named(&self) -> Option<HostPattern> {
        match self.host {
            Some(host) => Some(host.about().host.clone()),
            None => HostPattern::resolve(self.head.host(), &self.table.client().namespace).ok(),
        }
    }

    fn standing(&self, bystander: &Bystander, named: &HostPattern) -> String {
        let Bystander { host, virtual_service, standing } = bystander;
        match standing {
            Standing::GatewaysOnly => "it is for gateways: `gateways` lists others than \"mesh\"".into(),
            Standing::NotExported => {
                let (own, client) = (&virtual_service.object().namespace, &self.table.client().namespace);
                format!("exportTo of namespace {own} leaves namespace {client} out")
            }
            Standing::NothingForClient => {
                "none of its rules is for this client (gateways, sourceLabels, sourceNamespace)".into()
            }
            Standing::Second(first) => match virtual_service.semantics() {
                Semantics::Gateway { port: Some(port) } if port != self.head.port => {
                    because::wrong_port(port, self.head.port)
                }
                _ => format!("host {host} is routed by {first}, which comes first"),
            },
            Standing::Wildcard if self.host.is_some() => format!("host {host} is less specific than {named}"),
            Standing::Wildcard => format!("{named} is none of the services that host {host} covers"),
        }
    }

    /// Rules behind one that takes everything.
    ///
    /// istio BuildHTTPRoutesForVirtualService: every rule after a catch-all is dropped.
    pub(super) fn unreachable(&self) -> Vec<Rejection> {
        let Some(host) = self.host.filter(|host| host.about().http) else { return Vec::new() };
        let (Some(owner), Some(last)) = (&host.about().owner, host.entries().last()) else { return Vec::new() };
        let Some(end) = last.origin else { return Vec::new() };
        let port = host.about().port;
        if last.matcher.as_ref().is_some_and(|matcher| !matcher.is_catch_all(true)) {
            return Vec::new();
        }
        let start = end.rule as usize;
        let taker = &owner.rules()[start];
        let list = if taker.route.is_some() { "rules" } else { "http" };
        let because = format!("{list}[{}] before it takes every request", taker.at.index);
        let mut unreachable = Vec::new();
        for (number, rule) in owner.rules().iter().enumerate().skip(start) {
            for (origin, matcher) in entries(number, rule) {
                let behind = (origin.rule, origin.entry) > (end.rule, end.entry);
                let out =
                    || matcher.and_then(|matcher| because::not_here(matcher, port, self.table.client(), self.head));
                if behind {
                    unreachable.push(of_rule(owner, rule, matcher, out().unwrap_or_else(|| because.clone())));
                }
            }
        }
        unreachable
    }
}

/// The entries of a rule; one for a rule without any.
fn entries(number: usize, rule: &Rule) -> impl Iterator<Item = (Origin, Option<&RouteMatch>)> {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let alone = rule.matches.is_empty().then_some((Origin { rule: number, entry: None }, None));
    let entries = (0..).zip(&rule.matches);
    alone.into_iter().chain(entries.map(move |(entry, matcher)| {
        let origin = Origin { rule: number, entry: Some(entry) };
        (origin, Some(&**matcher))
    }))
}

fn of_rule(owner: &VirtualService, rule: &Rule, matcher: Option<&RouteMatch>, because: String) -> Rejection {
    let at = matcher.map_or(rule.at, |matcher| matcher.at);
    let whole = whole(owner, because);
    Rejection {
        virtual_service: rule.route.clone().or(whole.virtual_service),
        kind: rule.kind(owner),
        delegate: rule.delegate(),
        route: route_name(rule.name.as_deref(), matcher.and_then(|matcher| matcher.name.as_deref())),
        rule_index: Some(rule.at.index),
        match_index: matcher.map(|matcher| matcher.at.index),
        source: Some(owner.place(rule.lender.as_deref(), at)),
        ..whole
    }
}

fn whole(virtual_service: &VirtualService, because: String) -> Rejection {
    Rejection {
        virtual_service: Some(Arc::clone(virtual_service.name())),
        kind: Some(Arc::clone(&virtual_service.object().kind)),
        delegate: None,
        route: None,
        rule_index: None,
        match_index: None,
        source: Some(virtual_service.place(None, virtual_service.at())),
        because,
    }
}
