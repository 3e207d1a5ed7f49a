//! The primary's queue: which keys the other Region does not have as they stand here.
//!
//! | table | from | to |
//! |---|---|---|
//! | `changes` | place | what changed, the number of its last change, since when it waits |
//! | `changed` | (bucket, key) | its place |
//!
//! Every change of an object takes the next number, in the transaction that makes it. A key waits
//! once, at the place that its first change gave it: the other Region needs the newest state alone,
//! and a key that changes all the time keeps its turn. So every number below the first place is
//! confirmed or superseded: the *floor*, which travels with each change.

use super::{CHANGED, CHANGES, META, Shared};
use crate::error::StoreError;
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction,
};
use serde::{Deserialize, Serialize};

const FORMAT: u8 = 1;
/// Places looked at for one that may be sent.
const LOOK: usize = 10_000;

/// What is to be sent of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// All of it.
    Object,
    /// Its record alone: the other Region has the version's parts.
    Record,
    /// It is gone.
    Delete,
    /// The bucket is gone, with whatever of it the other Region holds yet. Its key is empty.
    Emptied,
}

/// A key that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) place: u64,
    pub(crate) row: QueueRow,
}

/// What is stored of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueRow {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) kind: Kind,
    /// Number of its last change.
    pub(crate) sequence: u64,
    /// When the first and the last of its changes that wait were acknowledged.
    first_ms: i64,
    last_ms: i64,
}

/// How long the queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct QueueLength {
    pub(crate) pending: u64,
    pub(crate) oldest_ms: Option<i64>,
    pub(crate) confirmed_ms: Option<i64>,
}

fn encode(row: &QueueRow) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, row).expect("a row is plain text and numbers");
    bytes
}

fn decode(bytes: &[u8]) -> Option<QueueRow> {
    serde_json::from_slice(bytes.strip_prefix(&[FORMAT])?).ok()
}

/// Queues a change that this transaction makes. A row that cannot be read is written anew as one
/// that needs everything sent.
pub(super) fn note(
    txn: &WriteTransaction,
    (bucket, key): (&str, &str),
    kind: Kind,
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut meta = txn.open_table(META)?;
    let sequence = meta.get("change")?.map_or(0, |value| value.value()) + 1;
    meta.insert("change", sequence)?;
    let (mut changed, mut changes) = (txn.open_table(CHANGED)?, txn.open_table(CHANGES)?);
    let place = changed.get((bucket, key))?.map(|value| value.value());
    let waits = match place {
        Some(place) => changes.get(place)?.map(|value| decode(value.value())),
        None => None,
    };
    let (first_ms, kind) = match waits {
        // The record of a version that the other Region may not have.
        Some(waits) if kind == Kind::Record => {
            let known = waits.as_ref().is_some_and(|row| row.kind == Kind::Record);
            (waits.map(|row| row.first_ms), if known { Kind::Record } else { Kind::Object })
        }
        Some(waits) => (waits.map(|row| row.first_ms), kind),
        None => (None, kind),
    };
    let place = place.unwrap_or(sequence);
    let row = QueueRow {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        kind,
        sequence,
        first_ms: first_ms.unwrap_or(now_ms),
        last_ms: now_ms,
    };
    changed.insert((bucket, key), place)?;
    changes.insert(place, encode(&row).as_slice())?;
    Ok(())
}

/// A bucket that is empty here is removed: one entry stands for all that wait.
pub(super) fn note_emptied(
    txn: &WriteTransaction,
    bucket: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    {
        let (mut changed, mut changes) = (txn.open_table(CHANGED)?, txn.open_table(CHANGES)?);
        let mut waiting = Vec::new();
        for item in changed.range((bucket, "")..)? {
            let (at, place) = item?;
            let (of, key) = at.value();
            if of != bucket {
                break;
            }
            waiting.push((key.to_owned(), place.value()));
        }
        for (key, place) in waiting {
            changed.remove((bucket, key.as_str()))?;
            changes.remove(place)?;
        }
    }
    note(txn, (bucket, ""), Kind::Emptied, now_ms)
}

/// The other Region has confirmed the change of that number. What changed meanwhile waits on, at
/// the end.
pub(super) fn confirm(
    txn: &WriteTransaction,
    queued: &Queued,
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut changes = txn.open_table(CHANGES)?;
    let Some(mut row) = changes.get(queued.place)?.and_then(|value| decode(value.value())) else {
        return Ok(());
    };
    let at = (queued.row.bucket.as_str(), queued.row.key.as_str());
    if (row.bucket.as_str(), row.key.as_str()) != at {
        return Ok(());
    }
    let mut changed = txn.open_table(CHANGED)?;
    changes.remove(queued.place)?;
    if row.sequence == queued.row.sequence {
        changed.remove(at)?;
    } else {
        row.first_ms = row.last_ms;
        changes.insert(row.sequence, encode(&row).as_slice())?;
        changed.insert(at, row.sequence)?;
    }
    let now = u64::try_from(now_ms).unwrap_or_default();
    txn.open_table(META)?.insert("confirmed_ms", now)?;
    Ok(())
}

/// Every number up to this is confirmed or superseded.
fn floor(
    txn: &ReadTransaction,
    changes: &ReadOnlyTable<u64, &'static [u8]>,
) -> Result<u64, StoreError> {
    match changes.first()? {
        Some((place, _)) => Ok(place.value().saturating_sub(1)),
        None => Ok(txn.open_table(META)?.get("change")?.map_or(0, |value| value.value())),
    }
}

impl Shared {
    /// Keys that wait and that `may` be sent, in order, at most so many.
    pub(crate) fn queued(
        &self,
        max: usize,
        mut may: impl FnMut(&Queued) -> bool,
    ) -> Result<Vec<Queued>, StoreError> {
        self.read(|txn| {
            let mut found = Vec::new();
            for item in txn.open_table(CHANGES)?.iter()?.take(LOOK) {
                let (place, value) = item?;
                let Some(row) = decode(value.value()) else {
                    tracing::error!(alarm = true, place = place.value(), "a row of the queue");
                    continue;
                };
                let queued = Queued { place: place.value(), row };
                if may(&queued) {
                    found.push(queued);
                    if found.len() == max {
                        break;
                    }
                }
            }
            Ok(found)
        })
    }

    /// A key that waits as it stands now, with its object's row and the floor, in one snapshot.
    pub(crate) fn to_send(
        &self,
        place: u64,
    ) -> Result<Option<(Queued, Option<super::rows::ObjectRow>, u64)>, StoreError> {
        self.read(|txn| {
            let changes = txn.open_table(CHANGES)?;
            let row = changes.get(place)?.and_then(|value| decode(value.value()));
            let Some(row) = row else { return Ok(None) };
            let floor = floor(txn, &changes)?;
            let at = (row.bucket.as_str(), row.key.as_str());
            let object = match txn.open_table(super::OBJECTS)?.get(at)? {
                Some(value) => Some(super::rows::ObjectRow::decode(value.value())?),
                None => None,
            };
            Ok(Some((Queued { place, row }, object, floor)))
        })
    }

    /// Does this key wait?
    pub(crate) fn waits(&self, bucket: &str, key: &str) -> Result<bool, StoreError> {
        self.read(|txn| Ok(txn.open_table(CHANGED)?.get((bucket, key))?.is_some()))
    }

    /// How long the queue is.
    pub(crate) fn queue_length(&self) -> Result<QueueLength, StoreError> {
        self.read(|txn| {
            let changes = txn.open_table(CHANGES)?;
            let first = changes.first()?.and_then(|(_, value)| decode(value.value()));
            let confirmed = txn.open_table(META)?.get("confirmed_ms")?;
            Ok(QueueLength {
                pending: changes.len()?,
                oldest_ms: first.map(|row| row.first_ms),
                confirmed_ms: confirmed.and_then(|value| i64::try_from(value.value()).ok()),
            })
        })
    }
}
