//! What is on disk and not committed yet.

use super::{Disk, remove};
use keystead_envelope::random;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file or a folder that the index does not know yet. Dropped, it is removed; kept, it stays. A
/// link under `pending` names it meanwhile. The link is not fsynced: a journalling file system
/// orders it before what it names, and what slips through is a stray that a scrub finds, never a
/// loss.
pub(crate) struct Pending {
    disk: Arc<Disk>,
    link: PathBuf,
    target: String,
    open: bool,
}

impl Pending {
    /// Announces a path below the root; to be called before it is made.
    pub(crate) fn announce(disk: &Arc<Disk>, target: String) -> io::Result<Self> {
        let id: [u8; 12] = random::array().map_err(io::Error::other)?;
        let link = disk.root().join("pending").join(hex::encode(id));
        std::os::unix::fs::symlink(&target, &link)?;
        Ok(Self { disk: Arc::clone(disk), link, target, open: true })
    }

    /// It is committed.
    pub(crate) fn keep(mut self) {
        self.open = false;
        // A link that stays is looked at by the next start, which finds what it names in the index.
        let _ = fs::remove_file(&self.link);
    }

    /// Whether it is committed is not known: the next start decides.
    pub(crate) fn leave(mut self) {
        self.open = false;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.open {
            let (target, link) = (std::mem::take(&mut self.target), std::mem::take(&mut self.link));
            self.disk.reaper.discard(target, link);
        }
    }
}

/// The links that an earlier process left, each with what it names.
pub(crate) fn leftovers(root: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join("pending"))? {
        let link = entry?.path();
        let target = fs::read_link(&link)?;
        // Only what we write ourselves: a path below `buckets`.
        let target = target.to_str().filter(|t| t.starts_with("buckets/") && !t.contains("/../"));
        match target {
            Some(target) => found.push((link, target.to_owned())),
            None => fs::remove_file(link)?,
        }
    }
    Ok(found)
}

/// Removes what a link names, then the link.
pub(super) fn discard(root: &Path, target: &str, link: &Path) -> io::Result<()> {
    remove(root, target)?;
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
