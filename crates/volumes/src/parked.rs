//! Requests that wait for the gate: copies, so that no reader thread and no buffer waits with them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A request that touches the payload, or an answer that may not leave yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Read {
        offset: u64,
        len: usize,
    },
    Write {
        offset: u64,
        len: usize,
    },
    Punch {
        offset: u64,
        len: u64,
    },
    /// A write whose payload is ciphertext: the disk did not take it yet.
    Sealed {
        offset: u64,
        len: usize,
    },
    /// A write that is on disk; its answer waits.
    Written {
        len: usize,
    },
}

/// A waiting request. The payload is plaintext: freed by the process's wiping allocator.
pub(crate) struct Parked {
    pub(crate) unique: u64,
    pub(crate) work: Work,
    pub(crate) payload: Vec<u8>,
    /// Not tried before: the disk did not take it.
    pub(crate) not_before: Option<Instant>,
}

impl Parked {
    fn may_be_tried(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }
}

/// How often a parked request looks whether the lease holds again: the lease gate tells nobody.
const LOOK: Duration = Duration::from_millis(10);

/// The queue: at most `bound` entries, each at most one payload of `MAX_IO`.
pub(crate) struct ParkedQueue {
    inner: Mutex<Inner>,
    changed: Condvar,
    bound: usize,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Parked>,
    most: usize,
    stopped: bool,
}

impl ParkedQueue {
    pub(crate) fn new(bound: usize) -> Self {
        Self { inner: Mutex::default(), changed: Condvar::new(), bound }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds at the end. The bound is what the kernel has in flight for loop; more than that (many
    /// direct readers) makes the caller wait here. After a stop the entry is dropped: the kernel
    /// still has the request.
    pub(crate) fn push(&self, parked: Parked) {
        let mut inner = self.lock();
        while inner.waiting.len() >= self.bound && !inner.stopped {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.waiting.push_back(parked);
        inner.most = inner.most.max(inner.waiting.len());
        drop(inner);
        self.changed.notify_all();
    }

    /// Puts back what [`Self::next`] gave, first in line.
    pub(crate) fn put_back(&self, parked: Parked) {
        self.lock().waiting.push_front(parked);
    }

    /// Waits for an entry that may be tried; `None` after a stop. `open` and `admits` are asked
    /// under the queue's lock, so that a [`Self::nudge`] after a change is never missed.
    pub(crate) fn next(
        &self,
        open: impl Fn() -> bool,
        admits: impl Fn() -> bool,
    ) -> Option<Parked> {
        let mut inner = self.lock();
        loop {
            if inner.stopped {
                return None;
            }
            let now = Instant::now();
            if let Some(at) = inner.waiting.iter().position(|p| p.may_be_tried(now))
                && admits()
            {
                let first = inner.waiting.remove(at);
                self.changed.notify_all();
                return first;
            }
            inner = if !inner.waiting.is_empty() && open() {
                let waited = self.changed.wait_timeout(inner, LOOK);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// The gate changed: look again.
    pub(crate) fn nudge(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// True while some entry waits because the disk did not take it.
    pub(crate) fn waits_for_disk(&self) -> bool {
        self.lock().waiting.iter().any(|p| p.not_before.is_some())
    }

    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Entries now, and the most there ever were.
    pub(crate) fn len(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.waiting.len(), inner.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn entry(unique: u64) -> Parked {
        Parked { unique, work: Work::Written { len: 0 }, payload: Vec::new(), not_before: None }
    }

    #[test]
    fn never_holds_more_than_its_bound_and_loses_nothing() {
        let queue = Arc::new(ParkedQueue::new(3));
        let pushed = Arc::new(AtomicUsize::new(0));
        let pushers: Vec<_> = (0..8)
            .map(|i| {
                let (queue, pushed) = (Arc::clone(&queue), Arc::clone(&pushed));
                std::thread::spawn(move || {
                    queue.push(entry(i));
                    pushed.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        let mut seen: Vec<u64> =
            (0..8).map(|_| queue.next(|| true, || true).expect("not stopped").unique).collect();
        for pusher in pushers {
            pusher.join().expect("a pusher");
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..8).collect::<Vec<_>>());
        assert!(queue.len().1 <= 3, "{} at a time", queue.len().1);
    }

    #[test]
    fn a_stop_ends_pushers_and_the_taker() {
        let queue = Arc::new(ParkedQueue::new(1));
        queue.push(entry(1));
        let pusher = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.push(entry(2)))
        };
        let taker = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.next(|| false, || false).is_none())
        };
        queue.stop();
        pusher.join().expect("the pusher");
        assert!(taker.join().expect("the taker"));
    }
}
