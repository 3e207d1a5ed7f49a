//! A request of KMS or of a query service, as text (see [`Owned::read`]).

use crate::sigv4::owned::{HOST, ID, NOW, Owned, SECRET};
use crate::sigv4::{AuthFault, Presented, Signer, parse, verify};

/// Everything of the corpus that was signed with [`SECRET`], by boto3: nothing else may verify.
const SIGNED: [&[u8]; 7] = [
    include_bytes!("../../../../fuzz/corpus/sigv4/boto3-assumerole"),
    include_bytes!("../../../../fuzz/corpus/sigv4/boto3-creategrant"),
    include_bytes!("../../../../fuzz/corpus/sigv4/boto3-decrypt"),
    include_bytes!("../../../../fuzz/corpus/sigv4/boto3-encrypt"),
    include_bytes!("../../../../fuzz/corpus/sigv4/boto3-lookupevents"),
    include_bytes!("../../../../fuzz/corpus/sigv4/boto3-putrolepolicy"),
    include_bytes!("../../../../fuzz/corpus/sigv4/boto3-session"),
];

/// Reading, refusing and signing: what verifies was signed by who has the secret, as it stands;
/// what we sign verifies, and no more once it is changed.
pub fn sigv4(data: &[u8]) {
    let Some(sent) = Owned::read(data) else { return };
    let req = sent.view();
    let presented = parse(&req);
    if !sent.headers.iter().any(|(n, _)| n == "authorization") {
        // Presigned URLs are not spoken: a signature in the query proves nothing.
        assert_eq!(presented, Err(AuthFault::MissingToken));
    }
    if let Ok(presented) = presented {
        assert_eq!(parse(&printed(&presented).view()).as_ref(), Ok(&presented));
        let verdict = verify(&presented, &req, SECRET, NOW, &[HOST.to_owned()]);
        if verdict.is_ok() {
            let originals = SIGNED.iter().filter_map(|bytes| Owned::read(bytes));
            let what = |r: &Owned| r.signed_sense(&presented);
            assert!(
                originals.into_iter().any(|one| what(&one) == what(&sent)),
                "verifies, but was never signed: {sent:?}"
            );
            assert!(verify(&presented, &req, "another secret", NOW, &[HOST.to_owned()]).is_err());
            assert!(verify(&presented, &req, SECRET, NOW, &["other:1".to_owned()]).is_err());
        }
    }
    signed_by_us(sent);
}

/// Signs the request anew, whatever it is, and changes it.
fn signed_by_us(mut sent: Owned) {
    let ours = ["authorization", "host", "x-amz-date", "x-amz-security-token"];
    sent.headers.retain(|(n, _)| !ours.contains(&n.as_str()) && n != "x-amz-content-sha256");
    sent.headers.push(("host".to_owned(), HOST.to_owned()));
    let signer = Signer {
        access_key_id: ID,
        secret: SECRET,
        session_token: Some("token"),
        region: "eu-central-1",
        service: "kms",
    };
    let added = signer.sign(&sent.method, &sent.path, &sent.query, &sent.headers, &sent.body, NOW);
    sent.headers.extend(added);
    let verdict = |sent: &Owned| {
        let presented = parse(&sent.view())?;
        verify(&presented, &sent.view(), SECRET, NOW, &[HOST.to_owned()])
    };
    assert_eq!(verdict(&sent), Ok(()), "{sent:?}");
    sent.body.push(b' ');
    assert_eq!(verdict(&sent), Err(AuthFault::Mismatch));
    sent.body.pop();
    sent.method.push('X');
    assert_eq!(verdict(&sent), Err(AuthFault::Mismatch));
    sent.method.pop();
    let query = sent.query.len();
    sent.query.push_str("&late=1");
    assert_eq!(verdict(&sent), Err(AuthFault::Mismatch));
    sent.query.truncate(query);
    sent.headers.push(("x-amz-late".to_owned(), String::new()));
    assert!(verdict(&sent).is_err(), "a header came later");
}

impl Owned {
    /// What a signature speaks for, told in a way of its own: method, body, pairs of the query,
    /// and each signed header with its words.
    pub(super) fn signed_sense(&self, presented: &Presented) -> impl PartialEq + use<> {
        let value = |name: &String| {
            let values = self.headers.iter().filter(|(n, _)| n == name);
            let words = values.map(|(_, v)| v.split(' ').filter(|w| !w.is_empty()));
            let values: Vec<_> =
                words.map(|w| w.map(str::to_owned).collect::<Vec<_>>().join(" ")).collect();
            (name.clone(), values.join(","))
        };
        let mut query: Vec<(String, String)> =
            form_urlencoded::parse(self.query.as_bytes()).into_owned().collect();
        query.sort();
        let headers: Vec<_> = presented.signed_headers.iter().map(value).collect();
        (self.method.clone(), query, headers, self.body.clone())
    }
}

/// The headers that say what was presented.
fn printed(p: &Presented) -> Owned {
    let scope =
        [&p.access_key_id, &p.scope_date, &p.region, &p.service, &p.terminator].map(String::as_str);
    let line = format!(
        "AWS4-HMAC-SHA256 Credential={}, SignedHeaders={}, Signature={}",
        scope.join("/"),
        p.signed_headers.join(";"),
        p.signature
    );
    let mut headers = vec![("authorization".to_owned(), line)];
    headers.push(("x-amz-date".to_owned(), p.amz_date.clone()));
    headers.extend(p.session_token.iter().map(|t| ("x-amz-security-token".to_owned(), t.clone())));
    let (method, path) = ("POST".to_owned(), "/".to_owned());
    Owned { method, path, query: String::new(), headers, body: Vec::new() }
}
