//! What the index stores of an object, an upload and a part: a version byte, what is not secret
//! (times, sizes, ETags: enough for listings), then the sealed record.

use crate::checksum::{Algorithm, Kind};
use crate::version::Version;
use keystead_envelope::message::ID_BYTES;

const FORMAT: u8 = 1;
/// A sealed record that is longer lies in its file alone, so that a listing need not read it.
pub(crate) const INLINE_BYTES: usize = 16 << 10;

/// A stored value is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectRow {
    pub(crate) version: Version,
    pub(crate) size: u64,
    pub(crate) modified_ms: i64,
    pub(crate) etag: String,
    pub(crate) checksum: Option<(Algorithm, Kind)>,
    /// The record's file in the version's folder.
    pub(crate) record_file: String,
    /// The record's message id: what lies in the file must be this very message.
    pub(crate) record_id: [u8; ID_BYTES],
    /// The sealed record, unless it is long.
    pub(crate) record: Option<Vec<u8>>,
}

/// An upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadRow {
    pub(crate) begun_ms: i64,
    pub(crate) checksum: (Algorithm, Kind),
    /// The sealed record.
    pub(crate) record: Vec<u8>,
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartRow {
    /// Its file in the version's folder.
    pub(crate) file: String,
    pub(crate) size: u64,
    pub(crate) etag: String,
    /// The sealed record.
    pub(crate) record: Vec<u8>,
}

impl ObjectRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.bytes(&self.version.0);
        out.number(self.size);
        out.number(self.modified_ms as u64);
        out.text(&self.etag);
        out.0.push(self.checksum.map_or(0, |(algorithm, kind)| code(algorithm, kind)));
        out.text(&self.record_file);
        out.bytes(&self.record_id);
        match &self.record {
            None => out.0.push(0),
            Some(record) => {
                out.0.push(1);
                out.bytes(record);
            }
        }
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut rest = Reader::new(bytes)?;
        Ok(Self {
            version: Version(rest.array()?),
            size: rest.number()?,
            modified_ms: rest.number()? as i64,
            etag: rest.text()?,
            checksum: match rest.byte()? {
                0 => None,
                code => Some(decode_checksum(code)?),
            },
            record_file: rest.text()?,
            record_id: rest.array()?,
            record: match rest.byte()? {
                0 => None,
                _ => Some(rest.0.to_vec()),
            },
        })
    }
}

impl UploadRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.number(self.begun_ms as u64);
        out.0.push(code(self.checksum.0, self.checksum.1));
        out.bytes(&self.record);
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut rest = Reader::new(bytes)?;
        Ok(Self {
            begun_ms: rest.number()? as i64,
            checksum: decode_checksum(rest.byte()?)?,
            record: rest.0.to_vec(),
        })
    }
}

impl PartRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.text(&self.file);
        out.number(self.size);
        out.text(&self.etag);
        out.bytes(&self.record);
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut rest = Reader::new(bytes)?;
        Ok(Self {
            file: rest.text()?,
            size: rest.number()?,
            etag: rest.text()?,
            record: rest.0.to_vec(),
        })
    }
}

/// The algorithm's place in [`Algorithm::ALL`], from 1; the high bit is set for a composite.
fn code(algorithm: Algorithm, kind: Kind) -> u8 {
    let place = Algorithm::ALL.iter().position(|one| *one == algorithm).unwrap_or_default();
    (place as u8 + 1) | if kind == Kind::Composite { 0x80 } else { 0 }
}

fn decode_checksum(code: u8) -> Result<(Algorithm, Kind), Damaged> {
    let kind = if code & 0x80 == 0 { Kind::FullObject } else { Kind::Composite };
    let place = usize::from(code & 0x7f).checked_sub(1).ok_or(Damaged)?;
    Ok((*Algorithm::ALL.get(place).ok_or(Damaged)?, kind))
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Self(vec![FORMAT])
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn number(&mut self, number: u64) {
        self.bytes(&number.to_be_bytes());
    }
    /// ETags and file names of ours: short.
    fn text(&mut self, text: &str) {
        debug_assert!(text.len() < 256);
        self.0.push(text.len() as u8);
        self.bytes(text.as_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Damaged> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => Ok(Self(rest)),
            _ => Err(Damaged),
        }
    }
    fn take(&mut self, n: usize) -> Result<&'a [u8], Damaged> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Damaged)?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }
    fn byte(&mut self) -> Result<u8, Damaged> {
        Ok(self.take(1)?[0])
    }
    fn number(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_be_bytes)
    }
    fn text(&mut self) -> Result<String, Damaged> {
        let n = self.byte()?;
        let bytes = self.take(usize::from(n))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_cut_ones_are_told() {
        for (record, checksum) in [
            (None, None),
            (Some(vec![9; 700]), Some((Algorithm::Sha256, Kind::Composite))),
            (Some(vec![]), Some((Algorithm::Crc32, Kind::FullObject))),
        ] {
            let row = ObjectRow {
                version: Version([7; 16]),
                size: 1 << 40,
                modified_ms: -5,
                etag: "e-3".into(),
                checksum,
                record_file: "record".into(),
                record_id: [3; 32],
                record,
            };
            let bytes = row.encode();
            assert_eq!(ObjectRow::decode(&bytes), Ok(row));
            assert_eq!(ObjectRow::decode(&bytes[..60]), Err(Damaged));
            assert_eq!(ObjectRow::decode(&[&[2], &bytes[1..]].concat()), Err(Damaged));
        }
        let upload = UploadRow {
            begun_ms: 12,
            checksum: (Algorithm::Crc64Nvme, Kind::FullObject),
            record: vec![1, 2],
        };
        assert_eq!(UploadRow::decode(&upload.encode()), Ok(upload));
        let part =
            PartRow { file: "part00001".into(), size: 5, etag: "e".into(), record: vec![1, 2] };
        assert_eq!(PartRow::decode(&part.encode()), Ok(part));
        assert_eq!(PartRow::decode(&[]), Err(Damaged));
    }
}
