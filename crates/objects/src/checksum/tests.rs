use super::*;
use proptest::prelude::*;

/// The check values of the CRC catalogue, and the digests of the RFCs, over `123456789`.
const CHECKS: [(Algorithm, &str); 5] = [
    (Algorithm::Crc32, "cbf43926"),
    (Algorithm::Crc32c, "e3069283"),
    (Algorithm::Crc64Nvme, "ae8b14860a799888"),
    (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
    (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
];

fn of(algorithm: Algorithm, data: &[u8]) -> Checksum {
    let mut hasher = Hasher::new(algorithm);
    data.chunks(7).for_each(|piece| hasher.update(piece));
    hasher.finish()
}

#[test]
fn known_answers() {
    for (algorithm, hex) in CHECKS {
        let checksum = of(algorithm, b"123456789");
        assert_eq!(hex::encode(&checksum.value), hex, "{algorithm}");
        assert_eq!(checksum.value.len(), algorithm.bytes());
        assert_eq!(Checksum::from_base64(algorithm, &checksum.base64()), Some(checksum.clone()));
        let json = serde_json::to_string(&checksum).expect("JSON");
        assert_eq!(serde_json::from_str::<Checksum>(&json).expect("read"), checksum);
        assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
    }
    assert_eq!(Checksum::from_base64(Algorithm::Crc32, "AAAA"), None);
    assert_eq!(Checksum::from_base64(Algorithm::Crc32, "no base64"), None);
    let mut md5 = Md5::new();
    md5.update(b"1234567");
    md5.update(b"89");
    assert_eq!(hex::encode(md5.finish()), "25f9e794323b453885f5181f1b624d0b");
}

#[test]
fn kinds_are_those_of_s3() {
    assert_eq!(Algorithm::Crc64Nvme.default_kind(), Kind::FullObject);
    assert!(!Algorithm::Crc64Nvme.allows(Kind::Composite));
    assert!(!Algorithm::Sha256.allows(Kind::FullObject));
    assert!(
        Algorithm::Crc32c.allows(Kind::Composite) && Algorithm::Crc32c.allows(Kind::FullObject)
    );
    for kind in [Kind::FullObject, Kind::Composite] {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
    }
}

#[test]
fn a_composite_is_the_digest_of_the_parts_digests() {
    let (one, two) = (of(Algorithm::Sha256, b"one"), of(Algorithm::Sha256, b"two"));
    let joined = [one.value.as_slice(), two.value.as_slice()].concat();
    let all = whole(Algorithm::Sha256, Kind::Composite, &[(&one, 3), (&two, 3)]);
    assert_eq!(all, of(Algorithm::Sha256, &joined));
}

proptest! {
    #[test]
    fn combined_parts_are_the_checksum_of_the_whole(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
    ) {
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let sums: Vec<_> = parts.iter().map(|part| of(algorithm, part)).collect();
            let pairs: Vec<_> =
                sums.iter().zip(&parts).map(|(sum, part)| (sum, part.len() as u64)).collect();
            prop_assert_eq!(
                whole(algorithm, Kind::FullObject, &pairs),
                of(algorithm, &parts.concat())
            );
        }
    }
}
