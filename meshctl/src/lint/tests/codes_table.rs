//! Our table of codes against Istio's (istio/analyzers/messages.yaml).

use std::collections::{BTreeMap, HashSet};

use crate::lint::{Level, codes};

/// What messages.yaml says of a code: name, level, template.
pub(super) fn messages() -> Option<BTreeMap<String, (String, Level, String)>> {
    let text = std::fs::read_to_string(mesh_test::shared("istio/analyzers/messages.yaml")?).unwrap();
    let mut messages = BTreeMap::new();
    let (mut name, mut code, mut level) = (String::new(), String::new(), Level::Info);
    for line in text.lines() {
        let value = |key: &str| line.trim().strip_prefix(key).map(|rest| rest.trim().to_owned());
        if let Some(value) = value("- name: \"") {
            name = value.trim_end_matches('"').to_owned();
        } else if let Some(value) = value("code:") {
            code = value;
        } else if let Some(value) = value("level:") {
            level = match value.as_str() {
                "Error" => Level::Error,
                "Warning" => Level::Warning,
                _ => Level::Info,
            };
        } else if let Some(value) = value("template:") {
            messages.insert(code.clone(), (name.clone(), level, value.trim_matches('"').to_owned()));
        }
    }
    Some(messages)
}

#[test]
fn names_and_levels_are_istios() {
    let Some(messages) = messages() else { return };
    assert!(messages.len() > 60);
    for code in codes::ALL.iter().filter(|code| code.id.starts_with("IST")) {
        let (name, level, _) = &messages[code.id];
        assert_eq!((code.name, code.level), (name.as_str(), *level), "{}", code.id);
    }
}

#[test]
fn every_code_is_there_once() {
    let ids: HashSet<&str> = codes::ALL.iter().map(|code| code.id).collect();
    assert_eq!(ids.len(), codes::ALL.len());
    assert!(codes::ALL.iter().all(|code| code.id.starts_with("IST") || code.id.starts_with("MESH")));
}

/// docs/lint.md has every code, with its level and name.
#[test]
fn the_page_has_every_code() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lint.md");
    let page = std::fs::read_to_string(page).expect("docs/lint.md is there");
    let rows = page.lines().filter(|line| line.starts_with("| IST") || line.starts_with("| MESH"));
    let rows: Vec<String> = rows.map(|line| line.split(" | ").take(3).collect::<Vec<_>>().join(" ")).collect();
    let codes: Vec<String> =
        codes::ALL.iter().map(|code| format!("| {} {} {}", code.id, code.level, code.name)).collect();
    assert_eq!(rows, codes);
}
