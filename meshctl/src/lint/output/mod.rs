//! Findings as a person, a program or a pull request reads them.

mod github;
mod json;
mod text;

use std::io::{self, Write};

use clap::ValueEnum;

use super::Report;

/// How findings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Output {
    /// One a line: `file:line:column: level: [code] Kind ns/name field: what`, which editors jump to.
    #[default]
    Text,
    /// One array of objects.
    Json,
    /// GitHub's workflow commands: annotations in a pull request.
    Github,
}

impl Output {
    /// Write all findings of a report.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(self, report: &Report, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Text => text::write(&report.findings, out),
            Self::Json => json::write(&report.findings, out),
            Self::Github => github::write(&report.findings, out),
        }
    }
}
