//! GitHub's workflow commands.
//!
//! GitHub Actions, "Workflow commands", and actions/toolkit `command.ts` for the escapes: `%`, CR and LF everywhere, `:`
//! and `,` in properties too.

use std::io::{self, Write};

use crate::lint::{Finding, Level};

pub(super) fn write(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    findings.iter().try_for_each(|finding| writeln!(out, "{}", command(finding)))
}

fn command(finding: &Finding) -> String {
    let command = match finding.code.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "notice",
    };
    let mut message = String::new();
    if let Some(object) = &finding.object {
        message = format!("{object}{} ", if finding.path.is_empty() { ":" } else { "" });
    }
    if !finding.path.is_empty() {
        message += &format!("{}: ", finding.path);
    }
    format!(
        "::{command} file={},line={},col={},title={}::{}",
        property(&finding.file),
        finding.position.line,
        finding.position.column,
        property(&format!("{} {}", finding.code.id, finding.code.name)),
        escape(&(message + &finding.message)),
    )
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    escape(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_escape_more_than_messages() {
        assert_eq!(property("a,b:c%\n"), "a%2Cb%3Ac%25%0A");
        assert_eq!(escape("a,b:c%\r\n"), "a,b:c%25%0D%0A");
    }
}
