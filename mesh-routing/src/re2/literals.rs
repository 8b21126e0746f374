//! What every match of a pattern is known to contain: an index finds the patterns worth trying by it.

use regex_syntax::{
    ParserBuilder,
    hir::{Class, ClassBytesRange, Hir, HirKind},
};

/// More alternatives than this tell little about a value.
const MOST_ALTERNATIVES: usize = 4;

/// One of these is in every match.
pub(crate) type AnyOf = Box<[Box<[u8]>]>;

/// The literal text of a pattern.
#[derive(Clone, Debug, Default)]
pub(crate) struct Literals {
    /// Every match begins with this; empty where nothing is known.
    pub(crate) prefix: Box<[u8]>,
    /// It begins with it in any case, as under `(?i)`; the prefix is in lower case then.
    pub(crate) ignores_case: bool,
    /// Of each of these, every match contains one.
    pub(crate) inside: Box<[AnyOf]>,
}

impl Literals {
    /// Of a pattern in the form that has one meaning only. What cannot be read has no literals: that is always safe.
    pub(super) fn of(translated: &str) -> Self {
        let Ok(hir) = ParserBuilder::new().unicode(false).utf8(false).build().parse(translated) else {
            return Self::default();
        };
        let (mut prefix, mut ignores_case) = (Vec::new(), false);
        begin(&hir, &mut prefix, &mut ignores_case);
        if ignores_case {
            prefix.make_ascii_lowercase();
        }
        let mut inside = Vec::new();
        contain(&hir, &mut inside);
        Self { prefix: prefix.into(), ignores_case, inside: inside.into() }
    }
}

/// Append what every match begins with; true when that is all there is to it. An assertion (`^`, `\b`) takes no bytes.
fn begin(hir: &Hir, prefix: &mut Vec<u8>, ignores_case: &mut bool) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => {
            prefix.extend_from_slice(&literal.0);
            true
        }
        HirKind::Capture(capture) => begin(&capture.sub, prefix, ignores_case),
        HirKind::Concat(parts) => parts.iter().all(|part| begin(part, prefix, ignores_case)),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            begin(&repetition.sub, prefix, ignores_case);
            false
        }
        HirKind::Class(class) => match letter(class) {
            Some(letter) => {
                prefix.push(letter);
                *ignores_case = true;
                true
            }
            None => false,
        },
        HirKind::Repetition(_) | HirKind::Alternation(_) => false,
    }
}

/// The letter of a class that is one letter in both cases.
fn letter(class: &Class) -> Option<u8> {
    let Class::Bytes(class) = class else { return None };
    let [upper, lower] = class.ranges() else { return None };
    let one = |range: &ClassBytesRange| (range.start() == range.end()).then_some(range.start());
    one(upper).filter(|upper| upper.is_ascii_uppercase() && one(lower) == Some(upper.to_ascii_lowercase()))?;
    one(lower)
}

/// Append what every match contains.
fn contain(hir: &Hir, inside: &mut Vec<AnyOf>) {
    match hir.kind() {
        HirKind::Literal(literal) => inside.push(Box::new([literal.0.clone()])),
        HirKind::Capture(capture) => contain(&capture.sub, inside),
        HirKind::Concat(parts) => parts.iter().for_each(|part| contain(part, inside)),
        HirKind::Repetition(repetition) if repetition.min > 0 => contain(&repetition.sub, inside),
        HirKind::Alternation(branches) => inside.extend(either(branches)),
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) | HirKind::Repetition(_) => {}
    }
}

/// The longest literal of each branch, where each has one.
fn either(branches: &[Hir]) -> Option<AnyOf> {
    let longest = |branch: &Hir| {
        let mut inside = Vec::new();
        contain(branch, &mut inside);
        inside.into_iter().max_by_key(|any| any.iter().map(|literal| literal.len()).min())
    };
    let each: Option<Vec<AnyOf>> = branches.iter().map(longest).collect();
    let all: AnyOf = each?.into_iter().flatten().collect();
    (all.len() <= MOST_ALTERNATIVES).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_match_must_contain() {
        for (pattern, prefix, inside) in [
            ("/a/[0-9]+/b", "/a/", &[&["/a/"][..], &["/b"]][..]),
            (".*", "", &[]),
            ("[a-z]+/x/.*", "", &[&["/x/"]]),
            ("^/a\\b(?:b)+c?", "/ab", &[&["/a"], &["b"]]),
            ("a?b*cc", "", &[&["cc"]]),
            ("(?:/a/.*|/b/.*)x", "", &[&["/a/", "/b/"], &["x"]]),
            ("(?:a|.*)x", "", &[&["x"]]),
            ("(?i)/Ab1[c-d]", "/ab1", &[&["/"], &["1"]]),
            ("(?:aa|bb|cc|dd|ee)", "", &[]),
        ] {
            let literals = Literals::of(pattern);
            assert_eq!(&*literals.prefix, prefix.as_bytes(), "{pattern}");
            let found: Vec<Vec<_>> = literals
                .inside
                .iter()
                .map(|any| any.iter().map(|literal| std::str::from_utf8(literal).unwrap()).collect())
                .collect();
            assert_eq!(found, inside, "{pattern}");
        }
    }
}
