use super::*;
use keystead_types::{ClusterId, EncryptionContext, VolumeId};

fn token() -> Token {
    let volume: VolumeId = "vol-01900000-0000-7000-8000-000000000001".parse().expect("an id");
    let cluster: ClusterId = "cl-01900000-0000-7000-8000-000000000002".parse().expect("an id");
    Token {
        key_arn: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
            .parse()
            .expect("an ARN"),
        wrapped_key: "AQIDBA==".to_owned(),
        encryption_context: EncryptionContext::volume(&cluster, &volume),
        volume_id: volume,
        created_ms: 1_764_000_000_000,
        holes: Holes::Zero,
    }
}

const UUID: &str = "01900000-0000-4000-8000-000000000003";

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
