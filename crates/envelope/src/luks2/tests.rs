use super::*;
use crate::fixtures::{UUID, token};

fn made() -> (Vec<u8>, DataKey, XtsKey, String) {
    let passphrase = DataKey::random(64).expect("key memory");
    let key = XtsKey::random().expect("a key");
    let (header, digest) = format(&key, &passphrase, &token(), UUID).expect("it formats");
    (header, passphrase, key, digest)
}

#[test]
fn what_is_formatted_opens_with_the_passphrase_and_no_other() {
    let (header, passphrase, key, digest) = made();
    let opened = open(&header, &passphrase).expect("it opens");
    assert_eq!(opened.volume_key.expose(), key.expose());
    assert_eq!((opened.token, opened.key_digest.as_str()), (token(), digest.as_str()));
    assert_eq!(read_token(&header).expect("readable"), (token(), digest));
    let other = DataKey::random(64).expect("key memory");
    assert!(matches!(open(&header, &other), Err(Luks2Error::Passphrase)));
}

#[test]
fn one_broken_copy_is_survived_and_two_are_not() {
    let (mut header, passphrase, ..) = made();
    header[5000] ^= 1;
    assert!(open(&header, &passphrase).is_ok(), "the secondary serves");
    header[16384 + 5000] ^= 1;
    assert!(matches!(open(&header, &passphrase), Err(Luks2Error::NoHeader(_))));
}

#[test]
fn a_touched_keyslot_and_a_cut_header_are_refused() {
    let (mut header, passphrase, ..) = made();
    assert!(open(&header[..HEADER_BYTES - 1], &passphrase).is_err());
    header[AREA_OFFSET + 77] ^= 1;
    assert!(matches!(open(&header, &passphrase), Err(Luks2Error::Passphrase)));
    assert!(matches!(open(&[], &passphrase), Err(Luks2Error::NoHeader(_))));
}

#[test]
fn another_layout_is_refused_even_with_a_good_checksum() {
    let (header, passphrase, ..) = made();
    let text = binary::read(&header).expect("readable").to_vec();
    let all: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let change = |at: &str, to: serde_json::Value| {
        let mut changed = all.clone();
        let (parent, key) = at.rsplit_once('/').expect("a pointer");
        let parent =
            changed.pointer_mut(parent).and_then(|v| v.as_object_mut()).expect("an object");
        parent.insert(key.to_owned(), to);
        let mut bad = header.clone();
        binary::write(&mut bad, changed.to_string().as_bytes(), UUID).expect("written");
        open(&bad, &passphrase)
    };
    let slot = all["keyslots"]["0"].clone();
    for (at, to) in [
        ("/keyslots/1", slot),
        ("/config/requirements", serde_json::json!(["online-reencrypt"])),
        ("/segments/0/flags", serde_json::json!(["in-reencryption"])),
        ("/segments/0/sector_size", serde_json::json!(512)),
        ("/segments/0/offset", serde_json::json!("33554432")),
        ("/keyslots/0/kdf/iterations", serde_json::json!(4_000_000_000u64)),
        ("/tokens/0/type", serde_json::json!("luks2-keyring")),
    ] {
        assert!(matches!(change(at, to), Err(Luks2Error::Foreign(_))), "{at}");
    }
    assert!(
        change("/config/json_size", serde_json::json!("12288")).is_ok(),
        "the same layout opens"
    );
}

#[test]
fn the_newer_copy_wins() {
    let (header, passphrase, ..) = made();
    let (newer, other, ..) = made();
    // The secondary of another header, with a higher sequence id and a good checksum.
    let mut mixed = header.clone();
    mixed[16384..32768].copy_from_slice(&newer[16384..32768]);
    mixed[AREA_OFFSET..].copy_from_slice(&newer[AREA_OFFSET..]);
    assert!(
        open(&mixed, &passphrase).is_err() && open(&mixed, &other).is_err(),
        "equal ids: the primary"
    );
    let copy = &mut mixed[16384..32768];
    copy[16..24].copy_from_slice(&2u64.to_be_bytes());
    copy[448..512].fill(0);
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, copy);
    copy[448..480].copy_from_slice(sum.as_ref());
    assert!(open(&mixed, &other).is_ok(), "the newer secondary wins");
}
