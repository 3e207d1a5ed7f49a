//! S3's header form and the vectors of both forms.

use super::super::owned::{HOST, decoded, signer};
use super::*;

/// AWS's own examples use a secret with a slash where ours has a plus.
pub(super) const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 2013-05-24T00:00:00Z, of AWS's examples.
pub(super) const AWS_NOW: i64 = 1_369_353_600_000;

/// Made once by botocore 1.44.5 (`S3SigV4Auth`, `S3SigV4QueryAuth`) with its clock at [`NOW`]; the
/// bodies of signed chunks, which botocore does not make, by twenty lines of Python that give AWS's
/// published signatures for AWS's examples. Name, form, payload, decoded body.
const VECTORS: [(&[u8], S3Form, &str, &str); 10] = [
    (include_bytes!("../../../../../fuzz/corpus/s3/get"), S3Form::Header, "", ""),
    (include_bytes!("../../../../../fuzz/corpus/s3/head-bucket-host"), S3Form::Header, "", ""),
    (include_bytes!("../../../../../fuzz/corpus/s3/put-digest"), S3Form::Header, "", "hello"),
    (
        include_bytes!("../../../../../fuzz/corpus/s3/put-unsigned"),
        S3Form::Header,
        "UNSIGNED-PAYLOAD",
        "hello",
    ),
    (
        include_bytes!("../../../../../fuzz/corpus/s3/put-unsigned-trailer"),
        S3Form::Header,
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "hello, world",
    ),
    (
        include_bytes!("../../../../../fuzz/corpus/s3/put-chunks"),
        S3Form::Header,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "hello, world",
    ),
    (
        include_bytes!("../../../../../fuzz/corpus/s3/put-chunks-trailer"),
        S3Form::Header,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "hello, world",
    ),
    (
        include_bytes!("../../../../../fuzz/corpus/s3/put-chunks-trailer-lf"),
        S3Form::Header,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "hello, world",
    ),
    (
        include_bytes!("../../../../../fuzz/corpus/s3/presigned-get"),
        S3Form::Query { expires_s: 3600 },
        "UNSIGNED-PAYLOAD",
        "",
    ),
    (
        include_bytes!("../../../../../fuzz/corpus/s3/presigned-put"),
        S3Form::Query { expires_s: 604_800 },
        "UNSIGNED-PAYLOAD",
        "hello",
    ),
];

#[test]
fn botocores_requests_are_taken() {
    for (bytes, form, payload, data) in VECTORS {
        let req = Owned::read(bytes).expect("a request");
        let (claim, check) = req.s3(SECRET, NOW, HOST).unwrap_or_else(|f| panic!("{f}: {req:?}"));
        assert_eq!((claim.form, claim.presented.access_key_id.as_str()), (form, ID));
        match claim.payload {
            Payload::Sha256(_) => assert_eq!(payload, ""),
            other => assert_eq!(other.text(), payload),
        }
        let (came, trailers) = decoded(check, &req.body, &[3]).expect("it is genuine");
        assert_eq!(came, data.as_bytes());
        let crc32 = payload.ends_with("-TRAILER").then_some("/6tyOg==");
        assert_eq!(trailers.get("x-amz-checksum-crc32"), crc32);
        assert_eq!(claim.trailers.len(), usize::from(crc32.is_some()));
        // One request is of one host: its own.
        if !req.get("host").ends_with(".s3.kt.test:7480") {
            let elsewhere = req.s3(SECRET, NOW, "s3.amazonaws.com").map(|_| ());
            assert_eq!(elsewhere, Err(AuthFault::Mismatch));
        }
    }
}

#[test]
fn no_other_service_takes_them() {
    for (bytes, form, payload, _) in VECTORS {
        let req = Owned::read(bytes).expect("a request");
        let hosts = [req.get("host")];
        let verdict = parse(&req.view())
            .and_then(|presented| verify(&presented, &req.view(), SECRET, NOW, &hosts));
        match form {
            S3Form::Query { .. } => assert_eq!(verdict, Err(AuthFault::MissingToken)),
            _ if payload.is_empty() => {}
            S3Form::Header => assert_eq!(verdict, Err(AuthFault::Mismatch)),
        }
    }
}

fn put(headers: &[(&str, &str)]) -> Owned {
    let mut headers = headers.to_vec();
    headers.push(("host", HOST));
    Owned {
        method: "PUT".into(),
        path: "/b/k".into(),
        query: String::new(),
        headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        body: Vec::new(),
    }
}

/// Signed by ours, as S3 wants it.
pub(super) fn signed(headers: &[(&str, &str)], payload: Payload) -> Owned {
    let mut req = put(headers);
    let added = signer("s3", None).sign_s3("PUT", "/b/k", "", &req.headers, payload, NOW);
    req.headers.extend(added);
    req
}

fn refused(req: &Owned) -> AuthFault {
    req.s3(SECRET, NOW, HOST).map(|_| ()).expect_err("it must be refused")
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
#[test]
fn aws_published_headers_are_taken() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (query, range, signature) in [
        ("", true, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("lifecycle", false, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "max-keys=2&prefix=J",
            false,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ] {
        let names = if range {
            "host;range;x-amz-content-sha256;x-amz-date"
        } else {
            "host;x-amz-content-sha256;x-amz-date"
        };
        let mut req = put(&[("x-amz-content-sha256", empty), ("x-amz-date", "20130524T000000Z")]);
        req.method = "GET".into();
        req.path = if range { "/test.txt" } else { "/" }.into();
        req.query = query.into();
        req.set("host", "examplebucket.s3.amazonaws.com");
        if range {
            req.set("range", "bytes=0-9");
        }
        req.set("authorization", &format!("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders={names},Signature={signature}"));
        assert!(aws_verdict(&req).is_ok(), "{req:?}");
    }
}

/// Under AWS's own names.
pub(super) fn aws_verdict(req: &Owned) -> Result<BodyCheck, AuthFault> {
    let claim = parse_s3(&req.view())?;
    let key = std::sync::Arc::new(SigningKey::derive(AWS_SECRET, "20130524", "us-east-1", "s3"));
    let endpoint = S3Endpoint {
        hosts: &["s3.amazonaws.com".to_owned()],
        bucket_domains: &["s3.amazonaws.com".to_owned()],
        regions: &["us-east-1".to_owned()],
    };
    verify_s3(&claim, &req.view(), &key, AWS_NOW, &endpoint)
}

#[test]
fn other_mechanisms_are_refused_by_name() {
    for (header, name) in [
        ("AWS AKIAIOSFODNN7EXAMPLE:qgk2+6Sv9/oM7G3qLEjTH1a1l1g=", "AWS"),
        ("AWS4-ECDSA-P256-SHA256 Credential=a/b/s3/aws4_request", "AWS4-ECDSA-P256-SHA256"),
        ("Bearer token", "Bearer"),
        ("", ""),
    ] {
        let fault = refused(&put(&[("authorization", header)]));
        assert_eq!(fault, AuthFault::Mechanism(name.to_owned()));
        assert_eq!((fault.s3().code.as_ref(), fault.s3().status), ("InvalidRequest", 400));
    }
    for query in ["AWSAccessKeyId=a&Expires=1&Signature=b", "Signature=b", "a&AWSAccessKeyId="] {
        let mut req = put(&[]);
        req.query = query.into();
        assert_eq!(refused(&req), AuthFault::Mechanism("AWS".to_owned()));
        let mut req = signed(&[], Payload::Unsigned);
        req.query = query.into();
        assert_eq!(refused(&req), AuthFault::Mechanism("AWS".to_owned()), "in both places");
    }
    assert_eq!(refused(&put(&[])), AuthFault::MissingToken);
}

#[test]
fn hosts_are_our_own_and_buckets_stand_below_them() {
    let at = |host: &str| {
        let mut req = put(&[]);
        req.set("host", host);
        let none = Payload::Unsigned;
        let added = signer("s3", None).sign_s3("PUT", "/b/k", "", &req.headers, none, NOW);
        req.headers.extend(added);
        req.s3(SECRET, NOW, HOST).map(|_| ())
    };
    for ours in [HOST, "b.s3.kt.test:7480", "B.S3.KT.TEST:7480", "a.b-c.s3.kt.test:7480"] {
        assert_eq!(at(ours), Ok(()), "{ours}");
    }
    for other in [
        "",
        "127.0.0.1",
        "b.127.0.0.1:7480",
        "s3.kt.test:7480",
        ".s3.kt.test:7480",
        "bs3.kt.test:7480",
        "b.s3.kt.test",
        "\u{e9}s3.kt.test:7480",
    ] {
        assert_eq!(at(other), Err(AuthFault::Mismatch), "{other}");
    }
}

#[test]
fn every_changed_part_of_a_head_is_noticed() {
    let good = signed(&[("x-amz-acl", "private"), ("content-type", "a/b")], Payload::Unsigned);
    assert!(good.s3(SECRET, NOW, HOST).is_ok());
    assert!(good.s3("another", NOW, HOST).is_err());
    let changed = |change: &dyn Fn(&mut Owned)| {
        let mut req = good.clone();
        change(&mut req);
        refused(&req)
    };
    assert_eq!(changed(&|r| r.method = "GET".into()), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.path = "/b//k".into()), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.path = "/b/%6b".into()), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.query = "acl".into()), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.set("x-amz-acl", "public-read")), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.set("host", "b.s3.kt.test:7480")), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.set("host", ".s3.kt.test:7480")), AuthFault::Mismatch);
    assert_eq!(
        changed(&|r| r.set("x-amz-meta-a", "1")),
        AuthFault::Unsigned("x-amz-meta-a".to_owned())
    );
    let sum = "0".repeat(64);
    assert_eq!(changed(&|r| r.set("x-amz-content-sha256", &sum)), AuthFault::Mismatch);
    assert_eq!(
        changed(&|r| r.set("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")),
        AuthFault::NoLength
    );
    assert_eq!(
        changed(&|r| r.headers.push(("x-amz-content-sha256".into(), "UNSIGNED-PAYLOAD".into()))),
        AuthFault::Invalid("x-amz-content-sha256 occurs more than once.".into())
    );
    assert_eq!(
        changed(&|r| r.headers.retain(|(n, _)| n != "x-amz-content-sha256")),
        AuthFault::NoPayload
    );
    let header = good.get("authorization");
    let swap = |from: &str, to: &str| {
        let text = header.replacen(from, to, 1);
        assert_ne!(text, header, "{from}");
        changed(&|r| r.set("authorization", &text))
    };
    // A Region that the endpoint serves too, but not the one that was signed for.
    assert_eq!(swap("eu-central-1", "eu-west-3"), AuthFault::Mismatch);
    let foreign = swap("eu-central-1", "us-east-1");
    assert_eq!(foreign.s3().code, "AuthorizationHeaderMalformed");
    assert_eq!(foreign.s3_detail(), Some(("Region", "eu-central-1")));
    assert_eq!(swap("/s3/", "/kms/"), AuthFault::Service("s3".to_owned()));
    assert_eq!(swap("aws4_request", "aws5_request"), AuthFault::Terminator);
    assert_eq!(swap("20261124/", "20261123/"), AuthFault::ScopeDate);
    assert_eq!(swap(";x-amz-acl", ""), AuthFault::Unsigned("x-amz-acl".into()));
    assert_eq!(swap(";host", ""), AuthFault::Unsigned("host".into()));
}

#[test]
fn a_quarter_of_an_hour_either_way() {
    let req = signed(&[], Payload::Unsigned);
    for (off, taken) in [(S3_SKEW_MS, true), (S3_SKEW_MS + 1, false)] {
        for now in [NOW - off, NOW + off] {
            let verdict = req.s3(SECRET, now, HOST).map(|_| ());
            assert_eq!(verdict, if taken { Ok(()) } else { Err(AuthFault::Skewed) });
        }
    }
}

#[test]
fn what_is_said_of_the_body_must_make_sense() {
    let chunked = |headers: &[(&str, &str)]| refused(&signed(headers, Payload::UnsignedTrailer));
    assert_eq!(chunked(&[]), AuthFault::NoLength);
    let length = ("x-amz-decoded-content-length", "5");
    for bad in ["", "-1", "+5", "0x5", "99999999999999999999"] {
        let fault = chunked(&[("x-amz-decoded-content-length", bad)]);
        assert_eq!(fault.s3().code, "InvalidRequest", "{bad}");
    }
    assert!(matches!(chunked(&[length, length]), AuthFault::Invalid(_)));
    let nine = (0..9).map(|n| format!("x-amz-checksum-{n}")).collect::<Vec<_>>().join(",");
    for names in [
        "",
        "content-type",
        "x-amz-acl",
        "x-amz-checksum-",
        "x-amz-checksum-crc32,X-Amz-Checksum-Crc32",
        "x-amz-trailer-signature",
        &nine,
    ] {
        let fault = chunked(&[length, ("x-amz-trailer", names)]);
        assert!(matches!(fault, AuthFault::Invalid(_)), "{names}");
    }
    let trailer = ("x-amz-trailer", "x-amz-checksum-crc32");
    let without = refused(&signed(&[length, trailer], Payload::SignedChunks));
    assert!(matches!(without, AuthFault::Invalid(_)), "{without:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn garbage_is_refused_by_s3_and_never_panics(header in "\\PC{0,120}", query in "\\PC{0,120}") {
        let mut req = put(&[("x-amz-date", "20261124T080102Z")]);
        req.query = query.clone();
        prop_assert!(req.s3(SECRET, NOW, HOST).is_err());
        req.set("authorization", &format!("AWS4-HMAC-SHA256 {header}"));
        prop_assert!(req.s3(SECRET, NOW, HOST).is_err());
    }
}
