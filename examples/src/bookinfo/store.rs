//! Where ratings are kept.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Stars by reviewer.
pub(super) type Stars = BTreeMap<String, u8>;

/// Books whose ratings are remembered; a POST for another book is refused, so that strangers cannot fill memory.
const MAX_BOOKS: usize = 1_000;

/// The store is full.
#[derive(Debug)]
pub(super) struct Full(());

/// Ratings by book, with the same two reviewers for every book that nobody has rated yet.
#[derive(Debug, Default)]
pub(super) struct Store {
    books: Mutex<BTreeMap<u64, Stars>>,
}

impl Store {
    pub(super) fn stars(&self, book: u64) -> Stars {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.get(&book).cloned().unwrap_or_else(|| [("Reviewer1".into(), 5), ("Reviewer2".into(), 4)].into())
    }

    /// Replace the ratings of a book.
    pub(super) fn rate(&self, book: u64, stars: Stars) -> Result<(), Full> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if books.len() >= MAX_BOOKS && !books.contains_key(&book) {
            return Err(Full(()));
        }
        books.insert(book, stars);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_posted_and_knows_its_bound() {
        let store = Store::default();
        assert_eq!(store.stars(0)["Reviewer1"], 5);
        store.rate(0, [("Reviewer1".into(), 1)].into()).unwrap();
        assert_eq!(store.stars(0), [("Reviewer1".into(), 1)].into());
        for book in 1..1_000 {
            store.rate(book, Stars::new()).unwrap();
        }
        assert!(store.rate(1_000, Stars::new()).is_err());
        store.rate(0, Stars::new()).unwrap();
    }
}
