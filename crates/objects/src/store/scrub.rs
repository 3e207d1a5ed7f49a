//! Reading everything that is stored, to know that it authenticates.

use super::Store;
use super::reader::Reader;
use crate::disk::{Place, remove, version_path};
use crate::error::StoreError;
use crate::record::{self, ObjectRecord, Owner};
use std::sync::Arc;
use std::time::Duration;

/// Keys that are looked up at a time.
const PAGE: usize = 1000;

/// How an object came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every frame and the record authenticate.
    Whole,
    /// What is wrong; an alarm went out.
    Corrupt(&'static str),
    /// The gate was closed.
    Refused,
}

/// One object's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Bytes of plaintext that were read.
    pub bytes: u64,
    /// How it came out.
    pub verdict: Verdict,
}

/// What a scrub saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubTotals {
    /// Objects that are whole.
    pub whole: u64,
    /// Objects that are not.
    pub corrupt: u64,
    /// Objects that could not be read, for the gate was closed.
    pub refused: u64,
    /// Bytes of plaintext read.
    pub bytes: u64,
    /// Files and folders that nothing refers to; they were removed.
    pub strays: u64,
}

/// What an object costs at least, at a rate: its record and the looks at its files.
const OBJECT_BYTES: u64 = 16 << 10;

impl Store {
    /// Reads and authenticates every object, its record in the index and on disk, and removes what
    /// nothing refers to. `each` is told of every object.
    pub async fn scrub(
        self: &Arc<Self>,
        mut each: impl FnMut(Scrubbed) + Send,
    ) -> Result<ScrubTotals, StoreError> {
        let mut totals = ScrubTotals::default();
        for bucket in self.list_buckets().await? {
            let go_on = |one| {
                each(one);
                true
            };
            self.scrub_keys(&bucket.name, u64::MAX, &mut totals, go_on).await?;
            let name = bucket.name.clone();
            totals.strays += self.off(move |store| store.sweep_strays(&name)).await?;
        }
        Ok(totals)
    }

    /// Reads and authenticates a bucket's objects, no more bytes a second than told, and ends when
    /// the gate closes. It removes nothing.
    pub async fn scrub_bucket(
        self: &Arc<Self>,
        bucket: &str,
        bytes_a_second: u64,
    ) -> Result<ScrubTotals, StoreError> {
        let mut totals = ScrubTotals::default();
        let go_on = |one: Scrubbed| one.verdict != Verdict::Refused;
        self.scrub_keys(bucket, bytes_a_second, &mut totals, go_on).await?;
        Ok(totals)
    }

    /// The objects of a bucket, one after the other, until `each` says no.
    async fn scrub_keys(
        self: &Arc<Self>,
        bucket: &str,
        rate: u64,
        totals: &mut ScrubTotals,
        mut each: impl FnMut(Scrubbed) -> bool + Send,
    ) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let (name, behind) = (bucket.to_owned(), after.clone());
            let keys = self.off(move |store| store.index.shared.keys(&name, &behind, PAGE)).await?;
            let Some(last) = keys.last() else { return Ok(()) };
            after = last.clone();
            for key in keys {
                let name = bucket.to_owned();
                let one = self.off(move |store| store.scrub_one(name, key, rate)).await?;
                let Some(one) = one else { continue };
                match one.verdict {
                    Verdict::Whole => totals.whole += 1,
                    Verdict::Corrupt(_) => totals.corrupt += 1,
                    Verdict::Refused => totals.refused += 1,
                }
                totals.bytes += one.bytes;
                if !each(one) {
                    return Ok(());
                }
                let pause = pause(OBJECT_BYTES, rate);
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Reads one object; `None` when it was deleted meanwhile. Blocks.
    fn scrub_one(
        self: &Arc<Self>,
        bucket: String,
        key: String,
        rate: u64,
    ) -> Result<Option<Scrubbed>, StoreError> {
        let mut bytes = 0;
        let verdict = match self.read_through(&bucket, &key, rate, &mut bytes) {
            Ok(()) => Verdict::Whole,
            Err(StoreError::Corrupt(what)) => Verdict::Corrupt(what),
            Err(StoreError::Refused(_)) => Verdict::Refused,
            Err(StoreError::NoSuchKey | StoreError::NoSuchBucket(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Scrubbed { bucket, key, bytes, verdict }))
    }

    fn read_through(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        rate: u64,
        bytes: &mut u64,
    ) -> Result<(), StoreError> {
        let (row, record, pin) = self.find(bucket, key)?;
        // The file is the exit's record: what it holds must be what the index holds.
        let message = self.read_record_file(bucket, key, &row)?;
        let owner = Owner::new(bucket, key, row.version);
        let open =
            |ring: &_| record::open::<ObjectRecord>(ring, &message, Some(&row.record_id), &owner);
        let filed =
            self.vault.lend(bucket, open)?.map_err(|what| self.corrupt(bucket, key, what))?;
        if filed != record {
            return Err(self.corrupt(bucket, key, "the index and the record do not agree"));
        }
        let folder = self.disk.absolute(&version_path(bucket, key, row.version));
        let mut reader = Reader::of_all(self, (bucket, key), folder, record.parts, pin);
        while !reader.at_end() {
            let read = reader.read()?.iter().map(|piece| piece.len() as u64).sum();
            *bytes += read;
            // A thread of its own, and never longer than a batch of frames takes.
            std::thread::sleep(pause(read, rate));
        }
        Ok(())
    }

    /// Removes what nothing refers to. Something may be committed, or deleted while it is read,
    /// between any two looks: so first who is writing it, then the index, then who is reading it.
    fn sweep_strays(&self, bucket: &str) -> Result<u64, StoreError> {
        let mut strays = 0;
        self.disk.walk(bucket, &mut |path| {
            let index = &self.index.shared;
            if index.refers(path)? || self.disk.is_pending(path)? || index.refers(path)? {
                return Ok(());
            }
            let read = |place: Place| self.disk.pins.holds(place.version);
            if Place::parse(path).is_some_and(read) || !self.disk.absolute(path).exists() {
                return Ok(());
            }
            tracing::warn!(path, "a stray was removed: nothing refers to it");
            strays += 1;
            Ok::<_, StoreError>(remove(self.disk.root(), path)?)
        })?;
        self.disk.count_swept(strays);
        Ok(strays)
    }
}

/// How long so many bytes take at a rate.
fn pause(bytes: u64, rate: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / rate.max(1))
}
