//! ListObjects, ListObjectsV2, ListObjectVersions.

use super::words::{caller, etag, timestamp};
use crate::gateway::answer::error;
use crate::gateway::refusal::{invalid, of_store};
use crate::gateway::{Caller, Space};
use crate::limits::MAX_LIST_KEYS;
use crate::{Entry, ListQuery, Listing};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TOKEN;
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CommonPrefix, EncodingType, ListObjectVersionsInput,
    ListObjectVersionsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, ObjectStorageClass, ObjectVersion, ObjectVersionStorageClass,
    Owner,
};
use s3s::{S3Request, S3Response, S3Result};

/// What `encoding-type=url` leaves as it is.
const KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b'*');

/// How names stand in a listing: as they are, or percent-encoded, for XML cannot hold every key.
#[derive(Clone, Copy)]
pub(super) struct Names {
    url: bool,
}

impl Names {
    pub(super) fn new(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Self { url: false }),
            Some("url") => Ok(Self { url: true }),
            Some(_) => {
                let text = "Invalid Encoding Method specified in Request";
                Err(error("InvalidArgument", StatusCode::BAD_REQUEST, text))
            }
        }
    }

    pub(super) fn of(self, name: &str) -> String {
        if self.url { utf8_percent_encode(name, KEPT).to_string() } else { name.to_owned() }
    }

    pub(super) fn opt(self, name: Option<&str>) -> Option<String> {
        name.map(|name| self.of(name))
    }

    pub(super) fn prefixes(self, prefixes: &[String]) -> Option<Vec<CommonPrefix>> {
        let common = |prefix: &String| CommonPrefix { prefix: Some(self.of(prefix)) };
        Some(prefixes.iter().map(common).collect())
    }
}

pub(super) fn owner(space: &Space) -> Owner {
    Owner { display_name: Some(space.owner.clone()), id: Some(space.owner.clone()) }
}

/// How many entries a page may have.
pub(super) fn page(asked: Option<i32>) -> S3Result<usize> {
    match asked {
        None => Ok(MAX_LIST_KEYS),
        Some(n) => usize::try_from(n).map(|n| n.min(MAX_LIST_KEYS)).map_err(|_| {
            let text = "Argument max-keys must be an integer between 0 and 2147483647";
            error("InvalidArgument", StatusCode::BAD_REQUEST, text)
        }),
    }
}

pub(super) fn count(n: usize) -> Option<i32> {
    i32::try_from(n).ok()
}

fn object(entry: &Entry, names: Names, owner: Option<Owner>) -> Object {
    Object {
        checksum_algorithm: entry
            .checksum
            .map(|(algorithm, _)| vec![ChecksumAlgorithm::from(algorithm.as_str().to_owned())]),
        checksum_type: entry.checksum.map(|(_, kind)| ChecksumType::from(kind.as_str().to_owned())),
        e_tag: Some(etag(&entry.etag)),
        key: Some(names.of(&entry.key)),
        last_modified: Some(timestamp(entry.modified_ms)),
        owner,
        size: i64::try_from(entry.size).ok(),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Object::default()
    }
}

async fn listing(caller: &Caller, bucket: &str, query: ListQuery) -> S3Result<Listing> {
    let store = &caller.space.store;
    if query.max_keys == 0 {
        store.bucket(bucket).await.map_err(of_store)?;
        return Ok(Listing::default());
    }
    store.list(bucket, query).await.map_err(of_store)
}

pub(super) async fn v1(
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let names = Names::new(input.encoding_type.as_ref())?;
    let max_keys = page(input.max_keys)?;
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: input.marker.clone().filter(|marker| !marker.is_empty()),
        max_keys,
    };
    let found = listing(&caller, &input.bucket, query).await?;
    let entries = found.entries.iter();
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(names.of(&input.prefix.unwrap_or_default())),
        marker: Some(names.of(&input.marker.unwrap_or_default())),
        max_keys: count(max_keys),
        is_truncated: Some(found.next.is_some()),
        contents: Some(entries.map(|e| object(e, names, Some(owner(&caller.space)))).collect()),
        common_prefixes: names.prefixes(&found.common_prefixes),
        delimiter: names.opt(input.delimiter.as_deref()),
        next_marker: names.opt(found.next.as_deref()),
        encoding_type: input.encoding_type,
        request_charged: None,
    }))
}

pub(super) async fn v2(
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let caller = caller(&request)?;
    let input = request.input;
    let names = Names::new(input.encoding_type.as_ref())?;
    let max_keys = page(input.max_keys)?;
    let after = match &input.continuation_token {
        Some(token) => Some(read_token(token)?),
        None => input.start_after.clone().filter(|after| !after.is_empty()),
    };
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after,
        max_keys,
    };
    let found = listing(&caller, &input.bucket, query).await?;
    let owner = input.fetch_owner.unwrap_or(false).then(|| owner(&caller.space));
    let entries = found.entries.iter();
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(names.of(&input.prefix.unwrap_or_default())),
        max_keys: count(max_keys),
        key_count: count(found.entries.len() + found.common_prefixes.len()),
        continuation_token: input.continuation_token,
        is_truncated: Some(found.next.is_some()),
        next_continuation_token: found.next.map(|next| TOKEN.encode(next)),
        contents: Some(entries.map(|entry| object(entry, names, owner.clone())).collect()),
        common_prefixes: names.prefixes(&found.common_prefixes),
        delimiter: names.opt(input.delimiter.as_deref()),
        encoding_type: input.encoding_type,
        start_after: names.opt(input.start_after.as_deref()),
        request_charged: None,
    }))
}

fn read_token(token: &str) -> S3Result<String> {
    let bytes = TOKEN.decode(token).ok();
    let wrong = || {
        let text = "The continuation token provided is incorrect";
        error("InvalidArgument", StatusCode::BAD_REQUEST, text)
    };
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)
}

/// Versioning was never on, so each object has the one version that S3 calls `null`: tools that
/// empty a bucket by its versions do so.
pub(super) async fn versions(
    request: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    if input.version_id_marker.is_some() && input.key_marker.is_none() {
        return Err(invalid("A version-id marker cannot be specified without a key marker."));
    }
    let names = Names::new(input.encoding_type.as_ref())?;
    let max_keys = page(input.max_keys)?;
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: input.key_marker.clone().filter(|marker| !marker.is_empty()),
        max_keys,
    };
    let found = listing(&caller, &input.bucket, query).await?;
    let version = |entry: &Entry| ObjectVersion {
        e_tag: Some(etag(&entry.etag)),
        is_latest: Some(true),
        key: Some(names.of(&entry.key)),
        last_modified: Some(timestamp(entry.modified_ms)),
        owner: Some(owner(&caller.space)),
        size: i64::try_from(entry.size).ok(),
        storage_class: Some(ObjectVersionStorageClass::from_static(
            ObjectVersionStorageClass::STANDARD,
        )),
        version_id: Some("null".to_owned()),
        ..ObjectVersion::default()
    };
    Ok(S3Response::new(ListObjectVersionsOutput {
        common_prefixes: names.prefixes(&found.common_prefixes),
        delimiter: names.opt(input.delimiter.as_deref()),
        encoding_type: input.encoding_type,
        is_truncated: Some(found.next.is_some()),
        key_marker: Some(names.of(&input.key_marker.unwrap_or_default())),
        max_keys: count(max_keys),
        name: Some(input.bucket),
        next_key_marker: names.opt(found.next.as_deref()),
        next_version_id_marker: found.next.is_some().then(|| "null".to_owned()),
        prefix: Some(names.of(&input.prefix.unwrap_or_default())),
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        versions: Some(found.entries.iter().map(version).collect()),
        ..ListObjectVersionsOutput::default()
    }))
}
