//! An upload's parts as they are listed, and its end: completed or aborted.

use super::Store;
use super::multipart::{CompleteOptions, CompletePart};
use super::put::Done;
use super::tags::new_file;
use crate::checksum::whole;
use crate::disk::{Pending, version_path};
use crate::error::{Digest, StoreError};
use crate::index::Change;
use crate::index::rows::{PartRow, UploadRow};
use crate::limits::{MAX_LIST_KEYS, MAX_OBJECT_BYTES, MAX_PARTS, MIN_PART_BYTES};
use crate::model::{ObjectChecksum, PartList, UploadEntry, UploadList, UploadQuery};
use crate::record::{self, ObjectRecord, Owner, Part, PartRecord, UploadRecord};
use crate::version::{Version, new_etag};
use std::sync::Arc;

impl Store {
    /// A page of an upload's parts.
    pub async fn list_parts(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        upload_id: &str,
        after: u16,
        max: usize,
    ) -> Result<PartList, StoreError> {
        let (upload, row) = self.upload(bucket, key, upload_id).await?;
        let entry = UploadEntry {
            key: key.to_owned(),
            upload_id: upload.to_string(),
            begun_ms: row.begun_ms,
            checksum: row.checksum,
        };
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.off(move |store| {
            let max = max.min(MAX_LIST_KEYS);
            let rows = store.index.shared.parts(upload, after, max + 1);
            let mut rows = rows.map_err(|error| store.alarmed(&bucket, &key, error))?;
            let more = rows.len() > max;
            rows.truncate(max);
            let next = if more { rows.last().map(|(number, _)| *number) } else { None };
            let parts = store.open_parts(&bucket, &key, upload, &rows)?;
            let parts = parts.iter().map(Part::info).collect();
            Ok(PartList { upload: entry, parts, next })
        })
        .await
    }

    /// A page of a bucket's uploads. Needs no key.
    pub async fn list_uploads(
        self: &Arc<Self>,
        bucket: &str,
        mut query: UploadQuery,
    ) -> Result<UploadList, StoreError> {
        self.has_bucket(bucket)?;
        query.max_uploads = query.max_uploads.min(MAX_LIST_KEYS);
        let bucket = bucket.to_owned();
        self.off(move |store| {
            let page = store.index.shared.list_uploads(&bucket, &query);
            page.map_err(|error| store.alarmed(&bucket, &query.prefix, error))
        })
        .await
    }

    /// Makes the object of the named parts; the others are dropped.
    pub async fn complete_upload(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        upload_id: &str,
        parts: Vec<CompletePart>,
        options: CompleteOptions,
    ) -> Result<Done, StoreError> {
        let (upload, upload_row) = match self.upload(bucket, key, upload_id).await {
            Err(StoreError::NoSuchUpload) => {
                return self.completed(bucket, key, upload_id, parts).await;
            }
            upload => upload?,
        };
        if parts.is_empty() || parts.len() > usize::from(MAX_PARTS) {
            return Err(StoreError::NoParts);
        }
        if parts.windows(2).any(|pair| pair[0].number >= pair[1].number) {
            return Err(StoreError::InvalidPartOrder);
        }
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let CompleteOptions { condition, checksum, size } = options;
        let made = self.off(move |store| {
            let rows = store.index.shared.parts(upload, 0, usize::from(MAX_PARTS));
            let rows = rows.map_err(|error| store.alarmed(&bucket, &key, error))?;
            let stored = store.open_parts(&bucket, &key, upload, &rows)?;
            let chosen = choose(&parts, stored)?;
            let record = store.join(&bucket, &key, upload, &upload_row, chosen)?;
            if let Some(announced) = size.filter(|size| *size != record.size) {
                return Err(StoreError::IncompleteBody { announced, got: record.size });
            }
            if let Some(expected) = checksum
                && !record.checksum.as_ref().is_some_and(|made| made.is(&expected))
            {
                let algorithm = expected.checksum.algorithm();
                return Err(StoreError::BadDigest(Digest::Checksum(algorithm)));
            }
            let folder = version_path(&bucket, &key, upload);
            let file = new_file("record")?;
            let pending = Pending::announce(&store.disk, format!("{folder}/{file}"))?;
            let row = store.write_record(&record, upload, &file)?;
            store.disk.sync_version(&folder)?;
            let parts = parts.into_iter().map(|part| (part.number, part.etag)).collect();
            let done = record.done();
            Ok((Change::Complete { bucket, key, row, parts, condition }, pending, done))
        });
        let (change, pending, done) = made.await?;
        self.commit(change, vec![pending]).await?;
        Ok(done)
    }

    /// The same completion again, by a client that did not hear the answer: it is told the same,
    /// while the object is still the one that the upload became.
    async fn completed(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        upload_id: &str,
        parts: Vec<CompletePart>,
    ) -> Result<Done, StoreError> {
        let upload = Version::parse(upload_id).ok_or(StoreError::NoSuchUpload)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.off(move |store| {
            let found = store.find(&bucket, &key).map_err(|error| match error {
                StoreError::NoSuchKey => StoreError::NoSuchUpload,
                other => other,
            });
            let (row, record, _pin) = found?;
            let named = parts.iter().map(|part| (part.number, &part.etag));
            let same = record.parts.iter().map(|part| (part.number, &part.etag)).eq(named);
            match row.version == upload && record.multipart && same {
                true => Ok(record.done()),
                false => Err(StoreError::NoSuchUpload),
            }
        })
        .await
    }

    /// Drops an upload and its parts. Needs no key.
    pub async fn abort_upload(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
    ) -> Result<(), StoreError> {
        self.admit(bucket, key)?;
        let upload = Version::parse(upload_id).ok_or(StoreError::NoSuchUpload)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.commit(Change::AbortUpload { bucket, key, upload }, Vec::new()).await?;
        Ok(())
    }

    /// Opens parts' records: what an upload has is secret until it is an object, too.
    fn open_parts(
        &self,
        bucket: &str,
        key: &str,
        upload: Version,
        rows: &[(u16, PartRow)],
    ) -> Result<Vec<Part>, StoreError> {
        let owner = Owner::new(bucket, key, upload);
        let mut parts = Vec::with_capacity(rows.len());
        for (number, row) in rows {
            let open = |ring: &_| record::open::<PartRecord>(ring, &row.record, None, &owner);
            let part = self
                .vault
                .lend(bucket, open)?
                .map_err(|what| self.corrupt(bucket, key, what))?
                .part;
            let (ours, theirs) = ((part.number, &part.file), (*number, &row.file));
            if ours != theirs || (part.size, &part.etag) != (row.size, &row.etag) {
                return Err(self.corrupt(bucket, key, "the index and a part do not agree"));
            }
            parts.push(part);
        }
        Ok(parts)
    }

    /// The record of the object that the parts make.
    fn join(
        &self,
        bucket: &str,
        key: &str,
        upload: Version,
        row: &UploadRow,
        parts: Vec<Part>,
    ) -> Result<ObjectRecord, StoreError> {
        let owner = Owner::new(bucket, key, upload);
        let open = |ring: &_| record::open::<UploadRecord>(ring, &row.record, None, &owner);
        let begun =
            self.vault.lend(bucket, open)?.map_err(|what| self.corrupt(bucket, key, what))?;
        let size = parts.iter().map(|part| part.size).sum();
        if size > MAX_OBJECT_BYTES {
            return Err(StoreError::EntityTooLarge);
        }
        let sums: Vec<_> = parts.iter().map(|part| (&part.checksum, part.size)).collect();
        let checksum = ObjectChecksum {
            checksum: whole(begun.algorithm, begun.kind, &sums),
            kind: begun.kind,
            parts: parts.len() as u16,
        };
        Ok(ObjectRecord {
            owner,
            size,
            modified_ms: self.clock.wall_ms(),
            etag: format!("{}-{}", new_etag()?, parts.len()),
            checksum: Some(checksum),
            multipart: true,
            parts,
            metadata: begun.metadata,
        })
    }
}

/// The stored parts that are named: each must be there as the client saw it.
fn choose(named: &[CompletePart], stored: Vec<Part>) -> Result<Vec<Part>, StoreError> {
    let mut stored = stored.into_iter();
    let mut chosen: Vec<Part> = Vec::with_capacity(named.len());
    for name in named {
        let part = stored
            .find(|part| part.number >= name.number)
            .filter(|part| part.number == name.number && part.etag == name.etag)
            .filter(|part| name.checksum.as_ref().is_none_or(|sum| *sum == part.checksum))
            .ok_or(StoreError::InvalidPart(name.number))?;
        if let Some(before) = chosen.last()
            && before.size < MIN_PART_BYTES
        {
            return Err(StoreError::EntityTooSmall { part: before.number, size: before.size });
        }
        chosen.push(part);
    }
    Ok(chosen)
}
