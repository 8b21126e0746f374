//! All of it together: files in, findings out.

use std::{collections::HashMap, num::NonZero, sync::Arc, thread};

use mesh_core::config::{Document, Issues, ObjectRef};

use super::{Code, File, Finding, Level, analyze, check, codes, resources::Resources, suppress::suppresses};

/// What was found, and in how much.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// By file and line.
    pub findings: Vec<Finding>,
    /// How many objects were looked at, other people's included.
    pub objects: usize,
    /// How many files they stand in.
    pub files: usize,
}

impl Report {
    /// The worst level among the findings.
    #[must_use]
    pub fn worst(&self) -> Option<Level> {
        self.findings.iter().map(|finding| finding.code.level).max()
    }

    /// `2 errors, 1 warning, 0 infos in 12 objects of 3 files`.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let of = |level| self.findings.iter().filter(|finding| finding.code.level == level).count();
        format!(
            "{}, {}, {} in {} of {}",
            count(of(Level::Error), "error"),
            count(of(Level::Warning), "warning"),
            count(of(Level::Info), "info"),
            count(self.objects, "object"),
            count(self.files, "file"),
        )
    }
}

/// Findings as analyzers add them.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    /// Add one at a field, unless the object asks not to be told.
    pub(super) fn add(
        &mut self,
        code: &'static Code,
        document: &Document,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        if !suppresses(document, code) {
            self.0.push(Finding::new(code, document, path.into(), message.into()));
        }
    }
}

/// Look at files.
#[must_use]
pub fn lint(files: Vec<File>) -> Report {
    let read = read(&files);
    let mut findings = Findings::default();
    let mut documents = Vec::new();
    for (found, read) in read {
        findings.0.extend(found);
        documents.extend(read);
    }
    defined_twice(&documents, &mut findings);
    let resources = Resources::new(&documents);
    for analyzer in analyze::ALL {
        (analyzer.run)(&resources, &mut findings);
    }
    let mut findings = findings.0;
    findings.sort_by(|a, b| a.place().cmp(&b.place()));
    findings.dedup_by(|a, b| a.place() == b.place() && a.path == b.path);
    Report { findings, objects: documents.len(), files: files.len() }
}

/// Read and check each file's objects, on all cores: they have nothing to do with each other yet.
fn read(files: &[File]) -> Vec<(Vec<Finding>, Vec<Document>)> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let chunk = files.len().div_ceil(cores).max(1);
    thread::scope(|scope| {
        let readers: Vec<_> =
            files.chunks(chunk).map(|files| scope.spawn(|| files.iter().map(read_file).collect::<Vec<_>>())).collect();
        readers.into_iter().flat_map(|reader| reader.join().expect("reading does not panic")).collect()
    })
}

fn read_file(file: &File) -> (Vec<Finding>, Vec<Document>) {
    let mut findings = Vec::new();
    let mut documents = Vec::new();
    match &file.text {
        Ok(text) => {
            let mut issues = Issues::default();
            documents = Document::parse_all(&file.name, text, &mut issues);
            findings.extend(issues.iter().map(check::unreadable));
        }
        Err((position, why)) => findings.push(Finding {
            code: &codes::NOT_READABLE,
            object: None,
            path: String::new(),
            file: Arc::clone(&file.name),
            position: *position,
            message: why.clone(),
        }),
    }
    findings.extend(documents.iter().flat_map(check::check));
    (findings, documents)
}

/// A mesh does not start with two of the same: which one is meant?
fn defined_twice(documents: &[Document], findings: &mut Findings) {
    let mut first: HashMap<(&str, &ObjectRef), &Document> = HashMap::new();
    for document in documents.iter().filter(|document| check::is_ours(document)) {
        if document.name().is_empty() {
            continue;
        }
        let key = (document.group(), document.object());
        match first.get(&key) {
            Some(known) => {
                let message =
                    format!("defined twice, first at {}:{}", known.source(), known.root().locate("metadata.name"));
                findings.add(&codes::DEFINED_TWICE, document, "metadata.name", message);
            }
            None => {
                first.insert(key, document);
            }
        }
    }
}
