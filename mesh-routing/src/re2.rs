//! RE2's dialect on bytes, as Envoy reads an Istio regex.
//!
//! Rust's `regex` is RE2's child, but not its twin: it knows set operations in classes and stacked repetitions,
//! which RE2 reads as literals or refuses, and it has no `\Q..\E`, `\C` or octal escapes. Two readings of one rule
//! are two meshes. So a pattern is read here once, by RE2's grammar, and written again in a form that has one
//! meaning only: every literal byte as `\xHH`. Both engines are linear in the input.
//!
//! measured on Envoy 1.40 (t10): patterns work on bytes (Latin-1): `....` matches two two-byte characters.

mod literals;
mod pattern;

pub(crate) use literals::{AnyOf, Literals};
pub(crate) use pattern::Pattern;

use std::fmt::Write as _;

use regex::bytes::{Regex, RegexBuilder};

/// istio validation: "regex is too large, max length allowed is 1024".
const MAX_LENGTH: usize = 1024;
/// RE2's own limit on a counted repetition.
const MAX_REPEAT: u32 = 1000;
/// Compiled size. Istio allows RE2 programs of 32,768 instructions.
const MAX_PROGRAM: usize = 1 << 20;

const CLASS_SPACE: &str = r"\x09\x0a\x0c\x0d\x20";
const CLASS_NOT_SPACE: &str = r"\x00-\x08\x0b\x0e-\x1f\x21-\xff";

/// Compile a pattern for a full match.
pub(crate) fn compile(pattern: &str) -> Result<Pattern, String> {
    Pattern::new(&translate(pattern)?, pattern).map_err(|error| reason(&error))
}

/// Compile a pattern that is looked for anywhere, as in a regex rewrite.
pub(crate) fn compile_search(pattern: &str) -> Result<Regex, String> {
    engine(&translate(pattern)?).map_err(|error| reason(&error))
}

fn translate(pattern: &str) -> Result<String, String> {
    if pattern.len() > MAX_LENGTH {
        return Err(format!("regex is too large, max length allowed is {MAX_LENGTH}"));
    }
    Translator { rest: pattern.as_bytes(), out: String::with_capacity(pattern.len() * 2) }.run()
}

fn reason(error: &regex::Error) -> String {
    match error {
        // Its message shows our spelling of the pattern: only its last line says what is wrong.
        regex::Error::Syntax(text) => text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        other => other.to_string(),
    }
}

fn build(translated: &str) -> Result<Regex, regex::Error> {
    engine(&whole(translated))
}

fn engine(translated: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(translated).unicode(false).size_limit(MAX_PROGRAM).build()
}

/// Anchored at both ends: Envoy's safe_regex matches the whole value.
fn whole(translated: &str) -> String {
    format!(r"\A(?:{translated})\z")
}

struct Translator<'a> {
    rest: &'a [u8],
    out: String,
}

impl Translator<'_> {
    fn run(mut self) -> Result<String, String> {
        let mut depth = 0_u32;
        // After a repetition another one is refused, as in Perl.
        let mut repeated = false;
        while let Some(byte) = self.next() {
            let mut repetition = false;
            match byte {
                b'\\' => self.escape()?,
                b'[' => self.class()?,
                b'(' => {
                    depth += 1;
                    self.group()?;
                }
                b')' => {
                    depth = depth.checked_sub(1).ok_or("unexpected )")?;
                    self.out.push(')');
                }
                b'*' | b'+' | b'?' => {
                    if repeated {
                        return Err(format!("bad repetition operator: {}", char::from(byte)));
                    }
                    self.out.push(char::from(byte));
                    repetition = true;
                }
                b'{' => match self.counts()? {
                    Some(counts) => {
                        if repeated {
                            return Err(format!("bad repetition operator: {counts}"));
                        }
                        self.out.push_str(&counts);
                        repetition = true;
                    }
                    None => self.literal(b'{'),
                },
                b'.' | b'^' | b'$' | b'|' => self.out.push(char::from(byte)),
                literal => self.literal(literal),
            }
            if repetition && self.rest.first() == Some(&b'?') {
                self.next();
                self.out.push('?');
            }
            repeated = repetition;
        }
        if depth > 0 {
            return Err("missing closing )".into());
        }
        Ok(self.out)
    }

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn eat(&mut self, prefix: &[u8]) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn literal(&mut self, byte: u8) {
        let _ = write!(self.out, r"\x{byte:02x}");
    }

    /// `{n}`, `{n,}`, `{n,m}`; anything else after `{` is literal text.
    fn counts(&mut self) -> Result<Option<String>, String> {
        let Some(end) = self.rest.iter().position(|b| *b == b'}') else { return Ok(None) };
        let inner = &self.rest[..end];
        let mut parts = inner.splitn(2, |b| *b == b',');
        let (low, high) = (parts.next().unwrap_or_default(), parts.next());
        let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        if low.is_empty() || !digits(low) || !high.is_none_or(digits) {
            return Ok(None);
        }
        let text = format!("{{{}}}", String::from_utf8_lossy(inner));
        let bad = || format!("invalid repetition size: {text}");
        let number = |part: &[u8]| {
            let value: Option<u32> = std::str::from_utf8(part).ok().and_then(|digits| digits.parse().ok());
            value.filter(|n| *n <= MAX_REPEAT).ok_or_else(bad)
        };
        let low = number(low)?;
        if let Some(high) = high.filter(|high| !high.is_empty())
            && number(high)? < low
        {
            return Err(bad());
        }
        self.rest = &self.rest[end + 1..];
        Ok(Some(text))
    }

    /// What follows `(`. Rust's own flags (`x`, `u`, `R`) are not RE2's; look-around is refused by both.
    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if !self.eat(b"?") {
            return Ok(());
        }
        self.out.push('?');
        let named = self.rest.starts_with(b"P<")
            || (self.rest.starts_with(b"<") && !matches!(self.rest.get(1), Some(b'=' | b'!')));
        let end = if named { b'>' } else { b':' };
        while let Some(byte) = self.rest.first().copied() {
            let allowed = if named {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'<' | b'>')
            } else {
                matches!(byte, b'i' | b'm' | b's' | b'U' | b'-' | b':' | b')')
            };
            if !allowed {
                return Err(format!("invalid perl operator: (?{}", char::from(byte)));
            }
            if byte == b')' {
                // `(?i)`: flags of what follows. The caller's loop closes it.
                return Ok(());
            }
            self.next();
            self.out.push(char::from(byte));
            if byte == end {
                return Ok(());
            }
        }
        Err("missing closing )".into())
    }

    fn escape(&mut self) -> Result<(), String> {
        if self.eat(b"Q") {
            while !self.rest.is_empty() && !self.eat(b"\\E") {
                if let Some(byte) = self.next() {
                    self.literal(byte);
                }
            }
            return Ok(());
        }
        match self.rest.first() {
            Some(b'C') => {
                self.next();
                self.out.push_str("(?s:.)");
            }
            Some(byte @ (b'A' | b'z' | b'b' | b'B' | b'd' | b'D' | b'w' | b'W')) => {
                // In a group, because Rust reads `\b{start}` as one atom.
                let _ = write!(self.out, r"(?:\{})", char::from(*byte));
                self.next();
            }
            Some(b's') => {
                self.next();
                let _ = write!(self.out, "[{CLASS_SPACE}]");
            }
            Some(b'S') => {
                self.next();
                let _ = write!(self.out, "[^{CLASS_SPACE}]");
            }
            _ => {
                let byte = self.escaped_byte()?;
                self.literal(byte);
            }
        }
        Ok(())
    }

    /// An escape that stands for one byte.
    fn escaped_byte(&mut self) -> Result<u8, String> {
        let invalid = |what: &str| format!(r"invalid escape sequence: \{what}");
        let Some(byte) = self.next() else { return Err(r"trailing \".into()) };
        Ok(match byte {
            b'a' => 0x07,
            b'f' => 0x0c,
            b't' => b'\t',
            b'n' => b'\n',
            b'r' => b'\r',
            b'v' => 0x0b,
            b'x' => return self.hex(),
            // A single digit other than 0 would be a back-reference.
            b'1'..=b'7' if !matches!(self.rest.first(), Some(b'0'..=b'7')) => {
                return Err(invalid(&char::from(byte).to_string()));
            }
            b'0'..=b'7' => {
                let mut value = u32::from(byte - b'0');
                for _ in 0..2 {
                    let Some(digit @ b'0'..=b'7') = self.rest.first().copied() else { break };
                    self.next();
                    value = value * 8 + u32::from(digit - b'0');
                }
                u8::try_from(value).map_err(|_| invalid("octal above \\377"))?
            }
            punctuation if punctuation.is_ascii_punctuation() || !punctuation.is_ascii() => punctuation,
            other => return Err(invalid(&char::from(other).to_string())),
        })
    }

    /// `\x7f` or `\x{7f}`; nothing above a byte, as in Latin-1.
    fn hex(&mut self) -> Result<u8, String> {
        let digits = if self.eat(b"{") {
            let end = self.rest.iter().position(|b| *b == b'}').ok_or(r"invalid escape sequence: \x{")?;
            let digits = &self.rest[..end];
            self.rest = &self.rest[end + 1..];
            digits
        } else {
            let (digits, rest) = self.rest.split_at_checked(2).ok_or(r"invalid escape sequence: \x")?;
            self.rest = rest;
            digits
        };
        let text = String::from_utf8_lossy(digits);
        let value = u32::from_str_radix(&text, 16).ok().filter(|_| !text.starts_with('+'));
        value.and_then(|v| u8::try_from(v).ok()).ok_or_else(|| format!(r"invalid escape sequence: \x{{{text}}}"))
    }

    /// A class: `[` other than `[:name:]`, `&&`, `--` and `~~` are literal.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.eat(b"^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if self.rest.is_empty() {
                return Err("missing closing ]".into());
            }
            if !first && self.eat(b"]") {
                self.out.push(']');
                return Ok(());
            }
            first = false;
            if self.rest.starts_with(b"[:") && self.posix()? {
                continue;
            }
            if self.class_escape() {
                continue;
            }
            let low = self.class_byte()?;
            self.literal(low);
            if self.rest.first() == Some(&b'-') && self.rest.get(1).is_some_and(|b| *b != b']') {
                self.next();
                let high = self.class_byte()?;
                if high < low {
                    return Err(format!("invalid character class range: {}-{}", char::from(low), char::from(high)));
                }
                self.out.push('-');
                self.literal(high);
            }
        }
    }

    fn class_byte(&mut self) -> Result<u8, String> {
        match self.next() {
            Some(b'\\') => self.escaped_byte(),
            Some(byte) => Ok(byte),
            None => Err("missing closing ]".into()),
        }
    }

    fn class_escape(&mut self) -> bool {
        let [b'\\', letter @ (b'd' | b'D' | b'w' | b'W' | b's' | b'S'), ..] = *self.rest else { return false };
        self.rest = &self.rest[2..];
        match letter {
            b's' => self.out.push_str(CLASS_SPACE),
            b'S' => self.out.push_str(CLASS_NOT_SPACE),
            letter => {
                self.out.push('\\');
                self.out.push(char::from(letter));
            }
        }
        true
    }

    /// `[:alpha:]`, where a closing `:]` makes it one.
    fn posix(&mut self) -> Result<bool, String> {
        let Some(end) = self.rest.windows(2).position(|pair| pair == b":]") else { return Ok(false) };
        let name = String::from_utf8_lossy(&self.rest[2..end.max(2)]).into_owned();
        let known = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        if !known.contains(&name.trim_start_matches('^')) {
            return Err(format!("invalid character class range: [:{name}:]"));
        }
        let _ = write!(self.out, "[:{name}:]");
        self.rest = &self.rest[end + 2..];
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
