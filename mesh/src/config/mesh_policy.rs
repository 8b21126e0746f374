//! `MeshPolicy`: what Istio has no field for.
//!
//! A kind of ours, scoped as Istio scopes its own: by a workload selector, else to its namespace, else, in the root
//! namespace, to the mesh. It consists of sections; each is read and enforced by the crate that it is about, and this
//! file only knows their names and whom they are for.

use std::collections::BTreeMap;

use mesh_core::{
    Labels, Workload,
    config::{Document, Field, Issue, Issues, Value, fields},
};
use mesh_lb::LoadBalancing;
use mesh_routing::{RateLimits, Side};
use serde::{Deserialize, de::IgnoredAny};

/// The fields. A section is read by its owner: here it stands for its name.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Spec {
    selector: Option<Selector>,
    local_rate_limit: Option<IgnoredAny>,
    load_balancing: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Selector {
    match_labels: Labels,
}

/// One MeshPolicy, validated.
#[derive(Clone, Debug)]
pub(crate) struct MeshPolicy {
    document: Document,
    selector: Labels,
    rate_limits: RateLimits,
    load_balancing: LoadBalancing,
}

/// Whom a policy is for, the widest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Mesh,
    Namespace,
    Workload,
}

impl MeshPolicy {
    /// The fields that its YAML has, the sections' own in their place.
    pub(crate) fn fields() -> Vec<Field> {
        let mut all = fields::<Spec>();
        splice(&mut all, RateLimits::FIELD, RateLimits::fields());
        splice(&mut all, LoadBalancing::FIELD, LoadBalancing::fields());
        all
    }

    /// Validate a document of this kind. What is wrong with it goes into `issues`; `None` when it has errors.
    pub(crate) fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: Spec = document.decode(issues)?;
        let before = issues.errors().count();
        let selector = selector(document, spec.selector, issues);
        let rate_limits = RateLimits::from_document(document, issues);
        let load_balancing = LoadBalancing::from_document(document, issues);
        let says = |side: &Side| limits(document, *side);
        if spec.local_rate_limit.is_some() && ![Side::Inbound, Side::Outbound].iter().any(says) {
            issues.push(document.warning(RateLimits::FIELD, "has no effect: it has neither inbound nor outbound"));
        }
        (issues.errors().count() == before).then(|| Self {
            document: document.clone(),
            selector,
            rate_limits: rate_limits.unwrap_or_default(),
            load_balancing: load_balancing.unwrap_or_default(),
        })
    }

    /// istio security/v1beta1 PeerAuthentication.selector: "The selector determines the workloads to apply the
    /// PeerAuthentication on. The selector will match with workloads in the same namespace as the policy."
    fn scope(&self, workload: &Workload, root_namespace: &str) -> Option<Scope> {
        let namespace = &**self.document.namespace();
        match self.selector.is_empty() {
            true if namespace == &*workload.namespace && namespace != root_namespace => Some(Scope::Namespace),
            true => (namespace == root_namespace).then_some(Scope::Mesh),
            false => (namespace == &*workload.namespace
                && namespace != root_namespace
                && workload.labels.contains_all(&self.selector))
            .then_some(Scope::Workload),
        }
    }

    /// It selects workloads where only the mesh is selected.
    fn applies_to_nothing(&self, root_namespace: &str) -> bool {
        !self.selector.is_empty() && **self.document.namespace() == *root_namespace
    }
}

/// Does a policy speak of the limits of one direction? `inbound: []` does: there are none, whatever wider scopes have.
fn limits(document: &Document, side: Side) -> bool {
    let section = document.spec().and_then(|spec| spec.get(RateLimits::FIELD));
    section.and_then(|section| section.get(side.as_str())).is_some_and(|limits| limits.value != Value::Null)
}

/// istio validation, workload selector.
fn selector(document: &Document, selector: Option<Selector>, issues: &mut Issues) -> Labels {
    let Some(Selector { match_labels }) = selector else { return Labels::default() };
    if match_labels.is_empty() {
        issues.push(document.warning("selector", "workload selector specified without labels"));
    }
    for (key, value) in match_labels.iter() {
        let pair = format!("{key}={value}");
        if key.is_empty() {
            let message = format!("empty key is not supported in selector: {pair:?}");
            issues.push(document.error("selector.matchLabels", message));
        } else if pair.contains('*') {
            let message = format!("wildcard is not supported in selector: {pair:?}");
            issues.push(document.error(format!("selector.matchLabels[\"{key}\"]"), message));
        }
    }
    match_labels
}

/// Put the fields of what another crate reads below the field that it reads.
pub(super) fn splice(fields: &mut Vec<Field>, at: &str, below: Vec<Field>) {
    let Some(index) = fields.iter().position(|field| field.path == at) else { return };
    fields[index].ignored = false;
    // What is below is in a list, or it is not.
    let join = |path: String| if path.starts_with('[') { format!("{at}{path}") } else { format!("{at}.{path}") };
    let below = below.into_iter().map(|mut field| {
        field.path = join(field.path);
        field.same_as = field.same_as.map(join);
        field
    });
    fields.splice(index + 1..=index, below);
}

/// The policies of one workload, oldest first.
#[derive(Debug)]
pub(crate) struct MeshPolicies<'a> {
    policies: Vec<(Scope, &'a MeshPolicy)>,
    warnings: Vec<Issue>,
}

impl<'a> MeshPolicies<'a> {
    /// Those that are for a workload, of all in Istio's order.
    pub(crate) fn of(
        policies: impl IntoIterator<Item = &'a MeshPolicy>,
        workload: &Workload,
        root_namespace: &str,
    ) -> Self {
        let mut of_workload = Self { policies: Vec::new(), warnings: Vec::new() };
        for policy in policies {
            if let Some(scope) = policy.scope(workload, root_namespace) {
                of_workload.policies.push((scope, policy));
            }
            if policy.applies_to_nothing(root_namespace) {
                let message = "a selector has no effect in the root namespace: this policy applies to nothing";
                of_workload.warnings.push(policy.document.warning("selector", message));
            }
        }
        of_workload
    }

    /// Local rate limits in force, each direction for itself: one policy may limit what comes in, and another what goes
    /// out.
    pub(crate) fn rate_limits(&mut self) -> RateLimits {
        let mut side = |side: Side| {
            let policy = self
                .choose(&format!("{}.{}", RateLimits::FIELD, side.as_str()), |policy| limits(&policy.document, side));
            policy.into_iter().flat_map(move |policy| policy.rate_limits.iter(side)).cloned()
        };
        let (inbound, outbound) = (side(Side::Inbound), side(Side::Outbound));
        let limits = inbound.fold(RateLimits::default(), RateLimits::with_inbound);
        outbound.fold(limits, RateLimits::with_outbound)
    }

    /// What is said of choosing endpoints: all of it by one policy. `loadBalancing: []` says that there is nothing,
    /// whatever wider scopes have.
    pub(crate) fn load_balancing(&mut self) -> Option<Chosen<'a>> {
        let has = |policy: &MeshPolicy| {
            let section = policy.document.spec().and_then(|spec| spec.get(LoadBalancing::FIELD));
            section.is_some_and(|section| section.value != Value::Null)
        };
        let policy = self.choose(LoadBalancing::FIELD, has)?;
        Some(Chosen { section: &policy.load_balancing, document: &policy.document })
    }

    /// What was found on the way.
    pub(crate) fn into_warnings(self) -> Vec<Issue> {
        self.warnings
    }

    /// The policy of the narrowest scope that has a field; where several policies of a scope do, the oldest, as istio
    /// ComposePeerAuthentication has it. The others of a scope are told who comes first.
    fn choose(&mut self, field: &str, has: impl Fn(&MeshPolicy) -> bool) -> Option<&'a MeshPolicy> {
        let mut oldest: BTreeMap<Scope, &'a MeshPolicy> = BTreeMap::new();
        for (scope, policy) in self.policies.iter().filter(|(_, policy)| has(policy)) {
            let first = *oldest.entry(*scope).or_insert(policy);
            if !std::ptr::eq(first, *policy) {
                let message =
                    format!("not in force: {} comes first, and its scope is the same", first.document.object());
                self.warnings.push(policy.document.warning(field, message));
            }
        }
        oldest.pop_last().map(|(_, policy)| policy)
    }
}

/// A section in force, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen<'a> {
    pub(crate) section: &'a LoadBalancing,
    document: &'a Document,
}

impl Chosen<'_> {
    /// Something to be said of one of its fields.
    pub(crate) fn warning(&self, path: String, message: String) -> Issue {
        self.document.warning(path, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the limits in force for app a of namespace default, inbound and then outbound, and the warnings.
    fn in_force(policies: &[(&str, &str, &str)]) -> (Vec<String>, String) {
        let mut issues = Issues::default();
        let policies: Vec<_> = policies
            .iter()
            .map(|(name, namespace, spec)| {
                let limit = "tokenBucket: {maxTokens: 1, fillInterval: 1s}";
                let spec = spec.replace("LIMIT", "localRateLimit: {IN}");
                let spec = spec.replace("IN", &format!("inbound: [{{{limit}}}]"));
                let spec = spec.replace("OUT", &format!("outbound: [{{{limit}}}]"));
                let yaml = format!(
                    "apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
                );
                let documents = Document::parse_all("p.yaml", &yaml, &mut issues);
                MeshPolicy::from_document(&documents[0], &mut issues).expect("no errors")
            })
            .collect();
        let workload = Workload::new("default", "a-v1").with_labels(Labels::from_iter([("app", "a"), ("v", "1")]));
        let mut of_workload = MeshPolicies::of(&policies, &workload, "istio-system");
        let limits = of_workload.rate_limits();
        of_workload.into_warnings().into_iter().for_each(|warning| issues.push(warning));
        let names = limits.iter(Side::Inbound).chain(limits.iter(Side::Outbound));
        (names.map(mesh_routing::RateLimit::name).collect(), issues.to_string())
    }

    /// istio ComposePeerAuthentication: workload over namespace over mesh; in a scope the oldest.
    #[test]
    fn the_narrowest_scope_that_has_limits_of_a_direction_gives_them_all() {
        const OF_A: &str = "selector: {matchLabels: {app: a}}, LIMIT";
        let mesh = ("mesh", "istio-system", "LIMIT");
        let namespace = ("namespace", "default", "LIMIT");
        let workload = ("workload", "default", OF_A);
        for (policies, expected, warning) in [
            (&[][..], "", ""),
            (&[mesh], "istio-system/mesh", ""),
            (&[mesh, namespace], "default/namespace", ""),
            (&[workload, mesh, namespace], "default/workload", ""),
            // One without the section leaves the wider ones in force.
            (&[mesh, ("w", "default", "selector: {matchLabels: {app: a}}")], "istio-system/mesh", ""),
            // An empty list takes them out of force; a section that speaks of neither direction says nothing.
            (&[mesh, ("w", "default", "localRateLimit: {inbound: []}")], "", ""),
            (
                &[mesh, ("w", "default", "localRateLimit: {inbound: }")],
                "istio-system/mesh",
                "neither inbound nor outbound",
            ),
            (&[mesh, ("w", "default", "localRateLimit: {}")], "istio-system/mesh", "neither inbound nor outbound"),
            // Others' policies.
            (&[("o", "other", "LIMIT"), ("b", "default", "selector: {matchLabels: {app: b}}, LIMIT")], "", ""),
            (&[("o", "other", OF_A)], "", ""),
            (
                &[namespace, ("second", "default", "LIMIT")],
                "default/namespace",
                "p.yaml:4:34: warning: MeshPolicy default/second localRateLimit.inbound: not in force: MeshPolicy \
                 default/namespace comes first, and its scope is the same",
            ),
            // Also where a narrower scope has the limits: whichever order they stand in.
            (
                &[workload, namespace, ("second", "default", "LIMIT")],
                "default/workload",
                "second localRateLimit.inbound: not in force: MeshPolicy default/namespace comes first",
            ),
            (&[("r", "istio-system", OF_A)], "", "a selector has no effect in the root namespace"),
            (&[("e", "default", "selector: {}, LIMIT")], "default/e", "workload selector specified without labels"),
        ] {
            let (found, warnings) = in_force(policies);
            assert_eq!(found.join(" "), expected, "{policies:?}");
            assert!(
                warnings.contains(warning) && warnings.is_empty() == warning.is_empty(),
                "{policies:?}: {warnings}"
            );
        }
    }

    /// A policy that limits one direction says nothing of the other.
    #[test]
    fn each_direction_has_its_own_policy() {
        const BOTH: &str = "localRateLimit: {IN, OUT}";
        let inbound = ("in", "default", "localRateLimit: {IN}");
        let outbound = ("out", "default", "localRateLimit: {OUT}");
        let of_a = ("a", "default", "selector: {matchLabels: {app: a}}, localRateLimit: {OUT}");
        let both = ("both", "default", BOTH);
        for (policies, expected, warnings) in [
            (&[inbound, outbound][..], "default/in default/out", &[][..]),
            (&[outbound, inbound], "default/in default/out", &[]),
            (&[("mesh", "istio-system", BOTH), outbound], "istio-system/mesh default/out", &[]),
            (&[("mesh", "istio-system", BOTH), inbound, of_a], "default/in default/a", &[]),
            (
                &[inbound, both],
                "default/in default/both",
                &["default/both localRateLimit.inbound: not in force: MeshPolicy default/in"],
            ),
            (
                &[both, inbound, outbound],
                "default/both default/both",
                &[
                    "default/in localRateLimit.inbound: not in force: MeshPolicy default/both",
                    "default/out localRateLimit.outbound: not in force: MeshPolicy default/both",
                ],
            ),
        ] {
            let (found, said) = in_force(policies);
            assert_eq!(found.join(" "), expected, "{policies:?}");
            assert_eq!(said.lines().count(), warnings.len(), "{policies:?}: {said}");
            assert!(warnings.iter().all(|warning| said.contains(warning)), "{policies:?}: {said}");
        }
    }

    /// As with limits: the narrowest scope that has the section gives all of it, and in a scope the oldest policy.
    #[test]
    fn one_policy_says_how_endpoints_are_chosen() {
        const CHECKED: &str = "loadBalancing: [{healthCheck: {tcp: {}}}]";
        for (policies, expected, warning) in [
            (&[][..], None, ""),
            (&[("mesh", "istio-system", CHECKED)], Some("mesh"), ""),
            (&[("mesh", "istio-system", CHECKED), ("ns", "default", CHECKED)], Some("ns"), ""),
            (&[("mesh", "istio-system", CHECKED), ("ns", "default", "loadBalancing: []")], Some("ns"), ""),
            (&[("mesh", "istio-system", CHECKED), ("ns", "default", "loadBalancing: ")], Some("mesh"), ""),
            (&[("other", "other", CHECKED)], None, ""),
            (
                &[("a", "default", CHECKED), ("b", "default", CHECKED)],
                Some("a"),
                "p.yaml:4:23: warning: MeshPolicy default/b loadBalancing: not in force: MeshPolicy default/a comes first",
            ),
        ] {
            let mut issues = Issues::default();
            let policies: Vec<_> = policies
                .iter()
                .map(|(name, namespace, spec)| {
                    let yaml = format!(
                        "apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {{name: {name}, namespace: \
                         {namespace}}}\nspec: {{{spec}}}\n"
                    );
                    let documents = Document::parse_all("p.yaml", &yaml, &mut issues);
                    MeshPolicy::from_document(&documents[0], &mut issues).expect("no errors")
                })
                .collect();
            let workload = Workload::new("default", "a-v1");
            let mut of_workload = MeshPolicies::of(&policies, &workload, "istio-system");
            let chosen = of_workload.load_balancing().map(|chosen| chosen.document.name().to_string());
            assert_eq!(chosen.as_deref(), expected);
            of_workload.into_warnings().into_iter().for_each(|warning| issues.push(warning));
            let said = issues.to_string();
            assert!(said.contains(warning) && said.is_empty() == warning.is_empty(), "{said}");
        }
    }

    #[test]
    fn unknown_fields_and_bad_selectors_are_errors_with_a_place() {
        for (spec, expected) in [
            ("{localRateLimits: {}}", "p.yaml:4:8: error: MeshPolicy default/p: unknown field `localRateLimits`"),
            ("{selector: {labels: {}}}", "MeshPolicy default/p selector: unknown field `labels`"),
            ("{selector: {matchLabels: {\"\": a}}}", "selector.matchLabels: empty key is not supported"),
            ("{selector: {matchLabels: {app: 'a*'}}}", "wildcard is not supported in selector: \"app=a*\""),
            ("{loadBalancing: [{hosts: ['']}]}", "loadBalancing[0].hosts[0]: a host must not be empty"),
            ("{localRateLimit: {inbound: [{}]}}", "localRateLimit.inbound[0].tokenBucket: a limit needs a tokenBucket"),
        ] {
            let mut issues = Issues::default();
            let yaml = format!("apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {{name: p}}\nspec: {spec}\n");
            let documents = Document::parse_all("p.yaml", &yaml, &mut issues);
            assert!(MeshPolicy::from_document(&documents[0], &mut issues).is_none(), "{spec}");
            assert!(issues.to_string().contains(expected), "{issues}");
        }
    }
}
