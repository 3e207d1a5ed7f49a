//! Who asks: the only verifier on the way to the objects.
//!
//! The head is verified before anything of the body is read. What has done its work is then taken
//! out of the request (Authorization, the presigned parameters, the framing of the body), so that
//! nothing behind this can take a signature for its own to judge, or for none.

use super::answer::{error, from_aws};
use super::body::Outcome;
use super::host::Hosts;
use super::{Caller, Found, Keys, Lookup};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri};
use keystead_aws::sigv4::{
    AuthFault, BodyCheck, HttpRequest, S3Claim, S3Endpoint, S3Form, SigningKey, parse_s3, verify_s3,
};
use keystead_types::S3Role;
use s3s::S3Error;
use std::sync::Arc;

/// Most bytes of all header lines together; S3 takes 8 KiB beside the metadata's 2.
const MOST_HEAD: usize = 16 * 1024;

/// A genuine head.
pub(super) struct Admitted {
    pub(super) found: Found,
    pub(super) access_key_id: String,
    pub(super) claim: S3Claim,
    pub(super) check: BodyCheck,
}

/// Why a request is not taken: the fault, for it may carry a detail, or an answer made here.
pub(super) enum Denied {
    Fault(AuthFault),
    Error(S3Error),
}

impl Denied {
    pub(super) fn answer(self) -> super::Answer {
        match self {
            Self::Fault(fault) => super::answer::of_error(from_aws(&fault.s3()), fault.s3_detail()),
            Self::Error(error) => super::answer::of_error(error, None),
        }
    }
}

impl From<AuthFault> for Denied {
    fn from(fault: AuthFault) -> Self {
        Self::Fault(fault)
    }
}

/// Verifies a head.
pub(super) fn admit(
    head: &Parts,
    keys: &dyn Keys,
    hosts: &Hosts,
    regions: &[String],
    now_ms: i64,
) -> Result<Admitted, Denied> {
    let headers = readable(&head.headers).map_err(Denied::Error)?;
    let request = HttpRequest {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &headers,
        body: &[],
    };
    let claim = parse_s3(&request)?;
    let presented = &claim.presented;
    // Ours are never temporary.
    if presented.session_token.is_some() {
        return Err(AuthFault::UnknownToken.into());
    }
    let found = match keys.find(&presented.access_key_id) {
        Lookup::Found(found) => found,
        Lookup::Unknown => return Err(AuthFault::UnknownToken.into()),
        Lookup::Sealed(cause) => return Err(Denied::Error(super::refusal::of_cause(cause))),
    };
    let key = Arc::new(SigningKey::derive(
        &found.secret,
        &presented.scope_date,
        &presented.region,
        &presented.service,
    ));
    let host = request.header("host").map(str::trim).filter(|host| hosts.serves(host));
    let served: Vec<String> = host.map(str::to_owned).into_iter().collect();
    let endpoint = S3Endpoint { hosts: &served, bucket_domains: &[], regions };
    let check = verify_s3(&claim, &request, &key, now_ms, &endpoint)?;
    if found.role == S3Role::Links {
        as_link(&claim, &request).map_err(Denied::Error)?;
    }
    Ok(Admitted { access_key_id: presented.access_key_id.clone(), found, claim, check })
}

/// The key of links opens presigned URLs alone, and whoever holds one adds nothing to it that would
/// be kept with the object.
fn as_link(claim: &S3Claim, request: &HttpRequest<'_>) -> Result<(), S3Error> {
    const KEPT: [&str; 7] = [
        "content-type",
        "content-disposition",
        "content-encoding",
        "content-language",
        "cache-control",
        "expires",
        "if-match",
    ];
    let signed = &claim.presented.signed_headers;
    let added = |(name, _): &&(String, String)| {
        KEPT.contains(&name.as_str()) && !signed.iter().any(|s| s == name)
    };
    let denied = |text: String| Err(error("AccessDenied", StatusCode::FORBIDDEN, text));
    if claim.form == S3Form::Header {
        return denied("this access key is for links alone".to_owned());
    }
    // What a browser adds to a GET says nothing of the object.
    match request.headers.iter().find(added) {
        Some((name, _)) if request.method == "PUT" => {
            denied(format!("the link does not allow the header {name}"))
        }
        _ => Ok(()),
    }
}

/// The headers as text. What is not text is refused, for two values must not look the same.
fn readable(headers: &HeaderMap) -> Result<Vec<(String, String)>, S3Error> {
    let bad = |text: String| error("InvalidRequest", StatusCode::BAD_REQUEST, text);
    let mut bytes = 0;
    let mut out = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len();
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            return Err(bad(format!("the value of header {name} is not UTF-8")));
        };
        out.push((name.as_str().to_owned(), value.to_owned()));
    }
    if bytes > MOST_HEAD {
        let text = "Your request header section exceeds the maximum allowed header section size.";
        return Err(error("RequestHeaderSectionTooLarge", StatusCode::BAD_REQUEST, text));
    }
    Ok(out)
}

/// Headers that speak of the signature or the framing alone.
const SPENT: [&str; 6] = [
    "x-amz-content-sha256",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
    "x-amz-security-token",
    "x-amz-date",
    "transfer-encoding",
];

/// Takes out of the head what [`admit`] has dealt with, and puts in who the caller is.
pub(super) fn strip(
    head: &mut Parts,
    admitted: &Admitted,
    outcome: Outcome,
) -> Result<(), S3Error> {
    let headers = &mut head.headers;
    headers.remove(AUTHORIZATION);
    for name in SPENT {
        headers.remove(name);
    }
    if admitted.claim.payload.is_chunked() {
        unframe(headers);
    }
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = admitted.claim.length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let S3Form::Query { .. } = admitted.claim.form {
        unhoist(head)?;
    }
    head.extensions.insert(Caller {
        space: admitted.found.space.clone(),
        role: admitted.found.role,
        outcome,
        trailers: admitted.claim.trailers.clone(),
    });
    Ok(())
}

/// `aws-chunked` is a framing, not an encoding of the object.
fn unframe(headers: &mut HeaderMap) {
    let kept: Vec<String> = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .map(str::to_owned)
        .collect();
    headers.remove(CONTENT_ENCODING);
    if let Ok(kept) = HeaderValue::from_str(&kept.join(", "))
        && !kept.is_empty()
    {
        headers.insert(CONTENT_ENCODING, kept);
    }
}

/// Takes the signature out of a presigned URL's query; other `x-amz-*` parameters are headers that
/// the signer moved there, and go back where a sent header does not stand already.
fn unhoist(head: &mut Parts) -> Result<(), S3Error> {
    const SIGNATURE: [&str; 8] = [
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-signedheaders",
        "x-amz-signature",
        "x-amz-security-token",
        "x-amz-content-sha256",
    ];
    let mut kept = Vec::new();
    for pair in head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = form_urlencoded::parse(pair.as_bytes()).next() else { continue };
        let lower = name.to_ascii_lowercase();
        if !lower.starts_with("x-amz-") {
            kept.push(pair);
        } else if !SIGNATURE.contains(&lower.as_str()) {
            let pair = HeaderName::from_bytes(lower.as_bytes()).ok();
            let Some((name, value)) = pair.zip(HeaderValue::from_str(&value).ok()) else {
                let text = "A parameter of the presigned URL is no header.";
                return Err(super::refusal::invalid(text));
            };
            head.headers.entry(name).or_insert(value);
        }
    }
    let path = head.uri.path();
    let target =
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let text = "The presigned URL cannot be read.";
    head.uri = target.parse::<Uri>().map_err(|_| super::refusal::invalid(text))?;
    Ok(())
}

/// What a reader may ask for, by the names of S3's operations. A closed list: an operation that is
/// new here is a writer's until somebody has thought about it.
const READS: [&str; 24] = [
    "GetBucketAcl",
    "GetBucketCors",
    "GetBucketEncryption",
    "GetBucketLifecycleConfiguration",
    "GetBucketLocation",
    "GetBucketLogging",
    "GetBucketNotificationConfiguration",
    "GetBucketOwnershipControls",
    "GetBucketPolicy",
    "GetBucketPolicyStatus",
    "GetBucketReplication",
    "GetBucketRequestPayment",
    "GetBucketTagging",
    "GetBucketVersioning",
    "GetObject",
    "GetObjectAcl",
    "GetObjectAttributes",
    "GetObjectTagging",
    "HeadBucket",
    "HeadObject",
    "ListBuckets",
    "ListObjects",
    "ListObjectsV2",
    "ListObjectVersions",
];

/// Whether a caller of this role may ask for an operation.
pub(super) fn may(role: S3Role, operation: &str) -> bool {
    match role {
        S3Role::Writer => true,
        S3Role::Reader => READS.contains(&operation),
        S3Role::Replicator => false,
        S3Role::Links => matches!(operation, "GetObject" | "HeadObject" | "PutObject"),
    }
}
