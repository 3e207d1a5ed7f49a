//! A folder of its own for files that come from elsewhere, until they are known to be whole.

use super::{Disk, Pending};
use crate::error::StoreError;
use keystead_envelope::random;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where stages lie below the root. Nothing ever refers to them: a start empties it.
pub(super) const INCOMING: &str = "incoming";
const TRIES: usize = 100;

/// Dropped, it is removed with all that is in it.
pub(crate) struct Stage {
    disk: Arc<Disk>,
    path: PathBuf,
    relative: String,
    moved: bool,
}

impl Stage {
    pub(crate) fn new(disk: &Arc<Disk>) -> Result<Self, StoreError> {
        let id: [u8; 12] = random::array()?;
        let relative = format!("{INCOMING}/{}", hex::encode(id));
        let path = disk.absolute(&relative);
        fs::create_dir(&path)?;
        Ok(Self { disk: Arc::clone(disk), path, relative, moved: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to a version's place, which must be free; what is not committed then goes again.
    pub(crate) fn settle(mut self, folder: &str) -> Result<Pending, StoreError> {
        let target = self.disk.absolute(folder);
        let above = target.parent().map(Path::to_owned).unwrap_or_default();
        let pending = Pending::announce(&self.disk, folder.to_owned())?;
        for _ in 0..TRIES {
            // It may be pruned as empty before it is used.
            let moved = fs::create_dir_all(&above).and_then(|()| fs::rename(&self.path, &target));
            match moved {
                Ok(()) => {
                    self.moved = true;
                    return Ok(pending);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    // Whatever lies there is another delivery's, so it is not ours to remove.
                    pending.keep();
                    return match error.kind() {
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                            Err(StoreError::Unavailable)
                        }
                        _ => Err(error.into()),
                    };
                }
            }
        }
        pending.keep();
        Err(StoreError::Unavailable)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.moved {
            self.disk.reaper.remove(std::mem::take(&mut self.relative));
        }
    }
}

/// Removes what an earlier process was receiving.
pub(super) fn empty(root: &Path) -> io::Result<()> {
    let folder = root.join(INCOMING);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(folder)
}
