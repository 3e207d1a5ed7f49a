//! The backup's memory: which of the primary's changes it has taken, so that none comes twice, and
//! none after a newer one of its key, also when the key is gone.
//!
//! | table | from | to |
//! |---|---|---|
//! | `taken` | (bucket, key) | number of the newest change taken |
//! | `taken-at` | number | (bucket, key) |
//!
//! A change says up to which number all are settled at the primary (the floor). What comes at or
//! below it is a repetition, so nothing need be remembered of it, and neither table grows.

use super::apply::{Effects, Outcome, doom, has_bucket, object};
use super::history::{self, History};
use super::rows::ObjectRow;
use super::{META, OBJECTS, Shared, TAKEN, TAKEN_AT};
use crate::disk::version_path;
use crate::error::StoreError;
use redb::{ReadableTable, WriteTransaction};

/// Settled numbers that one change forgets; each change adds one.
const FORGET: usize = 64;

/// A change as it came from the primary.
pub(crate) struct Replica {
    pub(crate) bucket: String,
    /// Empty when the whole bucket is meant.
    pub(crate) key: String,
    pub(crate) sequence: u64,
    pub(crate) floor: u64,
    pub(crate) history: History,
    pub(crate) becomes: Becomes,
}

/// What the key is to be.
pub(crate) enum Becomes {
    /// This object; its files lie where the row says.
    Object(ObjectRow),
    /// Nothing.
    Gone,
    /// Nothing, and every key of the bucket with it.
    Emptied,
}

fn is_old(
    meta: &impl ReadableTable<&'static str, u64>,
    taken: &impl ReadableTable<(&'static str, &'static str), u64>,
    (bucket, key): (&str, &str),
    sequence: u64,
) -> Result<bool, StoreError> {
    let floor = meta.get("floor")?.map_or(0, |value| value.value());
    let own = taken.get((bucket, key))?.map_or(0, |value| value.value());
    let emptied = taken.get((bucket, ""))?.map_or(0, |value| value.value());
    Ok(sequence <= floor.max(own).max(emptied))
}

impl Shared {
    /// Was this change taken, or a newer one of its key? One of another history is refused.
    pub(crate) fn is_old(
        &self,
        at: (&str, &str),
        sequence: u64,
        history: &History,
    ) -> Result<bool, StoreError> {
        self.read(|txn| {
            let meta = txn.open_table(META)?;
            history::follows(&meta, &txn.open_table(TAKEN_AT)?, history)??;
            is_old(&meta, &txn.open_table(TAKEN)?, at, sequence)
        })
    }
}

/// Makes the change, unless it is an old one.
pub(super) fn take(
    txn: &WriteTransaction,
    replica: &Replica,
    effects: &mut Effects,
) -> Result<Result<Outcome, StoreError>, StoreError> {
    let follows =
        history::follows(&txn.open_table(META)?, &txn.open_table(TAKEN_AT)?, &replica.history)?;
    if let Err(refused) = follows {
        return Ok(Err(refused));
    }
    let at = (replica.bucket.as_str(), replica.key.as_str());
    if is_old(&txn.open_table(META)?, &txn.open_table(TAKEN)?, at, replica.sequence)? {
        return Ok(Ok(Outcome::Overtaken));
    }
    match &replica.becomes {
        Becomes::Object(row) => {
            if !has_bucket(txn, at.0)? {
                return Ok(Err(StoreError::NoSuchBucket(at.0.to_owned())));
            }
            let mut objects = txn.open_table(OBJECTS)?;
            let old = object(&objects, at.0, at.1)?;
            objects.insert(at, row.encode().as_slice())?;
            drop(objects);
            if let Some(old) = old {
                unhook(txn, effects, at, &old, Some(row))?;
            }
        }
        Becomes::Gone => remove(txn, effects, at)?,
        Becomes::Emptied => {
            for key in keys_before(txn, at.0, replica.sequence)? {
                remove(txn, effects, (at.0, &key))?;
            }
        }
    }
    remember(txn, replica)?;
    Ok(Ok(Outcome::Done))
}

fn remove(
    txn: &WriteTransaction,
    effects: &mut Effects,
    at: (&str, &str),
) -> Result<(), StoreError> {
    let mut objects = txn.open_table(OBJECTS)?;
    let old = object(&objects, at.0, at.1)?;
    objects.remove(at)?;
    drop(objects);
    old.map_or(Ok(()), |old| unhook(txn, effects, at, &old, None))
}

/// Nothing refers any more to what `old` names and `new` does not.
fn unhook(
    txn: &WriteTransaction,
    effects: &mut Effects,
    (bucket, key): (&str, &str),
    old: &ObjectRow,
    new: Option<&ObjectRow>,
) -> Result<(), StoreError> {
    let folder = version_path(bucket, key, old.version);
    match new {
        Some(new) if new.version == old.version => {
            if new.record_file == old.record_file {
                return Ok(());
            }
            doom(txn, effects, old.version, format!("{folder}/{}", old.record_file))
        }
        _ => doom(txn, effects, old.version, folder),
    }
}

/// The bucket's keys of which nothing newer was taken.
fn keys_before(
    txn: &WriteTransaction,
    bucket: &str,
    sequence: u64,
) -> Result<Vec<String>, StoreError> {
    let (objects, taken) = (txn.open_table(OBJECTS)?, txn.open_table(TAKEN)?);
    let mut keys = Vec::new();
    for item in objects.range((bucket, "")..)? {
        let (at, _) = item?;
        let (of, key) = at.value();
        if of != bucket {
            break;
        }
        if taken.get((bucket, key))?.is_none_or(|newest| newest.value() < sequence) {
            keys.push(key.to_owned());
        }
    }
    Ok(keys)
}

fn remember(txn: &WriteTransaction, replica: &Replica) -> Result<(), StoreError> {
    let (mut taken, mut taken_at) = (txn.open_table(TAKEN)?, txn.open_table(TAKEN_AT)?);
    let at = (replica.bucket.as_str(), replica.key.as_str());
    let old = taken.insert(at, replica.sequence)?.map(|value| value.value());
    if let Some(old) = old {
        taken_at.remove(old)?;
    }
    taken_at.insert(replica.sequence, at)?;
    let mut meta = txn.open_table(META)?;
    let known = meta.get("floor")?.map_or(0, |value| value.value());
    let floor = known.max(replica.floor.min(replica.sequence.saturating_sub(1)));
    meta.insert("floor", floor)?;
    meta.insert("taken-of", replica.history.present())?;
    for _ in 0..FORGET {
        let Some((number, bucket, key)) = taken_at.first()?.map(|(number, at)| {
            let (bucket, key) = at.value();
            (number.value(), bucket.to_owned(), key.to_owned())
        }) else {
            break;
        };
        if number > floor {
            break;
        }
        taken_at.remove(number)?;
        taken.remove((bucket.as_str(), key.as_str()))?;
    }
    Ok(())
}
