//! Readers hold what they read: a version's files go when its last reader has gone.

use super::Disk;
use crate::version::Version;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

#[derive(Default)]
pub(crate) struct Pins {
    /// Held for reading from the look at the index to the pin, for writing when something is
    /// doomed: so a reader that saw a version in the index has pinned it before it can be doomed.
    turn: RwLock<()>,
    held: Mutex<HashMap<Version, Held>>,
}

#[derive(Default)]
struct Held {
    readers: usize,
    doomed: Vec<String>,
}

impl Pins {
    /// The right to look into the index and pin what it names.
    pub(crate) fn turn(&self) -> RwLockReadGuard<'_, ()> {
        self.turn.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is it being read?
    pub(crate) fn holds(&self, version: Version) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&version)
    }

    /// What is to go once the change that unhooked it is committed: at once if nobody reads it.
    pub(crate) fn doom(&self, disk: &Disk, version: Version, path: String) {
        let _turn = self.turn.write().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(&version) {
            Some(one) => one.doomed.push(path),
            None => disk.reaper.remove(path),
        }
    }
}

/// A version that is being read.
pub(crate) struct Pin {
    disk: Arc<Disk>,
    version: Version,
}

impl Pin {
    /// Pins a version; the caller holds [`Pins::turn`] since it saw the version in the index.
    pub(crate) fn new(disk: &Arc<Disk>, version: Version) -> Self {
        let mut held = disk.pins.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.entry(version).or_default().readers += 1;
        drop(held);
        Self { disk: Arc::clone(disk), version }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.disk.pins.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(one) = held.get_mut(&self.version) else { return };
        one.readers -= 1;
        if one.readers == 0 {
            let doomed = held.remove(&self.version).map(|one| one.doomed).unwrap_or_default();
            drop(held);
            doomed.into_iter().for_each(|path| self.disk.reaper.remove(path));
        }
    }
}
