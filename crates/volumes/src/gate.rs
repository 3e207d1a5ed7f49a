//! The gate: one cipher context per engine thread, lent for CPU work only.
//!
//! Open and closed are the node's word; the lease gate is the clock's. A key is used, and an
//! answer leaves, only while both admit, asked anew each time: a thread that was stopped for an
//! hour wakes to a closed gate. Closing takes every context back, waits for those in use, and
//! frees (wipes) them; the key itself is not kept beside them.

use crate::engine::NotAdmitted;
use keystead_envelope::{
    lease::LeaseGate,
    xts::{XtsContext, XtsError, XtsKey},
};
use keystead_types::Clock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

pub(crate) struct Gate {
    open: AtomicBool,
    slots: Vec<Mutex<Option<XtsContext>>>,
    /// Opening and closing take turns.
    turn: Mutex<()>,
    clock: Arc<dyn Clock>,
    lease: Arc<LeaseGate>,
}

impl Gate {
    /// A closed gate for that many engine threads.
    pub(crate) fn new(threads: usize, clock: Arc<dyn Clock>, lease: Arc<LeaseGate>) -> Self {
        let slots = (0..threads).map(|_| Mutex::new(None)).collect();
        Self { open: AtomicBool::new(false), slots, turn: Mutex::new(()), clock, lease }
    }

    /// Takes a key: every thread gets a context of its own, the key is dropped (wiped).
    pub(crate) fn open(&self, key: XtsKey) -> Result<(), XtsError> {
        let _turn = lock(&self.turn);
        let contexts: Result<Vec<_>, _> =
            self.slots.iter().map(|_| XtsContext::new(&key)).collect();
        drop(key);
        for (slot, context) in self.slots.iter().zip(contexts?) {
            *lock(slot) = Some(context);
        }
        self.open.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Closes and takes every context back. False when one was still in use at the deadline: its
    /// thread drops it when it is done, and nothing of it is answered.
    pub(crate) fn close(&self, deadline: Duration) -> bool {
        let _turn = lock(&self.turn);
        self.open.store(false, Ordering::SeqCst);
        let until = Instant::now() + deadline;
        let mut drained = true;
        for slot in &self.slots {
            loop {
                match slot.try_lock() {
                    Ok(mut context) => *context = None,
                    Err(TryLockError::Poisoned(context)) => *context.into_inner() = None,
                    Err(TryLockError::WouldBlock) if Instant::now() < until => {
                        std::thread::yield_now();
                        continue;
                    }
                    Err(TryLockError::WouldBlock) => drained = false,
                }
                break;
            }
        }
        drained
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Open, and the lease holds at this moment.
    pub(crate) fn admits(&self) -> bool {
        self.is_open() && self.lease.admits(self.clock.boot())
    }

    /// Lends the thread's context for `work`, which must do no I/O.
    pub(crate) fn lend<T>(
        &self,
        thread: usize,
        work: impl FnOnce(&mut XtsContext) -> T,
    ) -> Result<T, NotAdmitted> {
        let mut slot = self.slots.get(thread).map(lock).ok_or(NotAdmitted)?;
        let result = match slot.as_mut() {
            Some(context) if self.admits() => Ok(work(context)),
            _ => Err(NotAdmitted),
        };
        self.leave(&mut slot);
        result
    }

    /// Runs `send` (a copy into the kernel) if an answer may leave now; a close waits for it.
    pub(crate) fn let_out<T>(
        &self,
        thread: usize,
        send: impl FnOnce() -> T,
    ) -> Result<T, NotAdmitted> {
        let mut slot = self.slots.get(thread).map(lock).ok_or(NotAdmitted)?;
        let result = if self.admits() { Ok(send()) } else { Err(NotAdmitted) };
        self.leave(&mut slot);
        result
    }

    /// A close that gave up waiting for this thread left the context to it.
    fn leave(&self, slot: &mut Option<XtsContext>) {
        if !self.is_open() {
            *slot = None;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
