//! Locks over ranges of sectors: writers of one sector take turns, so that a read-modify-write of
//! its edge loses nobody's bytes. Readers take none.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The ranges being written; as many entries as there are engine threads, so a list will do.
#[derive(Default)]
pub(crate) struct RangeLock {
    held: Mutex<Vec<(u64, u64)>>,
    released: Condvar,
}

/// Gives the range back when dropped.
pub(crate) struct Range<'a> {
    lock: &'a RangeLock,
    range: (u64, u64),
}

impl RangeLock {
    /// Waits until no other holds a sector of `first..end`.
    pub(crate) fn hold(&self, first: u64, end: u64) -> Range<'_> {
        let mut held = self.entries();
        while held.iter().any(|&(f, e)| first < e && f < end) {
            held = self.released.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        held.push((first, end));
        Range { lock: self, range: (first, end) }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Range<'_> {
    fn drop(&mut self) {
        let mut held = self.lock.entries();
        if let Some(at) = held.iter().position(|r| *r == self.range) {
            held.swap_remove(at);
        }
        drop(held);
        self.lock.released.notify_all();
    }
}
