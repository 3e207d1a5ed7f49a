//! Reading a message: its header once, then any run of frames.

use super::header::Header;
use super::key::{MessageKey, iv};
use super::{
    FRAME_BYTES, IV, LAST_OVERHEAD, MessageError, SEALED_FRAME, TAG, frame_count, plaintext_bytes,
};
use crate::memory::DataKey;
use std::ops::Range;

/// A message whose header is authentic. It holds no key.
#[derive(Debug, Clone)]
pub struct Opened {
    header: Header,
    plaintext_bytes: u64,
}

impl Opened {
    /// Checks that the data key is the one that the header commits to, and the header's tag.
    /// `message_bytes` is the length of the whole message as it is stored: where the last frame
    /// lies follows from it, and a message cut at a frame then has no last frame that opens.
    pub fn new(
        data_key: &DataKey,
        header: Header,
        message_bytes: u64,
    ) -> Result<Self, MessageError> {
        MessageKey::of(data_key, &header)?.check_header(&header)?;
        let plaintext_bytes = plaintext_bytes(header.bytes.len(), message_bytes)
            .ok_or(MessageError::Malformed("its length"))?;
        if plaintext_bytes > super::MAX_PLAINTEXT_BYTES {
            return Err(MessageError::TooLong);
        }
        Ok(Self { header, plaintext_bytes })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the plaintext.
    pub fn plaintext_bytes(&self) -> u64 {
        self.plaintext_bytes
    }

    /// Decrypts a run of whole frames (counted from 0) in place; answers where in `sealed` the
    /// plaintext of each lies. `sealed` is what [`super::frame_span`] names.
    pub fn open(
        &self,
        data_key: &DataKey,
        frames: Range<u64>,
        sealed: &mut [u8],
    ) -> Result<Vec<Range<usize>>, MessageError> {
        let key = MessageKey::of(data_key, &self.header)?;
        let count = frame_count(self.plaintext_bytes);
        if frames.end > count || frames.is_empty() {
            return Err(MessageError::Malformed("frames that it does not have"));
        }
        let mut plain = Vec::with_capacity((frames.end - frames.start) as usize);
        let mut at = 0;
        for i in frames {
            let last = i + 1 == count;
            let number = u32::try_from(i + 1).map_err(|_| MessageError::TooLong)?;
            let length = if last { self.last_bytes() } else { FRAME_BYTES };
            let whole = length + if last { LAST_OVERHEAD } else { SEALED_FRAME - FRAME_BYTES };
            let frame = sealed
                .get_mut(at..at + whole)
                .ok_or(MessageError::Malformed("a frame cut short"))?;
            let before = check_before(frame, number, last, length)?;
            key.open(number, last, &mut frame[before..])?;
            plain.push(at + before..at + before + length);
            at += whole;
        }
        if at != sealed.len() {
            return Err(MessageError::Malformed("bytes behind the frames"));
        }
        Ok(plain)
    }

    fn last_bytes(&self) -> usize {
        (self.plaintext_bytes % FRAME_BYTES as u64) as usize
    }
}

/// What a frame says of itself must be what its place says; answers where its ciphertext starts.
fn check_before(
    frame: &[u8],
    number: u32,
    last: bool,
    length: usize,
) -> Result<usize, MessageError> {
    let mut before = Vec::with_capacity(LAST_OVERHEAD - TAG);
    if last {
        before.extend_from_slice(&[0xff; 4]);
    }
    before.extend_from_slice(&number.to_be_bytes());
    before.extend_from_slice(&iv(number));
    if last {
        before.extend_from_slice(&(length as u32).to_be_bytes());
    }
    debug_assert_eq!(before.len(), if last { 12 + IV } else { 4 + IV });
    if frame.starts_with(&before) { Ok(before.len()) } else { Err(MessageError::Forged) }
}

/// Opens a whole short message.
pub fn open_whole(data_key: &DataKey, message: &[u8]) -> Result<Vec<u8>, MessageError> {
    let header = Header::parse(message)?;
    let mut sealed = message[header.bytes.len()..].to_vec();
    let opened = Opened::new(data_key, header, message.len() as u64)?;
    let frames = 0..frame_count(opened.plaintext_bytes);
    let plain = opened.open(data_key, frames, &mut sealed)?;
    let mut out = Vec::with_capacity(opened.plaintext_bytes as usize);
    for range in plain {
        out.extend_from_slice(&sealed[range]);
    }
    zeroize::Zeroize::zeroize(&mut sealed);
    Ok(out)
}
