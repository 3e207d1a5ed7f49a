//! What the sender takes from the store: the queue, and files as they lie on disk.

use super::Store;
use crate::disk::{Pin, version_path};
use crate::error::StoreError;
use crate::index::Change;
use crate::index::Outcome;
use crate::index::queue::{Kind, QueueLength, Queued, ToSend};
use crate::index::rows::ObjectRow;
use crate::replicate::Manifest;
use crate::role::{ReplicationWord, StoreRole};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

/// How far a primary's replication is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replication {
    /// Keys that the other Region does not have as they stand here.
    pub pending: u64,
    /// When the oldest of their changes was acknowledged to its writer.
    pub oldest_ms: Option<i64>,
    /// When the other Region confirmed one last.
    pub confirmed_ms: Option<i64>,
}

/// One change, ready to be sent. It holds the version's files while it lives.
pub(crate) struct Parcel {
    pub(crate) queued: Queued,
    pub(crate) manifest: Manifest,
    /// The sealed record.
    pub(crate) record: Vec<u8>,
    parts: Vec<PathBuf>,
    _pin: Option<Pin>,
}

impl Store {
    /// How far replication is. Blocks.
    pub fn replication(&self) -> Result<Replication, StoreError> {
        let QueueLength { pending, oldest_ms, confirmed_ms } = self.index.shared.queue_length()?;
        Ok(Replication { pending, oldest_ms, confirmed_ms })
    }

    /// What is said of an object's replication. Blocks.
    pub(super) fn replication_of(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<ReplicationWord>, StoreError> {
        Ok(match self.role {
            StoreRole::Alone => None,
            StoreRole::Backup => Some(ReplicationWord::Replica),
            StoreRole::Primary if self.index.shared.waits(bucket, key)? => {
                Some(ReplicationWord::Pending)
            }
            StoreRole::Primary => Some(ReplicationWord::Completed),
        })
    }

    /// Comes when something was queued.
    pub(crate) async fn queued(&self) {
        self.index.queued.notified().await;
    }

    /// Keys that wait and that `may` be sent, in order.
    pub(crate) async fn next_changes(
        self: &Arc<Self>,
        max: usize,
        may: impl FnMut(&Queued) -> bool + Send + 'static,
    ) -> Result<Vec<Queued>, StoreError> {
        self.off(move |store| store.index.shared.queued(max, may)).await
    }

    /// The other Region has it.
    pub(crate) async fn confirm(&self, carried: Queued) -> Result<(), StoreError> {
        self.commit(Change::Confirm(carried), Vec::new()).await.map(drop)
    }

    /// The other Region has taken other changes than those of this run, up to a number: everything
    /// is queued anew. An alarm, once a run.
    pub(crate) async fn renumber(&self, run: u64, above: u64) -> Result<(), StoreError> {
        let change = Change::Renumber { run, above };
        if self.commit(change, Vec::new()).await? == Outcome::Done {
            tracing::error!(
                alarm = true,
                taken_there = above,
                "the objects of one Region were restored from an older copy, or lost: all objects of this Region are sent anew. What only the backup Region has stays there: compare the listings of both"
            );
        }
        Ok(())
    }

    /// What waits at a place, as it stands now; `None` when nothing waits there any more.
    pub(crate) async fn parcel(self: &Arc<Self>, place: u64) -> Result<Option<Parcel>, StoreError> {
        self.off(move |store| store.parcel_here(place)).await
    }

    fn parcel_here(self: &Arc<Self>, place: u64) -> Result<Option<Parcel>, StoreError> {
        let turn = self.disk.pins.turn();
        let Some(found) = self.index.shared.to_send(place)? else {
            return Ok(None);
        };
        let ToSend { queued, object, floor, history } = found;
        let pin = object.as_ref().map(|row| Pin::new(&self.disk, row.version));
        drop(turn);
        let row = &queued.row;
        let mut manifest = Manifest {
            bucket: row.bucket.clone(),
            key: row.key.clone(),
            kind: row.kind,
            sequence: row.sequence,
            floor,
            history,
            version: String::new(),
            record_file: String::new(),
            record_bytes: 0,
            parts: Vec::new(),
        };
        let (mut record, mut parts) = (Vec::new(), Vec::new());
        match object {
            _ if row.kind == Kind::Emptied => {}
            // Whatever the row says: what is not there is gone.
            None => manifest.kind = Kind::Delete,
            Some(object) => {
                if row.kind == Kind::Delete {
                    manifest.kind = Kind::Object;
                }
                (record, parts) = self.files_of(&row.bucket, &row.key, &object)?;
                manifest.version = object.version.to_string();
                manifest.record_file = object.record_file;
                manifest.record_bytes = record.len();
                let length = |path: &PathBuf| Ok(std::fs::metadata(path)?.len());
                manifest.parts = parts.iter().map(length).collect::<io::Result<_>>()?;
            }
        }
        Ok(Some(Parcel { queued, manifest, record, parts, _pin: pin }))
    }

    /// The sealed record, and where the parts lie that it names.
    fn files_of(
        &self,
        bucket: &str,
        key: &str,
        row: &ObjectRow,
    ) -> Result<(Vec<u8>, Vec<PathBuf>), StoreError> {
        let opened = self.open_record(bucket, key, row)?;
        let record = self.read_record_file(bucket, key, row)?;
        let folder = self.disk.absolute(&version_path(bucket, key, row.version));
        Ok((record, opened.parts.iter().map(|part| folder.join(&part.file)).collect()))
    }

    /// Some bytes of a part's file.
    pub(crate) async fn read_part(
        self: &Arc<Self>,
        parcel: &Arc<Parcel>,
        part: usize,
        offset: u64,
    ) -> Result<Bytes, StoreError> {
        let parcel = parcel.clone();
        self.off(move |_| {
            let mut file = File::open(&parcel.parts[part])?;
            file.seek(SeekFrom::Start(offset))?;
            let left = parcel.manifest.parts[part] - offset;
            let mut piece = Vec::new();
            file.take(left.min(crate::replicate::CHUNK as u64)).read_to_end(&mut piece)?;
            match piece.is_empty() {
                true => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                false => Ok(Bytes::from(piece)),
            }
        })
        .await
    }
}
