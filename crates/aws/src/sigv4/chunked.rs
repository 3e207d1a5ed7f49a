//! `aws-chunked`: the frames of a body that was not known whole when its head was signed.
//!
//! | bytes | what |
//! |---|---|
//! | `<size>[;chunk-signature=<64 hex>]` CR LF | head of a chunk, size in hexadecimal of either case |
//! | size bytes, CR LF | its data |
//! | a head with size 0 | the end of the data |
//! | trailers (see `trailer`), CR LF | with trailers only, else CR LF alone |
//!
//! The signature stands in the head because the sender has the chunk at hand; the receiver knows
//! only after the last byte of a chunk whether it is genuine, and only after the last chunk whether
//! the body is whole.
//!
//! Refused: a head that is not exactly of its kind, sizes beyond the declared length or short of
//! it, a line above [`MOST_LINE`], a missing CR LF, a wrong signature, any byte after the end.

use super::body::BodyFault;
use super::chain::{Chain, Hex};
use super::trailer::{Reader, Trailers};
use aws_lc_rs::digest::{Context, SHA256};

/// Longest line, its end included, in bytes.
const MOST_LINE: usize = 1024;
/// Most digits of a size: zeros in front are taken, but not without end.
const MOST_DIGITS: usize = 16;

const SHORT: BodyFault = BodyFault::Framing("less came than was declared");

enum Step {
    Head,
    /// So many bytes of the chunk are to come.
    Data(u64),
    /// CR LF after the data.
    DataEnd,
    Trailers,
    Done,
    Failed(BodyFault),
}

/// Takes bytes as they come, gives the data out as it stands in them.
pub(super) struct Decoder {
    step: Step,
    line: Vec<u8>,
    /// Decoded bytes that no head has told of yet.
    untold: u64,
    chunk: Context,
    /// What the head of this chunk claims.
    claimed: Option<Hex>,
    /// With signatures only.
    chain: Option<Chain>,
    /// A body without trailers ends like one whose trailers are none.
    trailers: Reader,
}

impl Decoder {
    /// `length` is the declared one, decoded.
    pub(super) fn new(length: u64, chain: Option<Chain>, trailers: Reader) -> Self {
        Self {
            step: Step::Head,
            line: Vec::with_capacity(128),
            untold: length,
            chunk: Context::new(&SHA256),
            claimed: None,
            chain,
            trailers,
        }
    }

    /// See [`super::BodyCheck::push`].
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        out: &mut impl FnMut(&[u8]),
    ) -> Result<(), BodyFault> {
        if let Step::Failed(fault) = &self.step {
            return Err(fault.clone());
        }
        self.advance(bytes, out).inspect_err(|fault| self.step = Step::Failed(fault.clone()))
    }

    /// See [`super::BodyCheck::finish`].
    pub(super) fn finish(self) -> Result<Trailers, BodyFault> {
        match self.step {
            Step::Done => Ok(self.trailers.into_trailers()),
            Step::Failed(fault) => Err(fault),
            _ => Err(SHORT),
        }
    }

    fn advance(&mut self, mut bytes: &[u8], out: &mut impl FnMut(&[u8])) -> Result<(), BodyFault> {
        while !bytes.is_empty() {
            if let Step::Data(left) = self.step {
                let fits = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let (data, rest) = bytes.split_at(fits);
                if self.chain.is_some() {
                    self.chunk.update(data);
                }
                out(data);
                let left = left - fits as u64;
                self.step = if left == 0 { Step::DataEnd } else { Step::Data(left) };
                bytes = rest;
            } else {
                let Some(rest) = self.take_line(bytes)? else { return Ok(()) };
                bytes = rest;
                let line = std::mem::take(&mut self.line);
                self.step = self.after(&line)?;
                self.line = line;
                self.line.clear();
            }
        }
        Ok(())
    }

    /// Adds to the line up to its LF; `None` when that has not come.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, BodyFault> {
        if matches!(self.step, Step::Done) {
            return Err(BodyFault::Framing("bytes come after the end"));
        }
        let room = (MOST_LINE - self.line.len()).min(bytes.len());
        let (near, _) = bytes.split_at(room);
        let end = near.iter().position(|b| *b == b'\n').map(|at| at + 1);
        let (part, rest) = bytes.split_at(end.unwrap_or(room));
        self.line.extend_from_slice(part);
        match end {
            Some(_) => Ok(Some(rest)),
            None if self.line.len() == MOST_LINE => Err(BodyFault::Framing("a line is too long")),
            None => Ok(None),
        }
    }

    /// What comes after a line.
    fn after(&mut self, line: &[u8]) -> Result<Step, BodyFault> {
        match self.step {
            Step::Head => match self.head(line)? {
                0 if self.untold > 0 => Err(SHORT),
                0 => self.check_chunk().map(|()| Step::Trailers),
                size => {
                    self.untold = self
                        .untold
                        .checked_sub(size)
                        .ok_or(BodyFault::Framing("more comes than was declared"))?;
                    Ok(Step::Data(size))
                }
            },
            Step::DataEnd if line == b"\r\n" => self.check_chunk().map(|()| Step::Head),
            Step::Trailers if self.trailers.line(line)? => {
                self.check_trailers().map(|()| Step::Done)
            }
            Step::Trailers => Ok(Step::Trailers),
            _ => Err(BodyFault::Framing("a chunk does not end where its head says")),
        }
    }

    /// The size that a head tells; its signature is kept.
    fn head(&mut self, line: &[u8]) -> Result<u64, BodyFault> {
        const HEAD: BodyFault = BodyFault::Framing("the head of a chunk is not well-formed");
        let line = line.strip_suffix(b"\r\n").ok_or(HEAD)?;
        let line = std::str::from_utf8(line).map_err(|_| HEAD)?;
        let size = match &self.chain {
            None => line,
            Some(_) => {
                let (size, signature) = line.split_once(";chunk-signature=").ok_or(HEAD)?;
                self.claimed = Some(Hex::read(signature.as_bytes()).ok_or(HEAD)?);
                size
            }
        };
        let digits = size.bytes().all(|b| b.is_ascii_hexdigit()) && size.len() <= MOST_DIGITS;
        u64::from_str_radix(size, 16).ok().filter(|_| digits).ok_or(HEAD)
    }

    fn check_chunk(&mut self) -> Result<(), BodyFault> {
        let Some(chain) = &mut self.chain else { return Ok(()) };
        let data = std::mem::replace(&mut self.chunk, Context::new(&SHA256)).finish();
        let ours = chain.chunk(&data);
        match self.claimed.take() {
            Some(claimed) if claimed.equals(&ours) => Ok(()),
            _ => Err(BodyFault::Signature),
        }
    }

    fn check_trailers(&mut self) -> Result<(), BodyFault> {
        let (Some(chain), Some((lines, claimed))) = (&mut self.chain, self.trailers.signature())
        else {
            return Ok(());
        };
        if claimed.equals(&chain.trailers(&lines)) { Ok(()) } else { Err(BodyFault::Signature) }
    }
}
