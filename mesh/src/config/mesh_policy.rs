//! `MeshPolicy`: what Istio has no field for.
//!
//! A kind of ours, scoped as Istio scopes its own: by a workload selector, else to its namespace, else, in the root
//! namespace, to the mesh. It consists of sections; each is read and enforced by the crate that it is about, and this
//! file only knows their names and whom they are for.

use mesh_core::{
    Labels, Workload,
    config::{Document, Field, Issue, Issues, fields},
};
use mesh_routing::RateLimits;
use serde::{Deserialize, de::IgnoredAny};

/// The fields. A section is read by its owner: here it stands for its name.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Spec {
    selector: Option<Selector>,
    local_rate_limit: Option<IgnoredAny>,
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
    rate_limits: Option<RateLimits>,
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
        all
    }

    /// Validate a document of this kind. What is wrong with it goes into `issues`; `None` when it has errors.
    pub(crate) fn from_document(document: &Document, issues: &mut Issues) -> Option<Self> {
        let spec: Spec = document.decode(issues)?;
        let before = issues.errors().count();
        let selector = selector(document, spec.selector, issues);
        let rate_limits = RateLimits::from_document(document, issues);
        (issues.errors().count() == before).then(|| Self {
            document: document.clone(),
            selector,
            rate_limits: rate_limits.filter(|_| spec.local_rate_limit.is_some()),
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
    let below = below.into_iter().map(|mut field| {
        field.path = format!("{at}.{}", field.path);
        field.same_as = field.same_as.map(|path| format!("{at}.{path}"));
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

    /// Local rate limits in force.
    pub(crate) fn rate_limits(&mut self) -> RateLimits {
        self.section(RateLimits::FIELD, |policy| policy.rate_limits.as_ref()).cloned().unwrap_or_default()
    }

    /// What was found on the way.
    pub(crate) fn into_warnings(self) -> Vec<Issue> {
        self.warnings
    }

    /// A section of the narrowest scope that has it, whole; where several policies of a scope do, the oldest's, as
    /// istio ComposePeerAuthentication has it.
    fn section<T>(&mut self, field: &str, section: impl Fn(&'a MeshPolicy) -> Option<&'a T>) -> Option<&'a T> {
        let mut chosen: Option<(Scope, &'a MeshPolicy, &'a T)> = None;
        for (scope, policy) in &self.policies {
            let Some(found) = section(policy) else { continue };
            match chosen {
                Some((of, first, _)) if of == *scope => {
                    let message = format!(
                        "not in force: MeshPolicy {} is older, and its scope is the same",
                        first.document.name()
                    );
                    self.warnings.push(policy.document.warning(field, message));
                }
                Some((of, ..)) if of > *scope => {}
                _ => chosen = Some((*scope, policy, found)),
            }
        }
        chosen.map(|(_, _, section)| section)
    }
}

#[cfg(test)]
mod tests {
    use mesh_routing::Side;

    use super::*;

    /// Names of the limits in force for app a of namespace default, and the warnings.
    fn in_force(policies: &[(&str, &str, &str)]) -> (Vec<String>, String) {
        let mut issues = Issues::default();
        let policies: Vec<_> = policies
            .iter()
            .map(|(name, namespace, spec)| {
                let limit = "tokenBucket: {maxTokens: 1, fillInterval: 1s}";
                let spec = spec.replace("LIMIT", &format!("localRateLimit: {{inbound: [{{{limit}}}]}}"));
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
        (limits.iter(Side::Inbound).map(mesh_routing::RateLimit::name).collect(), issues.to_string())
    }

    /// istio ComposePeerAuthentication: workload over namespace over mesh; in a scope the oldest.
    #[test]
    fn the_narrowest_scope_that_has_a_section_gives_it_whole() {
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
            // An empty section takes them out of force.
            (&[mesh, ("w", "default", "localRateLimit: {}")], "", ""),
            // Others' policies.
            (&[("o", "other", "LIMIT"), ("b", "default", "selector: {matchLabels: {app: b}}, LIMIT")], "", ""),
            (&[("o", "other", OF_A)], "", ""),
            (
                &[namespace, ("second", "default", "LIMIT")],
                "default/namespace",
                "MeshPolicy default/second localRateLimit: not in force: MeshPolicy namespace is older",
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

    #[test]
    fn unknown_fields_and_bad_selectors_are_errors_with_a_place() {
        for (spec, expected) in [
            ("{localRateLimits: {}}", "p.yaml:4:8: error: MeshPolicy default/p: unknown field `localRateLimits`"),
            ("{selector: {labels: {}}}", "MeshPolicy default/p selector: unknown field `labels`"),
            ("{selector: {matchLabels: {\"\": a}}}", "selector.matchLabels: empty key is not supported"),
            ("{selector: {matchLabels: {app: 'a*'}}}", "wildcard is not supported in selector: \"app=a*\""),
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
