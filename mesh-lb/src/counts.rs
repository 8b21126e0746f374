//! Counts that many threads change and few read: each thread has a cell of its own.
//!
//! An addition that other threads may make too costs 5 ns with nobody else there, and ten times that when two threads do it to
//! the same cache line. A cell that only one thread writes is read and written like any number. What is counted is the sum
//! of the cells; a request that begins on one thread and ends on another leaves one up in the one and one down in the other.
//!
//! Cells are few: threads beyond them share the last one, and add to it as everybody did before. A thread that ends leaves
//! its cell, with what is in it, to the next one.

#[cfg(not(all(test, feature = "loom")))]
use std::sync::{Mutex, PoisonError};

use crate::sync::atomic::{AtomicU32, Ordering};

/// Cells of a count.
pub(crate) const CELLS: usize = 8;

/// The cell of all threads that have none of their own.
const SHARED: usize = CELLS - 1;

/// A count in 32 bytes.
#[derive(Debug)]
pub(crate) struct Count([AtomicU32; CELLS]);

/// A count whose cells are on cache lines of their own, for what all requests change.
#[derive(Debug)]
pub(crate) struct WideCount([Line; CELLS]);

#[derive(Debug)]
#[repr(align(64))]
struct Line(AtomicU32);

impl Default for Count {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Default for WideCount {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Line(AtomicU32::new(0))))
    }
}

impl Count {
    pub(crate) fn add(&self) {
        let cell = cell_of_thread();
        change(&self.0[cell], cell, 1);
    }

    pub(crate) fn sub(&self) {
        let cell = cell_of_thread();
        change(&self.0[cell], cell, u32::MAX);
    }

    pub(crate) fn get(&self) -> u32 {
        sum(self.0.iter())
    }
}

impl WideCount {
    pub(crate) fn add(&self) {
        let cell = cell_of_thread();
        change(&self.0[cell].0, cell, 1);
    }

    pub(crate) fn sub(&self) {
        let cell = cell_of_thread();
        change(&self.0[cell].0, cell, u32::MAX);
    }

    pub(crate) fn get(&self) -> u32 {
        sum(self.0.iter().map(|line| &line.0))
    }
}

/// By `by`, which is 1 or, as sums wrap, -1.
fn change(cell: &AtomicU32, number: usize, by: u32) {
    if number == SHARED {
        cell.fetch_add(by, Ordering::Relaxed);
    } else {
        // Nobody else writes it.
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }
}

/// One that was read between the end of a request in one cell and its beginning in another would be below nothing.
fn sum<'a>(cells: impl Iterator<Item = &'a AtomicU32>) -> u32 {
    let sum = cells.fold(0_u32, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)));
    if sum > u32::MAX / 2 { 0 } else { sum }
}

/// The number of this thread's cell.
#[cfg(not(all(test, feature = "loom")))]
pub(crate) fn cell_of_thread() -> usize {
    thread_local! {
        static MINE: Mine = Mine::take();
    }
    // A thread that is ending has none.
    MINE.try_with(|mine| mine.0).unwrap_or(SHARED)
}

/// A model's threads are one to the system.
#[cfg(all(test, feature = "loom"))]
pub(crate) fn cell_of_thread() -> usize {
    SHARED
}

/// Which cells are a thread's now. The lock is what makes the next owner of a cell see what the one before left in it.
#[cfg(not(all(test, feature = "loom")))]
static TAKEN: Mutex<[bool; SHARED]> = Mutex::new([false; SHARED]);

#[cfg(not(all(test, feature = "loom")))]
struct Mine(usize);

#[cfg(not(all(test, feature = "loom")))]
impl Mine {
    fn take() -> Self {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let free = taken.iter().position(|taken| !taken);
        if let Some(cell) = free {
            taken[cell] = true;
        }
        Self(free.unwrap_or(SHARED))
    }
}

#[cfg(not(all(test, feature = "loom")))]
impl Drop for Mine {
    fn drop(&mut self) {
        if let Some(taken) = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).get_mut(self.0) {
            *taken = false;
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::thread;

    use super::*;

    /// More threads than cells, which end and begin, and requests that end on another thread than they began on.
    #[test]
    fn nothing_is_lost_between_threads() {
        let (count, wide) = (Count::default(), WideCount::default());
        for _ in 0..20 {
            thread::scope(|scope| {
                for n in 0..2 * CELLS {
                    let (count, wide) = (&count, &wide);
                    scope.spawn(move || {
                        for _ in 0..1000 {
                            if n % 2 == 0 {
                                count.add()
                            } else {
                                count.sub()
                            }
                            if n % 2 == 0 { wide.add() } else { wide.sub() }
                        }
                        assert!(count.get() <= 1000 * CELLS as u32);
                    });
                }
            });
            assert_eq!((count.get(), wide.get()), (0, 0));
        }
        (0..7).for_each(|_| count.add());
        thread::scope(|scope| scope.spawn(|| (0..3).for_each(|_| count.sub())).join().unwrap());
        assert_eq!(count.get(), 4);
    }

    /// What is below nothing for a moment is nothing.
    #[test]
    fn never_below_nothing() {
        let count = Count::default();
        count.sub();
        assert_eq!(count.get(), 0);
        count.add();
        count.add();
        assert_eq!(count.get(), 1);
    }
}

#[cfg(all(test, feature = "loom"))]
mod model {
    use loom::{sync::Arc, thread};

    use super::*;

    /// One thread's cell, another's, and the one that is shared: whatever the order, the sum is right in the end and never
    /// more than what began.
    #[test]
    fn cells_add_up() {
        loom::model(|| {
            let count = Arc::new(Count::default());
            let at = |cell: usize, steps: &'static [u32]| {
                let count = Arc::clone(&count);
                thread::spawn(move || steps.iter().for_each(|by| change(&count.0[cell], cell, *by)))
            };
            let threads = [at(0, &[1, 1]), at(SHARED, &[1, u32::MAX])];
            change(&count.0[SHARED], SHARED, 1);
            assert!(count.get() <= 4);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(count.get(), 3);
        });
    }
}
