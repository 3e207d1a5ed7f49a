//! The grants that this node made, one durable record a volume and generation.
//!
//! A record is written before the grant is used and never replaced: a grant that the owner revoked
//! stays revoked until an operator raises the volume's generation.

use crate::disk;
use keystead_types::VolumeId;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) volume: VolumeId,
    pub(crate) generation: u64,
    pub(crate) grant_id: String,
    /// Makes the grant usable at once; not secret.
    pub(crate) token: String,
    pub(crate) created_ms: i64,
}

/// The folder of records.
#[derive(Debug, Clone)]
pub(crate) struct Grants {
    folder: PathBuf,
}

impl Grants {
    pub(crate) fn new(data: &Path) -> Self {
        Self { folder: data.join("grants") }
    }

    fn path(&self, volume: &VolumeId, generation: u64) -> PathBuf {
        self.folder.join(format!("{volume}.{generation}.json"))
    }

    /// The grant of a volume's generation, when it was made.
    pub(crate) fn get(&self, volume: &VolumeId, generation: u64) -> std::io::Result<Option<Grant>> {
        disk::load(&self.path(volume, generation))
    }

    /// Keeps a grant; durable when this returns.
    pub(crate) fn keep(&self, grant: &Grant) -> std::io::Result<()> {
        disk::replace(&self.path(&grant.volume, grant.generation), grant)
    }
}

/// `Name` of the grant: with the same name and parameters KMS answers the same grant again, which
/// is what makes a crash between the call and the record harmless.
pub(crate) fn name(volume: &VolumeId, node: &str, generation: u64) -> String {
    format!("{volume}/{node}/{generation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_has_its_own_record() {
        let folder = tempfile::tempdir().expect("a folder");
        let grants = Grants::new(folder.path());
        let volume = VolumeId::from_uuid(uuid::Uuid::now_v7());
        let grant = Grant {
            volume: volume.clone(),
            generation: 1,
            grant_id: "g".into(),
            token: "t".into(),
            created_ms: 1,
        };
        grants.keep(&grant).expect("kept");
        assert_eq!(grants.get(&volume, 1).expect("read"), Some(grant));
        assert_eq!(grants.get(&volume, 2).expect("read"), None);
    }
}
