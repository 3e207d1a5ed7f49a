//! The check of a body as it streams by, one type for every kind of [`Payload`](super::Payload).

use super::chunked::Decoder;
use super::trailer::Trailers;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256};
use std::fmt;

/// Why a body is not the one that was announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyFault {
    /// The digest is another one than the head says.
    #[error("the body's digest is not the one of the head")]
    Digest,
    /// A chunk, or the trailers, were not signed by the sender of the head.
    #[error("a chunk's signature does not match")]
    Signature,
    /// Too short, too long, or not framed as it must be; the text says which.
    #[error("body: {0}")]
    Framing(&'static str),
    /// The trailers are not those that were announced, or not well-formed.
    #[error("trailers: {0}")]
    Trailer(&'static str),
}

/// The check of one body. Made by [`verify_s3`](super::verify_s3) for a head that is genuine.
///
/// **What [`push`](Self::push) gives out is provisional**: nothing of it is proved before
/// [`finish`](Self::finish) has said `Ok`. It may be written to where nobody reads, and must be
/// thrown away if either ever says `Err`, or if the connection ends before `finish`.
#[must_use = "a body that is not checked is anybody's"]
pub struct BodyCheck(Kind);

enum Kind {
    Whole(Whole),
    Chunked(Box<Decoder>),
}

impl fmt::Debug for BodyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyCheck").finish_non_exhaustive()
    }
}

impl BodyCheck {
    /// Takes the next bytes of the body, in slices of any size, and gives `out` the data among
    /// them: parts of `bytes` themselves, in order, never copied, none of them empty. Once it has
    /// failed it fails for ever, with the same fault.
    pub fn push(&mut self, bytes: &[u8], out: &mut impl FnMut(&[u8])) -> Result<(), BodyFault> {
        match &mut self.0 {
            Kind::Chunked(decoder) => decoder.push(bytes, out),
            Kind::Whole(whole) => whole.push(bytes, out),
        }
    }

    /// The end of the body: `Ok` if it was whole and, unless its kind has no proof, genuine.
    pub fn finish(self) -> Result<Trailers, BodyFault> {
        match self.0 {
            Kind::Chunked(decoder) => decoder.finish(),
            Kind::Whole(whole) => whole.finish().map(|()| Trailers::default()),
        }
    }

    /// Of a body that is sent as it is.
    pub(super) fn whole(sum: Option<[u8; 32]>, length: Option<u64>) -> Self {
        let digest = sum.map(|sum| (Context::new(&SHA256), sum));
        Self(Kind::Whole(Whole { digest, length, came: 0 }))
    }

    pub(super) fn chunked(decoder: Decoder) -> Self {
        Self(Kind::Chunked(Box::new(decoder)))
    }
}

const LONG: BodyFault = BodyFault::Framing("more came than was declared");
const SHORT: BodyFault = BodyFault::Framing("less came than was declared");

struct Whole {
    digest: Option<(Context, [u8; 32])>,
    /// `Content-Length`, where it was sent.
    length: Option<u64>,
    came: u64,
}

impl Whole {
    fn push(&mut self, bytes: &[u8], out: &mut impl FnMut(&[u8])) -> Result<(), BodyFault> {
        self.came = self.came.saturating_add(bytes.len() as u64);
        if self.length.is_some_and(|length| self.came > length) {
            return Err(LONG);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some((context, _)) = &mut self.digest {
            context.update(bytes);
        }
        out(bytes);
        Ok(())
    }

    fn finish(self) -> Result<(), BodyFault> {
        match self.length {
            Some(length) if self.came < length => return Err(SHORT),
            Some(length) if self.came > length => return Err(LONG),
            _ => {}
        }
        let Some((context, sum)) = self.digest else { return Ok(()) };
        verify_slices_are_equal(context.finish().as_ref(), &sum).map_err(|_| BodyFault::Digest)
    }
}
