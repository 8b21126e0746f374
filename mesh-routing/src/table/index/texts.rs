//! What conditions on one text, a path or a header's value, come to.

use aho_corasick::AhoCorasick;

use super::{Bucket, trie::Trie};

/// Buckets by a text.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) trie: Trie,
    /// Of lower-case texts (`ignoreUriCase`).
    pub(super) folded: Option<Trie>,
    /// Regexes by a literal somewhere in the text.
    pub(super) literals: Option<Literals>,
    /// For every text.
    pub(super) any: Bucket,
}

/// One pass over a text finds all literals in it.
#[derive(Debug)]
pub(super) struct Literals {
    pub(super) searcher: AhoCorasick,
    pub(super) buckets: Box<[Bucket]>,
}

impl Texts {
    /// Call `found` with the buckets of a text.
    pub(super) fn visit(&self, text: &[u8], mut found: impl FnMut(Bucket)) {
        if self.any.is_some() {
            found(self.any);
        }
        self.trie.walk(text, &mut found);
        if let Some(folded) = &self.folded {
            folded.walk_ignoring_case(text, &mut found);
        }
        if let Some(literals) = &self.literals {
            for hit in literals.searcher.find_overlapping_iter(text) {
                found(literals.buckets[hit.pattern()]);
            }
        }
    }
}
