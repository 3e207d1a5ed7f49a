//! The index: what exists. One redb file, read by many, written by one thread.
//!
//! Changes wait in a queue; the writer takes as many as wait, decides each in the order it came,
//! and commits them together, so that many small objects share an fsync. Conditions are decided in
//! there, so nothing comes between the look and the change.

mod apply;
pub(crate) mod history;
mod listing;
pub(crate) mod queue;
pub(crate) mod rows;
mod start;
pub(crate) mod taken;
mod writer;

pub(crate) use apply::{Change, Outcome};
pub(crate) use writer::Index;

use crate::error::StoreError;
use crate::model::BucketInfo;
use crate::version::Version;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use rows::{Damaged, ObjectRow, PartRow, UploadRow};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

/// Name -> JSON of [`crate::BucketInfo`] behind a version byte.
pub(crate) const BUCKETS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("buckets");
/// (bucket, key) -> [`ObjectRow`].
pub(crate) const OBJECTS: TableDefinition<'static, (&str, &str), &[u8]> =
    TableDefinition::new("objects");
/// (bucket, key, upload) -> [`UploadRow`].
pub(crate) const UPLOADS: TableDefinition<'static, (&str, &str, &[u8; 16]), &[u8]> =
    TableDefinition::new("uploads");
/// (upload, number) -> [`PartRow`].
pub(crate) const PARTS: TableDefinition<'static, (&[u8; 16], u16), &[u8]> =
    TableDefinition::new("parts");
/// Paths that nothing refers to any more and that may be there yet.
pub(crate) const DOOMED: TableDefinition<'static, &str, ()> = TableDefinition::new("doomed");
/// Place in the queue -> what waits to be replicated (see [`queue`]).
pub(crate) const CHANGES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("changes");
/// (bucket, key) -> its place in the queue.
pub(crate) const CHANGED: TableDefinition<'static, (&str, &str), u64> =
    TableDefinition::new("changed");
/// (bucket, key) -> number of the newest change taken of the primary (see [`taken`]).
pub(crate) const TAKEN: TableDefinition<'static, (&str, &str), u64> = TableDefinition::new("taken");
/// The same by number.
pub(crate) const TAKEN_AT: TableDefinition<'static, u64, (&str, &str)> =
    TableDefinition::new("taken-at");
/// Starts of a primary's store: which, and the number of the last change then (see [`history`]).
pub(crate) const RUNS: TableDefinition<'static, u64, (u64, u64)> = TableDefinition::new("runs");
/// `sequence`: number of the last commit; `change`: of the last change of an object (primary);
/// `confirmed_ms`, `confirmed`: when one was confirmed last, and the highest number; `floor`,
/// `taken-of`: see [`taken`] and [`history`] (backup).
pub(crate) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

macro_rules! from_redb {
    ($($error:ident),+) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        })+
    };
}
from_redb!(DatabaseError, TransactionError, TableError, StorageError, CommitError);

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => match Self::from(error) {
                Self::Io(error) => Self::Index(Box::new(redb::Error::Io(error))),
                full => full,
            },
            // A write failed before, and the writer has not opened it again yet.
            redb::Error::PreviousIo => Self::Unavailable,
            other => Self::Index(Box::new(other)),
        }
    }
}

/// What is said of a row that cannot be read.
pub(crate) const DAMAGED: &str = "a value of the index";

impl From<Damaged> for StoreError {
    fn from(_: Damaged) -> Self {
        Self::Corrupt(DAMAGED)
    }
}

/// The database, as readers and the writer share it; `None` while it is opened again.
pub(crate) struct Shared {
    path: PathBuf,
    database: RwLock<Option<Database>>,
}

impl Shared {
    /// Reads within one snapshot. Blocks.
    pub(crate) fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        look(&database.as_ref().ok_or(StoreError::Unavailable)?.begin_read()?)
    }

    /// All buckets.
    pub(crate) fn buckets(&self) -> Result<BTreeMap<String, BucketInfo>, StoreError> {
        self.read(|txn| {
            let mut buckets = BTreeMap::new();
            for item in txn.open_table(BUCKETS)?.iter()? {
                let (name, value) = item?;
                let info = apply::decode_bucket(value.value())?;
                buckets.insert(name.value().to_owned(), info);
            }
            Ok(buckets)
        })
    }

    /// An object's row.
    pub(crate) fn object(&self, bucket: &str, key: &str) -> Result<Option<ObjectRow>, StoreError> {
        self.read(|txn| match txn.open_table(OBJECTS)?.get((bucket, key))? {
            None => Ok(None),
            Some(value) => Ok(Some(ObjectRow::decode(value.value())?)),
        })
    }

    /// Keys of a bucket behind one, at most so many.
    pub(crate) fn keys(
        &self,
        bucket: &str,
        after: &str,
        max: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.read(|txn| {
            let from = (Bound::Excluded((bucket, after)), Bound::Unbounded);
            let mut keys = Vec::new();
            for item in txn.open_table(OBJECTS)?.range::<(&str, &str)>(from)?.take(max) {
                let (at, _) = item?;
                let (of, key) = at.value();
                if of != bucket {
                    break;
                }
                keys.push(key.to_owned());
            }
            Ok(keys)
        })
    }

    /// Does the index refer to this path below the root?
    pub(crate) fn refers(&self, path: &str) -> Result<bool, StoreError> {
        self.read(|txn| start::refers(txn, path))
    }

    /// An upload's row.
    pub(crate) fn upload(
        &self,
        bucket: &str,
        key: &str,
        upload: Version,
    ) -> Result<Option<UploadRow>, StoreError> {
        self.read(|txn| match txn.open_table(UPLOADS)?.get((bucket, key, &upload.0))? {
            None => Ok(None),
            Some(value) => Ok(Some(UploadRow::decode(value.value())?)),
        })
    }

    /// An upload's parts behind a number, at most so many.
    pub(crate) fn parts(
        &self,
        upload: Version,
        after: u16,
        max: usize,
    ) -> Result<Vec<(u16, PartRow)>, StoreError> {
        self.read(|txn| {
            let table = txn.open_table(PARTS)?;
            let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
            let range = table.range((&upload.0, first)..=(&upload.0, u16::MAX))?;
            let mut parts = Vec::new();
            for item in range.take(max) {
                let (at, value) = item?;
                parts.push((at.value().1, PartRow::decode(value.value())?));
            }
            Ok(parts)
        })
    }
}
