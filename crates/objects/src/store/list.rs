//! Listing and deleting: neither needs a key.

use super::Store;
use crate::conditions::WriteCondition;
use crate::error::StoreError;
use crate::index::{Change, Outcome};
use crate::limits::MAX_LIST_KEYS;
use crate::model::{ListQuery, Listing};
use std::sync::Arc;

impl Store {
    /// A page of a bucket's objects.
    pub async fn list(
        self: &Arc<Self>,
        bucket: &str,
        mut query: ListQuery,
    ) -> Result<Listing, StoreError> {
        self.has_bucket(bucket)?;
        query.max_keys = query.max_keys.min(MAX_LIST_KEYS);
        let bucket = bucket.to_owned();
        self.off(move |store| {
            let page = store.index.shared.list(&bucket, &query);
            page.map_err(|error| store.alarmed(&bucket, &query.prefix, error))
        })
        .await
    }

    /// Deletes an object; answers whether it was there. Readers that have begun go on.
    pub async fn delete(
        &self,
        bucket: &str,
        key: &str,
        condition: WriteCondition,
    ) -> Result<bool, StoreError> {
        self.admit(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let change = Change::DeleteObject { bucket, key, condition };
        Ok(self.commit(change, Vec::new()).await? != Outcome::Absent)
    }
}
