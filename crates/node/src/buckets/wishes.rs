//! What users of S3 ask for that control has to record: buckets made and removed.

use super::shelf::{Shelf, State};
use crate::time::boot;
use keystead_objects::gateway::Buckets;
use keystead_objects::{Refused, StoreError};
use keystead_types::BucketWish;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// It is there within this, or the wish is taken back.
const WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// So many buckets control records for a cluster.
const BUCKETS: usize = 100;

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

#[async_trait::async_trait]
impl Buckets for Wishes {
    async fn create(&self, name: &str) -> Result<(), StoreError> {
        let shelf = self.shelf()?;
        let (taken, full) = {
            let s = shelf.lock();
            (s.wanted.buckets.iter().any(|b| b.name == name), s.wanted.buckets.len() >= BUCKETS)
        };
        if taken {
            return Err(StoreError::BucketExists(name.to_owned()));
        }
        if full {
            return Err(StoreError::TooManyBuckets(BUCKETS));
        }
        let serves = |s: &State| {
            let listed = s.wanted.buckets.iter().any(|b| b.name == name);
            listed && s.rings.contains_key(name)
        };
        wish(&shelf, BucketWish::Create(name.to_owned()), serves).await?;
        // The thread registers it before it opens its ring.
        let shop = shelf.lock().shop.clone().ok_or(StoreError::Unavailable)?;
        shop.store.bucket(name).await.map(drop)
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let shelf = self.shelf()?;
        let (id, shop) = {
            let s = shelf.lock();
            let id = s.wanted.buckets.iter().find(|b| b.name == name).map(|b| b.bucket.clone());
            (id, s.shop.clone())
        };
        let id = id.ok_or_else(|| StoreError::NoSuchBucket(name.to_owned()))?;
        let shop = shop.ok_or(StoreError::Unavailable)?;
        // From here on nothing is put into it; if control does not hear of it, it comes back empty.
        shelf.with(|s| s.removing.insert(id.clone()));
        let gone = async {
            shop.store.remove_bucket(name).await?;
            let over = |s: &State| s.wanted.buckets.iter().all(|b| b.bucket != id);
            wish(&shelf, BucketWish::Remove(id.clone()), over).await
        };
        let gone = gone.await;
        shelf.with(|s| s.removing.remove(&id));
        gone
    }
}

/// Has control record or remove a bucket, and waits until `done`.
async fn wish(
    shelf: &Shelf,
    wish: BucketWish,
    done: impl Fn(&State) -> bool,
) -> Result<(), StoreError> {
    shelf.with(|s| s.wishes.push(wish.clone()));
    let deadline = boot().plus(WITHIN);
    let granted = loop {
        let (over, cause) = shelf.with(|s| (done(s), s.shut_for()));
        if over {
            break Ok(());
        }
        if let Some(cause) = cause {
            break Err(StoreError::Refused(Refused { cause }));
        }
        if boot() >= deadline {
            break Err(StoreError::Unavailable);
        }
        tokio::time::sleep(LOOK).await;
    };
    shelf.with(|s| s.wishes.retain(|w| *w != wish));
    granted
}
