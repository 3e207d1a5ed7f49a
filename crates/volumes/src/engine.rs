//! The engine: reads, writes, trims and flushes of a volume in terms of its image.
//!
//! Requests may have any offset and length; the engine widens them to whole sectors and reads,
//! modifies and writes the edges under a range lock. A sector of zero ciphertext is a hole and
//! reads as zeroes (an honest ciphertext is zero with probability 2^-32768). Whoever gets
//! [`NotAdmitted`] keeps the request and tries again later: nothing has left, and repeating it is
//! harmless. A disk that does not take a write makes it wait too: nothing of it was answered.

use crate::gate::Gate;
use crate::image::{Image, SECTOR};
use crate::range_lock::RangeLock;
use keystead_envelope::xts::XtsError;
use rustix::io::Errno;

const S: u64 = SECTOR as u64;

/// The gate is closed or the lease does not hold: wait, then start the request anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAdmitted;

/// Why a request did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    NotAdmitted,
    Errno(Errno),
    /// The disk did not take a write or a trim; of a write in whole sectors the payload is
    /// ciphertext now.
    Disk(Errno),
}

impl From<NotAdmitted> for Failed {
    fn from(_: NotAdmitted) -> Self {
        Self::NotAdmitted
    }
}

impl From<Errno> for Failed {
    fn from(e: Errno) -> Self {
        Self::Errno(e)
    }
}

pub(crate) struct Engine {
    pub(crate) image: Image,
    pub(crate) gate: Gate,
    writing: RangeLock,
}

/// Whole sectors around a range of bytes.
#[derive(Clone, Copy)]
struct Span {
    first: u64,
    end: u64,
}

impl Span {
    fn around(offset: u64, len: u64) -> Self {
        Self { first: offset / S, end: (offset + len).div_ceil(S) }
    }
    fn offset(self) -> u64 {
        self.first * S
    }
    fn len(self) -> usize {
        ((self.end - self.first) * S) as usize
    }
}

impl Engine {
    pub(crate) fn new(image: Image, gate: Gate) -> Self {
        Self { image, gate, writing: RangeLock::default() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.image.size()
    }

    /// How much of a read lies inside the volume.
    pub(crate) fn clip(&self, offset: u64, len: usize) -> usize {
        self.size().saturating_sub(offset).min(len as u64) as usize
    }

    /// Reads `len` bytes; the plaintext is `work[skip..skip + len]`, and is wiped when refused.
    /// `work` must hold the range widened to whole sectors.
    pub(crate) fn read<'w>(
        &self,
        thread: usize,
        offset: u64,
        len: usize,
        work: &'w mut [u8],
    ) -> Result<&'w mut [u8], Failed> {
        if !self.gate.admits() {
            return Err(Failed::NotAdmitted);
        }
        let len = self.clip(offset, len);
        if len == 0 {
            return Ok(&mut work[..0]);
        }
        let span = Span::around(offset, len as u64);
        let sectors = &mut work[..span.len()];
        self.image.read(span.offset(), sectors)?;
        self.decrypt(thread, span.first, sectors)?;
        let skip = (offset - span.offset()) as usize;
        Ok(&mut sectors[skip..skip + len])
    }

    /// Writes `payload` (encrypted in place when it is whole sectors). Past the end: ENOSPC.
    pub(crate) fn write(
        &self,
        thread: usize,
        offset: u64,
        payload: &mut [u8],
        work: &mut [u8],
    ) -> Result<(), Failed> {
        if !self.gate.admits() {
            return Err(Failed::NotAdmitted);
        }
        let len = payload.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.size()) {
            return Err(Failed::Errno(Errno::NOSPC));
        }
        if len == 0 {
            return Ok(());
        }
        let span = Span::around(offset, len);
        let _held = self.writing.hold(span.first, span.end);
        let aligned = Self::is_whole(offset, payload.len());
        let sectors =
            if aligned { payload } else { self.widen(thread, span, offset, payload, work)? };
        self.gate
            .lend(thread, |context| context.encrypt_sectors(span.first, sectors))?
            .map_err(beyond)?;
        self.image.write(span.offset(), sectors).map_err(Failed::Disk)
    }

    /// Writes whole sectors that [`Self::write`] has encrypted and the disk did not take.
    pub(crate) fn write_sealed(&self, offset: u64, sectors: &[u8]) -> Result<(), Failed> {
        let span = Span::around(offset, sectors.len() as u64);
        let _held = self.writing.hold(span.first, span.end);
        self.image.write(offset, sectors).map_err(Failed::Disk)
    }

    /// True when a write of this range is encrypted in place.
    pub(crate) fn is_whole(offset: u64, len: usize) -> bool {
        offset.is_multiple_of(S) && (len as u64).is_multiple_of(S)
    }

    /// Trim, and write-zeroes: whole sectors become holes; edges that are not holes are zeroed.
    /// Only edges need the key.
    pub(crate) fn punch(
        &self,
        thread: usize,
        offset: u64,
        len: u64,
        work: &mut [u8],
    ) -> Result<(), Failed> {
        let end = offset.checked_add(len).ok_or(Errno::FBIG)?.min(self.size());
        if offset >= end {
            return Ok(());
        }
        let span = Span::around(offset, end - offset);
        let _held = self.writing.hold(span.first, span.end);
        let (inner, inner_end) = (offset.next_multiple_of(S), end / S * S);
        if inner > inner_end {
            // Within one sector.
            return self.zero_edge(thread, offset, end, work);
        }
        // Edges first: when one has to wait for the key, the request is repeated whole.
        if offset < inner {
            self.zero_edge(thread, offset, inner, work)?;
        }
        if inner_end < end {
            self.zero_edge(thread, inner_end, end, work)?;
        }
        if inner < inner_end {
            self.image.punch(inner, inner_end - inner).map_err(Failed::Disk)?;
        }
        Ok(())
    }

    /// Makes answered writes durable; needs no key.
    pub(crate) fn flush(&self) -> Result<(), Errno> {
        self.image.flush()
    }

    /// Zeroes `offset..end` inside one sector, which the caller holds.
    fn zero_edge(
        &self,
        thread: usize,
        offset: u64,
        end: u64,
        work: &mut [u8],
    ) -> Result<(), Failed> {
        let span = Span::around(offset, end - offset);
        let sector = &mut work[..span.len()];
        self.image.read(span.offset(), sector)?;
        if is_hole(sector) {
            return Ok(());
        }
        let from = (offset - span.offset()) as usize;
        let to = (end - span.offset()) as usize;
        let zeroed = self.gate.lend(thread, |context| {
            context.decrypt_sectors(span.first, sector)?;
            sector[from..to].fill(0);
            context.encrypt_sectors(span.first, sector)
        })?;
        zeroed.map_err(beyond)?;
        self.image.write(span.offset(), sector).map_err(Failed::Disk)
    }

    /// Copies an unaligned payload into `work` with the rest of its edge sectors around it.
    fn widen<'w>(
        &self,
        thread: usize,
        span: Span,
        offset: u64,
        payload: &[u8],
        work: &'w mut [u8],
    ) -> Result<&'w mut [u8], Failed> {
        let sectors = &mut work[..span.len()];
        let skip = (offset - span.offset()) as usize;
        let last = span.end - 1;
        if skip != 0 {
            self.image.read(span.offset(), &mut sectors[..SECTOR])?;
            self.decrypt(thread, span.first, &mut sectors[..SECTOR])?;
        }
        let tail_cut = !(skip + payload.len()).is_multiple_of(SECTOR);
        if tail_cut && (skip == 0 || last != span.first) {
            let at = span.len() - SECTOR;
            self.image.read(last * S, &mut sectors[at..])?;
            self.decrypt(thread, last, &mut sectors[at..])?;
        }
        sectors[skip..skip + payload.len()].copy_from_slice(payload);
        Ok(sectors)
    }

    /// Decrypts what is not a hole; runs of sectors in one call.
    fn decrypt(&self, thread: usize, first: u64, sectors: &mut [u8]) -> Result<(), Failed> {
        let done = self.gate.lend(thread, |context| {
            let count = sectors.len() / SECTOR;
            let mut at = 0;
            while at < count {
                let hole = |i: usize| is_hole(&sectors[i * SECTOR..(i + 1) * SECTOR]);
                if hole(at) {
                    at += 1;
                    continue;
                }
                let end = (at + 1..count).find(|i| hole(*i)).unwrap_or(count);
                let run = &mut sectors[at * SECTOR..end * SECTOR];
                context.decrypt_sectors(first + at as u64, run)?;
                at = end;
            }
            Ok(())
        })?;
        done.map_err(beyond)
    }
}

/// A sector that XTS does not number; an image's size keeps well below.
fn beyond(_: XtsError) -> Failed {
    Failed::Errno(Errno::FBIG)
}

fn is_hole(sector: &[u8]) -> bool {
    sector[..16].iter().all(|b| *b == 0) && sector.iter().all(|b| *b == 0)
}

#[cfg(test)]
mod tests;
