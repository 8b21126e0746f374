//! One array of objects, in the order of files and lines.

use std::io::{self, Write};

use serde::Serialize;

use crate::lint::{Finding, Level};

#[derive(Serialize)]
struct Line<'a> {
    code: &'a str,
    title: &'a str,
    severity: Level,
    message: &'a str,
    kind: Option<&'a str>,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    path: &'a str,
    file: &'a str,
    line: u32,
    column: u32,
}

impl<'a> From<&'a Finding> for Line<'a> {
    fn from(finding: &'a Finding) -> Self {
        let object = finding.object.as_ref();
        Self {
            code: finding.code.id,
            title: finding.code.name,
            severity: finding.code.level,
            message: &finding.message,
            kind: object.map(|object| &*object.kind),
            namespace: object.map(|object| &*object.namespace),
            name: object.map(|object| &*object.name),
            path: &finding.path,
            file: &finding.file,
            line: finding.position.line,
            column: finding.position.column,
        }
    }
}

pub(super) fn write(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    let lines: Vec<Line<'_>> = findings.iter().map(Line::from).collect();
    serde_json::to_writer_pretty(&mut *out, &lines)?;
    writeln!(out)
}
