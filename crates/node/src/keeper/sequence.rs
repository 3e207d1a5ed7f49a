//! The KMS's state sequence, remembered across restarts: a store that shows a lower one was put
//! back to an older state, and what was revoked since might be allowed again.

use crate::disk;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The highest sequence seen of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    epoch: String,
    sequence: u64,
    /// A lower sequence was seen: that it has risen past the mark since gives nothing back of what
    /// was lost. Ends with another store, or when somebody removes the file on the owner's word.
    #[serde(default)]
    rolled_back: bool,
}

/// Keeps the mark in `DATA/sequence.json`.
pub(super) struct HighWater {
    path: PathBuf,
    mark: Option<Mark>,
}

impl HighWater {
    pub(super) fn load(data: &Path) -> io::Result<Self> {
        let path = data.join("sequence.json");
        let mark = disk::load(&path)?;
        Ok(Self { path, mark })
    }

    /// True while the store is at or above the mark; a higher sequence is durable on return.
    /// Another store (another epoch) counts from its own start.
    pub(super) fn continues(&mut self, epoch: &str, sequence: u64) -> io::Result<bool> {
        let known = self.mark.as_ref().filter(|mark| mark.epoch == epoch);
        let rolled_back = known.is_some_and(|mark| mark.rolled_back || sequence < mark.sequence);
        let sequence = known.map_or(sequence, |mark| mark.sequence.max(sequence));
        let next = Mark { epoch: epoch.to_owned(), sequence, rolled_back };
        if self.mark.as_ref() != Some(&next) {
            if rolled_back && !known.is_some_and(|mark| mark.rolled_back) {
                tracing::error!(path = %self.path.display(), "the KMS's store was put back to an \
                    older state; what was revoked since may be allowed again. Frozen until the \
                    owner has looked: then remove this file and start the node");
            }
            // Believed at once where it fences, only once it is durable where it does not.
            let kept = disk::replace(&self.path, &next);
            if !rolled_back {
                kept?;
            }
            self.mark = Some(next);
        }
        Ok(!rolled_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_sequence_of_the_same_store_is_told_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut high = HighWater::load(folder.path()).expect("empty");
        assert!(high.continues("a", 5).expect("kept"));
        assert!(high.continues("a", 5).expect("kept"));
        assert!(high.continues("a", 9).expect("kept"));
        assert!(!high.continues("a", 8).expect("kept"));
        let mut again = HighWater::load(folder.path()).expect("there");
        assert!(!again.continues("a", 8).expect("kept"));
        assert!(!again.continues("a", 9).expect("kept"), "a store that catches up is no better");
        assert!(!again.continues("a", 10).expect("kept"));
        let mut again = HighWater::load(folder.path()).expect("there");
        assert!(!again.continues("a", 11).expect("kept"));
        assert!(again.continues("b", 1).expect("kept"));
    }
}
