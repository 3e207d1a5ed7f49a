//! Which parameters a request may carry. s3s takes a request whose query it does not know for the
//! plainest operation of its method, so that a `PUT /b/k?encryption` would replace the object: what
//! is not on these lists is refused before s3s sees it.

use super::answer::error;
use super::refusal::invalid;
use http::request::Parts;
use http::{Method, StatusCode};
use s3s::S3Error;

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Service,
    Bucket,
    Object,
}

const SERVICE: &[&str] = &["prefix", "max-buckets", "continuation-token", "bucket-region"];

const BUCKET_GET: &[&str] = &[
    "list-type",
    "prefix",
    "delimiter",
    "marker",
    "max-keys",
    "encoding-type",
    "start-after",
    "continuation-token",
    "fetch-owner",
    "location",
    "versioning",
    "versions",
    "key-marker",
    "version-id-marker",
    "uploads",
    "upload-id-marker",
    "max-uploads",
    "encryption",
    "acl",
    "policy",
    "policyStatus",
    "cors",
    "lifecycle",
    "logging",
    "notification",
    "ownershipControls",
    "replication",
    "requestPayment",
    "tagging",
    "website",
    "object-lock",
    "publicAccessBlock",
    "accelerate",
];

/// Each has an operation of its own in s3s.
const BUCKET_PUT: &[&str] = &[
    "acl",
    "versioning",
    "encryption",
    "policy",
    "tagging",
    "lifecycle",
    "cors",
    "website",
    "logging",
    "notification",
    "replication",
    "requestPayment",
    "ownershipControls",
    "publicAccessBlock",
    "object-lock",
    "accelerate",
];

const BUCKET_DELETE: &[&str] = &[
    "policy",
    "tagging",
    "lifecycle",
    "cors",
    "website",
    "encryption",
    "replication",
    "ownershipControls",
    "publicAccessBlock",
];

const OBJECT_GET: &[&str] = &[
    "partNumber",
    "versionId",
    "uploadId",
    "tagging",
    "acl",
    "attributes",
    "legal-hold",
    "retention",
    "torrent",
    "max-parts",
    "part-number-marker",
    "encoding-type",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];

const OBJECT_PUT: &[&str] =
    &["partNumber", "uploadId", "tagging", "acl", "legal-hold", "retention", "versionId"];

const OBJECT_POST: &[&str] =
    &["uploads", "uploadId", "restore", "select", "select-type", "versionId"];

const OBJECT_DELETE: &[&str] = &["uploadId", "tagging", "versionId"];

fn known(method: &Method, about: About) -> &'static [&'static str] {
    match (about, method.as_str()) {
        (About::Service, _) => SERVICE,
        (About::Bucket, "GET" | "HEAD") => BUCKET_GET,
        (About::Bucket, "PUT") => BUCKET_PUT,
        (About::Bucket, "POST") => &["delete"],
        (About::Bucket, "DELETE") => BUCKET_DELETE,
        (About::Object, "GET" | "HEAD") => OBJECT_GET,
        (About::Object, "PUT") => OBJECT_PUT,
        (About::Object, "POST") => OBJECT_POST,
        (About::Object, "DELETE") => OBJECT_DELETE,
        _ => &[],
    }
}

/// Refuses what is not served. The signature's parameters are out of the query by now; `x-id` is
/// the name that SDKs give their operation.
pub(super) fn check(head: &Parts, about: About) -> Result<(), S3Error> {
    let known = known(&head.method, about);
    let query = head.uri.query().unwrap_or_default();
    let names: Vec<_> =
        form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.into_owned()).collect();
    for name in names.iter().filter(|n| *n != "x-id") {
        if !known.contains(&name.as_str()) {
            let name: String = name.chars().take(64).collect();
            let text = format!("This endpoint does not serve {} with ?{name}.", head.method);
            return Err(error("NotImplemented", StatusCode::NOT_IMPLEMENTED, text));
        }
    }
    let has = |wanted: &str| names.iter().any(|n| n == wanted);
    if head.method == Method::PUT && has("partNumber") != has("uploadId") {
        return Err(invalid("A part is named by both partNumber and uploadId."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, query: &str, about: About) -> bool {
        let request = http::Request::builder().method(method).uri(format!("/b/k?{query}"));
        let (head, ()) = request.body(()).expect("a request").into_parts();
        check(&head, about).is_err()
    }

    #[test]
    fn what_s3s_would_take_for_a_plain_operation_is_refused() {
        for (method, query, about) in [
            ("PUT", "encryption", About::Object),
            ("PUT", "renameObject", About::Object),
            ("PUT", "partNumber=1", About::Object),
            ("PUT", "uploadId=x", About::Object),
            ("DELETE", "acl", About::Object),
            ("DELETE", "legal-hold", About::Object),
            ("DELETE", "notification", About::Bucket),
            ("DELETE", "logging", About::Bucket),
            ("PUT", "metadataConfiguration", About::Bucket),
            ("GET", "metadataConfiguration", About::Bucket),
            ("GET", "%65ncryption2", About::Object),
            ("PATCH", "x", About::Object),
        ] {
            assert!(refused(method, query, about), "{method} ?{query}");
        }
        for (method, query, about) in [
            ("PUT", "", About::Object),
            ("PUT", "x-id=PutObject", About::Object),
            ("PUT", "partNumber=1&uploadId=x", About::Object),
            ("GET", "response-content-type=text%2Fplain&versionId=null", About::Object),
            ("GET", "list-type=2&prefix=a&encoding-type=url", About::Bucket),
            ("POST", "delete", About::Bucket),
            ("DELETE", "uploadId=x", About::Object),
            ("GET", "x-id=ListBuckets", About::Service),
        ] {
            assert!(!refused(method, query, about), "{method} ?{query}");
        }
    }
}
