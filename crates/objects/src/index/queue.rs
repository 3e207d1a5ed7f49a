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

use super::history::{self, History};
use super::{CHANGED, CHANGES, META, OBJECTS, Shared};
use crate::error::StoreError;
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// One that is to be sent.
pub(crate) struct ToSend {
    pub(crate) queued: Queued,
    /// The object's row, unless it is gone.
    pub(crate) object: Option<super::rows::ObjectRow>,
    pub(crate) floor: u64,
    pub(crate) history: History,
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
    history::confirm(txn, queued.row.sequence)
}

/// The other Region has taken numbers up to `above` that do not stand for what they stand for here:
/// all that is here, and all that waits, is queued anew under higher ones. Answers whether it was
/// still to be done in the run that was told.
pub(super) fn renumber(
    txn: &WriteTransaction,
    run: u64,
    above: u64,
    now_ms: i64,
) -> Result<bool, StoreError> {
    if history::present(txn)? != run {
        return Ok(false);
    }
    {
        let mut meta = txn.open_table(META)?;
        let change = meta.get("change")?.map_or(0, |value| value.value());
        meta.insert("change", change.max(above))?;
    }
    history::begin_anew(txn, super::start::random_id()?)?;
    let mut waited = BTreeMap::new();
    {
        let mut changes = txn.open_table(CHANGES)?;
        for item in changes.iter()? {
            if let Some(row) = decode(item?.1.value()) {
                waited.insert((row.bucket, row.key), (row.kind, row.first_ms));
            }
        }
        changes.retain(|_, _| false)?;
        txn.open_table(CHANGED)?.retain(|_, _| false)?;
    }
    // A bucket was emptied before anything that it holds now came.
    for ((bucket, key), (_, since)) in waited.iter().filter(|(_, w)| w.0 == Kind::Emptied) {
        note(txn, (bucket, key), Kind::Emptied, *since)?;
    }
    let objects = txn.open_table(OBJECTS)?;
    for ((bucket, key), (_, since)) in waited.iter().filter(|(_, w)| w.0 != Kind::Emptied) {
        if objects.get((bucket.as_str(), key.as_str()))?.is_none() {
            note(txn, (bucket, key), Kind::Delete, *since)?;
        }
    }
    for item in objects.iter()? {
        let (at, _) = item?;
        let (bucket, key) = at.value();
        let since = waited.get(&(bucket.to_owned(), key.to_owned())).map(|(_, since)| *since);
        note(txn, (bucket, key), Kind::Object, since.unwrap_or(now_ms))?;
    }
    Ok(true)
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

    /// A key that waits as it stands now, in one snapshot.
    pub(crate) fn to_send(&self, place: u64) -> Result<Option<ToSend>, StoreError> {
        self.read(|txn| {
            let changes = txn.open_table(CHANGES)?;
            let row = changes.get(place)?.and_then(|value| decode(value.value()));
            let Some(row) = row else { return Ok(None) };
            let floor = floor(txn, &changes)?;
            let at = (row.bucket.as_str(), row.key.as_str());
            let object = match txn.open_table(OBJECTS)?.get(at)? {
                Some(value) => Some(super::rows::ObjectRow::decode(value.value())?),
                None => None,
            };
            let history = history::told(txn)?;
            Ok(Some(ToSend { queued: Queued { place, row }, object, floor, history }))
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
