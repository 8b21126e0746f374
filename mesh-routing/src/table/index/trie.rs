//! Exact texts and prefixes in one compressed trie: one walk along a value finds the value and every prefix of it.
//!
//! The nodes lie in one array, siblings side by side, because a lookup is paid for in cache lines.

use std::collections::{BTreeMap, VecDeque};

use super::Bucket;

/// What lies at a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// For the value that is this text.
    pub(super) exact: Bucket,
    /// For all values that begin with it.
    pub(super) prefix: Bucket,
}

impl Default for Ends {
    fn default() -> Self {
        Self { exact: Bucket::NONE, prefix: Bucket::NONE }
    }
}

#[derive(Debug)]
pub(super) struct Trie {
    nodes: Box<[Node]>,
    /// The first byte of each node's label, at the node's index: siblings are searched without touching them.
    firsts: Box<[u8]>,
    /// The long ones.
    labels: Box<[u8]>,
}

/// Two to a cache line, with the label where it is short.
#[derive(Debug)]
#[repr(align(32))]
struct Node {
    label: Label,
    count: u16,
    children: u32,
    ends: Ends,
}

#[derive(Debug)]
enum Label {
    Here { length: u8, bytes: [u8; HERE] },
    Elsewhere { at: u32, length: u32 },
}

const HERE: usize = 14;

impl Label {
    fn new(text: &[u8], labels: &mut Vec<u8>) -> Self {
        match u8::try_from(text.len()) {
            Ok(length) if text.len() <= HERE => {
                let mut bytes = [0; HERE];
                bytes[..text.len()].copy_from_slice(text);
                Self::Here { length, bytes }
            }
            _ => {
                let at = short(labels.len());
                labels.extend_from_slice(text);
                Self::Elsewhere { at, length: short(text.len()) }
            }
        }
    }

    fn text<'a>(&'a self, labels: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Here { length, bytes } => &bytes[..usize::from(*length)],
            Self::Elsewhere { at, length } => &labels[*at as usize..][..*length as usize],
        }
    }
}

impl Trie {
    pub(super) fn new(texts: BTreeMap<Vec<u8>, Ends>) -> Self {
        let texts: Vec<_> = texts.into_iter().collect();
        let mut trie = (Vec::new(), vec![0], Vec::new());
        let (nodes, firsts, labels) = (&mut trie.0, &mut trie.1, &mut trie.2);
        // Level by level, so that siblings come side by side and no depth of texts is a depth of calls.
        let mut queue = VecDeque::from([(0, texts.len(), 0)]);
        while let Some((mut from, to, depth)) = queue.pop_front() {
            let children = short(firsts.len());
            let mut node = Node { label: Label::new(&[], labels), children, count: 0, ends: Ends::default() };
            if let (Some((first, ends)), Some((last, _))) = (texts[..to].get(from), texts[..to].last()) {
                // Texts are in order: what the first and the last share, all share.
                let at = depth + first[depth..].iter().zip(&last[depth..]).take_while(|(a, b)| a == b).count();
                node.label = Label::new(&first[depth..at], labels);
                if first.len() == at {
                    node.ends = *ends;
                    from += 1;
                }
                while from < to {
                    let byte = texts[from].0[at];
                    let end = from + texts[from..to].partition_point(|(text, _)| text[at] == byte);
                    firsts.push(byte);
                    node.count += 1;
                    queue.push_back((from, end, at));
                    from = end;
                }
            }
            nodes.push(node);
        }
        Self { nodes: trie.0.into(), firsts: trie.1.into(), labels: trie.2.into() }
    }

    /// Call `found` for every prefix of a value, shortest first, then for the value itself.
    pub(super) fn walk(&self, value: &[u8], found: impl FnMut(Bucket)) {
        self.step(value, |text, label| text == label, |byte| byte, found);
    }

    /// The same in a trie of lower-case texts, for a value of any case.
    pub(super) fn walk_ignoring_case(&self, value: &[u8], found: impl FnMut(Bucket)) {
        self.step(value, <[u8]>::eq_ignore_ascii_case, |byte| byte.to_ascii_lowercase(), found);
    }

    fn step(
        &self,
        value: &[u8],
        same: impl Fn(&[u8], &[u8]) -> bool,
        fold: impl Fn(u8) -> u8,
        mut found: impl FnMut(Bucket),
    ) {
        let mut rest = value;
        let mut at = 0;
        loop {
            let node = &self.nodes[at];
            let label = node.label.text(&self.labels);
            let Some((text, after)) = rest.split_at_checked(label.len()) else { return };
            if !same(text, label) {
                return;
            }
            rest = after;
            if node.ends.prefix.is_some() {
                found(node.ends.prefix);
            }
            let Some(first) = rest.first() else {
                if node.ends.exact.is_some() {
                    found(node.ends.exact);
                }
                return;
            };
            let first = fold(*first);
            let siblings = &self.firsts[node.children as usize..][..usize::from(node.count)];
            let Some(child) = siblings.iter().position(|byte| *byte == first) else { return };
            at = node.children as usize + child;
        }
    }
}

/// Sizes of a table are far below four billion: a rule's text is bytes of a file that was read into memory.
fn short(size: usize) -> u32 {
    u32::try_from(size).expect("a route table is smaller than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_are_a_cache_line() {
        assert_eq!(size_of::<Node>(), 32);
    }
}
