//! A body of S3. Its first byte says the kind and whether the rest is the frames themselves, or data
//! to be framed and then changed; the second where it is cut.

use crate::sigv4::owned::{self, HOST, NOW, Owned, SECRET, decoded, signer};
use crate::sigv4::{BodyCheck, Payload};

const TRAILER: &str = "x-amz-checksum-crc32";
const KINDS: [Payload; 3] =
    [Payload::SignedChunks, Payload::SignedChunksTrailer, Payload::UnsignedTrailer];

/// However a body is cut, it is read the same; what is given out is as long as was declared; a
/// signed body that is changed means the same or is refused.
pub fn chunked(data: &[u8]) {
    let [kind, cut, rest @ ..] = data else { return };
    let payload = KINDS[usize::from(kind % 3)];
    if kind & 0x80 == 0 {
        frames(payload, usize::from(*cut), rest);
    } else if rest.len() <= 4096 {
        round_trip(payload, usize::from(*cut), rest);
    }
}

/// A genuine head for a body of this kind, and what is needed to go on.
fn begin(payload: Payload, length: usize) -> (BodyCheck, String) {
    let mut sent = Owned {
        method: "PUT".to_owned(),
        path: "/b/k".to_owned(),
        query: String::new(),
        headers: vec![
            ("host".to_owned(), HOST.to_owned()),
            ("x-amz-decoded-content-length".to_owned(), length.to_string()),
        ],
        body: Vec::new(),
    };
    if payload.has_trailers() {
        sent.headers.push(("x-amz-trailer".to_owned(), TRAILER.to_owned()));
    }
    let added = signer("s3", None).sign_s3("PUT", "/b/k", "", &sent.headers, payload, NOW);
    sent.headers.extend(added);
    let authorization = sent.view().header("authorization").expect("signed").to_owned();
    let (_, check) = sent.s3(SECRET, NOW, HOST).expect("it is genuine");
    (check, authorization)
}

fn frames(payload: Payload, cut: usize, body: &[u8]) {
    let check = |cuts: &[usize]| decoded(begin(payload, cut).0, body, cuts);
    let whole = check(&[]);
    let each: Vec<usize> = (0..body.len().min(256)).collect();
    for cuts in [&[cut][..], &[cut, cut * 7], &each] {
        assert_eq!(check(cuts), whole);
    }
    if let Ok((data, _)) = whole {
        assert_eq!(data.len(), cut, "another length than was declared");
        // Nobody who signs gave these bytes out: only an unsigned body can end well.
        assert_eq!(payload, Payload::UnsignedTrailer);
    }
}

fn round_trip(payload: Payload, cut: usize, data: &[u8]) {
    let (check, authorization) = begin(payload, data.len());
    let mut body = owned::frames(payload, &authorization, data.chunks(cut + 1), (TRAILER, "AAAA"));
    let good = decoded(check, &body, &[cut, cut * 31]);
    let (came, trailers) = good.clone().expect("it is genuine");
    assert_eq!(came, data);
    assert_eq!(trailers.get(TRAILER).is_some(), payload.has_trailers());
    let at = cut * 97 % body.len();
    let was = body[at];
    body[at] ^= u8::try_from(cut).unwrap_or(1).max(1);
    let changed = decoded(begin(payload, data.len()).0, &body, &[]);
    if payload != Payload::UnsignedTrailer && changed.is_ok() {
        // The digits of a size and the name of a trailer are read in either case.
        assert!(changed == good && was.eq_ignore_ascii_case(&body[at]), "changed at {at}");
    }
    body[at] = was;
    body.push(b'\n');
    assert!(decoded(begin(payload, data.len()).0, &body, &[]).is_err(), "a byte after the end");
    body.truncate(body.len() - 2);
    assert!(decoded(begin(payload, data.len()).0, &body, &[]).is_err(), "a byte is missing");
}
