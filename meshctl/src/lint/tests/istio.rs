//! istio/tables/pkg_config_analysis_analyzers_analyzers_test.json: Istio's cases, run as Istio runs them, one analyzer
//! at a time; by code, object and place.

use std::collections::BTreeMap;

use mesh_core::config::{Document, Issues};
use serde_json::Value;

use super::codes_table::messages;
use crate::lint::{Finding, analyze, check, report::Findings, resources::Resources};

/// Analyzers whose cases are not run: none is about a resource that a mesh reads. With the number of their cases.
const LEFT_OUT: [(&str, usize, &str); 15] = [
    ("authn.BlockedCIDRsAnalyzer", 3, "istiod's Deployment and its environment"),
    ("deployment.ApplicationUIDAnalyzer", 4, "Pods and Deployments: there is no sidecar to run as UID 1337"),
    ("deployment.ServiceAssociationAnalyzer", 3, "Deployments"),
    ("envoyfilter.EnvoyPatchAnalyzer", 6, "EnvoyFilter: there is no Envoy to patch"),
    ("externalcontrolplane.ExternalControlPlaneAnalyzer", 5, "webhooks of a control plane"),
    ("gateway.CertificateAnalyzer", 1, "Gateway"),
    ("gateway.ConflictingGatewayAnalyzer", 6, "Gateway"),
    ("gateway.IngressGatewayPortAnalyzer", 8, "Gateway"),
    ("gateway.SecretAnalyzer", 2, "Gateway and Secrets"),
    ("injection.Analyzer", 2, "sidecar injection: Namespaces and Pods"),
    ("injection.ImageAnalyzer", 5, "sidecar injection: proxy images"),
    ("injection.ImageAutoAnalyzer", 1, "sidecar injection: proxy images"),
    ("k8sgateway.CRDVersionAnalyzer", 1, "CustomResourceDefinitions of a cluster"),
    ("multicluster.MeshNetworksAnalyzer", 1, "MeshNetworks of a multi-cluster control plane"),
    ("webhook.Analyzer", 1, "webhooks of a control plane"),
];
/// Istio does not run it with the others either (`skipAll`).
const MATURITY: (&str, usize, &str) =
    ("maturity.AlphaAnalyzer", 1, "alpha annotations, all but one of them on Pods and Deployments");

/// Expectations about others' objects, in cases that are run for ours.
const NOT_OURS: [&str; 3] = ["Pod ", "Deployment ", "Namespace "];

struct Case<'a> {
    name: &'a str,
    /// `None` where the table has a Go expression: the case `dupmatches`, which is schema validation.
    analyzer: Option<&'a str>,
    files: Vec<&'a str>,
    mesh_config: Option<&'a str>,
    expected: Vec<(&'a str, String)>,
}

impl<'a> Case<'a> {
    fn read(case: &'a Value) -> Self {
        let text = |value: &'a Value| value.as_str().unwrap();
        let list = |key: &str| case[key].as_array().map(Vec::as_slice).unwrap_or_default();
        Self {
            name: text(&case["name"]),
            analyzer: case["analyzer"]["$type"].as_str(),
            files: list("inputFiles").iter().map(text).collect(),
            mesh_config: case["meshConfigFile"].as_str(),
            expected: list("expected").iter().map(|pair| (text(&pair[0]), object(text(&pair[1])))).collect(),
        }
    }

    fn run(&self) -> Option<(BTreeMap<String, String>, Vec<Finding>)> {
        let mut texts = BTreeMap::new();
        let mut documents = Vec::new();
        let mut issues = Issues::default();
        for file in self.files.iter().copied().chain(self.mesh_config) {
            let path = mesh_test::shared(&format!("istio/analyzers/{file}"))?;
            let mut text = std::fs::read_to_string(path).unwrap();
            if self.mesh_config == Some(file) {
                let indented: String = text.lines().map(|line| format!("  {line}\n")).collect();
                text = format!("mesh:\n{indented}");
            }
            documents.extend(Document::parse_all(file, &text, &mut issues));
            texts.insert(file.to_owned(), text);
        }
        assert!(!issues.has_errors(), "{}: {issues}", self.name);
        let resources = Resources::new(&documents);
        let mut findings = Findings::default();
        match self.analyzer {
            Some(name) => {
                let analyzer = analyze::ALL.iter().find(|analyzer| analyzer.name == name);
                let analyzer = analyzer.unwrap_or_else(|| panic!("{}: nobody is {name}", self.name));
                (analyzer.run)(&resources, &mut findings);
                for finding in &findings.0 {
                    assert!(analyzer.finds.contains(finding.code), "{name} does not say that it finds {finding}");
                }
            }
            None => {
                let found = documents.iter().flat_map(check::check);
                let (ours, schema): (Vec<_>, Vec<_>) = found.partition(|finding| finding.code.id.starts_with("MESH"));
                // What Istio's validation has nothing to say about is not enforced here, and that is all.
                assert!(ours.iter().all(|finding| finding.code.id == "MESH0001"), "{}: {ours:?}", self.name);
                findings.0.extend(schema);
            }
        }
        Some((texts, findings.0))
    }
}

/// The table leaves out a namespace that the file leaves out.
fn object(name: &str) -> String {
    let (kind, rest) = name.split_once(' ').unwrap();
    if rest.contains('/') { name.to_owned() } else { format!("{kind} default/{rest}") }
}

/// What has to stand in the line that a finding points at, where its words say.
fn token(finding: &Finding) -> Option<&str> {
    let quoted = || finding.message.rsplit('"').nth(1);
    let last = |text: &'_ str, at: char| text.rsplit(at).next().map(str::len);
    match finding.code.name {
        "ReferencedResourceNotFound" => {
            let quoted = quoted()?;
            let length = ['+', ':', '='].into_iter().filter_map(|at| last(quoted, at)).min()?;
            Some(&quoted[quoted.len() - length..])
        }
        "ConflictingMeshGatewayVirtualServiceHosts" => finding
            .message
            .split("same host ")
            .nth(1)?
            .trim_start_matches('*')
            .split(['.', ' '])
            .find(|t| !t.is_empty()),
        "UnknownDestinationRuleHost" => finding.message.split(' ').nth(2),
        "UnknownAnnotation" => finding.message.strip_prefix("Unknown annotation: ").map(|_| ""),
        "NoServerCertificateVerificationDestinationLevel" | "NoServerCertificateVerificationPortLevel" => {
            finding.message.split("set to ").nth(1)?.split(' ').next()
        }
        "ConflictingServiceEntryProtocol" => Some("HTTP"),
        "Deprecated" => finding.path.rsplit('.').next().filter(|field| *field == "name").map(|_| "lightstep"),
        "NegativeConditionStatus" => finding.message.split("type=").nth(1)?.split(',').next(),
        _ => None,
    }
}

/// A place is inside of its object, and is the line with the value that the finding is about.
fn check_place(case: &Case<'_>, text: &str, finding: &Finding) {
    let lines: Vec<&str> = text.lines().collect();
    let at = finding.position.line as usize;
    let bounds = |line: &&&str| line.trim_end() == "---";
    let before = lines[..at].iter().rev().take_while(|line| !bounds(line)).count();
    let after = lines[at..].iter().take_while(|line| !bounds(line)).count();
    let document = lines[at - before..at + after].join("\n");
    let name = &finding.object.as_ref().unwrap().name;
    assert!(document.contains(&format!("name: {name}")), "{}: {finding} is outside of its object", case.name);
    let token = token(finding).unwrap_or_default();
    assert!(lines[at - 1].contains(token), "{}: {finding} points at {:?}", case.name, lines[at - 1]);
    assert!(!finding.path.is_empty(), "{}: {finding} has no field", case.name);
}

/// The words are Istio's: the parts of its template that are no arguments, in their order.
fn check_words(case: &Case<'_>, template: &str, finding: &Finding) {
    let mut rest = finding.message.as_str();
    for part in template.split('%').enumerate().map(|(index, part)| if index == 0 { part } else { &part[1..] }) {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("{}: {finding}\nhas no {part:?} of {template:?}", case.name));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn istios_cases() {
    let Some(path) = mesh_test::shared("istio/tables/pkg_config_analysis_analyzers_analyzers_test.json") else {
        return;
    };
    let table: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let Some(messages) = messages() else { return };
    let cases: Vec<Case<'_>> = table["tables"][0]["cases"].as_array().unwrap().iter().map(Case::read).collect();
    let (mut run, mut placed, mut left_out) = (0, 0, BTreeMap::new());
    let mut wrong = Vec::new();
    for case in &cases {
        let analyzer = case.analyzer.unwrap_or_default();
        if let Some((name, ..)) = LEFT_OUT.iter().chain([&MATURITY]).find(|(name, ..)| *name == analyzer) {
            *left_out.entry(*name).or_insert(0) += 1;
            continue;
        }
        let Some((texts, findings)) = case.run() else { return };
        let ours = case.expected.iter().filter(|(_, object)| !NOT_OURS.iter().any(|kind| object.starts_with(kind)));
        let mut expected: Vec<String> = ours.map(|(code, object)| format!("{code} {object}")).collect();
        let mut found: Vec<String> = findings
            .iter()
            .map(|finding| format!("{} {}", finding.code.name, finding.object.as_ref().unwrap()))
            .collect();
        expected.sort();
        found.sort();
        if expected != found {
            wrong.push(format!("{}:\n  want {expected:#?}\n  got  {found:#?}", case.name));
        }
        for finding in &findings {
            check_place(case, &texts[&*finding.file], finding);
            check_words(case, &messages[finding.code.id].2, finding);
            placed += 1;
        }
        run += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (name, count, reason) in LEFT_OUT.iter().chain([&MATURITY]) {
        assert_eq!(left_out.get(name), Some(count), "{name}: {reason}");
    }
    // None vanishes: those run, with what they found, and those left out by name.
    assert_eq!((run, placed, cases.len()), (54, 124, 104));
}

/// The lines that Istio's files mark by a comment.
#[test]
fn comments_in_istios_files_agree() {
    let Some(path) = mesh_test::shared("istio/analyzers/testdata/virtualservice_destinationhosts.yaml") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let marked = |words: &str| text.lines().position(|line| line.contains(words)).map(|at| at as u32 + 1);
    let case = Case {
        name: "marked",
        analyzer: Some("virtualservice.DestinationHostAnalyzer"),
        files: vec!["testdata/virtualservice_destinationhosts.yaml"],
        mesh_config: None,
        expected: Vec::new(),
    };
    let Some((_, findings)) = case.run() else { return };
    let found: Vec<u32> = findings.iter().map(|finding| finding.position.line).collect();
    for words in [
        "test destination null",
        "host: reviews-bogus # This host does not exist, should result in a validation error",
        "Should generate validation error, the SE is in another namespace",
        "No match for this port number, should generate an error",
    ] {
        assert!(found.contains(&marked(words).unwrap()), "{words}: {found:?}");
    }
}
