//! One copy of a LUKS2 header (binary header and JSON, zeroes at the end left out); up to 256 bytes
//! are also a script of changes to a good header.

use super::edit;
use crate::fixtures::{UUID, token};
use crate::luks2::{HEADER_BYTES, Luks2Error, format, open, read_token};
use crate::memory::DataKey;
use crate::xts::XtsKey;
use aws_lc_rs::digest::{SHA256, digest};
use std::sync::OnceLock;

const COPY: usize = 16 << 10;
const SCRIPT: usize = 256;

struct Good {
    header: Vec<u8>,
    passphrase: DataKey,
    volume_key: XtsKey,
}

/// What is read has the magic and the checksum of its bytes, and its token means the same when it is
/// printed; a changed header opens to the same volume key or not at all.
pub fn luks2(data: &[u8]) {
    static GOOD: OnceLock<Good> = OnceLock::new();
    let good = GOOD.get_or_init(|| {
        let passphrase = DataKey::random(64).expect("key memory");
        let volume_key = XtsKey::random().expect("a key");
        let (header, _) = format(&volume_key, &passphrase, &token(), UUID).expect("it formats");
        Good { header, passphrase, volume_key }
    });
    let mut copy = data[..data.len().min(COPY)].to_vec();
    copy.resize(COPY, 0);
    for mended in [false, true] {
        if mended {
            // Past the checksum: what a tool that writes headers could have written.
            let sum = checksum(&copy);
            copy[448..480].copy_from_slice(&sum);
        }
        if let Ok((token, _)) = read_token(&copy) {
            assert!(copy.starts_with(b"LUKS\xba\xbe\0\x02"));
            assert_eq!(copy[448..480], checksum(&copy), "a header without its checksum");
            let again = format(&good.volume_key, &good.passphrase, &token, UUID);
            match again {
                Ok((header, _)) => assert_eq!(read_token(&header).expect("ours").0, token),
                // The token fits its JSON area, but not with our names around it.
                Err(e) => assert!(matches!(e, Luks2Error::Foreign(_)), "{e}"),
            }
            let mut whole = good.header.clone();
            whole[..COPY].copy_from_slice(&copy);
            whole[COPY..2 * COPY].fill(0);
            opens_as(good, &whole);
        }
    }
    if data.len() <= SCRIPT {
        let mut changed = good.header.clone();
        edit(&mut changed, data);
        opens_as(good, &changed);
    }
}

fn opens_as(good: &Good, header: &[u8]) {
    if let Ok(opened) = open(header, &good.passphrase) {
        assert_eq!(opened.volume_key.expose(), good.volume_key.expose(), "another volume key");
        assert!(header.len() >= HEADER_BYTES);
    }
}

fn checksum(copy: &[u8]) -> [u8; 32] {
    let zeroed = [&copy[..448], &[0; 64], &copy[512..COPY]].concat();
    digest(&SHA256, &zeroed).as_ref().try_into().expect("32 bytes")
}
