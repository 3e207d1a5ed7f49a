//! Taking a change of the primary's: the files are staged under a name of their own, checked against
//! the sealed record that came with them, moved to where the record says, and only then committed.
//!
//! Two deliveries of one change may be under way at a time. Each has a stage of its own, and a
//! folder moves onto nothing but a place that is free, so neither meets the other's files.

use super::Store;
use crate::disk::{Pending, Pin, Stage, sync_folder, version_path, write_new};
use crate::error::StoreError;
use crate::index::rows::{INLINE_BYTES, ObjectRow};
use crate::index::taken::{Becomes, Replica};
use crate::index::{Change, Outcome};
use crate::limits::BATCH_FRAMES;
use crate::name::check_key;
use crate::record::{self, ObjectRecord, Owner};
use crate::replicate::{Kind, Manifest};
use crate::version::Version;
use bytes::Bytes;
use keystead_envelope::message::{FRAME_BYTES, Header, MAX_HEADER_BYTES, Opened};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

/// What is written at a time.
const BATCH_BYTES: usize = BATCH_FRAMES * FRAME_BYTES;

/// How a delivery goes on.
pub(crate) enum Begun {
    /// It was taken, or a newer one of its key.
    Old,
    /// The version is not here, and the delivery brings no parts.
    PartsNeeded,
    /// What follows is its parts, if any.
    Goes(Box<Incoming>),
}

/// A delivery under way. Dropped, it leaves nothing.
pub(crate) struct Incoming {
    store: Arc<Store>,
    manifest: Manifest,
    record: ObjectRecord,
    row: ObjectRow,
    message: Vec<u8>,
    /// None when the version's parts are here already, and what comes is passed over.
    stage: Option<Stage>,
    _pin: Option<Pin>,
    /// The very record is here, too.
    known: bool,
    /// Parts that are whole on disk.
    whole: usize,
    open: Option<OpenPart>,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
}

struct OpenPart {
    file: File,
    /// Its first bytes, in which the header lies.
    head: Vec<u8>,
    left: u64,
}

fn foreign<T>(what: &'static str) -> Result<T, StoreError> {
    Err(StoreError::Foreign(what))
}

/// Names that the store itself gives: nothing else becomes a path.
fn is_ours(name: &str, digits: usize, stem: &str) -> bool {
    let Some(rest) = name.strip_prefix(stem) else { return false };
    let Some((number, rest)) = rest.split_at_checked(digits) else { return false };
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let id = rest.strip_prefix('-');
    number.bytes().all(|c| c.is_ascii_digit())
        && (rest.is_empty() || id.is_some_and(|id| id.len() == 16 && id.bytes().all(hex)))
}

impl Store {
    /// A key or a whole bucket that is gone at the primary.
    pub(crate) async fn take_gone(&self, manifest: Manifest) -> Result<(), StoreError> {
        let becomes = match manifest.kind {
            Kind::Emptied if manifest.key.is_empty() => Becomes::Emptied,
            Kind::Delete => {
                check_key(&manifest.key)?;
                Becomes::Gone
            }
            _ => return foreign("a deletion that names no key"),
        };
        let Manifest { bucket, key, sequence, floor, history, .. } = manifest;
        let replica = Replica { bucket, key, sequence, floor, history, becomes };
        self.commit(Change::Replica(replica), Vec::new()).await?;
        Ok(())
    }

    /// Begins to take an object, whose sealed record says what it is.
    pub(crate) async fn begin_replica(
        self: &Arc<Self>,
        manifest: Manifest,
        message: Vec<u8>,
    ) -> Result<Begun, StoreError> {
        self.off(move |store| store.begin_replica_here(manifest, message)).await
    }

    fn begin_replica_here(
        self: &Arc<Self>,
        manifest: Manifest,
        message: Vec<u8>,
    ) -> Result<Begun, StoreError> {
        let (bucket, key) = (manifest.bucket.as_str(), manifest.key.as_str());
        if self.index.shared.is_old((bucket, key), manifest.sequence, &manifest.history)? {
            return Ok(Begun::Old);
        }
        self.admit(bucket, key)?;
        let Some(version) = Version::parse(&manifest.version) else {
            return foreign("a version that is none");
        };
        if !is_ours(&manifest.record_file, 0, "record") {
            return foreign("a record of a strange name");
        }
        let owner = Owner::new(bucket, key, version);
        let open = |ring: &_| record::open::<ObjectRecord>(ring, &message, None, &owner);
        let record = self.vault.lend(bucket, open)?.map_err(StoreError::Foreign)?;
        check(&record)?;
        let record_id =
            *Header::parse(&message).or_else(|_| foreign("a record that is no message"))?.id();
        let row = ObjectRow {
            version,
            size: record.size,
            modified_ms: record.modified_ms,
            etag: record.etag.clone(),
            checksum: record.checksum.as_ref().map(|c| (c.checksum.algorithm(), c.kind)),
            record_file: manifest.record_file.clone(),
            record_id,
            record: (message.len() <= INLINE_BYTES).then(|| message.clone()),
        };
        let (pin, there) = self.pin_version(bucket, key, version)?.unzip();
        let known = there.is_some_and(|there| there.record_id == record_id);
        let stage = match pin {
            Some(_) => None,
            None if manifest.parts.is_empty() => return Ok(Begun::PartsNeeded),
            None if manifest.parts.len() != record.parts.len() => {
                return foreign("not as many parts as the record names");
            }
            None => {
                // On a full disk what room there is belongs to deletions.
                self.disk.ballast.lay()?;
                Some(Stage::new(&self.disk)?)
            }
        };
        Ok(Begun::Goes(Box::new(Incoming {
            store: Arc::clone(self),
            manifest,
            record,
            row,
            message,
            stage,
            _pin: pin,
            known,
            whole: 0,
            open: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
        })))
    }

    /// Holds the version if it is what the key has.
    fn pin_version(
        &self,
        bucket: &str,
        key: &str,
        version: Version,
    ) -> Result<Option<(Pin, ObjectRow)>, StoreError> {
        let _turn = self.disk.pins.turn();
        let row = self.index.shared.object(bucket, key);
        let row = row.map_err(|error| self.alarmed(bucket, key, error))?;
        let row = row.filter(|row| row.version == version);
        Ok(row.map(|row| (Pin::new(&self.disk, version), row)))
    }
}

/// What our own writers never seal, whoever sealed it.
fn check(record: &ObjectRecord) -> Result<(), StoreError> {
    let named = record.parts.iter().all(|part| is_ours(&part.file, 5, "part"));
    if record.parts.is_empty() || !named {
        return foreign("a record that names strange parts");
    }
    let sizes = record.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.size));
    if sizes == Some(record.size) { Ok(()) } else { foreign("parts that do not make the object") }
}

impl Incoming {
    /// Takes bytes of the parts.
    pub(crate) async fn write(mut self: Box<Self>, data: Bytes) -> Result<Box<Self>, StoreError> {
        if self.stage.is_none() {
            return Ok(self);
        }
        self.waiting_bytes += data.len();
        self.waiting.push(data);
        if self.waiting_bytes < BATCH_BYTES {
            return Ok(self);
        }
        let store = Arc::clone(&self.store);
        store.off(move |_| self.flush()).await
    }

    /// Everything has come and is genuine: makes it durable, then visible.
    pub(crate) async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        let (replica, pending, _pin) = store.off(move |_| self.flush()?.settle()).await?;
        // Overtaken by a newer one, it is as good as taken.
        match store.commit(Change::Replica(replica), pending).await? {
            Outcome::Done | Outcome::Overtaken | Outcome::Absent => Ok(()),
        }
    }

    /// Writes what waits. Blocks.
    fn flush(mut self: Box<Self>) -> Result<Box<Self>, StoreError> {
        for mut data in std::mem::take(&mut self.waiting) {
            while !data.is_empty() {
                let mut open = match self.open.take() {
                    Some(open) => open,
                    None => self.next_part()?,
                };
                let fits = usize::try_from(open.left).map_or(data.len(), |n| n.min(data.len()));
                let piece = data.split_to(fits);
                let head = (MAX_HEADER_BYTES - open.head.len()).min(piece.len());
                open.head.extend_from_slice(&piece[..head]);
                open.file.write_all(&piece)?;
                open.left -= fits as u64;
                if open.left == 0 {
                    open.file.sync_all()?;
                    self.check_part(&open.head)?;
                    self.whole += 1;
                } else {
                    self.open = Some(open);
                }
            }
        }
        self.waiting_bytes = 0;
        Ok(self)
    }

    fn next_part(&self) -> Result<OpenPart, StoreError> {
        let (part, bytes) =
            (self.record.parts.get(self.whole), self.manifest.parts.get(self.whole));
        let (Some(part), Some(bytes), Some(stage)) = (part, bytes, &self.stage) else {
            return foreign("more bytes than its parts have");
        };
        if *bytes == 0 {
            return foreign("a part of no bytes");
        }
        let file = File::create_new(stage.path().join(&part.file))?;
        Ok(OpenPart { file, head: Vec::new(), left: *bytes })
    }

    /// The message that the record names, under this bucket's keys, and as long as it says.
    fn check_part(&self, head: &[u8]) -> Result<(), StoreError> {
        let (part, bytes) = (&self.record.parts[self.whole], self.manifest.parts[self.whole]);
        let header = Header::parse(head).or_else(|_| foreign("a part that is no message"))?;
        if *header.id() != part.id.0 {
            return foreign("another message than the record names");
        }
        let opened = self.store.vault.lend(&self.manifest.bucket, |ring| {
            let key = ring.of(&header).ok_or("a message of another bucket or key")?;
            Opened::new(key.key(), header, bytes).map_err(|_| "a header that does not authenticate")
        })?;
        match opened.map_err(StoreError::Foreign)?.plaintext_bytes() == part.size {
            true => Ok(()),
            false => foreign("a message of another length than the record says"),
        }
    }

    /// Brings the files to where the index will look for them. Blocks.
    fn settle(mut self: Box<Self>) -> Result<(Replica, Vec<Pending>, Option<Pin>), StoreError> {
        let Manifest { bucket, key, sequence, floor, history, record_file, .. } = &self.manifest;
        let folder = version_path(bucket, key, self.row.version);
        let disk = &self.store.disk;
        let mut pending = Vec::new();
        match self.stage.take() {
            Some(stage) => {
                if self.whole != self.record.parts.len() || self.open.is_some() {
                    return foreign("fewer bytes than its parts have");
                }
                write_new(&stage.path().join(record_file), &self.message)?;
                sync_folder(stage.path())?;
                pending.push(stage.settle(&folder)?);
                disk.sync_version(&folder)?;
            }
            None if self.known => {}
            None => {
                let path = format!("{folder}/{record_file}");
                pending.push(Pending::announce(disk, path.clone())?);
                let written = write_new(&disk.absolute(&path), &self.message);
                if let Err(error) = written {
                    if error.kind() == io::ErrorKind::AlreadyExists {
                        // Another delivery's, or one that is going: not ours to remove.
                        pending.drain(..).for_each(Pending::keep);
                        return Err(StoreError::Unavailable);
                    }
                    return Err(error.into());
                }
                sync_folder(&disk.absolute(&folder))?;
            }
        }
        let replica = Replica {
            bucket: bucket.clone(),
            key: key.clone(),
            sequence: *sequence,
            floor: *floor,
            history: history.clone(),
            becomes: Becomes::Object(self.row),
        };
        Ok((replica, pending, self._pin))
    }
}
