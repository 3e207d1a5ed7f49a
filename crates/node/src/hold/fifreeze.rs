//! One file system's freeze. FIFREEZE and FITHAW wait in the kernel for as long as the disk below
//! makes them, so each runs on a thread of its own and everybody else waits with a deadline.
//!
//! ```text
//!            begin_freeze              done
//! Thawed ------------------> Freezing ------> Frozen
//!    ^  ^                       | refused        | begin_thaw
//!    |  +-----------------------+                v
//!    +------------------------------------- Thawing   (begin_freeze here: freezes right after)
//!                       done
//! ```

use super::wire::{Fifreeze, FsWord};
use keystead_volumes::sys::{self, SysError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The two calls; the kernel's in earnest, a test's own in tests.
pub(crate) trait Calls: Send + Sync + 'static {
    fn freeze(&self, mount: &Path) -> Result<(), SysError>;
    fn thaw(&self, mount: &Path) -> Result<(), SysError>;
}

/// The kernel's.
pub(crate) struct Kernel;

impl Calls for Kernel {
    fn freeze(&self, mount: &Path) -> Result<(), SysError> {
        match sys::freeze_fs(mount) {
            // Somebody froze it before: that is what is wanted.
            Err(e) if e.errno() == Some(libc::EBUSY) => Ok(()),
            other => other,
        }
    }
    fn thaw(&self, mount: &Path) -> Result<(), SysError> {
        sys::thaw_fs(mount).map(drop)
    }
}

/// The state of one file system.
pub(crate) struct FsState {
    inner: Mutex<Inner>,
    settled: Condvar,
    calls: Box<dyn Calls>,
}

struct Inner {
    word: FsWord,
    again: bool,
    freeze: Option<Result<u64, String>>,
    thaw_error: Option<String>,
}

impl FsState {
    pub(crate) fn new(calls: Box<dyn Calls>) -> Arc<Self> {
        let inner = Inner { word: FsWord::Thawed, again: false, freeze: None, thaw_error: None };
        Arc::new(Self { inner: Mutex::new(inner), settled: Condvar::new(), calls })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn word(&self) -> FsWord {
        self.lock().word
    }

    /// Starts FIFREEZE, unless it is done or under way.
    pub(crate) fn begin_freeze(self: &Arc<Self>, mount: &Path) {
        let mut inner = self.lock();
        match inner.word {
            FsWord::Frozen | FsWord::Freezing => {}
            FsWord::Thawing => inner.again = true,
            FsWord::Thawed => {
                (inner.word, inner.freeze) = (FsWord::Freezing, None);
                self.start(&mut inner, mount.to_owned(), Self::run_freeze);
            }
        }
    }

    /// Starts FITHAW when it is frozen; while FIFREEZE is under way, nothing.
    pub(crate) fn begin_thaw(self: &Arc<Self>, mount: &Path) {
        let mut inner = self.lock();
        if inner.word == FsWord::Frozen {
            (inner.word, inner.thaw_error) = (FsWord::Thawing, None);
            self.start(&mut inner, mount.to_owned(), Self::run_thaw);
        }
    }

    fn start(self: &Arc<Self>, inner: &mut Inner, mount: PathBuf, run: fn(&Self, &Path)) {
        let me = self.clone();
        let thread = std::thread::Builder::new().name("freeze".to_owned());
        if let Err(e) = thread.spawn(move || run(&me, &mount)) {
            // No thread: as if the kernel had refused.
            if inner.word == FsWord::Freezing {
                (inner.word, inner.freeze) = (FsWord::Thawed, Some(Err(e.to_string())));
            } else {
                (inner.word, inner.thaw_error) = (FsWord::Frozen, Some(e.to_string()));
            }
            self.settled.notify_all();
        }
    }

    fn run_freeze(&self, mount: &Path) {
        let start = Instant::now();
        let result = self.calls.freeze(mount);
        let took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut inner = self.lock();
        inner.word = if result.is_ok() { FsWord::Frozen } else { FsWord::Thawed };
        inner.freeze = Some(result.map(|()| took).map_err(|e| e.to_string()));
        self.settled.notify_all();
    }

    fn run_thaw(&self, mount: &Path) {
        let result = self.calls.thaw(mount);
        let mut inner = self.lock();
        inner.thaw_error = result.err().map(|e| e.to_string());
        let again = std::mem::take(&mut inner.again);
        inner.word = if inner.thaw_error.is_some() { FsWord::Frozen } else { FsWord::Thawed };
        if again && inner.word == FsWord::Thawed {
            (inner.word, inner.freeze) = (FsWord::Freezing, None);
            drop(inner);
            return self.run_freeze(mount);
        }
        self.settled.notify_all();
    }

    /// Waits until no call is under way; false at the deadline.
    pub(crate) fn settle(&self, deadline: Instant) -> bool {
        let moving = |i: &mut Inner| matches!(i.word, FsWord::Freezing | FsWord::Thawing);
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.settled.wait_timeout_while(self.lock(), left, moving);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// What the freeze came to so far.
    pub(crate) fn freeze_report(&self) -> Fifreeze {
        let inner = self.lock();
        match (&inner.freeze, inner.word) {
            (Some(Ok(ms)), FsWord::Frozen) => Fifreeze::Done(*ms),
            (Some(Err(message)), FsWord::Thawed) => Fifreeze::Failed(message.clone()),
            _ => Fifreeze::Late,
        }
    }

    /// Why it is still frozen after a thaw.
    pub(crate) fn thaw_error(&self) -> Option<String> {
        self.lock().thaw_error.clone()
    }
}

#[cfg(test)]
mod tests;
