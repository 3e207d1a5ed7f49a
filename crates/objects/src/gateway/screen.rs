//! What is not served is refused before anything is done, by name: a header that is silently dropped
//! would promise a protection that is not there.

use super::answer::error;
use super::body::Expected;
use super::refusal::invalid;
use crate::checksum::{Algorithm, Checksum, Hasher, Md5};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONTENT_TYPE, RANGE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use keystead_aws::sigv4::S3Claim;
use s3s::S3Error;

/// Headers of `x-amz-checksum-` that are no value of a checksum.
const NO_VALUES: [&str; 3] = ["mode", "algorithm", "type"];

/// Refuses what is not served, and takes away what S3 ignores.
pub(super) fn check(head: &mut Parts, claim: &S3Claim) -> Result<(), S3Error> {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let form = text(CONTENT_TYPE.as_str()).is_some_and(|t| t.starts_with("multipart/form-data"));
    if head.method == Method::POST && form {
        let text = "Forms posted by browsers are not served: use a presigned PUT.";
        return Err(error("NotImplemented", StatusCode::NOT_IMPLEMENTED, text));
    }
    for name in head.headers.keys() {
        named(name.as_str())?;
    }
    for name in &claim.trailers {
        named(name)?;
    }
    match text("x-amz-server-side-encryption") {
        None | Some("aws:kms") => {}
        Some(other) => {
            return Err(invalid(format!(
                "Objects of this endpoint are encrypted under the cluster's KMS key: x-amz-server-side-encryption must be aws:kms, not {other}."
            )));
        }
    }
    if text("x-amz-server-side-encryption-bucket-key-enabled").is_some_and(|t| t != "true") {
        return Err(invalid("Buckets of this endpoint have a bucket key, always."));
    }
    for name in ["x-amz-sdk-checksum-algorithm", "x-amz-checksum-algorithm"] {
        if let Some(kind) = text(name)
            && Algorithm::parse(&kind.to_ascii_uppercase()).is_none()
        {
            return Err(no_checksum(kind));
        }
    }
    match text("x-amz-acl") {
        None | Some("private" | "bucket-owner-full-control") => {}
        Some(_) => return Err(no_acls()),
    }
    // Another unit, more than one range, nonsense: S3 answers with the whole.
    if let Some(range) = text(RANGE.as_str())
        && s3s::dto::Range::parse(range).is_err()
    {
        head.headers.remove(RANGE);
    }
    Ok(())
}

fn named(name: &str) -> Result<(), S3Error> {
    let Some(short) = name.strip_prefix("x-amz-") else { return Ok(()) };
    if short.contains("server-side-encryption-customer-") {
        return Err(invalid(
            "Keys of the caller (SSE-C) are not taken: objects are encrypted under the cluster's KMS key.",
        ));
    }
    if short.starts_with("object-lock-") || short == "bypass-governance-retention" {
        return Err(invalid("Bucket is missing Object Lock Configuration"));
    }
    if short.starts_with("grant-") {
        return Err(no_acls());
    }
    if short == "write-offset-bytes" {
        let text = "Objects are written whole.";
        return Err(error("NotImplemented", StatusCode::NOT_IMPLEMENTED, text));
    }
    match short.strip_prefix("checksum-") {
        Some(kind) if !NO_VALUES.contains(&kind) && algorithm(kind).is_none() => {
            Err(no_checksum(kind))
        }
        _ => Ok(()),
    }
}

fn no_acls() -> S3Error {
    error(
        "AccessControlListNotSupported",
        StatusCode::BAD_REQUEST,
        "The bucket does not allow ACLs",
    )
}

fn no_checksum(kind: &str) -> S3Error {
    let kind: String = kind.chars().take(32).collect();
    invalid(format!(
        "The checksum algorithm {kind} is not served; CRC32, CRC32C, CRC64NVME, SHA1 and SHA256 are."
    ))
}

/// The algorithm behind `x-amz-checksum-`.
pub(super) fn algorithm(kind: &str) -> Option<Algorithm> {
    Algorithm::parse(&kind.to_ascii_uppercase())
}

/// The checksums of the head, by value.
pub(super) fn checksums(headers: &HeaderMap) -> Result<Vec<Checksum>, S3Error> {
    let mut found = Vec::new();
    for (name, value) in headers {
        let Some(kind) = name.as_str().strip_prefix("x-amz-checksum-") else { continue };
        let Some(algorithm) = algorithm(kind) else { continue };
        let value = value.to_str().ok().and_then(|v| Checksum::from_base64(algorithm, v));
        let wrong = || invalid(format!("Value for {name} header is invalid."));
        found.push(value.ok_or_else(wrong)?);
    }
    Ok(found)
}

/// Content-MD5.
pub(super) fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, S3Error> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let sum = BASE64.decode(value.as_bytes()).ok().and_then(|sum| sum.try_into().ok());
    let wrong = || {
        error(
            "InvalidDigest",
            StatusCode::BAD_REQUEST,
            "The Content-MD5 you specified is not valid.",
        )
    };
    sum.map(Some).ok_or_else(wrong)
}

/// What to compare the body with that s3s reads (XML). The store compares the data of objects and
/// parts itself.
pub(super) fn digests(head: &Parts) -> Result<Vec<Expected>, S3Error> {
    let data = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        matches!(name, "" | "partNumber" | "uploadId" | "x-id")
    };
    let query = head.uri.query().unwrap_or_default();
    if head.method == Method::PUT && query.split('&').all(data) {
        return Ok(Vec::new());
    }
    // At completion the checksums are the object's, not those of the XML.
    if head.method == Method::POST && query.split('&').any(|pair| pair.starts_with("uploadId=")) {
        return Ok(Vec::new());
    }
    let checksums = checksums(&head.headers)?.into_iter();
    let mut expected: Vec<Expected> =
        checksums.map(|sum| Expected::Checksum(Hasher::new(sum.algorithm()), sum)).collect();
    if let Some(sum) = content_md5(&head.headers)? {
        expected.push(Expected::Md5(Box::new(Md5::new()), sum));
    }
    Ok(expected)
}
