//! What S3 says to each thing that can go wrong: AWS's own codes, so that stock clients know which
//! of them to try again.

use super::answer::{error, from_aws};
use super::body::Broken;
use crate::{Digest, StoreError};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use keystead_types::Cause;
use s3s::{S3Error, S3ErrorCode};

/// Silence ends by itself, mostly within a second.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

fn bad_request(code: &'static str, text: impl Into<String>) -> S3Error {
    error(code, StatusCode::BAD_REQUEST, text)
}

/// A request that cannot be, and why.
pub(super) fn invalid(text: impl Into<String>) -> S3Error {
    bad_request("InvalidRequest", text)
}

fn again_later(text: &str) -> S3Error {
    let mut error = error("ServiceUnavailable", StatusCode::SERVICE_UNAVAILABLE, text);
    error.set_headers(HeaderMap::from_iter([(RETRY_AFTER, RETRY_AFTER_S)]));
    error
}

/// While the key says no, or nobody answers for it: S3's own mapping of KMS's errors. What the key
/// owner decided is a 400 or a 403, which no client tries again; silence is a 503, which all do.
pub(super) fn of_cause(cause: Cause) -> S3Error {
    let said = |text: &str| format!("{text} (cause: {cause})");
    match cause {
        Cause::KeyDisabled => bad_request(
            "KMS.DisabledException",
            said("The KMS key of this cluster is disabled by its owner."),
        ),
        Cause::KeyPendingDeletion => bad_request(
            "KMS.KMSInvalidStateException",
            said("The KMS key of this cluster is pending deletion."),
        ),
        Cause::KeyDeleted => bad_request(
            "KMS.NotFoundException",
            said("The KMS key of this cluster does not exist any more."),
        ),
        Cause::SecondKeyUnusable => bad_request(
            "KMS.KMSInvalidStateException",
            said("The KMS key of this cluster's other Region refuses; one refusal is enough."),
        ),
        Cause::WrongRegion => bad_request(
            "KMS.NotFoundException",
            said("The KMS key of this cluster lies in another Region."),
        ),
        Cause::WrongSpecOrUsage => bad_request(
            "KMS.InvalidKeyUsageException",
            said("The KMS key of this cluster is not a symmetric key that encrypts and decrypts."),
        ),
        Cause::PolicyDenies
        | Cause::GrantRevoked
        | Cause::ContextDenied
        | Cause::RoleNotAssumable => error(
            "AccessDenied",
            StatusCode::FORBIDDEN,
            said("The KMS key of this cluster refuses its use."),
        ),
        // Not the owner's will and not passing: somebody must look.
        Cause::KeyStoreRolledBack | Cause::WrappedKeyMismatch => error(
            "AccessDenied",
            StatusCode::FORBIDDEN,
            said("The KMS does not open what it sealed for this cluster."),
        ),
        Cause::KmsUnreachable | Cause::NodeSilent => {
            again_later(&said("The KMS of this cluster does not answer. Please try again."))
        }
    }
}

/// A body that broke off, or is not what its head announced.
pub(super) fn of_body(broken: &Broken) -> S3Error {
    match broken {
        Broken::Fault(fault) => from_aws(&fault.s3()),
        Broken::Gone => bad_request("IncompleteBody", "The request body terminated unexpectedly."),
        Broken::Silent => bad_request(
            "RequestTimeout",
            "Your socket connection to the server was not read from or written to within the timeout period.",
        ),
        Broken::Digest(digest) => of_digest(*digest),
    }
}

fn of_digest(digest: Digest) -> S3Error {
    bad_request("BadDigest", format!("The {digest} you specified did not match what we received."))
}

/// What the store says.
pub(super) fn of_store(cause: StoreError) -> S3Error {
    use StoreError as E;
    let text = cause.to_string();
    match cause {
        E::Refused(refused) => of_cause(refused.cause),
        E::NoSuchBucket(_) => {
            error("NoSuchBucket", StatusCode::NOT_FOUND, "The specified bucket does not exist")
        }
        E::BucketExists(_) => error(
            "BucketAlreadyOwnedByYou",
            StatusCode::CONFLICT,
            "Your previous request to create the named bucket succeeded and you already own it.",
        ),
        E::TooManyBuckets(_) => {
            let text = "You have attempted to create more buckets than allowed.";
            bad_request("TooManyBuckets", text)
        }
        E::BucketNotEmpty(_) => error(
            "BucketNotEmpty",
            StatusCode::CONFLICT,
            "The bucket you tried to delete is not empty",
        ),
        E::InvalidBucketName => {
            bad_request("InvalidBucketName", "The specified bucket is not valid.")
        }
        E::NoSuchKey => {
            error("NoSuchKey", StatusCode::NOT_FOUND, "The specified key does not exist.")
        }
        E::NoSuchUpload => error(
            "NoSuchUpload",
            StatusCode::NOT_FOUND,
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
        ),
        E::InvalidKey(bytes) if bytes > 0 => bad_request("KeyTooLongError", "Your key is too long"),
        E::InvalidKey(_) => bad_request("InvalidArgument", text),
        E::InvalidRange { .. } => error(
            "InvalidRange",
            StatusCode::RANGE_NOT_SATISFIABLE,
            "The requested range is not satisfiable",
        ),
        E::InvalidPartNumber(_) => error(
            "InvalidPartNumber",
            StatusCode::RANGE_NOT_SATISFIABLE,
            "The requested partnumber is not satisfiable",
        ),
        E::PreconditionFailed => error(
            "PreconditionFailed",
            StatusCode::PRECONDITION_FAILED,
            "At least one of the pre-conditions you specified did not hold",
        ),
        E::NotModified(_) => S3Error::new(S3ErrorCode::NotModified),
        E::BadDigest(digest) => of_digest(digest),
        E::InvalidChecksum(_) => invalid(text),
        E::IncompleteBody { .. } => bad_request(
            "IncompleteBody",
            "You did not provide the number of bytes specified by the Content-Length HTTP header",
        ),
        E::InvalidPart(_) => bad_request(
            "InvalidPart",
            "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.",
        ),
        E::InvalidPartOrder => bad_request(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
        ),
        E::NoParts => bad_request("MalformedXML", "You must specify at least one part"),
        E::EntityTooSmall { .. } => bad_request(
            "EntityTooSmall",
            "Your proposed upload is smaller than the minimum allowed size",
        ),
        E::EntityTooLarge => {
            bad_request("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
        }
        E::MetadataTooLarge => bad_request(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
        ),
        E::InvalidTag(_) => bad_request("InvalidTag", text),
        // Who tries again gets the same; who reads the text knows why. An alarm went out already.
        E::Corrupt(_) => error(
            "InternalError",
            StatusCode::INTERNAL_SERVER_ERROR,
            "What is stored under this key does not authenticate. It is not given out.",
        ),
        E::NoSpace => error(
            "InsufficientStorage",
            StatusCode::INSUFFICIENT_STORAGE,
            "The storage of this endpoint is full. Nothing was stored.",
        ),
        E::ReadOnly => error("AccessDenied", StatusCode::FORBIDDEN, text),
        E::Foreign(_) | E::OtherHistory { .. } => invalid(text),
        E::Interrupted => bad_request("IncompleteBody", "The request was broken off."),
        E::Unavailable => again_later("The storage of this endpoint is being opened again."),
        E::Io(_) | E::Index(_) | E::Layout(_) | E::Seal(_) => {
            tracing::error!(error = &cause as &dyn std::error::Error, "the store failed");
            error(
                "InternalError",
                StatusCode::INTERNAL_SERVER_ERROR,
                "We encountered an internal error. Please try again.",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cause_is_a_500_and_only_silence_is_worth_another_try() {
        for cause in Cause::ALL {
            let error = of_cause(cause);
            let status = error.status_code().expect("a status").as_u16();
            let silent = matches!(cause, Cause::KmsUnreachable | Cause::NodeSilent);
            assert_eq!(status == 503, silent, "{cause}");
            assert!([400, 403, 503].contains(&status), "{cause}: {status}");
            assert!(error.message().expect("a text").contains(cause.as_str()));
            assert_eq!(error.headers().is_some(), silent, "{cause}");
        }
    }
}
