//! One message on its way to disk: plaintext in, checksums made, frames sealed and written.

use super::Store;
use crate::checksum::{Algorithm, Checksum, Hasher, Md5};
use crate::disk::Pending;
use crate::error::{Digest, StoreError};
use crate::limits::{BATCH_FRAMES, MAX_PUT_BYTES};
use bytes::Bytes;
use keystead_envelope::message::{ID_BYTES, MessageError, Sealer};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

/// What the data is to be compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expect {
    pub(super) algorithm: Algorithm,
    pub(super) md5: Option<[u8; 16]>,
    pub(super) size: Option<u64>,
}

/// Where the message goes.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) key: String,
    /// The version's folder, below the root.
    pub(super) folder: String,
    /// Its file, of a name that never was: a name that goes may be doomed for a while.
    pub(super) file: String,
    /// The whole folder is ours: it goes when the message comes to nothing.
    pub(super) own_folder: bool,
}

/// A message that is being written. It holds plaintext of at most one batch of frames.
pub(super) struct Message {
    store: Arc<Store>,
    place: Place,
    sealer: Sealer,
    hasher: Hasher,
    md5: Option<(Md5, [u8; 16])>,
    algorithm: Algorithm,
    size: Option<u64>,
    /// Made with the first batch, so that a small object is one piece of work.
    open: Option<(File, Pending)>,
}

/// A message that is on disk, durable with its file but not yet with its folder.
pub(super) struct Written {
    pub(super) place: Place,
    pub(super) pending: Pending,
    pub(super) id: [u8; ID_BYTES],
    pub(super) size: u64,
    pub(super) checksum: Checksum,
}

impl Message {
    /// Begins a message under the bucket's current key. CPU work only.
    pub(super) fn begin(
        store: &Arc<Store>,
        place: Place,
        expect: Expect,
    ) -> Result<Self, StoreError> {
        if expect.size.is_some_and(|size| size > MAX_PUT_BYTES) {
            return Err(StoreError::EntityTooLarge);
        }
        let sealer = store.vault.lend(&place.bucket, |ring| {
            let key = ring.current();
            Sealer::begin(key.key(), ring.context(), key.wrapped(), BATCH_FRAMES)
        })?;
        let mut sealer = sealer.map_err(StoreError::Seal)?;
        sealer.reserve(expect.size.unwrap_or_default());
        Ok(Self {
            store: Arc::clone(store),
            place,
            sealer,
            hasher: Hasher::new(expect.algorithm),
            md5: expect.md5.map(|md5| (Md5::new(), md5)),
            algorithm: expect.algorithm,
            size: expect.size,
            open: None,
        })
    }

    pub(super) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Takes bytes until a batch is full; answers whether it is, and leaves the rest in `data`.
    pub(super) fn push(&mut self, data: &mut Bytes) -> Result<bool, StoreError> {
        let taken = self.sealer.push(data);
        let piece = data.split_to(taken);
        self.hasher.update(&piece);
        if let Some((md5, _)) = &mut self.md5 {
            md5.update(&piece);
        }
        let all = self.sealer.taken();
        if all > MAX_PUT_BYTES {
            return Err(StoreError::EntityTooLarge);
        }
        match self.size {
            Some(announced) if all > announced => {
                Err(StoreError::IncompleteBody { announced, got: all })
            }
            _ => Ok(self.sealer.is_full()),
        }
    }

    /// Seals the full batch and writes it. Blocks.
    pub(super) fn flush(mut self) -> Result<Self, StoreError> {
        let header = self.sealer.header().clone();
        let sealed = self.store.vault.lend(&self.place.bucket, |ring| {
            let key = ring.of(&header).ok_or(MessageError::OtherKey)?;
            self.sealer.seal_in_place(key.key())
        })?;
        sealed.map_err(StoreError::Seal)?;
        let (mut file, pending) = self.file()?;
        file.write_all(self.sealer.sealed())?;
        self.open = Some((file, pending));
        Ok(self)
    }

    /// Seals what is left, compares what came with what was announced, and makes the file durable.
    /// Blocks.
    pub(super) fn finish(mut self, expected: Option<&Checksum>) -> Result<Written, StoreError> {
        let (size, header) = (self.sealer.taken(), self.sealer.header().clone());
        if let Some(announced) = self.size.filter(|announced| *announced != size) {
            return Err(StoreError::IncompleteBody { announced, got: size });
        }
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(self.algorithm));
        let checksum = hasher.finish();
        match expected {
            Some(other) if other.algorithm() != self.algorithm => {
                return Err(StoreError::InvalidChecksum("another checksum than was announced"));
            }
            Some(other) if *other != checksum => {
                return Err(StoreError::BadDigest(Digest::Checksum(self.algorithm)));
            }
            _ => {}
        }
        if let Some((md5, wanted)) = self.md5.take()
            && md5.finish() != wanted
        {
            return Err(StoreError::BadDigest(Digest::Md5));
        }
        let (mut file, pending) = self.file()?;
        let Self { store, place, sealer, .. } = self;
        let sealed = store.vault.lend(&place.bucket, |ring| {
            let key = ring.of(&header).ok_or(MessageError::OtherKey)?;
            sealer.finish(key.key())
        })?;
        file.write_all(&sealed.map_err(StoreError::Seal)?)?;
        file.sync_all()?;
        Ok(Written { place, pending, id: *header.id(), size, checksum })
    }

    /// The file, made with the message's header; the caller gives it back.
    fn file(&mut self) -> Result<(File, Pending), StoreError> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let (disk, Place { folder, file, own_folder, .. }) = (&self.store.disk, &self.place);
        let target = if *own_folder { folder.clone() } else { format!("{folder}/{file}") };
        // On a full disk what room there is belongs to deletions.
        disk.ballast.lay()?;
        let pending = Pending::announce(disk, target)?;
        let mut file = disk.create(folder, file)?;
        file.write_all(self.sealer.header().bytes())?;
        Ok((file, pending))
    }
}

/// The front of a message for async callers: full batches are sealed and written elsewhere. When a
/// call is dropped in the middle, the message has gone with it.
pub(super) struct Inflow(Option<Box<Message>>);

impl Inflow {
    pub(super) fn new(message: Message) -> Self {
        Self(Some(Box::new(message)))
    }

    pub(super) async fn write(&mut self, mut data: Bytes) -> Result<(), StoreError> {
        let mut message = self.0.take().ok_or(StoreError::Interrupted)?;
        message.store.vault.check(&message.place.bucket)?;
        while !data.is_empty() {
            if message.push(&mut data)? {
                let store = Arc::clone(&message.store);
                message = store.off(move |_| Ok(Box::new(message.flush()?))).await?;
            }
        }
        self.0 = Some(message);
        Ok(())
    }

    /// The message, to be finished.
    pub(super) fn into_inner(self) -> Result<Message, StoreError> {
        self.0.map(|message| *message).ok_or(StoreError::Interrupted)
    }
}
