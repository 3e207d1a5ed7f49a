//! Once a day every object of a bucket is read through, slowly: what does not authenticate is an
//! alarm in the log and a count in the bucket's message, before somebody needs it.

use super::shelf::{Shelf, State};
use keystead_objects::{ScrubTotals, Store};
use keystead_types::{BucketId, LeaseWord};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The first time, after the start.
    pub(crate) first: Duration,
    pub(crate) every: Duration,
    /// Looks for a bucket whose turn it is.
    pub(crate) look: Duration,
    pub(crate) bytes_a_second: u64,
}

impl Pace {
    /// A terabyte takes a day and a half; a disk hardly notices.
    pub(crate) const DAILY: Self = Self {
        first: Duration::from_secs(600),
        every: Duration::from_secs(24 * 3600),
        look: Duration::from_secs(60),
        bytes_a_second: 8 << 20,
    };
}

/// The task; dropped, it ends.
pub(super) struct Scrubber(tokio::task::JoinHandle<()>);

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl State {
    /// Buckets that are open now.
    fn open_buckets(&self) -> Vec<(BucketId, String)> {
        if self.view.word != LeaseWord::Live {
            return Vec::new();
        }
        let open = self.wanted.buckets.iter().filter(|bucket| self.serves(bucket));
        open.map(|bucket| (bucket.bucket.clone(), bucket.name.clone())).collect()
    }

    /// What the last scrub of a bucket found.
    pub(super) fn finding(&self, bucket: &BucketId) -> Option<String> {
        let corrupt = self.findings.get(bucket).filter(|corrupt| **corrupt > 0)?;
        Some(format!(
            "{corrupt} objects do not authenticate: the alarms in the node's log name them"
        ))
    }
}

impl Shelf {
    /// Starts the task, once there is a store.
    pub(super) fn scrub(self: &Arc<Self>, s: &mut State) {
        if s.scrubber.is_none()
            && let Some(shop) = &s.shop
        {
            let task = run(Arc::downgrade(self), shop.store.clone(), self.parts.pace);
            s.scrubber = Some(Scrubber(self.parts.runtime.spawn(task)));
        }
    }

    fn scrubbed(&self, id: &BucketId, name: &str, totals: ScrubTotals) {
        let ScrubTotals { whole, corrupt, bytes, .. } = totals;
        let cluster = &self.cluster;
        if corrupt > 0 {
            tracing::error!(alarm = true, %cluster, bucket = name, whole, corrupt, bytes,
                "objects do not authenticate");
        } else {
            tracing::info!(%cluster, bucket = name, whole, bytes, "every object authenticates");
        }
        self.with(|s| s.findings.insert(id.clone(), corrupt));
    }
}

async fn run(shelf: Weak<Shelf>, store: Arc<Store>, pace: Pace) {
    let mut done = HashMap::<BucketId, Instant>::new();
    tokio::time::sleep(pace.first).await;
    loop {
        let Some(open) = shelf.upgrade().map(|shelf| shelf.lock().open_buckets()) else { return };
        for (id, name) in open {
            if done.get(&id).is_some_and(|at| at.elapsed() < pace.every) {
                continue;
            }
            let begun = Instant::now();
            let totals = store.scrub_bucket(&name, pace.bytes_a_second).await;
            let Some(shelf) = shelf.upgrade() else { return };
            match totals {
                // The gate closed in the middle: from the beginning when it is open again.
                Ok(totals) if totals.refused > 0 => {}
                Ok(totals) => {
                    shelf.scrubbed(&id, &name, totals);
                    done.insert(id, begun);
                }
                Err(error) => {
                    tracing::warn!(cluster = %shelf.cluster, bucket = name, %error,
                        "a scrub broke off; it begins anew");
                }
            }
        }
        tokio::time::sleep(pace.look).await;
    }
}
