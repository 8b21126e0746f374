//! One finding a line.

use std::io::{self, Write};

use crate::lint::Finding;

pub(super) fn write(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    findings.iter().try_for_each(|finding| writeln!(out, "{}", visible(&finding.to_string())))
}

/// Names and values that a finding quotes are anybody's: they begin no line of their own, and no escape sequence.
fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            visible.extend(character.escape_default());
        } else {
            visible.push(character);
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        assert_eq!(visible("host a\n::error::b\u{1b}[31mé"), "host a\\n::error::b\\u{1b}[31mé");
    }
}
