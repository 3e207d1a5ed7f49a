//! The KMS ciphertext blob (`docs/formats/kms-blob.md`).
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version 1 |
//! | 1 + n | Region |
//! | 12 | account |
//! | 1 + n | key id, as text |
//! | 8 | first bytes of the key material id |
//! | 32 | salt, random |
//! | n | ciphertext |
//! | 16 | tag |
//!
//! The call key is HMAC-SHA-256(key material, `keystead blob 1`, 0x00, salt) and is used once, with
//! AES-256-GCM and an IV of zeroes: key material itself is never an AES-GCM key, so no count of
//! random IVs runs out. Associated data is all before the ciphertext, then the encryption context
//! with every length written out, so that no two contexts read alike.

use crate::kdf::hmac_sha256;
use crate::memory::DataKey;
use crate::random::{self, RandomError};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use keystead_types::arn::is_key_id;
use keystead_types::{AccountId, Region};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const LABEL: &[u8] = b"keystead blob 1\0";
const SALT: usize = 32;
const TAG: usize = 16;
/// The longest blob, in bytes (AWS's bound).
pub const MAX_BLOB_BYTES: usize = 6144;

/// Why a blob is not made or not opened. Opening tells no more than that it failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Not a blob of ours, tampered with, or another context.
    #[error("the ciphertext does not open")]
    Invalid,
    /// Too long for the wire.
    #[error("the blob would pass {MAX_BLOB_BYTES} bytes")]
    TooLong,
    /// No randomness.
    #[error("no random bytes")]
    Random(#[from] RandomError),
}

/// What a blob says in clear: which key opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobHeader {
    /// Region of the key.
    pub region: Region,
    /// Account of the key.
    pub account: AccountId,
    /// Key id.
    pub key_id: String,
    /// First eight bytes of the key material id.
    pub material_id: [u8; 8],
}

impl BlobHeader {
    fn write(&self, salt: &[u8; SALT]) -> Vec<u8> {
        let mut out = vec![VERSION];
        let length = |text: &str| u8::try_from(text.len()).expect("Regions and key ids are short");
        out.push(length(self.region.as_str()));
        out.extend_from_slice(self.region.as_str().as_bytes());
        out.extend_from_slice(self.account.as_str().as_bytes());
        out.push(length(&self.key_id));
        out.extend_from_slice(self.key_id.as_bytes());
        out.extend_from_slice(&self.material_id);
        out.extend_from_slice(salt);
        out
    }
}

struct Parsed<'a> {
    header: BlobHeader,
    salt: &'a [u8],
    before: &'a [u8],
    sealed: &'a [u8],
}

fn parse(blob: &[u8]) -> Result<Parsed<'_>, BlobError> {
    fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], BlobError> {
        let (head, tail) = rest.split_at_checked(n).ok_or(BlobError::Invalid)?;
        *rest = tail;
        Ok(head)
    }
    fn text<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a str, BlobError> {
        std::str::from_utf8(take(rest, n)?).map_err(|_| BlobError::Invalid)
    }
    if blob.len() > MAX_BLOB_BYTES {
        return Err(BlobError::Invalid);
    }
    let mut rest = blob;
    if take(&mut rest, 1)?[0] != VERSION {
        return Err(BlobError::Invalid);
    }
    let n = usize::from(take(&mut rest, 1)?[0]);
    let region = text(&mut rest, n)?.parse().map_err(|_| BlobError::Invalid)?;
    let account = text(&mut rest, 12)?.parse().map_err(|_| BlobError::Invalid)?;
    let n = usize::from(take(&mut rest, 1)?[0]);
    let key_id = text(&mut rest, n)?.to_owned();
    if !is_key_id(&key_id) {
        return Err(BlobError::Invalid);
    }
    let material_id = take(&mut rest, 8)?.try_into().map_err(|_| BlobError::Invalid)?;
    let salt = take(&mut rest, SALT)?;
    if rest.len() < TAG {
        return Err(BlobError::Invalid);
    }
    let before = &blob[..blob.len() - rest.len()];
    Ok(Parsed {
        header: BlobHeader { region, account, key_id, material_id },
        salt,
        before,
        sealed: rest,
    })
}

/// Reads which key a blob names.
pub fn parse_header(blob: &[u8]) -> Result<BlobHeader, BlobError> {
    parse(blob).map(|p| p.header)
}

fn associated(before: &[u8], context: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = before.to_vec();
    out.extend_from_slice(&(context.len() as u32).to_be_bytes());
    for text in context.iter().flat_map(|(k, v)| [k, v]) {
        out.extend_from_slice(&(text.len() as u32).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

fn call_key(material: &DataKey, salt: &[u8]) -> LessSafeKey {
    let key = hmac_sha256(material.expose(), &[LABEL, salt]);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes are an AES-256 key"))
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Seals a plaintext under key material.
pub fn seal(
    material: &DataKey,
    header: &BlobHeader,
    context: &BTreeMap<String, String>,
    plaintext: &[u8],
) -> Result<Vec<u8>, BlobError> {
    if !is_key_id(&header.key_id) {
        return Err(BlobError::Invalid);
    }
    let salt = random::array::<SALT>()?;
    let mut blob = header.write(&salt);
    if blob.len() + plaintext.len() + TAG > MAX_BLOB_BYTES {
        return Err(BlobError::TooLong);
    }
    let aad = associated(&blob, context);
    // With room for the tag: growing would leave a copy of the plaintext behind.
    let mut sealed = Zeroizing::new(Vec::with_capacity(plaintext.len() + TAG));
    sealed.extend_from_slice(plaintext);
    call_key(material, &salt)
        .seal_in_place_append_tag(zero_nonce(), Aad::from(&aad), &mut *sealed)
        .expect("AES-GCM seals a short message");
    blob.extend_from_slice(&sealed);
    Ok(blob)
}

/// Opens a blob with the material that it names.
pub fn open(
    material: &DataKey,
    blob: &[u8],
    context: &BTreeMap<String, String>,
) -> Result<Zeroizing<Vec<u8>>, BlobError> {
    let parsed = parse(blob)?;
    let aad = associated(parsed.before, context);
    let mut sealed = Zeroizing::new(parsed.sealed.to_vec());
    let len = call_key(material, parsed.salt)
        .open_in_place(zero_nonce(), Aad::from(&aad), &mut sealed)
        .map_err(|_| BlobError::Invalid)?
        .len();
    sealed.truncate(len);
    Ok(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::blob_header as header;

    fn context(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn opens_only_under_its_material_and_context() {
        let material = DataKey::random(32).expect("key memory");
        let blob =
            seal(&material, &header(), &context(&[("a", "bc")]), b"secret").expect("it seals");
        assert_eq!(parse_header(&blob).expect("ours"), header());
        assert_eq!(
            &**open(&material, &blob, &context(&[("a", "bc")])).expect("it opens"),
            b"secret"
        );
        // Without lengths these two contexts would read alike.
        assert!(open(&material, &blob, &context(&[("ab", "c")])).is_err());
        assert!(open(&material, &blob, &context(&[])).is_err());
        let other = DataKey::random(32).expect("key memory");
        assert!(open(&other, &blob, &context(&[("a", "bc")])).is_err());
    }

    #[test]
    fn a_flipped_bit_a_cut_and_a_longer_blob_never_open() {
        let material = DataKey::random(32).expect("key memory");
        let blob = seal(&material, &header(), &context(&[]), b"x").expect("it seals");
        for bit in 0..blob.len() * 8 {
            let mut bad = blob.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&material, &bad, &context(&[])).is_err(), "bit {bit}");
        }
        for end in 0..blob.len() {
            assert!(open(&material, &blob[..end], &context(&[])).is_err(), "cut at {end}");
        }
        let longer = [blob.as_slice(), b"!"].concat();
        assert!(open(&material, &longer, &context(&[])).is_err());
    }

    #[test]
    fn a_region_of_twelve_letters_keeps_its_length_byte() {
        let material = DataKey::random(32).expect("key memory");
        let header = BlobHeader { region: "111122223333".parse().expect("a Region"), ..header() };
        let blob = seal(&material, &header, &context(&[]), b"x").expect("it seals");
        assert_eq!(parse_header(&blob).expect("ours"), header);
    }
}
