//! One cluster's objects.

pub(crate) mod buckets;
pub(crate) mod copy;
pub(crate) mod get;
pub(crate) mod list;
mod message;
pub(crate) mod multipart;
pub(crate) mod outgoing;
pub(crate) mod put;
mod reader;
pub(crate) mod replica;
pub(crate) mod scrub;
pub(crate) mod tags;
mod upload;

use crate::disk::{Disk, Pin};
use crate::error::StoreError;
use crate::index::rows::ObjectRow;
use crate::index::{DAMAGED, Index};
use crate::model::BucketInfo;
use crate::name::check_key;
use crate::record::{self, ObjectRecord, Owner};
use crate::role::StoreRole;
use crate::vault::Vault;
use keystead_types::{Clock, DocumentId, documents};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The objects of one cluster: a namespace of buckets, a folder, and the vault with their keys.
/// Share it by `Arc`; every call is for many callers at a time.
pub struct Store {
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    role: StoreRole,
    /// Before the disk: its writer hands what is to be removed to the disk's reaper.
    index: Index,
    disk: Arc<Disk>,
    /// As in the index: every request asks whether its bucket is there.
    buckets: RwLock<BTreeMap<String, BucketInfo>>,
    corrupt: AtomicU64,
    alarms: AtomicU64,
    /// Objects that an alarm went out for, until they are written anew: one each is enough.
    told: Mutex<HashSet<(String, String)>>,
}

/// Objects that are remembered for it; of more, the log has too many alarms already.
const TOLD: usize = 10_000;

/// Counters that the embedder reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Times that something stored did not authenticate.
    pub corrupt: u64,
    /// Alarms of it in the log: one an object, until it is written anew.
    pub alarms: u64,
    /// Things that a start or a scrub found and swept, for nothing referred to them.
    pub swept: u64,
    /// Changes decided.
    pub changes: u64,
    /// Transactions that they took.
    pub commits: u64,
}

impl Store {
    /// Opens a folder, made when missing, and sweeps what an earlier process left behind. Blocks;
    /// needs no key, so it works while the gate is closed.
    pub fn open(
        folder: &Path,
        vault: Arc<Vault>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        Self::open_as(StoreRole::Alone, folder, vault, clock)
    }

    /// Opens the folder of one of a cluster's two Regions.
    pub fn open_as(
        role: StoreRole,
        folder: &Path,
        vault: Arc<Vault>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        let disk = Arc::new(Disk::open(folder)?);
        let index = Index::open(&disk, role, &clock)?;
        disk.empty_stages()?;
        // Not had on a full disk: then it is laid when something is written.
        let _ = disk.ballast.lay();
        let buckets = RwLock::new(index.shared.buckets()?);
        let (corrupt, alarms, told) = Default::default();
        Ok(Arc::new(Self { vault, clock, role, index, disk, buckets, corrupt, alarms, told }))
    }

    /// The vault.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What the store is to the cluster's other Region.
    pub fn role(&self) -> StoreRole {
        self.role
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let (changes, commits) = self.index.counts();
        let corrupt = self.corrupt.load(Ordering::Relaxed);
        let alarms = self.alarms.load(Ordering::Relaxed);
        Stats { corrupt, alarms, swept: self.disk.swept(), changes, commits }
    }

    /// Is the bucket there, and is this a key?
    fn admit(&self, bucket: &str, key: &str) -> Result<(), StoreError> {
        self.has_bucket(bucket)?;
        check_key(key)
    }

    fn has_bucket(&self, bucket: &str) -> Result<(), StoreError> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        match buckets.contains_key(bucket) {
            true => Ok(()),
            false => Err(StoreError::NoSuchBucket(bucket.to_owned())),
        }
    }

    /// Something stored is not what was written: an alarm unless there was one, a count, an error,
    /// and no plaintext.
    fn corrupt(&self, bucket: &str, key: &str, what: &'static str) -> StoreError {
        self.corrupt.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD && told.insert((bucket.to_owned(), key.to_owned())) {
            self.alarms.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                alarm = true,
                bucket,
                key,
                what,
                "a stored object does not authenticate"
            );
        }
        StoreError::Corrupt(what)
    }

    /// The object is written anew: what is wrong with it from now on is news.
    fn forget_alarm(&self, bucket: &str, key: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.is_empty() {
            told.remove(&(bucket.to_owned(), key.to_owned()));
        }
    }

    /// The index knows no alarm: a row that it cannot read becomes one here.
    fn alarmed(&self, bucket: &str, key: &str, error: StoreError) -> StoreError {
        match error {
            StoreError::Corrupt(DAMAGED) => self.corrupt(bucket, key, DAMAGED),
            other => other,
        }
    }

    /// Disk and CPU work, off the runtime's threads.
    async fn off<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.unwrap_or_else(|stopped| match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Interrupted),
        })
    }

    /// Finds an object and holds its files. Blocks.
    fn find(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
    ) -> Result<(ObjectRow, ObjectRecord, Pin), StoreError> {
        self.admit(bucket, key)?;
        // It may lie there for a while yet.
        if is_over(bucket, key, self.clock.wall_ms()) {
            return Err(StoreError::NoSuchKey);
        }
        let turn = self.disk.pins.turn();
        let row = self.index.shared.object(bucket, key);
        let row = row.map_err(|error| self.alarmed(bucket, key, error))?;
        let row = row.ok_or(StoreError::NoSuchKey)?;
        let pin = Pin::new(&self.disk, row.version);
        drop(turn);
        let record = self.open_record(bucket, key, &row)?;
        Ok((row, record, pin))
    }

    /// Opens an object's record, from the index or, when it is long, from its file.
    fn open_record(
        &self,
        bucket: &str,
        key: &str,
        row: &ObjectRow,
    ) -> Result<ObjectRecord, StoreError> {
        let file;
        let message = match &row.record {
            Some(message) => message,
            None => {
                file = self.read_record_file(bucket, key, row)?;
                &file
            }
        };
        let owner = Owner::new(bucket, key, row.version);
        let open = |ring: &_| record::open(ring, message, Some(&row.record_id), &owner);
        let record: ObjectRecord =
            self.vault.lend(bucket, open)?.map_err(|what| self.corrupt(bucket, key, what))?;
        if (record.size, record.etag.as_str()) != (row.size, row.etag.as_str()) {
            return Err(self.corrupt(bucket, key, "the index and the record do not agree"));
        }
        Ok(record)
    }

    fn read_record_file(
        &self,
        bucket: &str,
        key: &str,
        row: &ObjectRow,
    ) -> Result<Vec<u8>, StoreError> {
        let folder = crate::disk::version_path(bucket, key, row.version);
        let path = self.disk.absolute(&folder).join(&row.record_file);
        std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => self.corrupt(bucket, key, "the record is missing"),
            _ => error.into(),
        })
    }
}

/// A document whose time is over is none.
fn is_over(bucket: &str, key: &str, now_ms: i64) -> bool {
    bucket == documents::BUCKET && DocumentId::of_key(key).is_some_and(|id| id.is_over(now_ms))
}

impl Drop for Store {
    fn drop(&mut self) {
        // The index's writer ends first, then what it gave the reaper is removed; the folder can be
        // opened again when this returns, unless a handle is still about.
        self.index.stop();
        self.disk.reaper.stop();
    }
}
