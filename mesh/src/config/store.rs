//! The last good version of every object.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use mesh_core::config::{Document, Issue, Issues, ObjectRef, Position, Severity};

use super::{
    Models,
    model::{self, Model, Read},
    reader::{Texts, Unreadable},
};

/// `> file` empties a file before it is written again, so that emptiness says nothing about intent.
const EMPTIED: &str = "the file is empty, and its last good version stays: delete the file, or its objects one by one";

/// An object in force.
#[derive(Clone, Debug)]
struct Entry {
    document: Document,
    model: Model,
    /// Is it from before, in the place of what cannot be read now?
    kept: bool,
}

impl Entry {
    fn keep(&self) -> Self {
        Self { kept: true, ..self.clone() }
    }
}

/// Every object in force, by the file it stands in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    files: BTreeMap<Arc<str>, Vec<Entry>>,
    order: Vec<Arc<str>>,
    /// The security set in force, when it is not the one of `files`: what was there before a bad change.
    held: Option<Vec<Entry>>,
}

impl Store {
    /// Take in the text of every file. Objects that are gone are removed; bad ones keep their last good version.
    /// Returns the new store, for the caller to compile and then keep.
    #[must_use]
    pub(crate) fn update(&self, texts: &Texts, issues: &mut Issues) -> Self {
        let mut next = Self::default();
        let mut before = None;
        let mut first: HashMap<(String, ObjectRef), (Arc<str>, Position)> = HashMap::new();
        let mut security_is_whole = true;
        texts.1.iter().for_each(|unread| issues.push(unread.clone()));
        for (name, text) in &texts.0 {
            let previous = self.files.get(name).map_or(&[][..], Vec::as_slice);
            let text = match text {
                Ok(text) if text.trim().is_empty() && !previous.is_empty() => Err(Unreadable::from(EMPTIED.to_owned())),
                Ok(text) => Ok(text),
                Err(why) => Err(why.clone()),
            };
            let text = match text {
                Ok(text) => text,
                Err(Unreadable { position, why }) => {
                    issues.push(Issue::new(Severity::Error, name, position, &*why));
                    security_is_whole = false;
                    next.keep_from(self, name);
                    continue;
                }
            };
            next.order.push(Arc::clone(name));
            let mut found = Issues::default();
            let documents = Document::parse_all(name, text, &mut found);
            let broken = found.has_errors();
            security_is_whole &= !broken;
            issues.extend(found);
            let mut entries: Vec<Entry> = Vec::with_capacity(documents.len());
            for document in documents {
                let position = document.spec().map_or(Position { line: 1, column: 1 }, |spec| spec.position);
                let read = model::read(&document, issues);
                if matches!(read, Read::Foreign) {
                    continue;
                }
                let key = (document.group().to_owned(), document.object().clone());
                if let Some((file, at)) = first.get(&key) {
                    let message = format!("defined twice, first at {file}:{at}; the first is in force");
                    issues.push(document.error("", message));
                    security_is_whole &= !model::is_security(&document);
                    continue;
                }
                first.insert(key, (Arc::clone(name), position));
                match read {
                    Read::Model(model) => entries.push(Entry { document, model, kept: false }),
                    Read::Foreign => {}
                    Read::Bad => {
                        security_is_whole &= !model::is_security(&document);
                        // Wherever it stood before: an object may move from one file to another.
                        let before = before.get_or_insert_with(|| self.by_object());
                        entries.extend(before.get(document.object()).map(|entry| entry.keep()));
                    }
                }
            }
            if broken {
                // What stood below the error may still be meant: keep it.
                let there: HashSet<ObjectRef> = entries.iter().map(|entry| entry.document.object().clone()).collect();
                let kept = previous.iter().filter(|entry| !there.contains(entry.document.object())).map(Entry::keep);
                entries.extend(kept);
            }
            next.files.insert(Arc::clone(name), entries);
        }
        next.once();
        if !security_is_whole {
            next.held = Some(self.security().cloned().collect());
        }
        next
    }

    /// Of a file that cannot be read, or of every file in a directory that cannot: what was there before.
    fn keep_from(&mut self, before: &Self, unread: &str) {
        // A directory may be given as `d/`, and its files are `d/a.yaml`.
        let unread = unread.trim_end_matches('/');
        let is_in = |rest: &str| rest.is_empty() || rest.strip_prefix('/').is_some_and(|file| !file.contains('/'));
        for name in &before.order {
            if name.strip_prefix(unread).is_some_and(is_in)
                && let Some(entries) = before.files.get(name)
                && !self.files.contains_key(name)
            {
                self.order.push(Arc::clone(name));
                self.files.insert(Arc::clone(name), entries.iter().map(Entry::keep).collect());
            }
        }
    }

    /// What is kept gives way to what can be read: an object may have moved from a file that is broken now to another, and
    /// a file be named beside the directory that it is in.
    fn once(&mut self) {
        let mut seen = HashSet::new();
        self.order.retain(|name| seen.insert(Arc::clone(name)));
        let key = |entry: &Entry| (entry.document.group().to_owned(), entry.document.object().clone());
        let (kept, good): (Vec<&Entry>, Vec<&Entry>) = self.files.values().flatten().partition(|entry| entry.kept);
        if kept.is_empty() {
            return;
        }
        let mut there: HashSet<_> = good.into_iter().map(key).collect();
        for name in &self.order {
            if let Some(entries) = self.files.get_mut(name) {
                entries.retain(|entry| !entry.kept || there.insert(key(entry)));
            }
        }
    }

    /// The first of each name, in the order of the files' names.
    fn by_object(&self) -> HashMap<&ObjectRef, &Entry> {
        let mut first = HashMap::new();
        for entry in self.files.values().flatten() {
            first.entry(entry.document.object()).or_insert(entry);
        }
        first
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.order.iter().filter_map(|name| self.files.get(name)).flatten()
    }

    fn security(&self) -> Box<dyn Iterator<Item = &Entry> + '_> {
        match &self.held {
            Some(held) => Box::new(held.iter()),
            None => Box::new(self.entries().filter(|entry| model::is_security(&entry.document))),
        }
    }

    /// All models in force, each kind in Istio's order: creation time, then the order of files and documents.
    pub(crate) fn models(&self) -> Models {
        let routing = self.entries().filter(|entry| !model::is_security(&entry.document));
        let mut entries: Vec<&Entry> = routing.chain(self.security()).collect();
        entries.sort_by(|a, b| a.document.creation_order(&b.document));
        let mut models = Models::default();
        for entry in entries {
            models.push(&entry.model);
        }
        models
    }
}

#[cfg(any(test, fuzzing))]
impl Store {
    /// The documents in force, with their files: of the routing kinds.
    pub(super) fn routing_documents(&self) -> impl Iterator<Item = (&Arc<str>, &Document)> {
        let files = self.order.iter().filter_map(|name| self.files.get_key_value(name));
        let documents = files.flat_map(|(name, entries)| entries.iter().map(move |entry| (name, &entry.document)));
        documents.filter(|(_, document)| !model::is_security(document))
    }

    /// The documents in force of the security kinds.
    pub(super) fn security_documents(&self) -> impl Iterator<Item = &Document> {
        self.security().map(|entry| &entry.document)
    }
}

#[cfg(test)]
mod tests;
