//! Presigned URLs.

use super::super::owned::{HOST, signer};
use super::s3::{aws_verdict, signed};
use super::*;
use aws_sigv4::http_request::{PayloadChecksumKind, PercentEncodingMode, UriPathNormalizationMode};

fn get(path: &str, query: &str) -> Owned {
    Owned {
        method: "GET".into(),
        path: path.into(),
        query: query.into(),
        headers: vec![("host".to_owned(), HOST.to_owned())],
        body: Vec::new(),
    }
}

/// Presigned by ours.
fn ours(mut req: Owned, token: Option<&str>, expires_s: u32) -> Owned {
    let Owned { method, path, query, headers, .. } = &req;
    req.query = signer("s3", token).presign(method, path, query, headers, expires_s, NOW);
    req
}

/// Presigned by AWS's signer.
fn theirs(mut req: Owned, token: Option<&str>, expires_s: u32) -> Owned {
    let identity = Credentials::new(ID, SECRET, token.map(str::to_owned), None, "test").into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(expires_s.into()));
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("s3")
        .time(UNIX_EPOCH + Duration::from_millis(NOW.unsigned_abs()))
        .settings(settings)
        .build()
        .expect("all set")
        .into();
    let uri = format!("http://{HOST}{}?{}", req.path, req.query);
    let (_, added) = {
        let headers = req.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let body = SignableBody::UnsignedPayload;
        let request = SignableRequest::new(&req.method, uri, headers, body).expect("signable");
        sign(request, &params).expect("signed").into_parts().0.into_parts()
    };
    for (name, value) in added {
        let join = if req.query.is_empty() { "" } else { "&" };
        req.query += &format!("{join}{name}={}", canonical::encode(&value));
    }
    req
}

fn verdict(req: &Owned) -> Result<(), AuthFault> {
    req.s3(SECRET, NOW, HOST).map(|_| ())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn both_signers_presign_alike(
        path in "(/[a-zA-Z0-9_.~-]{0,4}(%20|%2F|%C3%A9)?){1,4}",
        query in "([a-c]{1,2}=[a-z0-9.]{0,3}(%20|%26)?&?){0,3}",
        token in proptest::option::of("[A-Za-z0-9+/=]{1,20}"),
        expires_s in 1..=MOST_EXPIRES_S,
        meta in "[!-~]{1,10}",
    ) {
        let mut req = get(&path, query.trim_end_matches('&'));
        req.set("x-amz-meta-a", &meta);
        let theirs = theirs(req.clone(), token.as_deref(), expires_s);
        prop_assert_eq!(verdict(&theirs), Ok(()), "{:?}", theirs);
        let ours = ours(req, token.as_deref(), expires_s);
        prop_assert_eq!(verdict(&ours), Ok(()), "{:?}", ours);
        let signature = |req: &Owned| parse_s3(&req.view()).expect("well-formed").presented;
        prop_assert_eq!(signature(&ours), signature(&theirs));
    }

    #[test]
    fn any_changed_byte_of_the_target_is_noticed(at in any::<usize>(), other in 0x21u8..0x7f) {
        let good = ours(get("/b/k%2Fa", "versionId=a%2Fb"), Some("token"), 60);
        let mut target = format!("{}?{}", good.path, good.query).into_bytes();
        let at = at % target.len();
        let was = std::mem::replace(&mut target[at], other);
        let target = String::from_utf8(target).expect("ASCII");
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let changed = Owned { path: path.into(), query: query.into(), ..good };
        // The digits of an escape are read in either case.
        prop_assert!(verdict(&changed).is_err() || was.eq_ignore_ascii_case(&other), "{}", target);
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
#[test]
fn aws_published_url_is_taken() {
    let mut req = get(
        "/test.txt",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    );
    req.set("host", "examplebucket.s3.amazonaws.com");
    assert!(aws_verdict(&req).is_ok());
}

#[test]
fn it_holds_from_a_quarter_of_an_hour_before_to_its_end() {
    let req = ours(get("/b/k", ""), None, 60);
    for (now, expected) in [
        (NOW - S3_SKEW_MS - 1, Err(AuthFault::NotBegun)),
        (NOW - S3_SKEW_MS, Ok(())),
        (NOW + 60_000, Ok(())),
        (NOW + 60_001, Err(AuthFault::Lapsed)),
    ] {
        assert_eq!(req.s3(SECRET, now, HOST).map(|_| ()), expected, "{}", now - NOW);
    }
    let text = AuthFault::Lapsed.s3().message;
    assert_eq!(text.as_deref(), Some("Request has expired"));
}

#[test]
fn its_parameters_are_strict() {
    let good = ours(get("/b/k", "versionId=1"), Some("token"), 60);
    assert_eq!(verdict(&good), Ok(()));
    let with = |query: String| verdict(&Owned { query, ..good.clone() }).expect_err("refused");
    let swap = |from: &str, to: &str| {
        assert!(good.query.contains(from), "{from}");
        with(good.query.replacen(from, to, 1))
    };
    let of_query = |fault: AuthFault| {
        assert_eq!(fault.s3().code, "AuthorizationQueryParametersError", "{fault:?}");
    };
    // Each of them missing; under another case it is not there either.
    for name in ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"] {
        of_query(swap(&format!("X-Amz-{name}="), "other="));
        of_query(swap(&format!("X-Amz-{name}="), &format!("x-amz-{name}=")));
    }
    assert_eq!(swap("X-Amz-Security-Token=token", "a=b"), AuthFault::Mismatch);
    // Each of them twice, in whatever case and however it is written.
    for name in ["X-Amz-Expires", "x-amz-expires", "X-Amz-Security-Token", "X-Amz-Da%74e"] {
        of_query(with(format!("{}&{name}=60", good.query)));
        of_query(with(format!("{name}=60&{}", good.query)));
    }
    for bad in ["0", "604801", "99999999999", "-1", "+60", "6e1", "", "60.0"] {
        of_query(swap("X-Amz-Expires=60", &format!("X-Amz-Expires={bad}")));
    }
    for bad in ["20261124", "2026-11-24T08:01:02Z", ""] {
        of_query(swap("X-Amz-Date=20261124T080102Z", &format!("X-Amz-Date={bad}")));
    }
    of_query(swap("%2Fs3%2F", "%2Fkms%2F"));
    of_query(swap("%2Faws4_request", "%2Faws5_request"));
    of_query(swap("%2F20261124%2F", "%2F20261123%2F"));
    of_query(swap("%2Faws4_request", ""));
    let foreign = swap("%2Feu-central-1%2F", "%2Fus-east-1%2F");
    assert_eq!(foreign.s3_detail(), Some(("Region", "eu-central-1")));
    of_query(foreign);
    assert_eq!(
        swap("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        AuthFault::Mechanism("AWS4-ECDSA-P256-SHA256".to_owned())
    );
    assert_eq!(swap("X-Amz-Expires=60", "X-Amz-Expires=61"), AuthFault::Mismatch);
    assert_eq!(swap("versionId=1", "versionId=2"), AuthFault::Mismatch);
    assert_eq!(with(format!("{}&response-expires=1", good.query)), AuthFault::Mismatch);
    assert_eq!(
        swap("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=x-amz-date"),
        AuthFault::Mismatch
    );
}

#[test]
fn headers_that_matter_are_signed() {
    let good = ours(get("/b/k", ""), None, 60);
    let with = |name: &str, value: &str| {
        let mut req = good.clone();
        req.set(name, value);
        verdict(&req)
    };
    assert_eq!(with("range", "bytes=0-1"), Ok(()));
    for name in ["x-amz-acl", "x-amz-content-sha256", "x-amz-date"] {
        let fault = with(name, "UNSIGNED-PAYLOAD").expect_err("not signed");
        assert_eq!(fault, AuthFault::Unsigned(name.to_owned()));
        let told = fault.s3();
        assert_eq!((told.code.as_ref(), told.status), ("AccessDenied", 403));
    }
    assert!(matches!(with("x-amz-security-token", "t"), Err(AuthFault::Query(_))));
    assert_eq!(with("host", "b.s3.kt.test:7480"), Err(AuthFault::Mismatch));
    let unsigned_host = good.query.replacen("SignedHeaders=host", "SignedHeaders=range", 1);
    let mut req = Owned { query: unsigned_host, ..good.clone() };
    req.set("range", "bytes=0-1");
    assert_eq!(verdict(&req), Err(AuthFault::Unsigned("host".to_owned())));
}

#[test]
fn one_mechanism_at_a_time() {
    let header = signed(&[], Payload::Unsigned);
    for query in ["X-Amz-Algorithm=AWS4-HMAC-SHA256", "x-amz-signature=0", "X-Amz-Expires=1"] {
        let both = Owned { query: query.into(), ..header.clone() };
        assert_eq!(verdict(&both), Err(AuthFault::TwoMechanisms));
    }
    let mut both = ours(get("/b/k", ""), None, 60);
    both.set("authorization", "Bearer x");
    assert_eq!(verdict(&both), Err(AuthFault::TwoMechanisms));
}

#[test]
fn a_url_may_name_its_bodys_digest_but_begins_no_chain() {
    use crate::sigv4::owned::decoded;
    let sum = canonical::hex_sha256(b"hello");
    // Signed as whoever takes the parameter for the digest does.
    let date = canonical::amz_date(NOW);
    let scope = signer("s3", None).scope("20261124");
    let mut req = get("/b/k", "");
    let ours =
        crate::sigv4::presigned::parameters(&format!("{ID}/{scope}"), &date, 60, "host", None);
    req.query = format!("{ours}&X-Amz-Content-Sha256={sum}");
    let text = canonical::string_to_sign(&req.view(), &["host"], &sum, &date, &scope);
    let signature = signer("s3", None).key("20261124").signature(text.as_bytes());
    req.query += &format!("&X-Amz-Signature={signature}");
    let body = |body: &[u8]| {
        let (_, check) = req.s3(SECRET, NOW, HOST).expect("it is genuine");
        decoded(check, body, &[])
    };
    assert!(body(b"hello").is_ok());
    assert_eq!(body(b"hellO"), Err(BodyFault::Digest));
    for word in ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"] {
        let query = req.query.replacen(&sum, word, 1);
        let fault = verdict(&Owned { query, ..req.clone() });
        assert_eq!(fault, Err(AuthFault::Payload(word.to_owned())));
    }
    req.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(verdict(&req), Err(AuthFault::Payload(sum)));
}
