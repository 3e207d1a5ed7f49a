//! From S3's words to the store's and back: metadata, tags, checksums, conditions, times.

use crate::checksum::{Algorithm, Checksum};
use crate::gateway::Caller;
use crate::gateway::answer::error;
use crate::gateway::refusal::invalid;
use crate::gateway::screen;
use crate::{ObjectInfo, ReadCondition, SystemMetadata, Tag, Tags, WriteCondition};
use http::{HeaderMap, StatusCode};
use s3s::dto::{ETag, ETagCondition, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// Who asks. Without one nothing is done, whichever way the request came.
pub(super) fn caller<T>(request: &S3Request<T>) -> S3Result<Caller> {
    let caller = request.extensions.get::<Caller>().cloned();
    caller.ok_or_else(|| S3Error::new(S3ErrorCode::AccessDenied))
}

/// A moment of the store.
pub(super) fn timestamp(ms: i64) -> Timestamp {
    let ms = u64::try_from(ms).unwrap_or_default();
    Timestamp::from(UNIX_EPOCH + Duration::from_millis(ms))
}

/// HTTP's dates have whole seconds.
fn millis(time: &Timestamp) -> Option<i64> {
    let mut text = Vec::new();
    time.format(TimestampFormat::EpochSeconds, &mut text).ok()?;
    let text = String::from_utf8(text).ok()?;
    let seconds: i64 = text.split('.').next()?.parse().ok()?;
    seconds.checked_mul(1000)
}

pub(super) fn etag(text: &str) -> ETag {
    ETag::Strong(text.to_owned())
}

fn condition(condition: ETagCondition) -> Tag {
    match condition {
        ETagCondition::Any => Tag::Any,
        ETagCondition::ETag(tag) => Tag::OneOf(vec![tag.into_value()]),
    }
}

/// The conditions of a read.
pub(super) fn read_condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
) -> ReadCondition {
    ReadCondition {
        if_match: if_match.map(condition),
        if_none_match: if_none_match.map(condition),
        if_modified_since_ms: if_modified_since.as_ref().and_then(millis),
        if_unmodified_since_ms: if_unmodified_since.as_ref().and_then(millis),
    }
}

/// The conditions of a write.
pub(super) fn write_condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<WriteCondition> {
    if matches!(if_none_match, Some(ETagCondition::ETag(_))) {
        let text = "A header you provided implies functionality that is not implemented: If-None-Match of a write is *.";
        return Err(error("NotImplemented", StatusCode::NOT_IMPLEMENTED, text));
    }
    Ok(WriteCondition {
        if_match: if_match.map(condition),
        if_none_match: if_none_match.map(condition),
    })
}

/// Conditions on the target of a copy; s3s does not read them there.
pub(super) fn write_condition_of(headers: &HeaderMap) -> S3Result<WriteCondition> {
    let read = |name: &str| match headers.get(name) {
        None => Ok(None),
        Some(value) => match ETagCondition::parse_http_header(value.as_bytes()) {
            Ok(condition) => Ok(Some(condition)),
            Err(_) => Err(invalid(format!("{name} is not an ETag"))),
        },
    };
    write_condition(read("if-match")?, read("if-none-match")?)
}

/// The headers that are kept with an object.
pub(super) fn system(headers: &HeaderMap) -> S3Result<SystemMetadata> {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let storage_class = text("x-amz-storage-class");
    const CLASSES: [&str; 9] = [
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "DEEP_ARCHIVE",
        "GLACIER_IR",
        "EXPRESS_ONEZONE",
    ];
    if storage_class.as_deref().is_some_and(|class| !CLASSES.contains(&class)) {
        let text = "The storage class you specified is not valid";
        return Err(error("InvalidStorageClass", StatusCode::BAD_REQUEST, text));
    }
    Ok(SystemMetadata {
        content_type: text("content-type"),
        cache_control: text("cache-control"),
        content_disposition: text("content-disposition"),
        content_encoding: text("content-encoding"),
        content_language: text("content-language"),
        expires: text("expires"),
        website_redirect: text("x-amz-website-redirect-location"),
        // Told back by S3 only where it is another than this.
        storage_class: storage_class.filter(|class| class != "STANDARD"),
    })
}

/// User metadata, by names in lower case.
pub(super) fn user(metadata: Option<s3s::dto::Metadata>) -> BTreeMap<String, String> {
    let pairs = metadata.unwrap_or_default().into_iter();
    pairs.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

/// Tags of an `x-amz-tagging` header.
pub(super) fn tags(header: Option<&str>) -> S3Result<Tags> {
    let mut tags = Tags::new();
    for (name, value) in form_urlencoded::parse(header.unwrap_or_default().as_bytes()) {
        if tags.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(doubled_tag());
        }
    }
    Ok(tags)
}

pub(super) fn doubled_tag() -> S3Error {
    let text = "Cannot provide multiple Tags with the same key";
    error("InvalidTag", StatusCode::BAD_REQUEST, text)
}

/// The checksum that comes with a body: which, and its value where the head has it.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) algorithm: Option<Algorithm>,
    pub(super) value: Option<Checksum>,
    trailer: Option<String>,
}

impl Announced {
    pub(super) fn read(headers: &HeaderMap, caller: &Caller) -> S3Result<Self> {
        let mut values = screen::checksums(headers)?;
        let trailers: Vec<&String> =
            caller.trailers.iter().filter(|name| name.starts_with("x-amz-checksum-")).collect();
        if values.len() + trailers.len() > 1 {
            return Err(invalid(
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
        let named = |name: &str| {
            headers.get(name).and_then(|v| v.to_str().ok()).and_then(screen::algorithm)
        };
        let told = named("x-amz-sdk-checksum-algorithm");
        let value = values.pop();
        let trailer = trailers.first().map(|name| (*name).clone());
        let kind = trailer.as_deref().and_then(|name| name.strip_prefix("x-amz-checksum-"));
        let sent = value.as_ref().map(Checksum::algorithm).or(kind.and_then(screen::algorithm));
        if let (Some(told), Some(sent)) = (told, sent)
            && told != sent
        {
            return Err(invalid("Value for x-amz-sdk-checksum-algorithm header is invalid."));
        }
        Ok(Self { algorithm: sent.or(told), value, trailer })
    }

    /// What the data must have, once it has all come.
    pub(super) fn expected(self, caller: &Caller) -> S3Result<Option<Checksum>> {
        let (Some(name), Some(algorithm)) = (self.trailer, self.algorithm) else {
            return Ok(self.value);
        };
        let value = caller.outcome.trailer(&name);
        let checksum = value.and_then(|value| Checksum::from_base64(algorithm, &value));
        let wrong = || invalid(format!("Value for {name} trailing header is invalid."));
        checksum.map(Some).ok_or_else(wrong)
    }
}

/// Puts a checksum into the field of its algorithm.
macro_rules! set_checksum {
    ($output:expr, $algorithm:expr, $text:expr) => {{
        let text: String = $text;
        match $algorithm {
            $crate::checksum::Algorithm::Crc32 => $output.checksum_crc32 = Some(text),
            $crate::checksum::Algorithm::Crc32c => $output.checksum_crc32c = Some(text),
            $crate::checksum::Algorithm::Crc64Nvme => $output.checksum_crc64nvme = Some(text),
            $crate::checksum::Algorithm::Sha1 => $output.checksum_sha1 = Some(text),
            $crate::checksum::Algorithm::Sha256 => $output.checksum_sha256 = Some(text),
        }
    }};
}
pub(super) use set_checksum;

/// Objects have one version here, the one that S3 calls `null`.
pub(super) fn only_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => Err(error(
            "NoSuchVersion",
            StatusCode::NOT_FOUND,
            "The specified version does not exist.",
        )),
    }
}

/// Headers of an answer that s3s has no field for, or another type.
pub(super) fn kept_headers(info: &ObjectInfo) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(Ok(expires)) = info.system.expires.as_deref().map(str::parse) {
        headers.insert(http::header::EXPIRES, expires);
    }
    headers
}
