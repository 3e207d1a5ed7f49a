//! Why a header is written once. Its tag is a GMAC under IV 0: of two headers under one message id
//! and data key the difference of the tags is a polynomial in the hash key, and its few roots are
//! found at once, without any key. With the hash key every frame can be changed so that it
//! authenticates.
//!
//! The vector was made with the raw construction. With ours it cannot be made: the id is drawn
//! inside, and nothing takes one.

use crate::gf128::{Gf, Poly};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Salt};
use keystead_envelope::memory::DataKey;
use keystead_envelope::message::{
    FRAME_BYTES, Header, MessageError, Sealer, Wrapped, open_whole, seal_whole,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const TAG: usize = 16;
const COMMITMENT: usize = 32;
/// Where a header has its id.
const ID: std::ops::Range<usize> = 3..35;
/// Before a regular frame's ciphertext: its number and IV.
const BEFORE: usize = 4 + 12;
const TOLD: &[u8] = b"pay 10 to the owner of account 01";
const FORGED: &[u8] = b"pay 99 to the owner of account 66";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/message/two-headers-one-id")
}

fn data_key() -> DataKey {
    let mut bytes: Vec<u8> = (0..32u8).map(|i| i.wrapping_mul(13) ^ 5).collect();
    DataKey::from_slice_zeroizing(&mut bytes).expect("it fits")
}

fn context() -> BTreeMap<String, String> {
    BTreeMap::from([("keystead:store".to_owned(), "documents".to_owned())])
}

/// The data key as KMS wraps it in a Region.
fn wrapped(region: &str, fill: u8) -> Wrapped {
    let key_id = "1234abcd-12ab-34cd-56ef-1234567890ab";
    Wrapped {
        key_arn: format!("arn:aws:kms:{region}:111122223333:key/{key_id}"),
        ciphertext: (0..180).map(|i: u8| i.wrapping_mul(7) ^ fill).collect(),
    }
}

/// A regular frame and a short last one.
fn plaintext() -> Vec<u8> {
    let mut text: Vec<u8> = (0..FRAME_BYTES + 9).map(|i| (i % 251) as u8).collect();
    text[..TOLD.len()].copy_from_slice(TOLD);
    text
}

/// The stock construction's key of a message.
fn message_key(id: &[u8]) -> LessSafeKey {
    struct Bytes32;
    impl KeyType for Bytes32 {
        fn len(&self) -> usize {
            32
        }
    }
    let info = [&[0x04, 0x78][..], b"DERIVEKEY"];
    let root = Salt::new(HKDF_SHA512, id).extract(data_key().expose());
    let mut key = [0; 32];
    root.expand(&info, Bytes32).and_then(|okm| okm.fill(&mut key)).expect("32 bytes");
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("an AES-256 key"))
}

/// The fault itself: the owner's second Region is added to a message that is there, in place.
fn make() {
    let one = wrapped("eu-central-1", 1);
    let message = seal_whole(&data_key(), &context(), std::slice::from_ref(&one), &plaintext())
        .expect("sealed");
    let first = Header::parse(&message).expect("a header");
    let both = [one, wrapped("eu-west-1", 2)];
    let sealer = Sealer::begin(&data_key(), &context(), &both, 1).expect("begun");
    let mut second = sealer.header().bytes().to_vec();
    second.truncate(second.len() - TAG);
    let (commitment, end) = (second.len() - COMMITMENT, first.bytes().len() - TAG);
    second[ID].copy_from_slice(first.id());
    second[commitment..].copy_from_slice(&first.bytes()[end - COMMITMENT..end]);
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let tag = message_key(first.id())
        .seal_in_place_separate_tag(nonce, Aad::from(&second), &mut [])
        .expect("short enough");
    second.extend_from_slice(tag.as_ref());
    fs::create_dir_all(folder()).expect("a folder");
    fs::write(folder().join("message"), message).expect("written");
    fs::write(folder().join("second-header"), second).expect("written");
}

fn vector() -> (Vec<u8>, Vec<u8>) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    if std::env::var_os("KEYSTEAD_MAKE_VECTORS").is_some() {
        ONCE.call_once(make);
    }
    let read = |name: &str| fs::read(folder().join(name)).expect("the committed vector");
    (read("message"), read("second-header"))
}

/// GHASH of a header as a polynomial in the hash key, with the tag for its constant: it is
/// E(IV 0) at the hash key, which is the same for both headers.
fn tag_polynomial(header: &[u8]) -> Vec<Gf> {
    let (text, tag) = header.split_at(header.len() - TAG);
    let bits = (text.len() as u128 * 8) << 64;
    let mut coefficients = vec![Gf::block(tag), Gf::block(&bits.to_be_bytes())];
    coefficients.extend(text.chunks(16).rev().map(Gf::block));
    coefficients
}

/// What two headers say of the hash key, without any key: it is a root of this.
fn difference(first: &[u8], second: &[u8]) -> Poly {
    let (mut sum, two) = (tag_polynomial(first), tag_polynomial(second));
    sum.resize(sum.len().max(two.len()), Gf::ZERO);
    for (slot, coefficient) in sum.iter_mut().zip(two) {
        *slot = slot.add(coefficient);
    }
    Poly::new(sum)
}

/// Changes the known beginning of a regular frame, and its tag by what the hash changes.
fn forge(frame: &mut [u8], hash_key: Gf) {
    let mut change = Gf::ZERO;
    let blocks = FRAME_BYTES / 16;
    let (text, tag) = frame[BEFORE..].split_at_mut(FRAME_BYTES);
    let difference: Vec<u8> = TOLD.iter().zip(FORGED).map(|(told, forged)| told ^ forged).collect();
    for (n, piece) in difference.chunks(16).enumerate() {
        // Behind the last block there is that of the lengths, and each is multiplied once more.
        let power = hash_key.power((blocks - n + 1) as u128);
        change = change.add(Gf::block(piece).times(power));
        text[n * 16..].iter_mut().zip(piece).for_each(|(byte, bits)| *byte ^= bits);
    }
    tag.iter_mut().zip(change.bytes()).for_each(|(byte, bits)| *byte ^= bits);
}

#[test]
fn two_headers_of_one_id_let_anybody_forge_a_frame() {
    let (message, second) = vector();
    let first = Header::parse(&message).expect("a header");
    let end = first.bytes().len();
    // Both headers are good, and the stock tools would open either.
    assert_eq!(open_whole(&data_key(), &message).expect("it opens"), plaintext());
    let other = [&second[..], &message[end..]].concat();
    assert_eq!(open_whole(&data_key(), &other).expect("it opens"), plaintext());
    let other = Header::parse(&other).expect("a header");
    assert_eq!(other.id(), first.id());
    assert_ne!(other.wrapped(), first.wrapped());

    // No key from here to the verdict.
    let guesses = difference(first.bytes(), &second).roots();
    let forged = guesses.iter().map(|hash_key| {
        let mut forged = message.clone();
        forge(&mut forged[end..end + BEFORE + FRAME_BYTES + TAG], *hash_key);
        forged
    });
    let accepted: Vec<Vec<u8>> =
        forged.filter(|forged| open_whole(&data_key(), forged).is_ok()).collect();
    assert_eq!(accepted.len(), 1, "of {} guesses, at most one for each block", guesses.len());
    let mut wanted = plaintext();
    wanted[..FORGED.len()].copy_from_slice(FORGED);
    assert!(open_whole(&data_key(), &accepted[0]).expect("it opens") == wanted);

    // The stock construction takes the frame as well.
    let mut frame = accepted[0][end + BEFORE..][..FRAME_BYTES + TAG].to_vec();
    let aad = [
        &first.id()[..],
        b"AWSKMSEncryptionClient Frame",
        &1u32.to_be_bytes(),
        &(FRAME_BYTES as u64).to_be_bytes(),
    ]
    .concat();
    let mut iv = [0; 12];
    iv[11] = 1;
    let opened = message_key(first.id())
        .open_in_place(Nonce::assume_unique_for_key(iv), Aad::from(aad), &mut frame)
        .expect("the tag is accepted");
    assert!(opened == &wanted[..FRAME_BYTES]);
}

/// So a header may lie in every Region and copy, as long as it is the same one.
#[test]
fn the_same_header_twice_says_nothing_and_a_guess_forges_nothing() {
    let (message, _) = vector();
    let header = Header::parse(&message).expect("a header");
    assert!(difference(header.bytes(), header.bytes()).is_zero());
    let end = header.bytes().len();
    for guess in [Gf::ZERO, Gf::block(&[7; 16])] {
        let mut forged = message.clone();
        forge(&mut forged[end..end + BEFORE + FRAME_BYTES + TAG], guess);
        assert_eq!(open_whole(&data_key(), &forged), Err(MessageError::Forged));
    }
}

/// What begins a message takes key, context, wrapped keys and a size; there is no way to name its id.
type Begin =
    fn(&DataKey, &BTreeMap<String, String>, &[Wrapped], usize) -> Result<Sealer, MessageError>;
type Whole =
    fn(&DataKey, &BTreeMap<String, String>, &[Wrapped], &[u8]) -> Result<Vec<u8>, MessageError>;

#[test]
fn ours_draws_a_new_id_for_every_header() {
    let (begin, whole): (Begin, Whole) = (Sealer::begin, seal_whole);
    let wrapped = [wrapped("eu-central-1", 1)];
    let mut ids = BTreeSet::from([*Header::parse(&vector().0).expect("a header").id()]);
    for _ in 0..100 {
        let sealer = begin(&data_key(), &context(), &wrapped, 1).expect("begun");
        assert!(ids.insert(*sealer.header().id()));
        let message = whole(&data_key(), &context(), &wrapped, b"the same").expect("sealed");
        assert!(ids.insert(*Header::parse(&message).expect("a header").id()));
    }
}
