//! A pattern that answers yes or no for a whole value.
//!
//! A general regex engine brings several machines and keeps scratch memory for each thread that has used it. Patterns
//! in routes are short and ask one question, so most fit a table of states: a few hundred bytes, one load per byte of
//! the value, nothing allocated when it runs. What does not fit in that size is left to the general engine.

use regex::bytes::Regex;
use regex_automata::{
    Anchored, Input, MatchKind,
    dfa::{Automaton as _, StartKind, dense},
    nfa::thompson::{self, WhichCaptures},
    util::syntax,
};

use super::Literals;

/// Larger tables are not worth it: the general engine shares more. With its fixed parts a pattern stays below 10 KB.
const MAX_TABLE: usize = 6 << 10;
/// Scratch memory while a table is made: a bound on time too, because a table can be exponential in its pattern.
const MAX_WORK: usize = 64 << 10;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    machine: Machine,
    literals: Literals,
    /// In the form that has one meaning only.
    translated: Box<str>,
    /// As it was written.
    text: Box<str>,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly always the large one")]
enum Machine {
    Table(dense::DFA<Vec<u32>>),
    General(Regex),
}

impl Pattern {
    pub(super) fn new(translated: &str, text: &str) -> Result<Self, regex::Error> {
        let machine = match table(translated) {
            Some(table) => Machine::Table(table),
            None => Machine::General(super::build(&super::whole(translated))?),
        };
        Ok(Self { machine, literals: Literals::of(translated), translated: translated.into(), text: text.into() })
    }

    /// Does the whole value match?
    pub(crate) fn is_match(&self, value: &[u8]) -> bool {
        match &self.machine {
            Machine::Table(table) => {
                let input = Input::new(value).anchored(Anchored::Yes).earliest(true);
                table.try_search_fwd(&input).expect("an anchored table stops at no byte").is_some()
            }
            Machine::General(regex) => regex.is_match(value),
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn literals(&self) -> &Literals {
        &self.literals
    }

    /// Is it `.*`, word for word?
    pub(crate) fn is_anything(&self) -> bool {
        &*self.translated == ".*"
    }
}

fn table(translated: &str) -> Option<dense::DFA<Vec<u32>>> {
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .match_kind(MatchKind::All)
        .accelerate(false)
        .dfa_size_limit(Some(MAX_TABLE))
        .determinize_size_limit(Some(MAX_WORK));
    let nfa = thompson::Config::new().utf8(false).which_captures(WhichCaptures::None).nfa_size_limit(Some(MAX_WORK));
    dense::Builder::new()
        .configure(config)
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .thompson(nfa)
        .build(&super::whole(translated))
        .ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_large_for_a_table_matches_all_the_same() {
        let pattern = Pattern::new("(?:a|b)*a(?:a|b){12}", "").unwrap();
        assert!(matches!(pattern.machine, Machine::General(_)));
        assert!(!pattern.is_match(b"babbbbbbbbbbbbbb") && pattern.is_match(b"babbbbbbbbbbbb"));
        assert!(matches!(Pattern::new("/a/[0-9]+/.*", "").unwrap().machine, Machine::Table(_)));
    }

    proptest! {
        #[test]
        fn a_table_agrees_with_the_general_engine(
            pattern in "(?:[ab.]|\\[ab\\]|a\\*|\\(a\\|b\\)|b\\+|\\^|\\$|a\\?|\\(\\?:\\\\b\\)|\\\\x0a|\\(\\?i:b\\)){0,8}",
            values in proptest::collection::vec("[abAB\n]{0,6}", 20),
        ) {
            let (Some(_), Ok(pattern), Ok(regex)) =
                (table(&pattern), Pattern::new(&pattern, ""), super::super::build(&super::super::whole(&pattern))) else { return Ok(()) };
            for value in values {
                prop_assert_eq!(pattern.is_match(value.as_bytes()), regex.is_match(value.as_bytes()), "{:?}", value);
            }
        }
    }
}
