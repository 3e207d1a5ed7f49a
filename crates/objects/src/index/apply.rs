//! One change, decided and made inside the writer's transaction.

use super::queue::{self, Kind, Queued};
use super::rows::{Damaged, ObjectRow, PartRow, UploadRow};
use super::taken::{self, Becomes, Replica};
use super::{BUCKETS, DOOMED, OBJECTS, PARTS, UPLOADS};
use crate::conditions::{WriteCondition, WriteVerdict};
use crate::disk::{Pending, version_path};
use crate::error::StoreError;
use crate::model::BucketInfo;
use crate::role::StoreRole;
use crate::version::Version;
use redb::{ReadableTable, WriteTransaction};

/// A change that is asked for.
pub(crate) enum Change {
    AddBucket(BucketInfo),
    SetBucket(BucketInfo),
    RemoveBucket(String),
    PutObject {
        bucket: String,
        key: String,
        row: ObjectRow,
        condition: WriteCondition,
    },
    /// The same object with another record, if it still has the record that was read.
    PutRecord {
        bucket: String,
        key: String,
        row: ObjectRow,
        old: ObjectRow,
    },
    DeleteObject {
        bucket: String,
        key: String,
        condition: WriteCondition,
    },
    CreateUpload {
        bucket: String,
        key: String,
        upload: Version,
        row: UploadRow,
    },
    PutPart {
        bucket: String,
        key: String,
        upload: Version,
        number: u16,
        row: PartRow,
    },
    Complete {
        bucket: String,
        key: String,
        row: ObjectRow,
        /// Number and ETag of the parts that the object is made of.
        parts: Vec<(u16, String)>,
        condition: WriteCondition,
    },
    AbortUpload {
        bucket: String,
        key: String,
        upload: Version,
    },
    /// The other Region has it.
    Confirm(Queued),
    /// The other Region has another history: all is queued anew.
    Renumber {
        run: u64,
        above: u64,
    },
    /// A change of the other Region's.
    Replica(Replica),
}

impl Change {
    /// Does it make room?
    pub(super) fn deletes(&self) -> bool {
        match self {
            Self::Replica(replica) => !matches!(replica.becomes, Becomes::Object(_)),
            Self::DeleteObject { .. }
            | Self::AbortUpload { .. }
            | Self::RemoveBucket(_)
            | Self::Confirm(_) => true,
            _ => false,
        }
    }

    /// Whom it belongs to: a backup takes replicas and nothing that users write.
    fn is_for(&self, role: StoreRole) -> bool {
        match self {
            Self::AddBucket(_) | Self::SetBucket(_) | Self::RemoveBucket(_) => true,
            Self::Replica(_) => role == StoreRole::Backup,
            _ => role != StoreRole::Backup,
        }
    }

    /// The bucket and key that it writes anew or removes.
    pub(crate) fn of(&self) -> Option<(&str, &str)> {
        match self {
            Self::PutObject { bucket, key, .. }
            | Self::DeleteObject { bucket, key, .. }
            | Self::Complete { bucket, key, .. } => Some((bucket, key)),
            Self::Replica(replica) => Some((&replica.bucket, &replica.key)),
            _ => None,
        }
    }

    /// What the other Region is to be told of it.
    fn told(&self) -> Option<((&str, &str), Kind)> {
        match self {
            Self::PutObject { bucket, key, .. } | Self::Complete { bucket, key, .. } => {
                Some(((bucket, key), Kind::Object))
            }
            Self::PutRecord { bucket, key, .. } => Some(((bucket, key), Kind::Record)),
            Self::DeleteObject { bucket, key, .. } => Some(((bucket, key), Kind::Delete)),
            Self::RemoveBucket(bucket) => Some(((bucket, ""), Kind::Emptied)),
            _ => None,
        }
    }
}

/// How a change came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// There was nothing to delete.
    Absent,
    /// It was changed meanwhile: read it again.
    Overtaken,
}

/// What a change leaves to do when it is committed.
#[derive(Default)]
pub(crate) struct Effects {
    /// Versions and paths that nothing refers to any more.
    pub(crate) doomed: Vec<(Version, String)>,
    /// The other Region is to be told something.
    pub(crate) queued: bool,
}

/// What the writer knows when it decides.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) role: StoreRole,
    pub(super) wall_ms: i64,
}

type Decided = Result<Result<Outcome, StoreError>, StoreError>;

/// Decides a change and makes it. The outer error is the database's and fails all that wait; the
/// inner one is this change's alone, and then nothing was changed.
pub(super) fn apply(
    txn: &WriteTransaction,
    change: &Change,
    now: Now,
    effects: &mut Effects,
) -> Decided {
    if !change.is_for(now.role) {
        return Ok(Err(StoreError::ReadOnly));
    }
    if let Change::Confirm(queued) = change {
        queue::confirm(txn, queued, now.wall_ms)?;
        return done();
    }
    if let Change::Renumber { run, above } = change {
        effects.queued = true;
        let anew = queue::renumber(txn, *run, *above, now.wall_ms)?;
        return Ok(Ok(if anew { Outcome::Done } else { Outcome::Overtaken }));
    }
    let decided = match decide(txn, change, effects) {
        // Every value is read before anything is written.
        Err(StoreError::Corrupt(what)) => return Ok(Err(StoreError::Corrupt(what))),
        decided => decided?,
    };
    if now.role == StoreRole::Primary
        && matches!(decided, Ok(Outcome::Done))
        && let Some(((bucket, key), kind)) = change.told()
    {
        match kind {
            Kind::Emptied => queue::note_emptied(txn, bucket, now.wall_ms)?,
            _ => queue::note(txn, (bucket, key), kind, now.wall_ms)?,
        }
        effects.queued = true;
    }
    Ok(decided)
}

fn decide(txn: &WriteTransaction, change: &Change, effects: &mut Effects) -> Decided {
    match change {
        Change::AddBucket(info) | Change::SetBucket(info) => {
            let mut buckets = txn.open_table(BUCKETS)?;
            let there = buckets.get(info.name.as_str())?.is_some();
            match change {
                Change::AddBucket(_) if there => {
                    return Ok(Err(StoreError::BucketExists(info.name.clone())));
                }
                Change::SetBucket(_) if !there => {
                    return Ok(Err(StoreError::NoSuchBucket(info.name.clone())));
                }
                _ => {}
            }
            buckets.insert(info.name.as_str(), encode_bucket(info).as_slice())?;
            done()
        }
        Change::RemoveBucket(bucket) => remove_bucket(txn, bucket, effects),
        Change::PutObject { bucket, key, row, condition } => {
            if !has_bucket(txn, bucket)? {
                return Ok(Err(StoreError::NoSuchBucket(bucket.clone())));
            }
            put_object(txn, bucket, key, row, condition, effects)
        }
        Change::PutRecord { bucket, key, row, old } => {
            let mut objects = txn.open_table(OBJECTS)?;
            let there = object(&objects, bucket, key)?;
            if there.is_none_or(|now| (now.version, now.record_id) != (old.version, old.record_id))
            {
                return Ok(Ok(Outcome::Overtaken));
            }
            objects.insert((bucket.as_str(), key.as_str()), row.encode().as_slice())?;
            let folder = version_path(bucket, key, old.version);
            doom(txn, effects, old.version, format!("{folder}/{}", old.record_file))?;
            done()
        }
        Change::DeleteObject { bucket, key, condition } => {
            let mut objects = txn.open_table(OBJECTS)?;
            let Some(old) = object(&objects, bucket, key)? else {
                let refused = condition.judge(None) != WriteVerdict::Holds;
                return Ok(if refused { Err(StoreError::NoSuchKey) } else { Ok(Outcome::Absent) });
            };
            if condition.judge(Some(&old.etag)) != WriteVerdict::Holds {
                return Ok(Err(StoreError::PreconditionFailed));
            }
            objects.remove((bucket.as_str(), key.as_str()))?;
            doom(txn, effects, old.version, version_path(bucket, key, old.version))?;
            done()
        }
        Change::CreateUpload { bucket, key, upload, row } => {
            if !has_bucket(txn, bucket)? {
                return Ok(Err(StoreError::NoSuchBucket(bucket.clone())));
            }
            let at = (bucket.as_str(), key.as_str(), &upload.0);
            txn.open_table(UPLOADS)?.insert(at, row.encode().as_slice())?;
            done()
        }
        Change::PutPart { bucket, key, upload, number, row } => {
            if txn.open_table(UPLOADS)?.get((bucket.as_str(), key.as_str(), &upload.0))?.is_none() {
                return Ok(Err(StoreError::NoSuchUpload));
            }
            let mut parts = txn.open_table(PARTS)?;
            let old = match parts.get((&upload.0, *number))? {
                None => None,
                Some(value) => Some(PartRow::decode(value.value())?),
            };
            parts.insert((&upload.0, *number), row.encode().as_slice())?;
            if let Some(old) = old {
                let folder = version_path(bucket, key, *upload);
                doom(txn, effects, *upload, format!("{folder}/{}", old.file))?;
            }
            done()
        }
        Change::Complete { bucket, key, row, parts, condition } => {
            complete(txn, bucket, key, row, parts, condition, effects)
        }
        Change::AbortUpload { bucket, key, upload } => {
            let at = (bucket.as_str(), key.as_str(), &upload.0);
            if txn.open_table(UPLOADS)?.remove(at)?.is_none() {
                return Ok(Err(StoreError::NoSuchUpload));
            }
            forget_parts(txn, *upload)?;
            doom(txn, effects, *upload, version_path(bucket, key, *upload))?;
            done()
        }
        Change::Replica(replica) => taken::take(txn, replica, effects),
        // Decided before: they change no object.
        Change::Confirm(_) | Change::Renumber { .. } => done(),
    }
}

fn done() -> Decided {
    Ok(Ok(Outcome::Done))
}

fn encode_bucket(info: &BucketInfo) -> Vec<u8> {
    let mut bytes = vec![1];
    serde_json::to_writer(&mut bytes, info).expect("a bucket's settings are plain text");
    bytes
}

pub(super) fn decode_bucket(bytes: &[u8]) -> Result<BucketInfo, Damaged> {
    let json = bytes.strip_prefix(&[1]).ok_or(Damaged)?;
    serde_json::from_slice(json).map_err(|_| Damaged)
}

pub(super) fn has_bucket(txn: &WriteTransaction, bucket: &str) -> Result<bool, StoreError> {
    Ok(txn.open_table(BUCKETS)?.get(bucket)?.is_some())
}

pub(super) fn object(
    objects: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    bucket: &str,
    key: &str,
) -> Result<Option<ObjectRow>, StoreError> {
    match objects.get((bucket, key))? {
        None => Ok(None),
        Some(value) => Ok(Some(ObjectRow::decode(value.value())?)),
    }
}

pub(super) fn doom(
    txn: &WriteTransaction,
    effects: &mut Effects,
    version: Version,
    path: String,
) -> Result<(), StoreError> {
    txn.open_table(DOOMED)?.insert(path.as_str(), ())?;
    effects.doomed.push((version, path));
    Ok(())
}

fn put_object(
    txn: &WriteTransaction,
    bucket: &str,
    key: &str,
    row: &ObjectRow,
    condition: &WriteCondition,
    effects: &mut Effects,
) -> Decided {
    let mut objects = txn.open_table(OBJECTS)?;
    let old = object(&objects, bucket, key)?;
    match condition.judge(old.as_ref().map(|old| old.etag.as_str())) {
        WriteVerdict::Holds => {}
        WriteVerdict::Absent => return Ok(Err(StoreError::NoSuchKey)),
        WriteVerdict::Failed => return Ok(Err(StoreError::PreconditionFailed)),
    }
    objects.insert((bucket, key), row.encode().as_slice())?;
    if let Some(old) = old {
        doom(txn, effects, old.version, version_path(bucket, key, old.version))?;
    }
    done()
}

fn complete(
    txn: &WriteTransaction,
    bucket: &str,
    key: &str,
    row: &ObjectRow,
    named: &[(u16, String)],
    condition: &WriteCondition,
    effects: &mut Effects,
) -> Decided {
    let upload = row.version;
    if txn.open_table(UPLOADS)?.get((bucket, key, &upload.0))?.is_none() {
        return Ok(Err(StoreError::NoSuchUpload));
    }
    let mut unnamed = Vec::new();
    {
        let parts = txn.open_table(PARTS)?;
        let mut named = named.iter().peekable();
        for item in parts.range((&upload.0, 0)..=(&upload.0, u16::MAX))? {
            let (at, value) = item?;
            let (number, part) = (at.value().1, PartRow::decode(value.value())?);
            match named.next_if(|(wanted, _)| *wanted == number) {
                Some((_, etag)) if *etag != part.etag => {
                    return Ok(Err(StoreError::InvalidPart(number)));
                }
                Some(_) => {}
                None => unnamed.push(part.file),
            }
        }
        if let Some((number, _)) = named.next() {
            return Ok(Err(StoreError::InvalidPart(*number)));
        }
    }
    if let Err(refused) = put_object(txn, bucket, key, row, condition, effects)? {
        return Ok(Err(refused));
    }
    txn.open_table(UPLOADS)?.remove((bucket, key, &upload.0))?;
    forget_parts(txn, upload)?;
    let folder = version_path(bucket, key, upload);
    for file in unnamed {
        doom(txn, effects, upload, format!("{folder}/{file}"))?;
    }
    done()
}

fn forget_parts(txn: &WriteTransaction, upload: Version) -> Result<(), StoreError> {
    let mut parts = txn.open_table(PARTS)?;
    Ok(parts.retain_in((&upload.0, 0)..=(&upload.0, u16::MAX), |_, _| false)?)
}

fn remove_bucket(txn: &WriteTransaction, bucket: &str, effects: &mut Effects) -> Decided {
    if !has_bucket(txn, bucket)? {
        return Ok(Err(StoreError::NoSuchBucket(bucket.to_owned())));
    }
    let full = match txn.open_table(OBJECTS)?.range((bucket, "")..)?.next() {
        None => false,
        Some(item) => item?.0.value().0 == bucket,
    };
    if full {
        return Ok(Err(StoreError::BucketNotEmpty(bucket.to_owned())));
    }
    let mut begun = Vec::new();
    for item in txn.open_table(UPLOADS)?.range((bucket, "", &[0; 16])..)? {
        let (at, _) = item?;
        let (of, key, upload) = at.value();
        if of != bucket {
            break;
        }
        begun.push((key.to_owned(), Version(*upload)));
    }
    for (key, upload) in begun {
        txn.open_table(UPLOADS)?.remove((bucket, key.as_str(), &upload.0))?;
        forget_parts(txn, upload)?;
        doom(txn, effects, upload, version_path(bucket, &key, upload))?;
    }
    txn.open_table(BUCKETS)?.remove(bucket)?;
    done()
}

/// A change with what it is about on disk.
pub(crate) struct Asked {
    pub(crate) change: Change,
    /// Kept when the change is committed, removed when it is refused.
    pub(crate) pending: Vec<Pending>,
}
