//! Multipart uploads: one message a part, never joined.

use super::Store;
use super::copy::CopySource;
use super::message::{Expect, Inflow, Message, Place};
use super::put::Done;
use super::tags::new_file;
use crate::checksum::{Algorithm, Checksum, Kind};
use crate::conditions::WriteCondition;
use crate::disk::version_path;
use crate::error::StoreError;
use crate::index::Change;
use crate::index::rows::{PartRow, UploadRow};
use crate::limits::MAX_PARTS;
use crate::model::{ObjectChecksum, SystemMetadata, Tags, UploadEntry, check_tags, check_user};
use crate::record::{self, MessageId, Metadata, Owner, Part, PartRecord, UploadRecord};
use crate::version::{Version, new_etag};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What is said of an object when its upload begins.
#[derive(Debug, Clone, Default)]
pub struct UploadOptions {
    /// Headers kept with it.
    pub system: SystemMetadata,
    /// `x-amz-meta-*`, names in lower case without the prefix.
    pub user: BTreeMap<String, String>,
    /// Tags.
    pub tags: Tags,
    /// Its checksum; CRC64NVME without it.
    pub algorithm: Option<Algorithm>,
    /// What the checksum is to cover; the algorithm's default without it.
    pub kind: Option<Kind>,
}

/// What is said of a part before its bytes come.
#[derive(Debug, Clone, Default)]
pub struct PartOptions {
    /// The checksum that the client sends with it; must be the upload's.
    pub algorithm: Option<Algorithm>,
    /// Compare with Content-MD5.
    pub content_md5: Option<[u8; 16]>,
    /// Bytes that will come, when announced.
    pub size: Option<u64>,
}

/// A part named at completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletePart {
    /// Its number.
    pub number: u16,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Its checksum, when the client names it.
    pub checksum: Option<Checksum>,
}

/// What is asked of a completion.
#[derive(Debug, Clone, Default)]
pub struct CompleteOptions {
    /// Condition on what is there at the commit.
    pub condition: WriteCondition,
    /// The whole object's checksum, when the client sends it.
    pub checksum: Option<ObjectChecksum>,
    /// The whole object's bytes, when the client sends them.
    pub size: Option<u64>,
}

/// A part that is being written. Dropped before [`PartHandle::commit`], nothing is stored.
pub struct PartHandle {
    inflow: Inflow,
    upload: Version,
    number: u16,
}

impl Store {
    /// Begins an upload.
    pub async fn create_upload(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        options: UploadOptions,
    ) -> Result<UploadEntry, StoreError> {
        self.admit(bucket, key)?;
        check_user(&options.user)?;
        check_tags(&options.tags)?;
        let algorithm = options.algorithm.unwrap_or(Algorithm::Crc64Nvme);
        let kind = options.kind.unwrap_or(algorithm.default_kind());
        if !algorithm.allows(kind) {
            return Err(StoreError::InvalidChecksum("an algorithm that makes no such checksum"));
        }
        let begun_ms = self.clock.wall_ms();
        let upload = Version::new(begun_ms)?;
        let UploadOptions { system, user, tags, .. } = options;
        let metadata = Metadata { system, user, tags };
        let owner = Owner::new(bucket, key, upload);
        let record = UploadRecord { owner, begun_ms, algorithm, kind, metadata };
        let sealed = self.vault.lend(bucket, |ring| record::seal(ring, &record))?;
        let (message, _) = sealed.map_err(StoreError::Seal)?;
        let row = UploadRow { begun_ms, checksum: (algorithm, kind), record: message };
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let entry = UploadEntry {
            key: key.clone(),
            upload_id: upload.to_string(),
            begun_ms,
            checksum: (algorithm, kind),
        };
        self.commit(Change::CreateUpload { bucket, key, upload, row }, Vec::new()).await?;
        Ok(entry)
    }

    /// Begins a part, numbered 1 to 10,000.
    pub async fn put_part(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        upload_id: &str,
        number: u16,
        options: PartOptions,
    ) -> Result<PartHandle, StoreError> {
        if number == 0 || number > MAX_PARTS {
            return Err(StoreError::InvalidPartNumber(number.into()));
        }
        let (upload, row) = self.upload(bucket, key, upload_id).await?;
        if options.algorithm.is_some_and(|one| one != row.checksum.0) {
            let what = "another checksum than the upload was begun with";
            return Err(StoreError::InvalidChecksum(what));
        }
        let place = Place {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            folder: version_path(bucket, key, upload),
            file: new_file(&format!("part{number:05}"))?,
            own_folder: false,
        };
        let PartOptions { content_md5: md5, size, .. } = options;
        let expect = Expect { algorithm: row.checksum.0, md5, size };
        let inflow = Inflow::new(Message::begin(self, place, expect)?);
        Ok(PartHandle { inflow, upload, number })
    }

    /// Makes a part of an object, or of a range of it (both ends included).
    #[allow(clippy::too_many_arguments)] // Source and target, as S3 has them.
    pub async fn copy_part(
        self: &Arc<Self>,
        source: CopySource,
        range: Option<(u64, u64)>,
        bucket: &str,
        key: &str,
        upload_id: &str,
        number: u16,
    ) -> Result<Done, StoreError> {
        let mut got = self.open_source(source, range).await?;
        let size = Some(got.range.end - got.range.start);
        let options = PartOptions { size, ..PartOptions::default() };
        let mut part = self.put_part(bucket, key, upload_id, number, options).await?;
        while let Some(piece) = got.body.next().await {
            part.write(piece?).await?;
        }
        part.commit(None).await
    }

    /// An upload that is under way.
    pub(super) async fn upload(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<(Version, UploadRow), StoreError> {
        self.admit(bucket, key)?;
        let upload = Version::parse(upload_id).ok_or(StoreError::NoSuchUpload)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.off(move |store| {
            let row = store.index.shared.upload(&bucket, &key, upload);
            let row = row.map_err(|error| store.alarmed(&bucket, &key, error))?;
            Ok((upload, row.ok_or(StoreError::NoSuchUpload)?))
        })
        .await
    }
}

impl PartHandle {
    /// Takes bytes, as [`super::put::PutHandle::write`] does.
    pub async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        self.inflow.write(data).await
    }

    /// Makes the part durable and replaces an earlier one of its number.
    pub async fn commit(self, expected: Option<Checksum>) -> Result<Done, StoreError> {
        let message = self.inflow.into_inner()?;
        let (upload, number) = (self.upload, self.number);
        let store = message.store();
        let made = store.off(move |store| {
            let written = message.finish(expected.as_ref())?;
            let (bucket, key) = (written.place.bucket, written.place.key);
            let part = Part {
                number,
                file: written.place.file,
                id: MessageId(written.id),
                size: written.size,
                etag: new_etag()?,
                checksum: written.checksum,
                modified_ms: store.clock.wall_ms(),
            };
            let record = PartRecord { owner: Owner::new(&bucket, &key, upload), part };
            let sealed = store.vault.lend(&bucket, |ring| record::seal(ring, &record))?;
            let (message, _) = sealed.map_err(StoreError::Seal)?;
            let part = record.part;
            let row = PartRow {
                file: part.file.clone(),
                size: part.size,
                etag: part.etag.clone(),
                record: message,
            };
            // An abort meanwhile takes the folder away.
            store.disk.sync_version(&written.place.folder).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => StoreError::NoSuchUpload,
                _ => error.into(),
            })?;
            let change = Change::PutPart { bucket, key, upload, number, row };
            Ok((change, written.pending, part))
        });
        let (change, pending, part) = made.await?;
        store.commit(change, vec![pending]).await?;
        Ok(Done {
            etag: part.etag,
            version: upload.to_string(),
            size: part.size,
            modified_ms: part.modified_ms,
            checksum: ObjectChecksum { checksum: part.checksum, kind: Kind::FullObject, parts: 1 },
        })
    }
}
