//! The checksum of an object from those of its parts.

use super::{Algorithm, Checksum, Hasher, Kind};

/// Combines the parts' checksums, each with its part's bytes. They must all be of `algorithm`,
/// which must allow `kind`: the caller checked both when the upload began.
pub(crate) fn whole(algorithm: Algorithm, kind: Kind, parts: &[(&Checksum, u64)]) -> Checksum {
    match (kind, algorithm.crc()) {
        (Kind::FullObject, Some(crc)) => {
            let start = Hasher::new(algorithm).finish().number();
            let all = parts.iter().fold(start, |all, (part, bytes)| {
                crc_fast::checksum_combine(crc, all, part.number(), *bytes)
            });
            Checksum::of_number(algorithm, all)
        }
        _ => {
            let mut hasher = Hasher::new(algorithm);
            parts.iter().for_each(|(part, _)| hasher.update(&part.value));
            hasher.finish()
        }
    }
}
