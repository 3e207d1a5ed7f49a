//! Buckets: they exist when the embedder, who makes their keys, registers them.

use super::Store;
use crate::error::StoreError;
use crate::index::Change;
use crate::model::{BucketInfo, BucketSettings};
use crate::name::check_bucket;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

impl Store {
    /// Registers a bucket. Its keys come by [`crate::Vault::open`].
    pub async fn add_bucket(
        self: &Arc<Self>,
        name: &str,
        settings: BucketSettings,
    ) -> Result<BucketInfo, StoreError> {
        check_bucket(name)?;
        let created_ms = self.clock.wall_ms();
        let info = BucketInfo { name: name.to_owned(), created_ms, settings };
        let folder = info.name.clone();
        self.off(move |store| Ok(store.disk.make_bucket(&folder)?)).await?;
        self.index.change(Change::AddBucket(info.clone()), Vec::new()).await?;
        self.buckets_mut(|buckets| buckets.insert(info.name.clone(), info.clone()));
        Ok(info)
    }

    /// Replaces a bucket's settings.
    pub async fn set_bucket(&self, name: &str, settings: BucketSettings) -> Result<(), StoreError> {
        let info = BucketInfo { settings, ..self.bucket(name).await? };
        self.index.change(Change::SetBucket(info.clone()), Vec::new()).await?;
        self.buckets_mut(|buckets| buckets.insert(info.name.clone(), info));
        Ok(())
    }

    /// Removes a bucket that holds no object; uploads into it are aborted.
    pub async fn remove_bucket(&self, name: &str) -> Result<(), StoreError> {
        self.index.change(Change::RemoveBucket(name.to_owned()), Vec::new()).await?;
        self.buckets_mut(|buckets| buckets.remove(name));
        Ok(())
    }

    /// A bucket.
    pub async fn bucket(&self, name: &str) -> Result<BucketInfo, StoreError> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).cloned().ok_or_else(|| StoreError::NoSuchBucket(name.to_owned()))
    }

    /// All buckets, by name.
    pub async fn list_buckets(&self) -> Result<Vec<BucketInfo>, StoreError> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        Ok(buckets.values().cloned().collect())
    }

    fn buckets_mut<T>(&self, change: impl FnOnce(&mut BTreeMap<String, BucketInfo>) -> T) -> T {
        change(&mut self.buckets.write().unwrap_or_else(PoisonError::into_inner))
    }
}
