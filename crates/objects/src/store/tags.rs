//! An object's tags: part of its sealed record.

use super::Store;
use crate::disk::{Pending, sync_folder, version_path};
use crate::error::StoreError;
use crate::index::{Change, Outcome};
use crate::model::{Tags, check_tags};
use keystead_envelope::random;
use std::sync::Arc;

/// A record may be overtaken by another writer's; so often it is read again.
const TRIES: usize = 16;

impl Store {
    /// An object's tags.
    pub async fn tags(self: &Arc<Self>, bucket: &str, key: &str) -> Result<Tags, StoreError> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.off(move |store| Ok(store.find(&bucket, &key)?.1.metadata.tags)).await
    }

    /// Replaces an object's tags; an empty set deletes them. ETag and time stay.
    pub async fn set_tags(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        tags: Tags,
    ) -> Result<(), StoreError> {
        check_tags(&tags)?;
        for _ in 0..TRIES {
            let (bucket, key) = (bucket.to_owned(), key.to_owned());
            let tags = tags.clone();
            let made = self.off(move |store| {
                let (old, mut record, pin) = store.find(&bucket, &key)?;
                record.metadata.tags = tags;
                // A name of its own: the index says which record holds.
                let file = new_file("record")?;
                let folder = version_path(&bucket, &key, old.version);
                let pending = Pending::announce(&store.disk, format!("{folder}/{file}"))?;
                let row = store.write_record(&record, old.version, &file)?;
                sync_folder(&store.disk.absolute(&folder))?;
                Ok((Change::PutRecord { bucket, key, row, old }, pending, pin))
            });
            let (change, pending, _pin) = made.await?;
            if self.commit(change, vec![pending]).await? == Outcome::Done {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable)
    }
}

/// A file's name that never was in its folder before.
pub(super) fn new_file(name: &str) -> Result<String, StoreError> {
    let id: [u8; 8] = random::array()?;
    Ok(format!("{name}-{}", hex::encode(id)))
}
