//! Every rule of routing and balancing has a test that quotes it.
//!
//! The rules are the rows marked M in the reference's tables of Istio's semantics. A test says which it is about in a
//! comment on it or in it, `istio.md <section>: "<words of the row>"`, and here the words are looked up: a quote that is in
//! no row, a comment that is not a test's and a row that no test quotes are failures. What comes out is the list of rules
//! and tests: `cargo test -p mesh-test --test clauses -- --nocapture`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The sections about plumbing, matches, actions, delegation, DestinationRule, ServiceEntry, and the Gateway API.
const SECTIONS: [&str; 7] = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.10"];
const MARK: &str = "istio.md ";

/// A row of a table: its section, its first cell, all of it in plain letters, and whether it must hold.
struct Row {
    section: String,
    name: String,
    words: String,
    must: bool,
}

/// A quote in a test.
struct Quote {
    section: String,
    words: String,
    test: Option<String>,
    place: String,
}

/// Without Markdown, and with the signs that a keyboard has.
fn plain(text: &str) -> String {
    let signs = [
        ("**", ""),
        ("`", ""),
        ("\\", ""),
        ("⇒", "=>"),
        ("→", "->"),
        ("≠", "!="),
        ("≥", ">="),
        ("≤", "<="),
        ("×", "x"),
        ("·", "*"),
        ("Σ", "sum "),
        ("…", "..."),
        ("—", "-"),
    ];
    let text = signs.iter().fold(text.to_owned(), |text, (sign, letters)| text.replace(sign, letters));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn rows(reference: &str) -> Vec<Row> {
    let mut section = String::new();
    let mut rows = Vec::new();
    for line in reference.lines() {
        if let Some(title) = line.strip_prefix('#') {
            section = title.trim_start_matches('#').split_whitespace().next().unwrap_or_default().to_owned();
        }
        let Some(cells) = line.strip_prefix('|') else { continue };
        let cells = cells.trim_end().trim_end_matches('|').replace("\\|", "\u{0}");
        let cells: Vec<String> = cells.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect();
        let (Some(name), Some(verdict)) = (cells.first(), cells.last()) else { continue };
        let must = verdict.starts_with('M');
        rows.push(Row { section: section.clone(), name: plain(name), words: plain(&cells.join(" | ")), must });
    }
    rows
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the workspace") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

/// Do attributes just above a line make it a test? A macro's may be between.
fn is_test(lines: &[&str], at: usize) -> bool {
    let above = lines[..at].iter().rev().map(|line| line.trim());
    above.take_while(|line| line.starts_with("#[") || line.starts_with("//")).any(|line| {
        let attribute = line.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
        line.starts_with("#[") && attribute.rsplit("::").next() == Some("test")
    })
}

/// The test that a comment is about: the one that it stands on, else the one that it stands in.
fn test_of(lines: &[&str], at: usize) -> Option<String> {
    let below = (at..lines.len()).find(|below| {
        let line = lines[*below].trim();
        !line.starts_with("//") && !line.starts_with("#[")
    })?;
    let own = function(lines[below]).filter(|_| is_test(lines, below));
    let around = || (0..at).rev().find_map(|above| function(lines[above]).filter(|_| is_test(lines, above)));
    own.or_else(around).map(str::to_owned)
}

fn quotes(root: &Path) -> Vec<Quote> {
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut quotes = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with("mesh-test/tests/clauses.rs")) {
        let text = fs::read_to_string(file).expect("a source file");
        let lines: Vec<&str> = text.lines().collect();
        let path = file.strip_prefix(root).unwrap_or(file).display().to_string();
        for (at, line) in lines.iter().enumerate() {
            let quote = line.split_once("//").and_then(|(_, comment)| comment.split_once(MARK));
            let Some((section, words)) = quote.and_then(|(_, quote)| quote.split_once(": \"")) else { continue };
            let place = format!("{path}:{}", at + 1);
            let words = words.trim_end().strip_suffix('"').unwrap_or_else(|| panic!("{place}: the quote does not end"));
            let test = test_of(&lines, at).map(|test| format!("{path} {test}"));
            quotes.push(Quote { section: section.to_owned(), words: plain(words), test, place });
        }
    }
    quotes
}

#[test]
fn every_rule_is_quoted_by_a_test() {
    let Some(reference) = mesh_test::shared("reference/istio.md") else { return };
    let rows = rows(&fs::read_to_string(reference).expect("the reference"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut wrong = Vec::new();
    let mut tests: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for quote in quotes(root) {
        let Quote { section, words, test, place } = quote;
        let holds = |(_, row): &(usize, &Row)| row.section == section && row.words.contains(&words);
        let found: Vec<usize> = rows.iter().enumerate().filter(holds).map(|(index, _)| index).collect();
        match test {
            _ if words.len() < 12 => wrong.push(format!("{place}: too few words to tell a rule by: {words}")),
            _ if found.is_empty() => wrong.push(format!("{place}: no row of {section} says: {words}")),
            None => wrong.push(format!("{place}: this is no test's comment")),
            Some(test) => {
                for index in found {
                    tests.entry(index).or_default().insert(test.clone());
                }
            }
        }
    }
    let mut rules = 0;
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.must) {
        let tests = tests.remove(&index).unwrap_or_default();
        let required = SECTIONS.contains(&&*row.section);
        rules += usize::from(required);
        if required || !tests.is_empty() {
            println!("{} {}", row.section, row.name);
            tests.iter().for_each(|test| println!("    {test}"));
        }
        if required && tests.is_empty() {
            wrong.push(format!("no test quotes {} {}", row.section, row.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A reference that is read wrongly has no rows.
    assert!(rules >= 80, "{rules}");
}
