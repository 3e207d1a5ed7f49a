//! Reading an object: what it is, and a stream of its bytes.

use super::Store;
use super::reader::Reader;
use crate::conditions::{ReadCondition, Verdict};
use crate::disk::version_path;
use crate::error::StoreError;
use crate::model::{ObjectInfo, Range};
use crate::record::ObjectRecord;
use crate::role::ReplicationWord;
use bytes::Bytes;
use futures_core::Stream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// What is asked of a read.
#[derive(Debug, Clone, Default)]
pub struct GetOptions {
    /// Some of its bytes.
    pub range: Option<Range>,
    /// One part of it; an object that came whole has one. Not together with a range.
    pub part_number: Option<u32>,
    /// Conditions.
    pub condition: ReadCondition,
}

/// An object, open for reading.
pub struct Got {
    /// What it is.
    pub info: ObjectInfo,
    /// The bytes that the body gives, counted in the object; all of them without a range.
    pub range: std::ops::Range<u64>,
    /// The bytes.
    pub body: Body,
}

/// The bytes of an object, decrypted as they are asked for; up to 64 KiB an item, none is copied.
/// What was begun goes on when the object is overwritten or deleted, and ends with
/// [`StoreError::Refused`] when the gate closes.
pub struct Body {
    store: Arc<Store>,
    bucket: String,
    ready: VecDeque<Bytes>,
    state: State,
    remaining: u64,
}

/// The reader with what it has read.
type Batch = (Box<Reader>, Vec<Bytes>);

/// Who has the reader.
enum State {
    Idle(Box<Reader>),
    Reading(JoinHandle<Result<Batch, StoreError>>),
    Over,
}

impl Store {
    /// Opens an object for reading. Small ones are read at once.
    pub async fn get(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        options: GetOptions,
    ) -> Result<Got, StoreError> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.off(move |store| {
            let (row, record, pin) = store.find(&bucket, &key)?;
            let word = store.replication_of(&bucket, &key)?;
            let (info, range) = judge(&record, word, &options)?;
            let folder = store.disk.absolute(&version_path(&bucket, &key, row.version));
            let at = (bucket.as_str(), key.as_str());
            let mut reader = Reader::new(store, at, folder, record.parts, &range, pin);
            let ready = VecDeque::from(reader.read()?);
            let state = if reader.at_end() { State::Over } else { State::Idle(Box::new(reader)) };
            let remaining = range.end - range.start;
            let body = Body { store: Arc::clone(store), bucket, ready, state, remaining };
            Ok(Got { info, range, body })
        })
        .await
    }

    /// What an object is, and the range that a get with these options would give.
    pub async fn head(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        options: GetOptions,
    ) -> Result<(ObjectInfo, std::ops::Range<u64>), StoreError> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.off(move |store| {
            let (_, record, _pin) = store.find(&bucket, &key)?;
            judge(&record, store.replication_of(&bucket, &key)?, &options)
        })
        .await
    }
}

/// Conditions first, then the range, as HTTP has it.
fn judge(
    record: &ObjectRecord,
    replication: Option<ReplicationWord>,
    options: &GetOptions,
) -> Result<(ObjectInfo, std::ops::Range<u64>), StoreError> {
    let info = ObjectInfo { replication, ..record.info() };
    match options.condition.judge(&record.etag, record.modified_ms) {
        Verdict::Holds => {}
        Verdict::NotModified => return Err(StoreError::NotModified(Box::new(info))),
        Verdict::Failed => return Err(StoreError::PreconditionFailed),
    }
    let size = record.size;
    let range = match (options.range, options.part_number) {
        (None, None) => 0..size,
        (Some(range), _) => range.within(size)?,
        (None, Some(number)) => part_range(record, number)?,
    };
    Ok((info, range))
}

fn part_range(record: &ObjectRecord, number: u32) -> Result<std::ops::Range<u64>, StoreError> {
    let mut start = 0;
    for part in &record.parts {
        if u32::from(part.number) == number {
            return Ok(start..start + part.size);
        }
        start += part.size;
    }
    Err(StoreError::InvalidPartNumber(number))
}

impl Range {
    /// The bytes of an object of so many that it names.
    fn within(self, size: u64) -> Result<std::ops::Range<u64>, StoreError> {
        let range = match self {
            Self::From(start) => start..size,
            Self::Inclusive(start, last) => start..last.saturating_add(1).min(size),
            Self::Last(bytes) => size.saturating_sub(bytes)..size,
        };
        if range.start < range.end { Ok(range) } else { Err(StoreError::InvalidRange { size }) }
    }
}

impl Body {
    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Whatever was decrypted goes, and nothing more comes.
    fn fail(&mut self, error: StoreError) -> Poll<Option<Result<Bytes, StoreError>>> {
        self.ready.clear();
        self.state = State::Over;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for Body {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.ready.pop_front() {
                // Before each piece leaves, for it may have waited here.
                if let Err(refused) = this.store.vault.check(&this.bucket) {
                    return this.fail(refused.into());
                }
                this.remaining -= piece.len() as u64;
                return Poll::Ready(Some(Ok(piece)));
            }
            match &mut this.state {
                State::Over => return Poll::Ready(None),
                State::Reading(job) => match ready!(Pin::new(job).poll(cx)) {
                    Ok(Ok((reader, pieces))) => {
                        this.ready.extend(pieces);
                        this.state =
                            if reader.at_end() { State::Over } else { State::Idle(reader) };
                    }
                    Ok(Err(error)) => return this.fail(error),
                    Err(_) => return this.fail(StoreError::Interrupted),
                },
                State::Idle(_) => {
                    let State::Idle(mut reader) = std::mem::replace(&mut this.state, State::Over)
                    else {
                        continue;
                    };
                    this.state = State::Reading(tokio::task::spawn_blocking(move || {
                        let pieces = reader.read()?;
                        Ok((reader, pieces))
                    }));
                }
            }
        }
    }
}
