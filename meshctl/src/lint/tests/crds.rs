//! istio/crd-tests: the verdict agrees with that of the custom resources' schemas; the words are the validator's.

use crate::lint::Level;

use super::found;

#[test]
fn the_verdict_is_that_of_istios_schemas() {
    let mut counted = Vec::new();
    for kind in ["destinationrule", "peerauth", "telemetry", "workloadentry"] {
        for (verdict, good) in [("valid", true), ("invalid", false)] {
            let name = format!("{kind}-{verdict}.yaml");
            let Some(path) = mesh_test::shared(&format!("istio/crd-tests/{name}")) else { return };
            let text = std::fs::read_to_string(path).unwrap();
            // `_err` is the test's own key.
            let lines = text.lines().filter(|line| !line.starts_with("_err"));
            let text: String = lines.map(|line| format!("{line}\n")).collect();
            let documents: Vec<&str> = text.split("---\n").filter(|text| text.contains("kind:")).collect();
            counted.push(documents.len());
            for document in documents {
                let findings = found(document);
                let errors: Vec<String> = findings
                    .iter()
                    .filter(|finding| finding.code.id == "IST0106")
                    .map(|finding| finding.to_string())
                    .collect();
                assert_eq!(errors.is_empty(), good, "{name}:\n{document}\n{errors:#?}");
                assert!(!findings.iter().any(|f| f.code.id == "MESH0002"), "{name}: {findings:?}");
                assert!(findings.iter().all(|f| f.code.level != Level::Error || f.position.line > 0));
            }
        }
    }
    // Valid and invalid ones of each kind.
    assert_eq!(counted, [4, 3, 2, 6, 3, 4, 5, 7]);
}
