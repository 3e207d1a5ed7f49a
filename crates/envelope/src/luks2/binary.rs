//! The two binary headers and their JSON areas.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 6 | magic, `LUKS\xba\xbe` (secondary `SKUL\xba\xbe`) |
//! | 6 | 2 | version 2 |
//! | 8 | 8 | size of header and JSON area |
//! | 16 | 8 | sequence id; the newer valid copy wins |
//! | 72 | 32 | checksum algorithm |
//! | 104 | 64 | salt, another in each copy |
//! | 168 | 40 | UUID |
//! | 256 | 8 | offset of this copy |
//! | 448 | 64 | SHA-256 over header and JSON area, this field zero |

use super::Luks2Error;
use crate::random;
use aws_lc_rs::digest::{SHA256, digest};

pub(super) const JSON_BYTES: usize = 12 << 10;
const BINARY: usize = 4096;
const COPY: usize = BINARY + JSON_BYTES;
const MAGIC: [&[u8; 6]; 2] = [b"LUKS\xba\xbe", b"SKUL\xba\xbe"];
const CHECKSUM: std::ops::Range<usize> = 448..512;

/// Writes both copies at the beginning of `out`.
pub(super) fn write(out: &mut [u8], json: &[u8], uuid: &str) -> Result<(), Luks2Error> {
    if json.len() >= JSON_BYTES {
        return Err(Luks2Error::Foreign("the token is too long for the JSON area".to_owned()));
    }
    for (number, magic) in MAGIC.iter().enumerate() {
        let copy = &mut out[number * COPY..(number + 1) * COPY];
        copy.fill(0);
        let mut put = |at: usize, bytes: &[u8]| copy[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, *magic);
        put(6, &2u16.to_be_bytes());
        put(8, &(COPY as u64).to_be_bytes());
        put(16, &1u64.to_be_bytes());
        put(72, b"sha256");
        put(104, &random::array::<64>()?);
        put(168, uuid.as_bytes().get(..39).unwrap_or(uuid.as_bytes()));
        put(256, &((number * COPY) as u64).to_be_bytes());
        put(BINARY, json);
        let sum = digest(&SHA256, copy);
        copy[CHECKSUM.start..CHECKSUM.start + 32].copy_from_slice(sum.as_ref());
    }
    Ok(())
}

/// The JSON text of the newer valid copy.
pub(super) fn read(header: &[u8]) -> Result<&[u8], Luks2Error> {
    let valid = |number: usize| {
        let copy = header.get(number * COPY..(number + 1) * COPY)?;
        let at = u64::from_be_bytes(copy[256..264].try_into().ok()?);
        let size = u64::from_be_bytes(copy[8..16].try_into().ok()?);
        let fits = copy[..6] == *MAGIC[number]
            && copy[6..8] == 2u16.to_be_bytes()
            && size == COPY as u64
            && at == (number * COPY) as u64
            && copy[72..79] == *b"sha256\0";
        let mut zeroed = copy.to_vec();
        zeroed[CHECKSUM].fill(0);
        let sum = digest(&SHA256, &zeroed);
        let sequence = u64::from_be_bytes(copy[16..24].try_into().ok()?);
        (fits && sum.as_ref() == &copy[448..480]).then_some((sequence, &copy[BINARY..]))
    };
    let newest = match (valid(0), valid(1)) {
        (Some(first), Some(second)) if second.0 > first.0 => second,
        (Some(first), _) => first,
        (None, Some(second)) => second,
        (None, None) => return Err(Luks2Error::NoHeader("both copies fail their checksum")),
    };
    let json = newest.1;
    Ok(&json[..json.iter().position(|b| *b == 0).unwrap_or(json.len())])
}
