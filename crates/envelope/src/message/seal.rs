//! Writing a message, once, from its first byte to its last.

use super::header::{Header, Wrapped};
use super::key::{MessageKey, derive, iv};
use super::{FRAME_BYTES, IV, MAX_PLAINTEXT_BYTES, MessageError, SEALED_FRAME, TAG};
use crate::memory::DataKey;
use crate::random;
use std::collections::BTreeMap;

/// Where a frame's ciphertext starts: behind number and IV.
const BEFORE: usize = 4 + IV;
/// The mark of the last frame.
const END: [u8; 4] = [0xff; 4];

/// Makes one message: takes plaintext, gives sealed frames. It holds plaintext between calls, no
/// key; a message that is not finished is dropped with its id and never continued by another.
pub struct Sealer {
    header: Header,
    /// Frames with room for number, IV and tag, plaintext until they are sealed.
    buf: Vec<u8>,
    /// Plaintext bytes in `buf`.
    waiting: usize,
    /// Frames in `buf` before it is to be sealed.
    batch: usize,
    /// Number of the first frame in `buf`.
    next: u32,
    /// Plaintext bytes of the frames that are sealed.
    sealed: u64,
}

impl Sealer {
    /// Begins a message under a data key, with a new random id. `batch` frames are sealed at a
    /// time; the first part of the message is [`Sealer::header`].
    pub fn begin(
        data_key: &DataKey,
        context: &BTreeMap<String, String>,
        wrapped: &[Wrapped],
        batch: usize,
    ) -> Result<Self, MessageError> {
        let id = random::array()?;
        let (key, commitment) = derive(data_key, &id)?;
        let mut header = Header::untagged(id, context, wrapped, commitment)?;
        let tag = key.header_tag(header.bytes());
        header.set_tag(tag);
        let (buf, batch) = (Vec::new(), batch.max(1));
        Ok(Self { header, buf, waiting: 0, batch, next: 1, sealed: 0 })
    }

    /// The header, first part of the message.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Plaintext bytes taken so far.
    pub fn taken(&self) -> u64 {
        self.sealed + self.waiting as u64
    }

    /// Makes room for a plaintext of so many bytes, as far as a batch holds it.
    pub fn reserve(&mut self, plaintext_bytes: u64) {
        let batch = (self.batch * FRAME_BYTES) as u64;
        let room = super::message_bytes(0, plaintext_bytes.min(batch));
        self.buf.reserve_exact(usize::try_from(room).unwrap_or(0).saturating_sub(self.buf.len()));
    }

    /// Takes plaintext until a batch is full; answers how much of it. When that is not all, the
    /// batch is to be sealed.
    pub fn push(&mut self, mut plaintext: &[u8]) -> usize {
        let before = plaintext.len();
        if self.waiting == 0 {
            // What was sealed in place has been written by now.
            self.buf.clear();
        }
        while !plaintext.is_empty() && self.waiting < self.batch * FRAME_BYTES {
            let in_frame = self.waiting % FRAME_BYTES;
            if in_frame == 0 {
                // Behind the tag of the one before, which is not there yet.
                let start = self.waiting / FRAME_BYTES * SEALED_FRAME + BEFORE;
                self.buf.resize(start, 0);
            }
            let taken = plaintext.len().min(FRAME_BYTES - in_frame);
            self.buf.extend_from_slice(&plaintext[..taken]);
            self.waiting += taken;
            plaintext = &plaintext[taken..];
        }
        before - plaintext.len()
    }

    /// A batch is full.
    pub fn is_full(&self) -> bool {
        self.waiting == self.batch * FRAME_BYTES
    }

    /// Seals the full batch: the next part of the message.
    pub fn seal(&mut self, data_key: &DataKey) -> Result<Vec<u8>, MessageError> {
        self.seal_in_place(data_key)?;
        let again = Vec::with_capacity(self.buf.len());
        Ok(std::mem::replace(&mut self.buf, again))
    }

    /// Seals the full batch where it lies: until more is pushed, [`Sealer::sealed`] is the next part
    /// of the message.
    pub fn seal_in_place(&mut self, data_key: &DataKey) -> Result<(), MessageError> {
        debug_assert!(self.is_full(), "only a full batch is sealed");
        let key = MessageKey::of(data_key, &self.header)?;
        self.seal_full(&key)
    }

    /// What was sealed in place; nothing once more was pushed.
    pub fn sealed(&self) -> &[u8] {
        if self.waiting == 0 { &self.buf } else { &[] }
    }

    /// Seals what is left; what it answers ends the message.
    pub fn finish(mut self, data_key: &DataKey) -> Result<Vec<u8>, MessageError> {
        let key = MessageKey::of(data_key, &self.header)?;
        let short = self.waiting % FRAME_BYTES;
        // The last frame carries more than the others: its plaintext moves.
        let tail_at = self.buf.len() - short;
        let mut tail = self.buf[tail_at..].to_vec();
        self.waiting -= short;
        let full = self.waiting / FRAME_BYTES * SEALED_FRAME;
        zeroize::Zeroize::zeroize(&mut self.buf[tail_at..]);
        self.buf.truncate(if self.waiting == 0 { 0 } else { full - TAG });
        self.seal_full(&key)?;
        let number = self.next;
        let tag = key.seal(number, true, &mut tail);
        self.buf.extend_from_slice(&END);
        self.buf.extend_from_slice(&number.to_be_bytes());
        self.buf.extend_from_slice(&iv(number));
        self.buf.extend_from_slice(&(tail.len() as u32).to_be_bytes());
        self.buf.extend_from_slice(&tail);
        self.buf.extend_from_slice(&tag);
        Ok(std::mem::take(&mut self.buf))
    }

    /// Seals the full frames in `buf`, which ends with the last one's plaintext.
    fn seal_full(&mut self, key: &MessageKey) -> Result<(), MessageError> {
        if self.sealed + self.waiting as u64 > MAX_PLAINTEXT_BYTES {
            return Err(MessageError::TooLong);
        }
        self.buf.resize(self.waiting / FRAME_BYTES * SEALED_FRAME, 0);
        for frame in self.buf.chunks_exact_mut(SEALED_FRAME) {
            let number = self.next;
            let tag = key.seal(number, false, &mut frame[BEFORE..BEFORE + FRAME_BYTES]);
            frame[..4].copy_from_slice(&number.to_be_bytes());
            frame[4..BEFORE].copy_from_slice(&iv(number));
            frame[BEFORE + FRAME_BYTES..].copy_from_slice(&tag);
            self.next += 1;
        }
        self.sealed += self.waiting as u64;
        self.waiting = 0;
        Ok(())
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.buf);
    }
}

/// A whole short message, such as an object's record.
pub fn seal_whole(
    data_key: &DataKey,
    context: &BTreeMap<String, String>,
    wrapped: &[Wrapped],
    plaintext: &[u8],
) -> Result<Vec<u8>, MessageError> {
    let frames = plaintext.len() / FRAME_BYTES + 1;
    let mut sealer = Sealer::begin(data_key, context, wrapped, frames)?;
    let taken = sealer.push(plaintext);
    debug_assert_eq!(taken, plaintext.len());
    let mut message = sealer.header().bytes().to_vec();
    message.extend_from_slice(&sealer.finish(data_key)?);
    Ok(message)
}
