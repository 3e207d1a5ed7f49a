//! What a start does: make the tables, and sweep what an earlier process left.

use super::history;
use super::rows::{ObjectRow, PartRow};
use super::{
    BUCKETS, CHANGED, CHANGES, DOOMED, META, OBJECTS, PARTS, RUNS, TAKEN, TAKEN_AT, UPLOADS,
};
use crate::disk::{Disk, Place, leftovers, remove};
use crate::error::StoreError;
use crate::role::StoreRole;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};
use std::fs;
use std::path::Path;

/// Opens the database, made when missing, with its tables.
pub(super) fn create(path: &Path, role: StoreRole) -> Result<Database, StoreError> {
    let database = Database::create(path)?;
    let txn = database.begin_write()?;
    txn.open_table(BUCKETS)?;
    txn.open_table(OBJECTS)?;
    txn.open_table(UPLOADS)?;
    txn.open_table(PARTS)?;
    txn.open_table(DOOMED)?;
    txn.open_table(META)?;
    txn.open_table(CHANGES)?;
    txn.open_table(CHANGED)?;
    txn.open_table(TAKEN)?;
    txn.open_table(TAKEN_AT)?;
    txn.open_table(RUNS)?;
    if role == StoreRole::Primary {
        history::begin(&txn, random_id()?)?;
    }
    txn.commit()?;
    Ok(database)
}

/// Of a run.
pub(super) fn random_id() -> Result<u64, StoreError> {
    let id = keystead_envelope::random::array::<8>();
    Ok(u64::from_le_bytes(id.map_err(std::io::Error::other)?))
}

/// Removes what was unhooked and not removed, and what was written and not committed.
pub(super) fn sweep(database: &Database, disk: &Disk) -> Result<(), StoreError> {
    let mut swept = 0;
    let read = database.begin_read()?;
    let mut doomed = Vec::new();
    for item in read.open_table(DOOMED)?.iter()? {
        doomed.push(item?.0.value().to_owned());
    }
    for path in &doomed {
        remove(disk.root(), path)?;
        swept += 1;
    }
    let left = leftovers(disk.root())?;
    for (link, target) in left {
        if !refers(&read, &target)? {
            remove(disk.root(), &target)?;
            swept += 1;
        }
        fs::remove_file(link)?;
    }
    drop(read);
    if !doomed.is_empty() {
        let txn = database.begin_write()?;
        txn.open_table(DOOMED)?.retain(|_, ()| false)?;
        txn.commit()?;
    }
    disk.count_swept(swept);
    if swept > 0 {
        tracing::info!(swept, "leftovers of an earlier process were swept");
    }
    Ok(())
}

/// Does the index refer to this version's folder, or to this file in one?
pub(super) fn refers(txn: &ReadTransaction, target: &str) -> Result<bool, StoreError> {
    let Some(Place { bucket, key, version, file }) = Place::parse(target) else { return Ok(false) };
    let at = (bucket.as_str(), key.as_str());
    if let Some(value) = txn.open_table(OBJECTS)?.get(at)? {
        let row = ObjectRow::decode(value.value())?;
        if row.version == version {
            // The record that the index names must stay, an earlier one was doomed by the commit
            // that replaced it. A part was committed before a completion could name it.
            return Ok(file.is_none_or(|f| !f.starts_with("record") || f == row.record_file));
        }
    }
    if txn.open_table(UPLOADS)?.get((at.0, at.1, &version.0))?.is_none() {
        return Ok(false);
    }
    let Some(file) = file else { return Ok(true) };
    for item in txn.open_table(PARTS)?.range((&version.0, 0)..=(&version.0, u16::MAX))? {
        if PartRow::decode(item?.1.value())?.file == file {
            return Ok(true);
        }
    }
    Ok(false)
}
