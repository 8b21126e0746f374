//! From the document to the model. Messages are Istio's where Istio has one.

use std::sync::Arc;

use mesh_core::{
    Labels,
    config::{Document, Issues, Topic},
    identity::{SpiffeId, TrustDomain},
    path::PathNormalization,
};

use super::{
    Action, AuthorizationPolicy,
    cidr::IpBlock,
    pattern::{Glob, StringPattern},
    rule::{Field, Operation, Rule, ServiceAccount, Source},
    spec::{self, ActionSpec, OperationSpec, RuleSpec, Selector, SourceSpec, Spec},
    template::PathPattern,
};
use crate::canonical::canonical_path;

pub(super) fn policy(document: &Document, issues: &mut Issues) -> Option<AuthorizationPolicy> {
    let before = issues.errors().count();
    let spec: Spec = document.decode(issues)?;
    let mut reader = Reader { document, issues, rule: 0 };
    let targets = [("targetRef", spec.target_ref.is_some()), ("targetRefs", !spec.target_refs.is_empty())];
    let targets: Vec<_> = targets.into_iter().filter_map(|(field, given)| given.then_some(field)).collect();
    let targeted = !targets.is_empty();
    let action = reader.action(&spec);
    let selector = reader.selector(spec.selector.as_ref(), &targets);
    reader.dry_run();
    let rules = spec.rules.iter().enumerate().map(|(index, rule)| reader.rule(index, rule, action)).collect();
    (reader.issues.errors().count() == before).then(|| AuthorizationPolicy {
        namespace: Arc::clone(document.namespace()),
        name: Arc::clone(document.name()),
        action,
        selector,
        targeted,
        rules,
    })
}

struct Reader<'a> {
    document: &'a Document,
    issues: &'a mut Issues,
    /// Index of the rule being read.
    rule: usize,
}

impl Reader<'_> {
    fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(self.document.error(path, message));
    }

    /// Istio has it, and leaving it out would change who gets in.
    fn unsupported(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(self.document.error(path, message).about(Topic::NotEnforced));
    }

    fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(self.document.warning(path, message));
    }

    fn refuse(&mut self, path: &str, refused: &[(&str, spec::Refused)]) {
        for (field, refused) in refused {
            if refused.is_set() {
                let path = if path.is_empty() { (*field).to_owned() } else { format!("{path}.{field}") };
                self.unsupported(path, "not supported yet, refused because ignoring it would change who gets in");
            }
        }
    }

    fn action(&mut self, spec: &Spec) -> Action {
        if spec.provider.is_set() && spec.action != ActionSpec::Custom {
            self.error("provider", "`provider` must not be with non CUSTOM action");
        }
        match spec.action {
            ActionSpec::Allow => Action::Allow,
            ActionSpec::Deny => {
                if spec.rules.is_empty() {
                    self.error("", "DENY action without `rules` is meaningless as it will never be triggered");
                }
                Action::Deny
            }
            ActionSpec::Custom => {
                let message = "CUSTOM is not supported yet, refused because ignoring it would change who gets in; \
                               supported are ALLOW and DENY";
                self.unsupported("action", message);
                Action::Deny
            }
            ActionSpec::Audit => {
                self.unsupported("action", "AUDIT is not supported yet; supported are ALLOW and DENY");
                Action::Deny
            }
        }
    }

    /// `targets` are the fields that name what the policy is for, in the place of a selector.
    fn selector(&mut self, selector: Option<&Selector>, targets: &[&str]) -> Labels {
        let Some(Selector { match_labels }) = selector else {
            for field in targets {
                let message = "targetRefs name gateways and waypoints: not in force in-process";
                self.issues.push(self.document.warning(*field, message).about(Topic::NotEnforced));
            }
            return Labels::default();
        };
        if !targets.is_empty() {
            self.error("selector", "only one of targetRefs or workloadSelector can be set");
        }
        if match_labels.is_empty() {
            self.warn("selector", "workload selector specified without labels: it selects every workload");
        }
        for (key, value) in match_labels {
            let pair = format!("{key}:{value}");
            if key.is_empty() {
                self.error("selector.matchLabels", format!("empty key is not supported in selector: {pair:?}"));
            }
            if pair.contains('*') {
                self.error("selector.matchLabels", format!("wildcard is not supported in selector: {pair:?}"));
            }
        }
        match_labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Istio evaluates and logs such a policy without enforcing it; enforcing it instead would shut callers out.
    fn dry_run(&mut self) {
        match self.document.annotations().get("istio.io/dry-run") {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => {}
            Some(value) => self.unsupported(
                "",
                format!("annotation istio.io/dry-run: {value:?} is not supported yet, refused because enforcing the policy would change who gets in"),
            ),
        }
    }

    fn rule(&mut self, index: usize, spec: &RuleSpec, action: Action) -> Rule {
        self.rule = index;
        let path = format!("rules[{index}]");
        self.refuse(&path, &[("when", spec.when)]);
        let mut rule = Rule::default();
        if spec.from.as_ref().is_some_and(Vec::is_empty) {
            self.error(format!("{path}.from"), format!("`from` must not be empty, found at rule {index}"));
        }
        if spec.to.as_ref().is_some_and(Vec::is_empty) {
            self.error(format!("{path}.to"), format!("`to` must not be empty, found at rule {index}"));
        }
        for (at, from) in spec.from.iter().flatten().enumerate() {
            let path = format!("{path}.from[{at}]");
            match &from.source {
                Some(source) => rule.from.push(self.source(&format!("{path}.source"), source, action)),
                None => self.error(path, format!("`from.source` must not be nil, found at rule {index}")),
            }
        }
        for (at, to) in spec.to.iter().flatten().enumerate() {
            let path = format!("{path}.to[{at}]");
            match &to.operation {
                Some(operation) => rule.to.push(self.operation(&format!("{path}.operation"), operation)),
                None => self.error(path, format!("`to.operation` must not be nil, found at rule {index}")),
            }
        }
        rule
    }

    fn source(&mut self, path: &str, spec: &SourceSpec, action: Action) -> Source {
        let refused = [
            ("requestPrincipals", spec.request_principals),
            ("notRequestPrincipals", spec.not_request_principals),
            ("remoteIpBlocks", spec.remote_ip_blocks),
            ("notRemoteIpBlocks", spec.not_remote_ip_blocks),
            ("trustDomains", spec.trust_domains),
            ("notTrustDomains", spec.not_trust_domains),
        ];
        self.refuse(path, &refused);
        let identity = [&spec.principals, &spec.namespaces, &spec.service_accounts];
        let not_identity = [&spec.not_principals, &spec.not_namespaces, &spec.not_service_accounts];
        let addresses = [&spec.ip_blocks, &spec.not_ip_blocks];
        let mut lists = identity.into_iter().chain(not_identity).chain(addresses);
        if lists.all(Vec::is_empty) && !refused.iter().any(|(_, refused)| refused.is_set()) {
            self.error(path, format!("`from.source` must not be empty, found at rule {}", self.rule));
        }
        let accounts = !spec.service_accounts.is_empty() || !spec.not_service_accounts.is_empty();
        if accounts && ![&identity[..2], &not_identity[..2]].concat().into_iter().all(Vec::is_empty) {
            let message =
                format!("cannot set serviceAccounts with namespaces or principals, found at rule {}", self.rule);
            self.error(format!("{path}.serviceAccounts"), message);
        }
        let negative = !not_identity.into_iter().all(Vec::is_empty);
        if action == Action::Allow && negative && identity.into_iter().all(Vec::is_empty) && spec.ip_blocks.is_empty() {
            self.warn(path, "allows callers without any identity too: a negation is true of what is not there");
        }
        Source {
            principals: self.field(path, "principals", (&spec.principals, &spec.not_principals), Self::principal),
            namespaces: self.field(path, "namespaces", (&spec.namespaces, &spec.not_namespaces), |_, _, text| {
                Some(Glob::parse(text))
            }),
            service_accounts: self.field(
                path,
                "serviceAccounts",
                (&spec.service_accounts, &spec.not_service_accounts),
                Self::service_account,
            ),
            ip_blocks: self.field(path, "ipBlocks", (&spec.ip_blocks, &spec.not_ip_blocks), |reader, path, text| {
                IpBlock::parse(text).map_err(|message| reader.error(path, message)).ok()
            }),
        }
    }

    fn operation(&mut self, path: &str, spec: &OperationSpec) -> Operation {
        let lists = [
            &spec.hosts,
            &spec.not_hosts,
            &spec.ports,
            &spec.not_ports,
            &spec.methods,
            &spec.not_methods,
            &spec.paths,
            &spec.not_paths,
        ];
        if lists.into_iter().all(Vec::is_empty) {
            self.error(path, format!("`to.operation` must not be empty, found at rule {}", self.rule));
        }
        Operation {
            hosts: self.field(path, "hosts", (&spec.hosts, &spec.not_hosts), Self::text),
            ports: self.field(path, "ports", (&spec.ports, &spec.not_ports), |reader, path, text| {
                let port = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
                if port.is_none() {
                    reader.error(path, format!("bad port ({text}): must be a number in the range 0..65535"));
                }
                port
            }),
            methods: self.field(path, "methods", (&spec.methods, &spec.not_methods), Self::method),
            paths: self.field(path, "paths", (&spec.paths, &spec.not_paths), Self::path),
        }
    }

    /// Read a list and its negation, value by value.
    fn field<T>(
        &mut self,
        path: &str,
        name: &str,
        (any_of, none_of): (&[String], &[String]),
        read: impl Fn(&mut Self, String, &str) -> Option<T>,
    ) -> Field<T> {
        let negated = format!("not{}{}", name[..1].to_uppercase(), &name[1..]);
        let mut list = |name: &str, values: &[String]| {
            let mut list = Vec::with_capacity(values.len());
            for (index, value) in values.iter().enumerate() {
                let path = format!("{path}.{name}[{index}]");
                if value.is_empty() {
                    self.error(path, format!("empty value not allowed, found in {name}"));
                } else {
                    list.extend(read(self, path, value));
                }
            }
            list
        };
        Field { any_of: list(name, any_of), none_of: list(&negated, none_of) }
    }

    fn text(&mut self, path: String, text: &str) -> Option<StringPattern> {
        let pattern = StringPattern::parse(text);
        if pattern.literal().contains('*') {
            let message =
                format!("the `*` inside {text:?} is a plain character: a wildcard stands alone, first or last");
            self.warn(path, message);
        }
        Some(pattern)
    }

    fn principal(&mut self, path: String, text: &str) -> Option<StringPattern> {
        if text.starts_with("spiffe://") {
            self.warn(path.clone(), format!("never matches: principals are written without spiffe://, found {text:?}"));
        }
        self.text(path, text)
    }

    fn service_account(&mut self, path: String, text: &str) -> Option<ServiceAccount> {
        let (namespace, name) = text.split_once('/').unwrap_or((self.document.namespace(), text));
        if SpiffeId::kubernetes(&TrustDomain::cluster_local(), namespace, name).is_err() || name.contains('/') {
            let message = format!(
                "bad service account ({text}): should have format <namespace>/<serviceAccount> or <serviceAccount>, without wildcards"
            );
            self.error(path, message);
            return None;
        }
        Some(ServiceAccount { namespace: namespace.into(), name: name.into() })
    }

    fn method(&mut self, path: String, text: &str) -> Option<StringPattern> {
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            self.warn(
                path.clone(),
                format!("never matches: requests with a lower-case method get 400, found {text:?}"),
            );
        }
        self.text(path, text)
    }

    fn path(&mut self, path: String, text: &str) -> Option<PathPattern> {
        match PathPattern::parse(text) {
            Ok(pattern) => {
                if let PathPattern::Text(pattern) = &pattern {
                    self.text(path.clone(), text);
                    self.can_match(path, pattern);
                }
                Some(pattern)
            }
            Err(why) => {
                let field = path.rsplit('.').next().and_then(|last| last.split('[').next()).unwrap_or_default();
                self.error(path.clone(), format!("invalid or unsupported path {text}, found in {field}. {why}"));
                None
            }
        }
    }

    /// A rule on a spelling that no canonical request has looks like protection and is none.
    fn can_match(&mut self, path: String, pattern: &StringPattern) {
        // An example of what the pattern means, with a neighbour where it is open.
        let example = match pattern {
            StringPattern::Present => return,
            StringPattern::Exact(text) => text.to_string(),
            StringPattern::Prefix(text) => format!("{text}x"),
            StringPattern::Suffix(text) => format!("/x{text}"),
        };
        let canonical = canonical_path(&example, PathNormalization::Base).is_ok_and(|canonical| canonical == example);
        if !example.starts_with('/') || example.contains('?') {
            self.warn(path, "never matches: a path starts with '/' and has no query");
        } else if !canonical {
            self.warn(path, "never matches: requests are brought into canonical form first (pathNormalization)");
        }
    }
}
