//! Writing an object: one stream in, one message out, one commit.

use super::Store;
use super::message::{Expect, Inflow, Message, Place};
use crate::checksum::{Algorithm, Checksum, Kind};
use crate::conditions::WriteCondition;
use crate::disk::{Pending, version_path, write_new};
use crate::error::StoreError;
use crate::index::rows::{INLINE_BYTES, ObjectRow};
use crate::index::{Change, Outcome};
use crate::model::{ObjectChecksum, SystemMetadata, Tags, check_tags, check_user};
use crate::record::{self, MessageId, Metadata, ObjectRecord, Owner, Part};
use crate::version::{Version, new_etag};
use bytes::Bytes;
use keystead_envelope::message::MessageError;
use keystead_envelope::random::RandomError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is said of an object before its bytes come.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// Headers kept with it.
    pub system: SystemMetadata,
    /// `x-amz-meta-*`, names in lower case without the prefix.
    pub user: BTreeMap<String, String>,
    /// Tags.
    pub tags: Tags,
    /// The checksum that is made, stored and compared; CRC64NVME when none is asked for.
    pub algorithm: Option<Algorithm>,
    /// Compare with Content-MD5. Costs MD5 over all bytes.
    pub content_md5: Option<[u8; 16]>,
    /// Bytes that will come, when announced.
    pub size: Option<u64>,
    /// Condition on what is there at the commit.
    pub condition: WriteCondition,
}

/// A written object or part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its ETag, without quotes.
    pub etag: String,
    /// Its version; of a part, that of its upload.
    pub version: String,
    /// Bytes of plaintext.
    pub size: u64,
    /// When it was committed.
    pub modified_ms: i64,
    /// Its checksum.
    pub checksum: ObjectChecksum,
}

/// An object that is being written. Dropped before [`PutHandle::commit`], nothing is stored.
pub struct PutHandle {
    inflow: Inflow,
    version: Version,
    metadata: Metadata,
    condition: WriteCondition,
}

impl From<RandomError> for StoreError {
    fn from(_: RandomError) -> Self {
        Self::Seal(MessageError::Random)
    }
}

impl Store {
    /// Begins an object. It replaces what has the key when it is committed.
    pub async fn put(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        options: PutOptions,
    ) -> Result<PutHandle, StoreError> {
        self.admit(bucket, key)?;
        check_user(&options.user)?;
        check_tags(&options.tags)?;
        let version = Version::new(self.clock.wall_ms())?;
        let place = Place {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            folder: version_path(bucket, key, version),
            file: "part00001".to_owned(),
            own_folder: true,
        };
        let expect = Expect {
            algorithm: options.algorithm.unwrap_or(Algorithm::Crc64Nvme),
            md5: options.content_md5,
            size: options.size,
        };
        let inflow = Inflow::new(Message::begin(self, place, expect)?);
        let metadata = Metadata { system: options.system, user: options.user, tags: options.tags };
        Ok(PutHandle { inflow, version, metadata, condition: options.condition })
    }
}

impl PutHandle {
    /// Takes bytes. After an error, or when a caller drops this call in the middle, nothing more
    /// can be done with the handle.
    pub async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        self.inflow.write(data).await
    }

    /// Compares with the checksum that the client sent (before or behind the data; of the
    /// algorithm asked for in the options), makes the object durable, then visible.
    pub async fn commit(self, expected: Option<Checksum>) -> Result<Done, StoreError> {
        let message = self.inflow.into_inner()?;
        let (version, metadata) = (self.version, self.metadata);
        let store = message.store();
        let made = store.off(move |store| {
            let written = message.finish(expected.as_ref())?;
            let (modified_ms, etag) = (store.clock.wall_ms(), new_etag()?);
            let checksum = written.checksum.clone();
            let part = Part {
                number: 1,
                file: written.place.file.clone(),
                id: MessageId(written.id),
                size: written.size,
                etag: etag.clone(),
                checksum: checksum.clone(),
                modified_ms,
            };
            let record = ObjectRecord {
                owner: Owner::new(&written.place.bucket, &written.place.key, version),
                size: written.size,
                modified_ms,
                etag,
                checksum: Some(ObjectChecksum { checksum, kind: Kind::FullObject, parts: 1 }),
                multipart: false,
                parts: vec![part],
                metadata,
            };
            let row = store.write_record(&record, version, "record")?;
            store.disk.sync_version(&written.place.folder)?;
            Ok((row, record, written.pending))
        });
        let (row, record, pending) = made.await?;
        let done = record.done();
        let Owner { bucket, key, .. } = record.owner;
        let change = Change::PutObject { bucket, key, row, condition: self.condition };
        store.commit(change, vec![pending]).await?;
        Ok(done)
    }
}

impl Store {
    /// Asks the index for a change, which is durable when this answers.
    pub(super) async fn commit(
        &self,
        change: Change,
        pending: Vec<Pending>,
    ) -> Result<Outcome, StoreError> {
        if let Some((bucket, key)) = change.of() {
            self.forget_alarm(bucket, key);
        }
        let made = self.index.change(change, pending).await;
        made.map_err(|error| self.alarmed("", "", error))
    }

    /// Seals an object's record, writes it durably into the version's folder, and answers the row
    /// that is to be committed. Blocks.
    pub(super) fn write_record(
        &self,
        record: &ObjectRecord,
        version: Version,
        file: &str,
    ) -> Result<ObjectRow, StoreError> {
        let (bucket, key) = (&record.owner.bucket, &record.owner.key);
        let sealed = self.vault.lend(bucket, |ring| record::seal(ring, record))?;
        let (message, record_id) = sealed.map_err(StoreError::Seal)?;
        let folder = self.disk.absolute(&version_path(bucket, key, version));
        write_new(&folder.join(file), &message)?;
        Ok(ObjectRow {
            version,
            size: record.size,
            modified_ms: record.modified_ms,
            etag: record.etag.clone(),
            checksum: record.checksum.as_ref().map(|c| (c.checksum.algorithm(), c.kind)),
            record_file: file.to_owned(),
            record_id,
            record: (message.len() <= INLINE_BYTES).then_some(message),
        })
    }
}

impl ObjectRecord {
    /// What is answered to a write.
    pub(super) fn done(&self) -> Done {
        let first = self.parts.first().map(|part| ObjectChecksum {
            checksum: part.checksum.clone(),
            kind: Kind::FullObject,
            parts: 1,
        });
        Done {
            etag: self.etag.clone(),
            version: self.owner.version.clone(),
            size: self.size,
            modified_ms: self.modified_ms,
            checksum: self.checksum.clone().or(first).expect("an object has a part"),
        }
    }
}
