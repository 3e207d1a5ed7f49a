use super::*;
use crate::memory::DataKey;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const OTHER: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ac";

fn key() -> DataKey {
    DataKey::from_slice_zeroizing(&mut [7; 32]).expect("key memory")
}

fn context() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("keystead:cluster".into(), "c-1".into()),
        ("keystead:store".into(), "b".into()),
    ])
}

fn wrapped() -> Vec<Wrapped> {
    let one = |arn: &str, fill: u8| Wrapped { key_arn: arn.into(), ciphertext: vec![fill; 180] };
    vec![one(ARN, 1), one(OTHER, 2)]
}

/// Bytes that tell where they stand.
fn text(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn sealed(plaintext: &[u8], batch: usize, pieces: usize) -> Vec<u8> {
    let key = key();
    let mut sealer = Sealer::begin(&key, &context(), &wrapped(), batch).expect("begun");
    let mut out = sealer.header().bytes().to_vec();
    for mut piece in plaintext.chunks(pieces.max(1)) {
        while !piece.is_empty() {
            let taken = sealer.push(piece);
            piece = &piece[taken..];
            if sealer.is_full() {
                out.extend_from_slice(&sealer.seal(&key).expect("sealed"));
            }
        }
    }
    assert_eq!(sealer.taken(), plaintext.len() as u64);
    out.extend_from_slice(&sealer.finish(&key).expect("finished"));
    out
}

const SIZES: [usize; 9] = [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 200_000, 4 * 65_536];

#[test]
fn every_size_opens_whole_and_says_its_length() {
    for n in SIZES {
        let plaintext = text(n);
        for (batch, pieces) in [(1, 8192), (2, 65_536), (16, 1 << 20), (3, 70_001)] {
            let message = sealed(&plaintext, batch, pieces);
            let header = Header::parse(&message).expect("a header");
            assert_eq!(header.context(), &context());
            assert_eq!(header.wrapped(), wrapped());
            assert_eq!(message.len() as u64, message_bytes(header.bytes().len(), n as u64));
            let whole = message.len() as u64;
            assert_eq!(plaintext_bytes(header.bytes().len(), whole), Some(n as u64));
            assert_eq!(open_whole(&key(), &message).expect("opens"), plaintext, "{n} {batch}");
        }
        assert_eq!(open_whole(&key(), &sealed_whole(&plaintext)).expect("opens"), plaintext);
    }
}

fn sealed_whole(plaintext: &[u8]) -> Vec<u8> {
    seal_whole(&key(), &context(), &wrapped(), plaintext).expect("sealed")
}

#[test]
fn a_range_opens_from_its_own_frames() {
    let n = 200_000;
    let plaintext = text(n);
    let message = sealed(&plaintext, 2, 4096);
    let header = Header::parse(&message).expect("a header");
    let h = header.bytes().len();
    let opened = Opened::new(&key(), header, message.len() as u64).expect("opened");
    for range in [0..1, 65_535..65_537, 65_536..131_072, 131_071..200_000, 199_999..200_000, 5..5] {
        let range = range.start as u64..range.end as u64;
        let frames = frames_of(&range);
        let span = frame_span(h, n as u64, &frames);
        let mut part = message[span.start as usize..span.end as usize].to_vec();
        let plain = opened.open(&key(), frames.clone(), &mut part).expect("opens");
        let mut got = Vec::new();
        plain.into_iter().for_each(|r| got.extend_from_slice(&part[r]));
        let skip = (range.start - frames.start * FRAME_BYTES as u64) as usize;
        let want = range.start as usize..range.end as usize;
        assert_eq!(got[skip..skip + want.len()], plaintext[want], "{range:?}");
    }
}

#[test]
fn batches_sealed_in_place_make_the_same_message() {
    for n in SIZES {
        let (key, plaintext) = (key(), text(n));
        let mut sealer = Sealer::begin(&key, &context(), &wrapped(), 2).expect("begun");
        sealer.reserve(n as u64);
        let mut out = sealer.header().bytes().to_vec();
        let mut rest = &plaintext[..];
        while !rest.is_empty() {
            let taken = sealer.push(rest);
            rest = &rest[taken..];
            if sealer.is_full() {
                assert!(sealer.sealed().is_empty());
                sealer.seal_in_place(&key).expect("sealed");
                out.extend_from_slice(sealer.sealed());
            }
        }
        out.extend_from_slice(&sealer.finish(&key).expect("finished"));
        assert_eq!(open_whole(&key, &out).expect("opens"), plaintext, "{n}");
    }
}

#[test]
fn another_key_is_told_apart_before_anything_is_opened() {
    let message = sealed_whole(b"text");
    let other = DataKey::from_slice_zeroizing(&mut [8; 32]).expect("key memory");
    assert_eq!(open_whole(&other, &message), Err(MessageError::OtherKey));
    let short = DataKey::from_slice_zeroizing(&mut [7; 16]).expect("key memory");
    assert_eq!(open_whole(&short, &message), Err(MessageError::OtherKey));
    let mut sealer = Sealer::begin(&key(), &context(), &wrapped(), 1).expect("begun");
    sealer.push(&text(65_536));
    assert_eq!(sealer.seal(&other), Err(MessageError::OtherKey));
    assert_eq!(sealer.finish(&other), Err(MessageError::OtherKey));
}

#[test]
fn what_was_cut_reordered_swapped_or_joined_is_refused() {
    let frame = 65_536 + 32;
    let message = sealed(&text(200_000), 4, 65_536);
    let h = Header::parse(&message).expect("a header").bytes().len();
    let part = |from: usize, to: usize| &message[h + from..h + to];
    let all = message.len() - h;
    let other = sealed(&text(200_000), 4, 65_536);
    let bad = [
        ("cut at a frame", [&message[..h], part(0, 2 * frame)].concat()),
        ("cut in a frame", message[..h + frame + 100].to_vec()),
        ("cut by a byte", message[..message.len() - 1].to_vec()),
        ("the last frame alone", [&message[..h], part(3 * frame, all)].concat()),
        (
            "frames changed places",
            [&message[..h], part(frame, 2 * frame), part(0, frame), part(2 * frame, all)].concat(),
        ),
        (
            "a frame repeated",
            [&message[..h], part(0, frame), part(0, frame), part(2 * frame, all)].concat(),
        ),
        (
            "another message's frame",
            [&message[..h], &other[h..h + frame], part(frame, all)].concat(),
        ),
        ("another message's body", [&message[..h], &other[h..]].concat()),
        ("two messages joined", [&message[..], &other[..]].concat()),
        ("bytes behind", [&message[..], b"x"].concat()),
        ("no body", message[..h].to_vec()),
        ("half a header", message[..h / 2].to_vec()),
        ("nothing", vec![]),
    ];
    for (what, bytes) in bad {
        assert!(open_whole(&key(), &bytes).is_err(), "{what}");
    }
}

#[test]
fn every_flipped_bit_of_a_short_message_is_refused() {
    let message = sealed_whole(b"a short text");
    for i in 0..message.len() {
        for bit in [1u8, 0x80] {
            let mut bad = message.clone();
            bad[i] ^= bit;
            assert!(open_whole(&key(), &bad).is_err(), "byte {i}");
        }
    }
}

#[test]
fn ids_differ_and_a_header_is_made_once() {
    let (one, two) = (sealed_whole(b"x"), sealed_whole(b"x"));
    let (one, two) = (Header::parse(&one).expect("one"), Header::parse(&two).expect("two"));
    assert_ne!(one.id(), two.id());
    assert_ne!(one.bytes(), two.bytes());
}

proptest! {
    /// Lengths that no plaintext makes are told.
    #[test]
    fn lengths_agree_both_ways(n in 0u64..1 << 40, h in 200usize..2000) {
        prop_assert_eq!(plaintext_bytes(h, message_bytes(h, n)), Some(n));
        let frames = 0..frame_count(n);
        let end = frame_span(h, n, &frames).end;
        prop_assert_eq!(end, message_bytes(h, n));
    }

    #[test]
    fn garbage_is_never_a_header_that_opens(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(open_whole(&key(), &bytes).is_err());
        let mut like = vec![2, 4, 0x78];
        like.extend_from_slice(&bytes);
        prop_assert!(open_whole(&key(), &like).is_err());
    }
}
