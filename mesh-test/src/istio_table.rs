//! Istio's own test tables: Go's cases as JSON, read in place.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::shared;

/// A table of one of Istio's test files.
#[derive(Clone, Debug)]
pub struct IstioTable {
    /// The Go test, with the file and line it stands at.
    pub test: String,
    cases: Vec<Value>,
}

/// The tables of `istio/tables/<file>.json`, in order. `None` where the shared data is absent.
///
/// # Panics
/// When there are other tables in it than `tests` names: none is passed over in silence.
#[must_use]
pub fn istio_tables(file: &str, tests: &[&str]) -> Option<Vec<IstioTable>> {
    let path = shared(&format!("istio/tables/{file}.json"))?;
    let text = std::fs::read_to_string(path).expect("a readable table");
    let read: Value = serde_json::from_str(&text).expect("JSON");
    let tables = read["tables"].as_array().expect("`tables`");
    let names: Vec<&str> = tables.iter().map(|table| table["test"].as_str().expect("`test`")).collect();
    assert_eq!(names, tests, "tables of {file}");
    let table = |table: &Value| IstioTable {
        test: format!("{} ({}:{})", table["test"].as_str().unwrap_or_default(), read["file"], table["line"]),
        cases: table["cases"].as_array().expect("`cases`").clone(),
    };
    Some(tables.iter().map(table).collect())
}

impl IstioTable {
    /// Run every case but those left out by name, each with the reason why, and give the number of either.
    ///
    /// `name` tells cases apart. `run` gets the name for its messages.
    ///
    /// # Panics
    /// When a name that is left out is no case's.
    pub fn run(
        &self,
        left_out: &[(&str, &str)],
        name: impl Fn(&Value) -> String,
        mut run: impl FnMut(&str, &Value),
    ) -> (usize, usize) {
        let mut unknown: BTreeSet<&str> = left_out.iter().map(|(name, _)| *name).collect();
        let mut counts = (0, 0);
        for case in &self.cases {
            let name = name(case);
            if left_out.iter().any(|(left_out, _)| *left_out == name) {
                unknown.remove(&*name);
                counts.1 += 1;
            } else {
                run(&format!("{}: {name}", self.test), case);
                counts.0 += 1;
            }
        }
        assert!(unknown.is_empty(), "{}: left out and not there: {unknown:?}", self.test);
        counts
    }
}
