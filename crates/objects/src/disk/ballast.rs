//! Room that is kept for a full disk: deleting needs some, for the index never writes in place.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const BALLAST_BYTES: usize = 2 << 20;

/// A file of no meaning. When the index finds the disk full it is given up, deletions alone are
/// then committed, and nothing new is begun until it lies there again.
pub(crate) struct Ballast {
    path: PathBuf,
    there: Mutex<bool>,
}

impl Ballast {
    pub(super) fn new(root: &Path) -> Self {
        let path = root.join("ballast");
        let whole = |found: fs::Metadata| found.len() == BALLAST_BYTES as u64;
        let there = Mutex::new(fs::metadata(&path).is_ok_and(whole));
        Self { path, there }
    }

    /// Lays it down when it is not there; the error says that there is no room for it.
    pub(crate) fn lay(&self) -> io::Result<()> {
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        if !*there {
            let laid = File::create(&self.path)
                .and_then(|mut file| file.write_all(&vec![0; BALLAST_BYTES]).and(file.sync_all()));
            if laid.is_err() {
                let _ = fs::remove_file(&self.path);
            }
            laid?;
            *there = true;
        }
        Ok(())
    }

    /// Gives it up; answers whether there was something to give.
    pub(crate) fn give_up(&self) -> bool {
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *there) && fs::remove_file(&self.path).is_ok()
    }
}
