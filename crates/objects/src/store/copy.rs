//! Copying: the source is opened and sealed anew under the target's key, with a new id.

use super::Store;
use super::get::{GetOptions, Got};
use super::put::{Done, PutOptions};
use crate::checksum::Algorithm;
use crate::conditions::{ReadCondition, WriteCondition};
use crate::error::StoreError;
use crate::limits::MAX_PUT_BYTES;
use crate::model::{Range, SystemMetadata, Tags};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is copied.
#[derive(Debug, Clone, Default)]
pub struct CopySource {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Conditions on it; one that does not hold is [`StoreError::PreconditionFailed`].
    pub condition: ReadCondition,
}

/// What the copy is to be.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// New metadata (directive REPLACE); the source's without it.
    pub metadata: Option<(SystemMetadata, BTreeMap<String, String>)>,
    /// New tags (directive REPLACE); the source's without them.
    pub tags: Option<Tags>,
    /// Its checksum; the source's algorithm without it.
    pub algorithm: Option<Algorithm>,
    /// Condition on what is there at the commit.
    pub condition: WriteCondition,
}

impl Store {
    /// Copies an object of up to 5 GiB into one of a single part.
    pub async fn copy(
        self: &Arc<Self>,
        source: CopySource,
        bucket: &str,
        key: &str,
        options: CopyOptions,
    ) -> Result<Done, StoreError> {
        let Got { info, mut body, .. } = self.open_source(source, None).await?;
        let metadata = options.metadata.unwrap_or((info.system, info.user));
        let from = info.checksum.map(|c| c.checksum.algorithm());
        let put = PutOptions {
            system: metadata.0,
            user: metadata.1,
            tags: options.tags.unwrap_or(info.tags),
            algorithm: options.algorithm.or(from),
            content_md5: None,
            size: Some(info.size),
            condition: options.condition,
        };
        let mut target = self.put(bucket, key, put).await?;
        while let Some(piece) = body.next().await {
            target.write(piece?).await?;
        }
        target.commit(None).await
    }

    /// Opens what is to be copied.
    pub(super) async fn open_source(
        self: &Arc<Self>,
        source: CopySource,
        range: Option<(u64, u64)>,
    ) -> Result<Got, StoreError> {
        let range = range.map(|(first, last)| Range::Inclusive(first, last));
        let options = GetOptions { range, part_number: None, condition: source.condition };
        let got = self.get(&source.bucket, &source.key, options).await;
        let got = got.map_err(|error| match error {
            StoreError::NotModified(_) => StoreError::PreconditionFailed,
            other => other,
        })?;
        // A GET is cut at the end of the object, a copy is not.
        if let Some(Range::Inclusive(_, last)) = range
            && last >= got.info.size
        {
            return Err(StoreError::InvalidRange { size: got.info.size });
        }
        match got.range.end - got.range.start {
            bytes if bytes > MAX_PUT_BYTES => Err(StoreError::EntityTooLarge),
            _ => Ok(got),
        }
    }
}
