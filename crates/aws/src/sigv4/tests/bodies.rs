//! Bodies, chunked and whole.

use super::super::owned::{self, HOST, decoded, signer};
use super::s3::{AWS_SECRET, aws_verdict, signed};
use super::*;

const TRAILER: &str = "x-amz-checksum-crc32c";
const CHUNKED: [Payload; 3] =
    [Payload::SignedChunks, Payload::SignedChunksTrailer, Payload::UnsignedTrailer];

/// A genuine head and the frames of `chunks` after it.
struct Upload {
    head: Owned,
    frames: Vec<u8>,
}

impl Upload {
    fn new(payload: Payload, chunks: &[&[u8]]) -> Self {
        let length = chunks.iter().map(|c| c.len()).sum::<usize>().to_string();
        let mut headers = vec![("x-amz-decoded-content-length", length.as_str())];
        if payload.has_trailers() {
            headers.push(("x-amz-trailer", TRAILER));
        }
        let head = signed(&headers, payload);
        let frames = frames(payload, &head.get("authorization"), chunks);
        Self { head, frames }
    }

    fn read(&self, frames: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Trailers), BodyFault> {
        let (_, check) = self.head.s3(SECRET, NOW, HOST).expect("it is genuine");
        decoded(check, frames, cuts)
    }

    fn fault(&self, frames: &[u8]) -> BodyFault {
        self.read(frames, &[]).expect_err("it must be refused")
    }

    /// With a part of it changed.
    fn swap(&self, from: &str, to: &str) -> BodyFault {
        let text = String::from_utf8(self.frames.clone()).expect("text");
        assert!(text.contains(from), "{from:?} in {text:?}");
        self.fault(text.replacen(from, to, 1).as_bytes())
    }
}

fn frames(payload: Payload, authorization: &str, chunks: &[&[u8]]) -> Vec<u8> {
    owned::frames(payload, authorization, chunks.iter().copied(), (TRAILER, "sOO8/Q=="))
}

/// AWS's two published examples: 65 KiB of `a` in chunks of 64 KiB, without and with a trailer. All
/// nine signatures are those of the pages, and a Python script of ours gives the same:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>, `-trailers.html`.
#[test]
fn aws_published_bodies_are_taken() {
    let chunks = |signatures: [&str; 3]| {
        let sizes = [0x1_0000, 0x400, 0];
        let mut body = Vec::new();
        for (size, signature) in sizes.into_iter().zip(signatures) {
            body.extend(format!("{size:x};chunk-signature={signature}\r\n").bytes());
            body.extend(std::iter::repeat_n(b'a', size));
            body.extend(if size == 0 { &b""[..] } else { b"\r\n" });
        }
        body
    };
    let mut plain = chunks([
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ]);
    plain.extend(b"\r\n");
    let mut trailed = chunks([
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ]);
    let end = trailed.len();
    let signature = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
    trailed.extend(format!("{TRAILER}:sOO8/Q==\r\n").bytes());
    trailed.extend(format!("x-amz-trailer-signature:{signature}\r\n\r\n").bytes());
    // As the page prints it, and minio-go sends it.
    let mut page = trailed[..end].to_vec();
    page.extend(format!("{TRAILER}:sOO8/Q==\n\r\n").bytes());
    page.extend(format!("x-amz-trailer-signature:{signature}\n\r\n\r\n").bytes());
    let head = |payload: Payload, more: &[(&str, &str)], seed: &str| {
        let mut headers = vec![
            ("content-encoding", "aws-chunked"),
            ("host", "s3.amazonaws.com"),
            ("x-amz-decoded-content-length", "66560"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        headers.extend(more);
        let headers: Vec<(String, String)> =
            headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let path = "/examplebucket/chunkObject.txt";
        let signer = Signer { secret: AWS_SECRET, region: "us-east-1", ..signer("s3", None) };
        let mut req = Owned {
            method: "PUT".into(),
            path: path.into(),
            query: String::new(),
            headers: headers.clone(),
            body: Vec::new(),
        };
        let now = s3::AWS_NOW;
        req.headers.extend(signer.sign_s3("PUT", path, "", &headers, payload, now));
        assert!(req.get("authorization").ends_with(seed), "{req:?}");
        req
    };
    let all = vec![b'a'; 66_560];
    let req = head(
        Payload::SignedChunks,
        &[("content-length", "66824")],
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    let came = decoded(aws_verdict(&req).expect("genuine"), &plain, &[70_000]);
    assert_eq!(came, Ok((all.clone(), Trailers::default())));
    let req = head(
        Payload::SignedChunksTrailer,
        &[("x-amz-trailer", TRAILER)],
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    for body in [trailed, page] {
        let came = decoded(aws_verdict(&req).expect("genuine"), &body, &[70_000]);
        let (data, trailers) = came.expect("it is AWS's own");
        assert_eq!((data.len(), trailers.get(TRAILER)), (all.len(), Some("sOO8/Q==")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_split_reads_the_same(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 0..5),
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        for payload in CHUNKED {
            let upload = Upload::new(payload, &chunks);
            let (data, trailers) = upload.read(&upload.frames, &cuts).expect("it is genuine");
            prop_assert_eq!(data, chunks.concat());
            let trailer = payload.has_trailers().then_some("sOO8/Q==");
            prop_assert_eq!(trailers.get(TRAILER), trailer);
            let each: Vec<usize> = (0..upload.frames.len()).collect();
            prop_assert!(upload.read(&upload.frames, &each).is_ok());
        }
    }

    #[test]
    fn any_changed_byte_is_noticed(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..4),
        at in any::<usize>(),
        bits in 1u8..,
    ) {
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        for payload in [Payload::SignedChunks, Payload::SignedChunksTrailer] {
            let upload = Upload::new(payload, &chunks);
            let mut frames = upload.frames.clone();
            let at = at % frames.len();
            let was = frames[at];
            frames[at] ^= bits;
            let came = upload.read(&frames, &[]);
            // The digits of a size and the name of a trailer are read in either case.
            prop_assert!(
                came.is_err()
                    || was.eq_ignore_ascii_case(&frames[at]) && came == upload.read(&upload.frames, &[]),
                "byte {} of {:?}", at, String::from_utf8_lossy(&frames)
            );
        }
    }
}

#[test]
fn a_part_is_not_the_whole_nor_is_more() {
    for payload in CHUNKED {
        for chunks in [&[][..], &[&b"hello"[..], b", world"]] {
            let upload = Upload::new(payload, chunks);
            let all = &upload.frames;
            for end in 0..all.len() {
                assert_eq!(upload.fault(&all[..end]).s3().code, "IncompleteBody", "{end}");
            }
            for more in [&b"\n"[..], b"\r\n", all] {
                let longer = [all, more].concat();
                assert_eq!(upload.fault(&longer).s3().code, "IncompleteBody", "{more:?}");
            }
        }
    }
}

#[test]
fn frames_are_exact() {
    let signed = Upload::new(Payload::SignedChunks, &[b"0123456789", b"abc"]);
    let plain = Upload::new(Payload::UnsignedTrailer, &[b"0123456789", b"abc"]);
    let framing = |fault: BodyFault| assert_eq!(fault.s3().code, "IncompleteBody", "{fault}");
    for (from, to) in
        [("a\r\n", "b\r\n"), ("a\r\n", "9\r\n"), ("a\r\n", "0\r\n"), ("3\r\n", "4\r\n")]
    {
        framing(plain.swap(from, to));
        let [from, to] = [from, to].map(|text| text.replace("\r\n", ";"));
        framing(signed.swap(&from, &to));
    }
    // No CR, no LF, neither; blanks, signs, prefixes, sizes without end.
    for to in
        ["a\n", "a\r", "a", "a \r\n", " a\r\n", "+a\r\n", "0xa\r\n", "\r\n", "g\r\n", "a;\r\n"]
    {
        framing(plain.swap("a\r\n", to));
    }
    framing(plain.swap("a\r\n", "0000000000000000a\r\n"));
    framing(plain.swap("a\r\n", "ffffffffffffffff\r\n"));
    framing(plain.swap("789\r\n", "789\n"));
    framing(plain.swap("789\r\n", "789"));
    framing(plain.swap("a\r\n", &"a".repeat(2000)));
    framing(signed.swap(";chunk-signature=", ";chunk-signature=;"));
    framing(signed.swap(";chunk-signature=", "; chunk-signature="));
    framing(signed.swap(";chunk-signature=", ";Chunk-Signature="));
    // Both cases of a size, and zeros in front, are one size.
    for size in ["A\r\n", "0a\r\n", "000000000000000A\r\n"] {
        let text = String::from_utf8(plain.frames.clone()).expect("text");
        let other = text.replacen("a\r\n", size, 1);
        assert_eq!(plain.read(other.as_bytes(), &[]), plain.read(&plain.frames, &[]));
    }
    // Signatures are of one case.
    let text = String::from_utf8(signed.frames.clone()).expect("text");
    let (before, after) = text.split_at(text.find('=').expect("a signature") + 1);
    let loud = format!("{before}{}{}", after[..64].to_uppercase(), &after[64..]);
    assert_eq!(signed.fault(loud.as_bytes()), BodyFault::Signature);
    // An unsigned body has no signed frames, nor the other way round.
    framing(plain.fault(&signed.frames));
    framing(signed.fault(&plain.frames));
}

#[test]
fn chunks_keep_their_place_and_their_request() {
    let parts: [&[u8]; 3] = [b"one", b"two", b"six"];
    let upload = Upload::new(Payload::SignedChunks, &parts);
    let size = upload.frames.iter().position(|b| *b == b'\n').expect("a line") + 1 + 3 + 2;
    let chunk = |n: usize| upload.frames[n * size..(n + 1) * size].to_vec();
    let rest = upload.frames[3 * size..].to_vec();
    for order in [[1, 0, 2], [0, 2, 1], [0, 0, 1], [2, 1, 0]] {
        let frames: Vec<u8> = order.into_iter().flat_map(chunk).chain(rest.clone()).collect();
        assert_eq!(upload.fault(&frames), BodyFault::Signature, "{order:?}");
    }
    // The same chunks after another head, and in another cut.
    let headers = [("x-amz-decoded-content-length", "9"), ("x-amz-meta-a", "1")];
    let other = Upload { head: signed(&headers, Payload::SignedChunks), frames: Vec::new() };
    assert_eq!(other.fault(&upload.frames), BodyFault::Signature);
    let whole = Upload::new(Payload::SignedChunks, &[&parts.concat()]);
    assert!(upload.read(&whole.frames, &[]).is_ok(), "how it is cut is the sender's");
    assert_eq!(BodyFault::Signature.s3().code, "SignatureDoesNotMatch");
}

#[test]
fn the_declared_length_is_the_length() {
    for payload in CHUNKED {
        for length in ["4", "6", "0"] {
            let mut headers = vec![("x-amz-decoded-content-length", length)];
            if payload.has_trailers() {
                headers.push(("x-amz-trailer", TRAILER));
            }
            let head = signed(&headers, payload);
            let frames = frames(payload, &head.get("authorization"), &[b"hello"]);
            let upload = Upload { head, frames };
            assert_eq!(upload.fault(&upload.frames).s3().code, "IncompleteBody", "{length}");
        }
    }
}

#[test]
fn trailers_are_those_that_were_announced() {
    let trailer =
        |fault: BodyFault| assert_eq!(fault.s3().code, "MalformedTrailerError", "{fault}");
    let line = format!("{TRAILER}:sOO8/Q==\r\n");
    for payload in [Payload::SignedChunksTrailer, Payload::UnsignedTrailer] {
        let upload = Upload::new(payload, &[b"hello"]);
        trailer(upload.swap(&line, ""));
        trailer(upload.swap(&line, &format!("{line}{line}")));
        trailer(upload.swap(&line, &format!("{line}x-amz-acl:public-read\r\n")));
        trailer(upload.swap("crc32c:", "crc32:"));
        trailer(upload.swap("crc32c:", "crc32c"));
        trailer(upload.swap("sOO8/Q==", "sOO8/Q== "));
        trailer(upload.swap("sOO8/Q==", "sOO8\u{e9}"));
        trailer(upload.swap("sOO8/Q==", "sOO8\r8"));
        assert_eq!(
            upload.swap("sOO8/Q==", &"A".repeat(2000)),
            BodyFault::Framing("a line is too long")
        );
    }
    let upload = Upload::new(Payload::SignedChunksTrailer, &[b"hello"]);
    assert_eq!(upload.swap("sOO8/Q==", "sOO8/Q=A"), BodyFault::Signature);
    let text = String::from_utf8(upload.frames.clone()).expect("text");
    let at = text.find("x-amz-trailer-signature").expect("signed");
    trailer(upload.fault(format!("{}\r\n", &text[..at]).as_bytes()));
    trailer(upload.swap("x-amz-trailer-signature:", "x-amz-trailer-signature:0"));
    let late = text[at..].trim_end();
    let moved =
        text.replacen(&line, "", 1).replacen(late, &format!("{late}\r\n{}", line.trim()), 1);
    trailer(upload.fault(moved.as_bytes()));
    // Who needs no signature sends none.
    let plain = Upload::new(Payload::UnsignedTrailer, &[b"hello"]);
    trailer(plain.swap(&line, &format!("{line}{late}\r\n")));
    // minio-go's form, of an unsigned body too.
    let text = String::from_utf8(plain.frames.clone()).expect("text");
    let lf = text.replacen(&line, &format!("{TRAILER}:sOO8/Q==\n\r\n"), 1);
    assert!(plain.read(lf.as_bytes(), &[]).is_ok());
    assert_eq!(plain.fault(&lf.as_bytes()[..lf.len() - 2]).s3().code, "IncompleteBody");
}

#[test]
fn whole_bodies_are_digested_and_counted() {
    let check = |payload: Payload, length: Option<&str>, body: &[u8], cuts: &[usize]| {
        let headers: Vec<_> = length.map(|l| ("content-length", l)).into_iter().collect();
        let (_, check) = signed(&headers, payload).s3(SECRET, NOW, HOST).expect("it is genuine");
        decoded(check, body, cuts).map(|(data, _)| data)
    };
    let digest = |body: &[u8]| Payload::read(&canonical::hex_sha256(body)).expect("a digest");
    for payload in [digest(b"hello"), Payload::Unsigned] {
        for length in [None, Some("5")] {
            assert_eq!(check(payload, length, b"hello", &[1, 1, 4]), Ok(b"hello".to_vec()));
        }
        for length in ["4", "6"] {
            let fault = check(payload, Some(length), b"hello", &[]).expect_err("another length");
            assert_eq!(fault.s3().code, "IncompleteBody");
        }
    }
    assert_eq!(check(digest(b"hello"), None, b"hellO", &[]), Err(BodyFault::Digest));
    assert_eq!(check(digest(b"hello"), None, b"", &[]), Err(BodyFault::Digest));
    assert_eq!(check(digest(b""), Some("0"), b"", &[]), Ok(Vec::new()));
    assert_eq!(BodyFault::Digest.s3().code, "XAmzContentSHA256Mismatch");
}

#[test]
fn a_check_travels_between_threads() {
    fn travels<T: Send + Sync + 'static>() {}
    travels::<BodyCheck>();
}

#[test]
fn what_has_failed_stays_failed() {
    let upload = Upload::new(Payload::SignedChunks, &[b"hello"]);
    let (_, mut check) = upload.head.s3(SECRET, NOW, HOST).expect("it is genuine");
    let mut out = |_: &[u8]| {};
    let fault = check.push(b"5;\r\n", &mut out).expect_err("no head");
    for bytes in [&upload.frames[..], b""] {
        assert_eq!(check.push(bytes, &mut out), Err(fault.clone()));
    }
    assert_eq!(check.finish(), Err(fault));
    let (_, mut whole) = signed(&[("content-length", "1")], Payload::Unsigned)
        .s3(SECRET, NOW, HOST)
        .expect("it is genuine");
    let fault = whole.push(b"ab", &mut out).expect_err("too long");
    assert_eq!(whole.push(b"", &mut out), Err(fault.clone()));
    assert_eq!(whole.finish(), Err(fault));
}
