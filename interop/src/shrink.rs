//! Smaller cases: a table or a request with something left out.

use crate::model::{Action, Fault, Headers, Operations, Request, Step, Table};

/// Cases that are a little smaller, the boldest first.
pub(crate) fn smaller(table: &Table, request: &Request) -> Vec<(Table, Request)> {
    let mut tables = smaller_tables(table);
    let rules = table
        .virtual_services
        .iter()
        .enumerate()
        .flat_map(|(vs, spec)| spec.rules.iter().enumerate().map(move |(index, rule)| (vs, index, rule)));
    for (vs, index, rule) in rules {
        let mut variant = |change: &dyn Fn(&mut crate::model::Rule)| {
            let mut less = table.clone();
            change(&mut less.virtual_services[vs].rules[index]);
            tables.push(less);
        };
        for entry in 0..rule.matches.len() {
            variant(&|rule| {
                rule.matches.remove(entry);
            });
            let old = &rule.matches[entry];
            if old.uri.is_some() {
                variant(&|rule| rule.matches[entry].uri = None);
            }
            if old.ignore_case {
                variant(&|rule| rule.matches[entry].ignore_case = false);
            }
            if old.scheme.is_some() {
                variant(&|rule| rule.matches[entry].scheme = None);
            }
            if old.method.is_some() {
                variant(&|rule| rule.matches[entry].method = None);
            }
            if old.authority.is_some() {
                variant(&|rule| rule.matches[entry].authority = None);
            }
            if old.port.is_some() {
                variant(&|rule| rule.matches[entry].port = None);
            }
            if !old.source_labels.is_empty() {
                variant(&|rule| rule.matches[entry].source_labels.clear());
            }
            if old.source_namespace.is_some() {
                variant(&|rule| rule.matches[entry].source_namespace = None);
            }
            if !old.gateways.is_empty() {
                variant(&|rule| rule.matches[entry].gateways.clear());
            }
            for at in 0..old.headers.len() {
                variant(&|rule| {
                    rule.matches[entry].headers.remove(at);
                });
            }
            for at in 0..old.without.len() {
                variant(&|rule| {
                    rule.matches[entry].without.remove(at);
                });
            }
            for at in 0..old.query.len() {
                variant(&|rule| {
                    rule.matches[entry].query.remove(at);
                });
            }
        }
        if !rule.fault.is_empty() {
            variant(&|rule| rule.fault = Fault::default());
            if rule.fault.delay.is_some() && rule.fault.abort.is_some() {
                variant(&|rule| rule.fault.delay = None);
                variant(&|rule| rule.fault.abort = None);
            }
        }
        if rule.timeout_ms.is_some() {
            variant(&|rule| rule.timeout_ms = None);
        }
        if let Some(retries) = &rule.retries {
            variant(&|rule| rule.retries = None);
            if retries.per_try_ms.is_some() {
                variant(&|rule| {
                    if let Some(retries) = &mut rule.retries {
                        retries.per_try_ms = None;
                    }
                });
            }
            for at in 0..retries.on.len() {
                variant(&|rule| {
                    if let Some(retries) = &mut rule.retries {
                        retries.on.remove(at);
                    }
                });
            }
        }
        for headers in smaller_headers(&rule.headers) {
            variant(&|rule| rule.headers = headers.clone());
        }
        if rule.cors.is_some() {
            variant(&|rule| rule.cors = None);
        }
        if rule.rewrite.is_some() {
            variant(&|rule| rule.rewrite = None);
        }
        if rule.mirror.is_some() || rule.mirror_percent.is_some() {
            variant(&|rule| (rule.mirror, rule.mirror_percent) = (None, None));
        }
        for at in 0..rule.mirrors.len() {
            variant(&|rule| {
                rule.mirrors.remove(at);
            });
        }
        match &rule.action {
            Action::Redirect(_) | Action::DirectResponse { .. } | Action::Delegate { .. } => {}
            Action::Route(destinations) => {
                for at in 0..destinations.len() {
                    if destinations.len() > 1 {
                        variant(&|rule| {
                            let Action::Route(destinations) = &mut rule.action else { return };
                            destinations.remove(at);
                            if let [only] = &mut **destinations {
                                only.weight = None;
                            }
                        });
                    }
                    for headers in smaller_headers(&destinations[at].headers) {
                        variant(&|rule| {
                            let Action::Route(destinations) = &mut rule.action else { return };
                            destinations[at].headers = headers.clone();
                        });
                    }
                }
            }
        }
    }
    let mut cases: Vec<_> = tables.into_iter().map(|less| (less, request.clone())).collect();
    cases.extend(smaller_requests(request).into_iter().map(|less| (table.clone(), less)));
    cases
}

/// Without a VirtualService, a host, a service, a rule, or what limits who sees it.
fn smaller_tables(table: &Table) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut variant = |change: &dyn Fn(&mut Table)| {
        let mut less = table.clone();
        change(&mut less);
        tables.push(less);
    };
    for (at, vs) in table.virtual_services.iter().enumerate() {
        if table.virtual_services.len() > 1 {
            variant(&|table| {
                table.virtual_services.remove(at);
            });
        }
        for host in 0..vs.hosts.len() {
            if vs.hosts.len() > 1 {
                variant(&|table| {
                    table.virtual_services[at].hosts.remove(host);
                });
            }
        }
        for rule in 0..vs.rules.len() {
            if vs.rules.len() > 1 {
                variant(&|table| {
                    table.virtual_services[at].rules.remove(rule);
                });
            }
        }
        if !vs.export_to.is_empty() {
            variant(&|table| table.virtual_services[at].export_to.clear());
        }
        if !vs.gateways.is_empty() {
            variant(&|table| table.virtual_services[at].gateways.clear());
        }
    }
    for at in 0..table.services.len() {
        variant(&|table| {
            table.services.remove(at);
        });
    }
    tables
}

fn smaller_headers(headers: &Headers) -> Vec<Headers> {
    let mut all = Vec::new();
    let mut push = |request: Operations, response: Operations| all.push(Headers { request, response });
    if !headers.request.is_empty() && !headers.response.is_empty() {
        push(headers.request.clone(), Operations::default());
        push(Operations::default(), headers.response.clone());
    } else if !headers.request.is_empty() || !headers.response.is_empty() {
        push(Operations::default(), Operations::default());
    }
    for less in smaller_operations(&headers.request) {
        push(less, headers.response.clone());
    }
    for less in smaller_operations(&headers.response) {
        push(headers.request.clone(), less);
    }
    all
}

fn smaller_operations(ops: &Operations) -> Vec<Operations> {
    let mut all = Vec::new();
    for at in 0..ops.set.len() {
        let mut less = ops.clone();
        less.set.remove(at);
        all.push(less);
    }
    for at in 0..ops.add.len() {
        let mut less = ops.clone();
        less.add.remove(at);
        all.push(less);
    }
    for at in 0..ops.remove.len() {
        let mut less = ops.clone();
        less.remove.remove(at);
        all.push(less);
    }
    all
}

fn smaller_requests(request: &Request) -> Vec<Request> {
    let mut all = Vec::new();
    for at in 0..request.headers.len() {
        let mut less = request.clone();
        less.headers.remove(at);
        all.push(less);
    }
    if !request.body.is_empty() {
        all.push(Request { body: Vec::new(), ..request.clone() });
    }
    if request.method != "GET" {
        all.push(Request { method: "GET".into(), ..request.clone() });
    }
    if request.plan != [Step::Status(200)] {
        all.push(Request { plan: vec![Step::Status(200)], ..request.clone() });
        for at in 0..request.plan.len() {
            if request.plan.len() > 1 {
                let mut less = request.clone();
                less.plan.remove(at);
                all.push(less);
            }
        }
    }
    if request.target != b"/" {
        all.push(Request { target: b"/".to_vec(), ..request.clone() });
    }
    if let Some(query) = request.target.iter().position(|byte| *byte == b'?') {
        all.push(Request { target: request.target[..query].to_vec(), ..request.clone() });
    }
    // Halves, then single bytes, of the target.
    let length = request.target.len();
    let step = (length / 2).max(1);
    for (from, to) in [(1, 1 + step), (step, length)] {
        if from < to && to <= length && to - from < length {
            let mut less = request.clone();
            less.target.drain(from..to);
            all.push(less);
        }
    }
    if length <= 60 {
        for at in 1..length {
            let mut less = request.clone();
            less.target.remove(at);
            all.push(less);
        }
    }
    all
}
