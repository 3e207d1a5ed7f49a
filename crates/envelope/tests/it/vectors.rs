//! Committed bytes of the two formats: what is good opens today as on the day it was made, and each
//! damaged file, named by its fault, is refused as that fault has to be.
//!
//! `KEYSTEAD_MAKE_VECTORS=1` makes them anew; only for a new version of a format.

use keystead_envelope::blob::{self, BlobError, BlobHeader};
use keystead_envelope::luks2::{self, HEADER_BYTES, Holes, Luks2Error, Token};
use keystead_envelope::memory::DataKey;
use keystead_envelope::xts::XtsKey;
use keystead_types::{ClusterId, EncryptionContext, VolumeId};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const KEY_ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
/// What follows it in a file is random stripes: the vectors keep only what tells them apart.
const BOTH_COPIES: usize = 32 << 10;

fn folder(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(format)
}

fn key(len: u8, seed: u8) -> DataKey {
    let mut bytes: Vec<u8> = (0..len).map(|i| i.wrapping_mul(11) ^ seed).collect();
    DataKey::from_slice_zeroizing(&mut bytes).expect("it fits")
}

fn context() -> BTreeMap<String, String> {
    [("keystead:cluster", "c"), ("purpose", "test")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

fn header() -> BlobHeader {
    BlobHeader {
        region: "eu-central-1".parse().expect("a Region"),
        account: "111122223333".parse().expect("an account"),
        key_id: KEY_ID.to_owned(),
        material_id: [9; 8],
    }
}

fn token() -> Token {
    let volume: VolumeId = "vol-01900000-0000-7000-8000-000000000001".parse().expect("an id");
    let cluster: ClusterId = "cl-01900000-0000-7000-8000-000000000002".parse().expect("an id");
    Token {
        key_arn: format!("arn:aws:kms:eu-central-1:111122223333:key/{KEY_ID}")
            .parse()
            .expect("an ARN"),
        wrapped_key: "AQIDBA==".to_owned(),
        encryption_context: EncryptionContext::volume(&cluster, &volume),
        volume_id: volume,
        created_ms: 1_764_000_000_000,
        holes: Holes::Zero,
    }
}

type Fault = (&'static str, fn(&mut Vec<u8>));

const BLOB_FAULTS: [Fault; 9] = [
    ("version-2", |b| b[0] = 2),
    ("region-longer-than-the-blob", |b| b[1] = 255),
    ("region-with-a-zero-byte", |b| b[5] = 0),
    ("account-with-a-letter", |b| b[14] = b'x'),
    ("key-id-is-an-alias", |b| b[27..32].copy_from_slice(b"alias")),
    ("other-material", |b| b[27 + 36] ^= 1),
    ("salt-flipped", |b| b[27 + 36 + 8] ^= 1),
    ("tag-cut", |b| b.truncate(b.len() - 1)),
    ("byte-appended", |b| b.push(0)),
];

/// These keep the area: their first copies are whole.
const LUKS2_FAULTS: [Fault; 6] = [
    ("both-checksums-wrong", |h| (h[448] ^= 1, h[16384 + 448] ^= 1).0),
    ("both-magics-wrong", |h| (h[0] = b'X', h[16384] = b'X').0),
    ("version-1", |h| (h[7] = 1, h[16384 + 7] = 1).0),
    ("json-cut-in-both", |h| (h[4096 + 9] = 0, h[16384 + 4096 + 9] = 0).0),
    ("cut-before-the-second-copy-ends", |h| {
        h[448] ^= 1;
        h.truncate(BOTH_COPIES - 1);
    }),
    ("no-keyslot-area", |h| h.truncate(BOTH_COPIES)),
];

fn make() {
    let (blobs, headers) = (folder("blob"), folder("luks2"));
    fs::create_dir_all(&blobs).expect("a folder");
    fs::create_dir_all(&headers).expect("a folder");
    let good = blob::seal(&key(32, 1), &header(), &context(), b"sixty-four bytes, or fewer")
        .expect("it seals");
    fs::write(blobs.join("good"), &good).expect("written");
    for (name, spoil) in BLOB_FAULTS {
        let mut bad = good.clone();
        spoil(&mut bad);
        fs::write(blobs.join(name), bad).expect("written");
    }
    let volume_key = XtsKey::new(key(64, 3)).expect("a key");
    let uuid = "01900000-0000-4000-8000-000000000003";
    let (good, _) = luks2::format(&volume_key, &key(64, 2), &token(), uuid).expect("it formats");
    fs::write(headers.join("good"), &good).expect("written");
    for (name, spoil) in LUKS2_FAULTS {
        let mut bad = good[..BOTH_COPIES].to_vec();
        spoil(&mut bad);
        fs::write(headers.join(name), bad).expect("written");
    }
}

fn all(format: &str) -> BTreeMap<String, Vec<u8>> {
    if std::env::var_os("KEYSTEAD_MAKE_VECTORS").is_some() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(make);
    }
    let entries = fs::read_dir(folder(format)).expect("the committed vectors");
    let read = |e: fs::DirEntry| {
        (e.file_name().to_string_lossy().into_owned(), fs::read(e.path()).expect("reads"))
    };
    entries.map(|e| read(e.expect("an entry"))).collect()
}

#[test]
fn the_good_blob_opens_and_each_fault_is_refused() {
    let mut files = all("blob");
    let good = files.remove("good").expect("the good one");
    let plain = blob::open(&key(32, 1), &good, &context()).expect("it opens");
    assert_eq!(&**plain, b"sixty-four bytes, or fewer");
    assert_eq!(blob::parse_header(&good).expect("ours"), header());
    assert!(blob::open(&key(32, 1), &good, &BTreeMap::new()).is_err(), "another context");
    assert_eq!(files.len(), BLOB_FAULTS.len());
    for (name, _) in BLOB_FAULTS {
        let bad = files.get(name).expect(name);
        let refused = blob::open(&key(32, 1), bad, &context());
        assert!(matches!(refused, Err(BlobError::Invalid)), "{name}");
    }
}

#[test]
fn the_good_header_opens_and_each_fault_is_refused() {
    let mut files = all("luks2");
    let good = files.remove("good").expect("the good one");
    assert_eq!(good.len(), HEADER_BYTES);
    let opened = luks2::open(&good, &key(64, 2)).expect("it opens");
    assert_eq!(opened.token, token());
    assert!(matches!(luks2::open(&good, &key(64, 4)), Err(Luks2Error::Passphrase)));
    assert_eq!(files.len(), LUKS2_FAULTS.len());
    for (name, _) in LUKS2_FAULTS {
        let bad = files.get(name).expect(name);
        let refused = luks2::open(bad, &key(64, 2)).map(drop).expect_err(name);
        let as_it_has_to_be = matches!(refused, Luks2Error::NoHeader(_));
        assert!(as_it_has_to_be, "{name}: {refused}");
        // The one that only lacks its keyslots still says whose it is.
        assert_eq!(luks2::read_token(bad).is_ok(), name == "no-keyslot-area", "{name}");
    }
}
