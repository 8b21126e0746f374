//! From the document to the model. Messages are Istio's where Istio has one.

use std::sync::Arc;

use mesh_core::{
    config::{Document, Issues, Topic},
    identity::{SpiffeId, TrustDomain},
    path::PathNormalization,
};

use super::{
    Action, AuthorizationPolicy,
    pattern::{Glob, StringPattern},
    rule::{Field, HostValue, Operation, Rule, ServiceAccount, Source},
    spec::{ActionSpec, OperationSpec, RuleSpec, SourceSpec, Spec},
    template::PathPattern,
};
use crate::{canonical::canonical_path, selector::selector};

pub(super) fn policy(document: &Document, issues: &mut Issues) -> Option<AuthorizationPolicy> {
    let before = issues.errors().count();
    let spec: Spec = document.decode(issues)?;
    let targets = [("targetRef", spec.target_ref.is_some()), ("targetRefs", !spec.target_refs.is_empty())];
    let targeted = targets.iter().any(|(_, given)| *given);
    let mut reader = Reader { document, issues, rule: 0 };
    let action = reader.action(&spec);
    let selector = selector(document, reader.issues, spec.selector.as_ref(), targets);
    let dry_run = reader.dry_run();
    let rules = spec.rules.iter().enumerate().map(|(index, rule)| reader.rule(index, rule, action)).collect();
    (reader.issues.errors().count() == before).then(|| AuthorizationPolicy {
        namespace: Arc::clone(document.namespace()),
        name: Arc::clone(document.name()),
        action,
        dry_run,
        selector,
        targeted,
        rules,
    })
}

pub(super) struct Reader<'a> {
    document: &'a Document,
    issues: &'a mut Issues,
    /// Index of the rule being read.
    rule: usize,
}

impl Reader<'_> {
    pub(super) fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(self.document.error(path, message));
    }

    /// Istio has it, and leaving it out would change who gets in.
    pub(super) fn unsupported(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(self.document.error(path, message).about(Topic::NotEnforced));
    }

    pub(super) fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(self.document.warning(path, message));
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
                               supported are ALLOW, DENY and AUDIT";
                self.unsupported("action", message);
                Action::Deny
            }
            ActionSpec::Audit => Action::Audit,
        }
    }

    /// istio annotation istio.io/dry-run: "If set to true, the authorization policy will be evaluated and logged without
    /// enforcing it." Read as Go's strconv.ParseBool does.
    fn dry_run(&mut self) -> bool {
        match self.document.annotations().get("istio.io/dry-run") {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some(value) => {
                self.error("", format!("annotation istio.io/dry-run: {value:?} is neither true nor false"));
                false
            }
        }
    }

    fn rule(&mut self, index: usize, spec: &RuleSpec, action: Action) -> Rule {
        self.rule = index;
        let path = format!("rules[{index}]");
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
                Some(operation) => rule.to.push(self.operation(&format!("{path}.operation"), operation, action)),
                None => self.error(path, format!("`to.operation` must not be nil, found at rule {index}")),
            }
        }
        for (at, condition) in spec.when.iter().flatten().enumerate() {
            rule.when.extend(self.condition(&format!("{path}.when[{at}]"), condition, action));
        }
        rule
    }

    fn source(&mut self, path: &str, spec: &SourceSpec, action: Action) -> Source {
        let identity =
            [&spec.principals, &spec.namespaces, &spec.service_accounts, &spec.trust_domains, &spec.request_principals];
        let not_identity = [
            &spec.not_principals,
            &spec.not_namespaces,
            &spec.not_service_accounts,
            &spec.not_trust_domains,
            &spec.not_request_principals,
        ];
        let addresses = [&spec.ip_blocks, &spec.remote_ip_blocks];
        let not_addresses = [&spec.not_ip_blocks, &spec.not_remote_ip_blocks];
        if [&identity[..], &not_identity, &addresses, &not_addresses].concat().into_iter().all(Vec::is_empty) {
            self.error(path, format!("`from.source` must not be empty, found at rule {}", self.rule));
        }
        let accounts = !spec.service_accounts.is_empty() || !spec.not_service_accounts.is_empty();
        if accounts && ![&identity[..2], &not_identity[..2]].concat().into_iter().all(Vec::is_empty) {
            let message =
                format!("cannot set serviceAccounts with namespaces or principals, found at rule {}", self.rule);
            self.error(format!("{path}.serviceAccounts"), message);
        }
        let negative = !not_identity.into_iter().all(Vec::is_empty);
        let positive = !identity.into_iter().chain(addresses).all(Vec::is_empty);
        if action == Action::Allow && negative && !positive {
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
            trust_domains: self.field(
                path,
                "trustDomains",
                (&spec.trust_domains, &spec.not_trust_domains),
                Self::trust_domain,
            ),
            request_principals: self.field(
                path,
                "requestPrincipals",
                (&spec.request_principals, &spec.not_request_principals),
                Self::subject,
            ),
            ip_blocks: self.field(path, "ipBlocks", (&spec.ip_blocks, &spec.not_ip_blocks), Self::block),
            remote_ip_blocks: self.field(
                path,
                "remoteIpBlocks",
                (&spec.remote_ip_blocks, &spec.not_remote_ip_blocks),
                Self::block,
            ),
        }
    }

    fn operation(&mut self, path: &str, spec: &OperationSpec, action: Action) -> Operation {
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
            hosts: self.hosts(path, spec, action),
            ports: self.field(path, "ports", (&spec.ports, &spec.not_ports), Self::port),
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

    fn hosts(&mut self, path: &str, spec: &OperationSpec, action: Action) -> Field<HostValue> {
        let Field { any_of, none_of } = self.field(path, "hosts", (&spec.hosts, &spec.not_hosts), Self::text);
        let values = |patterns: Vec<StringPattern>, any_port| {
            patterns.into_iter().map(|pattern| HostValue { pattern, any_port }).collect()
        };
        Field { any_of: values(any_of, action == Action::Deny), none_of: values(none_of, action == Action::Allow) }
    }

    pub(super) fn principal(&mut self, path: String, text: &str) -> Option<StringPattern> {
        if text.starts_with("spiffe://") {
            self.warn(path.clone(), format!("never matches: principals are written without spiffe://, found {text:?}"));
        }
        self.text(path, text)
    }

    pub(super) fn service_account(&mut self, path: String, text: &str) -> Option<ServiceAccount> {
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
