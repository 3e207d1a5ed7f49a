//! An object's bytes from its files: a batch of frames at a time, opened in place.

use super::Store;
use crate::disk::Pin;
use crate::error::StoreError;
use crate::limits::BATCH_FRAMES;
use crate::record::Part;
use bytes::Bytes;
use keystead_envelope::message::{
    FRAME_BYTES, Header, MAX_HEADER_BYTES, Opened, frame_count, frame_span, frames_of,
};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Read with the first batch, in the hope that the header is no longer.
const HEADER_GUESS: usize = 4096;

/// Some bytes of an object, still to be read.
pub(super) struct Reader {
    store: Arc<Store>,
    bucket: String,
    key: String,
    folder: PathBuf,
    /// The parts that hold what is left, each with the bytes wanted of it; the next one last.
    left: Vec<(Part, Range<u64>)>,
    open: Option<OpenPart>,
    /// Frames that hold no byte are read, too.
    every: bool,
    _pin: Pin,
}

struct OpenPart {
    file: File,
    message: Opened,
    /// Bytes of it that are wanted and not read yet.
    wanted: Range<u64>,
}

impl Reader {
    /// Of `parts`, which make the object one behind the other, the bytes in `range`. A range of no
    /// bytes still reads a frame, so that an empty object is authenticated too.
    pub(super) fn new(
        store: &Arc<Store>,
        (bucket, key): (&str, &str),
        folder: PathBuf,
        parts: Vec<Part>,
        range: &Range<u64>,
        pin: Pin,
    ) -> Self {
        let mut left = Vec::new();
        let mut start = 0;
        for part in parts {
            let end = start + part.size;
            let wanted = range.start.clamp(start, end) - start..range.end.clamp(start, end) - start;
            if !wanted.is_empty() || (range.is_empty() && left.is_empty()) {
                left.push((part, wanted));
            }
            start = end;
        }
        left.reverse();
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let store = Arc::clone(store);
        Self { store, bucket, key, folder, left, open: None, every: false, _pin: pin }
    }

    /// Of every part every frame, also those that hold no byte.
    pub(super) fn of_all(
        store: &Arc<Store>,
        at: (&str, &str),
        folder: PathBuf,
        parts: Vec<Part>,
        pin: Pin,
    ) -> Self {
        let mut reader = Self::new(store, at, folder, Vec::new(), &(0..0), pin);
        for part in parts.into_iter().rev() {
            let whole = 0..part.size;
            reader.left.push((part, whole));
        }
        reader.every = true;
        reader
    }

    /// The next batch; nothing at the end. Blocks.
    pub(super) fn read(&mut self) -> Result<Vec<Bytes>, StoreError> {
        match self.open.take() {
            Some(open) => self.batch(open),
            None => match self.left.pop() {
                Some((part, wanted)) => self.begin(&part, wanted),
                None => Ok(Vec::new()),
            },
        }
    }

    /// Nothing is left.
    pub(super) fn at_end(&self) -> bool {
        self.open.is_none() && self.left.is_empty()
    }

    /// Opens a part, and the first batch with it when that begins at the message's start.
    fn begin(&mut self, part: &Part, wanted: Range<u64>) -> Result<Vec<Bytes>, StoreError> {
        let file =
            File::open(self.folder.join(&part.file)).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => self.corrupt("a part is missing"),
                _ => error.into(),
            })?;
        let length = file.metadata()?.len();
        let ahead = wanted.start < FRAME_BYTES as u64;
        let batch = wanted.end.div_ceil(FRAME_BYTES as u64).min(BATCH_FRAMES as u64) + 1;
        let guess = HEADER_GUESS + if ahead { batch as usize * (FRAME_BYTES + 64) } else { 0 };
        let mut buf = read_at(&file, 0, guess.min(length as usize))?;
        let mut header = Header::parse(&buf);
        if header.is_err() && buf.len() < MAX_HEADER_BYTES {
            buf = read_at(&file, 0, MAX_HEADER_BYTES.min(length as usize))?;
            header = Header::parse(&buf);
        }
        let header = header.map_err(|_| self.corrupt("a part that is no message"))?;
        if *header.id() != part.id.0 {
            return Err(self.corrupt("another message than the record names"));
        }
        let header_bytes = header.bytes().len();
        let message = self.store.vault.lend(&self.bucket, |ring| {
            let key = ring.of(&header).ok_or("a message of another bucket or key")?;
            Opened::new(key.key(), header, length)
                .map_err(|_| "a header that does not authenticate")
        })?;
        let message = message.map_err(|what| self.corrupt(what))?;
        if message.plaintext_bytes() != part.size {
            return Err(self.corrupt("a message of another length than the record says"));
        }
        let open = OpenPart { file, message, wanted };
        let frames = open.next_frames();
        let span = open.span(&frames);
        if frames.start == 0 && span.end <= buf.len() as u64 {
            buf.truncate(span.end as usize);
            return self.unseal(open, frames, buf, header_bytes);
        }
        self.batch(open)
    }

    fn batch(&mut self, open: OpenPart) -> Result<Vec<Bytes>, StoreError> {
        let frames = open.next_frames();
        let span = open.span(&frames);
        let buf = read_at(&open.file, span.start, (span.end - span.start) as usize)?;
        self.unseal(open, frames, buf, 0)
    }

    /// Opens frames that lie in `buf` from `at`; the answer's pieces are slices of it.
    fn unseal(
        &mut self,
        mut open: OpenPart,
        frames: Range<u64>,
        mut buf: Vec<u8>,
        at: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let plain = self.store.vault.lend(&self.bucket, |ring| {
            let key = ring.of(open.message.header()).ok_or("a message of another key")?;
            open.message
                .open(key.key(), frames.clone(), &mut buf[at..])
                .map_err(|_| "a frame that does not authenticate")
        })?;
        let plain = plain.map_err(|what| self.corrupt(what))?;
        let whole = Bytes::from(buf);
        let mut pieces = Vec::with_capacity(plain.len());
        for (i, place) in frames.clone().zip(plain) {
            // What of this frame is wanted.
            let start = i * FRAME_BYTES as u64;
            let end = start + place.len() as u64;
            let from = open.wanted.start.clamp(start, end) - start;
            let to = open.wanted.end.clamp(start, end) - start;
            if from < to {
                let base = at + place.start;
                pieces.push(whole.slice(base + from as usize..base + to as usize));
            }
        }
        open.wanted.start = open.wanted.end.min(frames.end * FRAME_BYTES as u64);
        let last = frames.end == frame_count(open.message.plaintext_bytes());
        if !open.wanted.is_empty() || (self.every && !last) {
            self.open = Some(open);
        }
        Ok(pieces)
    }

    fn corrupt(&self, what: &'static str) -> StoreError {
        self.store.corrupt(&self.bucket, &self.key, what)
    }
}

impl OpenPart {
    fn next_frames(&self) -> Range<u64> {
        let frames = frames_of(&self.wanted);
        let count = frame_count(self.message.plaintext_bytes());
        let start = frames.start.min(count - 1);
        start..frames.end.min(start + BATCH_FRAMES as u64).clamp(start + 1, count)
    }

    fn span(&self, frames: &Range<u64>) -> Range<u64> {
        let header = self.message.header().bytes().len();
        frame_span(header, self.message.plaintext_bytes(), frames)
    }
}

/// Reads so many bytes, or fewer at the file's end. The buffer is not filled with zeroes first.
fn read_at(file: &File, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buf = Vec::with_capacity(bytes);
    while buf.len() < bytes {
        let at = offset + buf.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buf), at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    buf.truncate(bytes);
    Ok(buf)
}
