//! What users of S3 ask for that control has to record: buckets made and removed.

use super::shelf::{Shelf, State};
use crate::time::boot;
use keystead_objects::gateway::Buckets;
use keystead_objects::{Refused, StoreError};
use keystead_types::{BucketId, objects::is_bucket_name};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Control has heard and the bucket is there within this, or the asker is told to come again.
const WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// So many buckets control records for a cluster.
const BUCKETS: usize = 100;
/// So many are waited for at a time; more would swell the status.
const WISHES: usize = 8;

/// The gateway's way to make and remove buckets.
pub(super) struct Wishes(Weak<Shelf>);

impl Wishes {
    pub(super) fn of(shelf: &Arc<Shelf>) -> Self {
        Self(Arc::downgrade(shelf))
    }

    fn shelf(&self) -> Result<Arc<Shelf>, StoreError> {
        self.0.upgrade().ok_or(StoreError::Unavailable)
    }
}

/// A name that is waited for; forgotten when whoever waited is gone.
struct Wish {
    shelf: Arc<Shelf>,
    name: String,
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.shelf.with(|s| s.wishes.remove(&self.name));
    }
}

#[async_trait::async_trait]
impl Buckets for Wishes {
    async fn create(&self, name: &str) -> Result<(), StoreError> {
        if !is_bucket_name(name) {
            return Err(StoreError::InvalidBucketName);
        }
        let shelf = self.shelf()?;
        let wish = shelf.with(|s| {
            if s.wanted.buckets.iter().any(|b| b.name == name) {
                return Err(StoreError::BucketExists(name.to_owned()));
            }
            if s.wanted.buckets.len() >= BUCKETS {
                return Err(StoreError::TooManyBuckets(BUCKETS));
            }
            if s.wishes.len() >= WISHES || !s.wishes.insert(name.to_owned()) {
                return Err(StoreError::Unavailable);
            }
            Ok(Wish { shelf: shelf.clone(), name: name.to_owned() })
        })?;
        let serves = |s: &State| {
            s.wanted.buckets.iter().find(|b| b.name == name).is_some_and(|b| s.serves(b))
        };
        until(&wish.shelf, serves).await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let shelf = self.shelf()?;
        let (id, shop, said) = {
            let s = shelf.lock();
            let id = s.wanted.buckets.iter().find(|b| b.name == name).map(|b| b.bucket.clone());
            let said = id.as_ref().is_some_and(|id| s.removals.contains(id));
            (id, s.shop.clone(), said)
        };
        let id = id.ok_or_else(|| StoreError::NoSuchBucket(name.to_owned()))?;
        let shop = shop.ok_or(StoreError::Unavailable)?;
        if !said {
            // From here on nothing is put into it.
            shop.store.remove_bucket(name).await?;
            shelf.with(|s| {
                s.registered.retain(|(there, _)| *there != id);
                s.removals.insert(id.clone());
            });
        }
        let gone = |s: &State| !has(s, &id);
        until(&shelf, gone).await
    }
}

fn has(s: &State, id: &BucketId) -> bool {
    s.wanted.buckets.iter().any(|b| b.bucket == *id)
}

/// Waits until control's word has come back and is carried out.
async fn until(shelf: &Shelf, done: impl Fn(&State) -> bool) -> Result<(), StoreError> {
    let deadline = boot().plus(WITHIN);
    loop {
        let (over, cause) = {
            let s = shelf.lock();
            (done(&s), s.shut_for())
        };
        if over {
            return Ok(());
        }
        if let Some(cause) = cause {
            return Err(StoreError::Refused(Refused { cause }));
        }
        if boot() >= deadline {
            return Err(StoreError::Unavailable);
        }
        tokio::time::sleep(LOOK).await;
    }
}
