//! Against AWS's own signer, both ways, and with each part changed.

use super::owned::{ID, NOW, Owned, SECRET};
use super::*;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use proptest::prelude::*;
use std::time::{Duration, UNIX_EPOCH};

mod bodies;
mod presigned;
mod s3;

impl Owned {
    fn kms(body: &str) -> Self {
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        Self {
            method: "POST".into(),
            path: "/".into(),
            query: String::new(),
            headers: vec![
                pair("host", "127.0.0.1:7480"),
                pair("content-type", "application/x-amz-json-1.1"),
                pair("x-amz-target", "TrentService.Decrypt"),
            ],
            body: body.as_bytes().to_vec(),
        }
    }
    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }
    fn get(&self, name: &str) -> String {
        self.view().header(name).expect("the header").to_owned()
    }
    /// Signed by AWS's signer.
    fn sign_theirs(mut self, token: Option<&str>, now_ms: i64, service: &str) -> Self {
        let identity = Credentials::new(ID, SECRET, token.map(str::to_owned), None, "test").into();
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::Headers;
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(now_ms).expect("after 1970"));
        let params: SigningParams<'_> = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-central-1")
            .name(service)
            .time(at)
            .settings(settings)
            .build()
            .expect("all set")
            .into();
        let uri = match self.query.as_str() {
            "" => format!("http://127.0.0.1:7480{}", self.path),
            query => format!("http://127.0.0.1:7480{}?{query}", self.path),
        };
        let added = {
            let headers = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            let body = SignableBody::Bytes(&self.body);
            let request = SignableRequest::new(&self.method, uri, headers, body).expect("signable");
            let (instructions, _) = sign(request, &params).expect("signed").into_parts();
            let (added, _) = instructions.into_parts();
            added.iter().map(|h| (h.name().to_owned(), h.value().to_owned())).collect::<Vec<_>>()
        };
        self.headers.extend(added);
        self
    }
    /// Signed by ours.
    fn sign_ours(mut self, token: Option<&str>, now_ms: i64) -> Self {
        let signer = Signer {
            access_key_id: ID,
            secret: SECRET,
            session_token: token,
            region: "eu-central-1",
            service: "kms",
        };
        let added =
            signer.sign(&self.method, &self.path, &self.query, &self.headers, &self.body, now_ms);
        self.headers.extend(added);
        self
    }
}

fn hosts() -> Vec<String> {
    vec!["127.0.0.1:7480".to_owned(), "localhost:7480".to_owned()]
}

fn check(req: &Owned, now_ms: i64) -> Result<Presented, AuthFault> {
    let presented = parse(&req.view())?;
    verify(&presented, &req.view(), SECRET, now_ms, &hosts())?;
    Ok(presented)
}

#[test]
fn their_signature_is_taken() {
    let req = Owned::kms("{\"a\": 1}").sign_theirs(Some("TOKEN/+="), NOW, "kms");
    let presented = check(&req, NOW).expect("it is genuine");
    assert_eq!(presented.access_key_id, ID);
    assert_eq!((presented.region.as_str(), presented.service.as_str()), ("eu-central-1", "kms"));
    assert_eq!(presented.session_token.as_deref(), Some("TOKEN/+="));
}

#[test]
fn both_signers_write_the_same() {
    for token in [None, Some("abc")] {
        let theirs = Owned::kms("{}").sign_theirs(token, NOW, "kms");
        let ours = Owned::kms("{}").sign_ours(token, NOW);
        assert_eq!(theirs.get("authorization"), ours.get("authorization"));
        check(&ours, NOW).expect("it is genuine");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn paths_queries_headers_and_bodies_agree(
        path in "(/[a-zA-Z0-9_.~-]{0,4}(%20|%2F|%C3%A9)?){1,4}",
        query in "([a-cA-C]{1,2}=[a-z0-9%2B]{0}[a-z0-9.]{0,3}(%20|%26)?&?){0,3}",
        header in "[ -~]{0,20}",
        body in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut req = Owned::kms("");
        req.path = path;
        req.query = query.trim_end_matches('&').to_owned();
        req.body = body;
        req.set("x-amz-extra", header.trim());
        let signed = req.clone().sign_theirs(None, NOW, "kms");
        prop_assert!(check(&signed, NOW).is_ok(), "{signed:?}");
        let ours = req.sign_ours(None, NOW);
        prop_assert_eq!(signed.get("authorization"), ours.get("authorization"));
    }

    #[test]
    fn garbage_is_refused_and_never_panics(header in "\\PC{0,120}", date in "\\PC{0,20}") {
        let mut req = Owned::kms("{}");
        req.set("authorization", &format!("AWS4-HMAC-SHA256 {header}"));
        req.set("x-amz-date", &date);
        prop_assert!(check(&req, NOW).is_err());
    }
}

#[test]
fn every_changed_part_is_noticed() {
    let good = Owned::kms("{\"a\": 1}").sign_theirs(Some("token"), NOW, "kms");
    check(&good, NOW).expect("it is genuine");
    let changed = |change: &dyn Fn(&mut Owned)| {
        let mut req = good.clone();
        change(&mut req);
        check(&req, NOW).expect_err("it was changed")
    };
    assert_eq!(changed(&|r| r.body.push(b' ')), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.method = "GET".into()), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.path = "/x".into()), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.query = "a=b".into()), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.set("x-amz-target", "TrentService.Encrypt")), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.set("x-amz-security-token", "other")), AuthFault::Mismatch);
    assert_eq!(changed(&|r| r.set("content-type", "text/plain")), AuthFault::Mismatch);
    // Another of our own names: signed for one host, replayed at the other.
    assert_eq!(changed(&|r| r.set("host", "localhost:7480")), AuthFault::Mismatch);
    assert_eq!(
        changed(&|r| r.set("x-amz-late", "1")),
        AuthFault::Unsigned("x-amz-late".to_owned())
    );
    assert_eq!(
        changed(&|r| r.headers.push(("host".into(), "b".into()))),
        AuthFault::Unsigned("host".into())
    );
    let header = good.get("authorization");
    let swap = |from: &str, to: &str| {
        let text = header.replacen(from, to, 1);
        assert_ne!(text, header, "{from}");
        changed(&|r| r.set("authorization", &text))
    };
    assert_eq!(swap("eu-central-1", "eu-west-1"), AuthFault::Mismatch);
    assert_eq!(swap("/kms/", "/sts/"), AuthFault::Mismatch);
    assert_eq!(swap("eu-central-1", "EU!"), AuthFault::Region("EU!".to_owned()));
    assert_eq!(swap("aws4_request", "aws5_request"), AuthFault::Terminator);
    assert_eq!(swap("20261124/", "20261123/"), AuthFault::ScopeDate);
    assert_eq!(swap(";x-amz-target", ""), AuthFault::Unsigned("x-amz-target".into()));
    assert_eq!(swap(";host;", ";"), AuthFault::Unsigned("host".into()));
    assert_eq!(swap("content-type;host", "host;content-type"), AuthFault::Mismatch);
    let (rest, signature) = header.rsplit_once("Signature=").expect("a signature");
    for other in [String::new(), "0".repeat(64), signature.to_uppercase(), format!("{signature}0")]
    {
        let text = format!("{rest}Signature={other}");
        changed(&|r| r.set("authorization", &text));
    }
}

#[test]
fn a_request_recorded_elsewhere_is_refused() {
    let mut req = Owned::kms("{}");
    req.set("host", "kms.eu-central-1.amazonaws.com");
    let req = req.sign_ours(None, NOW);
    assert_eq!(check(&req, NOW), Err(AuthFault::Mismatch));
}

#[test]
fn another_secret_is_refused() {
    let req = Owned::kms("{}").sign_ours(None, NOW);
    let presented = parse(&req.view()).expect("well-formed");
    let refused = verify(&presented, &req.view(), "other", NOW, &hosts());
    assert_eq!(refused, Err(AuthFault::Mismatch));
}

#[test]
fn five_minutes_either_way() {
    let req = Owned::kms("{}").sign_ours(None, NOW);
    for now in [NOW - SKEW_MS, NOW + SKEW_MS] {
        check(&req, now).expect("at the edge");
    }
    let old = check(&req, NOW + SKEW_MS + 1000).expect_err("too old");
    assert_eq!(
        old.text(),
        "Signature expired: 20261124T080102Z is now earlier than 20261124T080103Z (20261124T080603Z - 5 min.)"
    );
    let early = check(&req, NOW - SKEW_MS - 1000).expect_err("too new");
    assert_eq!(
        early.text(),
        "Signature not yet current: 20261124T080102Z is still later than 20261124T080101Z (20261124T075601Z + 5 min.)"
    );
    assert_eq!(early.json().code, "InvalidSignatureException");
    assert_eq!((early.query().code.as_ref(), early.query().status), ("SignatureDoesNotMatch", 403));
}

#[test]
fn what_is_missing_is_named() {
    let mut req = Owned::kms("{}");
    assert_eq!(check(&req, NOW), Err(AuthFault::MissingToken));
    assert_eq!(AuthFault::MissingToken.json().code, "MissingAuthenticationTokenException");
    req.set("authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request");
    let Err(AuthFault::Incomplete(text)) = check(&req, NOW) else { panic!("incomplete") };
    for part in ["'Signature'", "'SignedHeaders'", "'X-Amz-Date'"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("'Credential'"), "{text}");
    let twice = "AWS4-HMAC-SHA256 Credential=a, Credential=b, SignedHeaders=host, Signature=0";
    req.set("authorization", twice);
    assert!(matches!(check(&req, NOW), Err(AuthFault::Incomplete(_))));
    assert_eq!(AuthFault::Incomplete(String::new()).query().status, 400);
    assert_eq!(AuthFault::UnknownToken.query().code, "InvalidClientTokenId");
    assert_eq!(AuthFault::SessionOver.json().code, "ExpiredTokenException");
}
