//! A request of S3 as text (see [`Owned::read`]): a signed header or a presigned URL, then a body.

use crate::sigv4::owned::{HOST, NOW, Owned, SECRET, decoded, signer};
use crate::sigv4::{AuthFault, MOST_EXPIRES_S, Payload, S3_SKEW_MS, S3Form};

/// Everything of the corpus that was signed with [`SECRET`]: nothing else may verify.
const SIGNED: [&[u8]; 10] = [
    include_bytes!("../../../../fuzz/corpus/s3/get"),
    include_bytes!("../../../../fuzz/corpus/s3/head-bucket-host"),
    include_bytes!("../../../../fuzz/corpus/s3/presigned-get"),
    include_bytes!("../../../../fuzz/corpus/s3/presigned-put"),
    include_bytes!("../../../../fuzz/corpus/s3/put-chunks"),
    include_bytes!("../../../../fuzz/corpus/s3/put-chunks-trailer"),
    include_bytes!("../../../../fuzz/corpus/s3/put-chunks-trailer-lf"),
    include_bytes!("../../../../fuzz/corpus/s3/put-digest"),
    include_bytes!("../../../../fuzz/corpus/s3/put-unsigned"),
    include_bytes!("../../../../fuzz/corpus/s3/put-unsigned-trailer"),
];

/// Heads that verify were signed, as they stand, and bodies whose check ends well are those that
/// the sender bound; what we sign verifies, in both forms, and no more once it is changed.
pub fn s3(data: &[u8]) {
    let Some(sent) = Owned::read(data) else { return };
    match sent.s3(SECRET, NOW, HOST) {
        Err(fault) => {
            let told = fault.s3();
            assert!((400..500).contains(&told.status) && told.message.is_some(), "{fault:?}");
        }
        Ok((claim, check)) => {
            let head = |request: &Owned| {
                let head = Owned { body: Vec::new(), ..request.clone() };
                (request.path.clone(), head.signed_sense(&claim.presented))
            };
            let of = |bytes: &&[u8]| Owned::read(bytes).filter(|one| head(one) == head(&sent));
            let original = SIGNED.iter().find_map(of);
            let original = original.unwrap_or_else(|| panic!("was never signed: {sent:?}"));
            assert!(sent.s3("another secret", NOW, HOST).is_err());
            assert!(sent.s3(SECRET, NOW + i64::from(MOST_EXPIRES_S) * 1000 + 1, HOST).is_err());
            assert!(sent.s3(SECRET, NOW - S3_SKEW_MS - 1, HOST).is_err());
            if let S3Form::Query { expires_s } = claim.form {
                assert!((1..=MOST_EXPIRES_S).contains(&expires_s));
            }
            let got = decoded(check, &sent.body, &[]);
            if let Ok((data, _)) = &got {
                assert!(claim.length.is_none_or(|length| length == data.len() as u64));
            }
            let bound = !matches!(claim.payload, Payload::Unsigned | Payload::UnsignedTrailer);
            if bound && got.is_ok() {
                let (_, check) = original.s3(SECRET, NOW, HOST).expect("it is genuine");
                assert_eq!(got, decoded(check, &original.body, &[]), "another body");
            }
        }
    }
    signed_by_us(sent);
}

/// Signs the request anew, whatever it is, and changes it.
fn signed_by_us(mut sent: Owned) {
    sent.headers.retain(|(n, _)| {
        !n.starts_with("x-amz-")
            && !["authorization", "host", "content-length"].contains(&n.as_str())
    });
    sent.headers.push(("host".to_owned(), HOST.to_owned()));
    let kept = |raw: &&str| {
        let mut names = form_urlencoded::parse(raw.as_bytes()).map(|(name, _)| name);
        names.all(|name| {
            let version_2 = ["AWSAccessKeyId", "Signature"].contains(&name.as_ref());
            !version_2 && !name.to_ascii_lowercase().starts_with("x-amz-")
        })
    };
    sent.query = sent.query.split('&').filter(kept).collect::<Vec<_>>().join("&");
    let signer = signer("s3", Some("token"));
    let Owned { method, path, query, headers, .. } = &sent;
    let mut presigned = sent.clone();
    presigned.query = signer.presign(method, path, query, headers, 60, NOW);
    let added = signer.sign_s3(method, path, query, headers, Payload::Unsigned, NOW);
    sent.headers.extend(added);
    for mut good in [sent, presigned] {
        let verdict = |sent: &Owned| sent.s3(SECRET, NOW, HOST).map(|_| ());
        assert_eq!(verdict(&good), Ok(()), "{good:?}");
        let original = good.clone();
        let changes: [fn(&mut Owned); 4] = [
            |r| r.method.push('X'),
            |r| r.path.push('x'),
            |r| r.query.push_str("&late=1"),
            |r| r.query.insert_str(0, "a&"),
        ];
        for change in changes {
            change(&mut good);
            assert_eq!(verdict(&good), Err(AuthFault::Mismatch), "{good:?}");
            good = original.clone();
        }
        good.headers.push(("x-amz-late".to_owned(), String::new()));
        assert_eq!(verdict(&good), Err(AuthFault::Unsigned("x-amz-late".to_owned())));
    }
}
