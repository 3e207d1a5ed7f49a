//! PutObject and CopyObject.

use super::sse;
use super::words::{
    Announced, caller, etag, read_condition, set_checksum, system, tags, timestamp, user,
    write_condition, write_condition_of,
};
use crate::gateway::answer::error;
use crate::gateway::refusal::{invalid, of_store};
use crate::gateway::screen;
use crate::{CopyOptions, CopySource, Done, PutOptions};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use s3s::dto::{
    ChecksumType, CopyObjectInput, CopyObjectOutput, CopyObjectResult, MetadataDirective,
    PutObjectInput, PutObjectOutput, StreamingBlob, TaggingDirective,
};
use s3s::{Body, S3Error, S3Request, S3Response, S3Result};

/// The data of a request. What [`crate::gateway::body`] found wrong with it is told by the gateway
/// in the end; here it only ends the work.
pub(super) struct Data(Body);

impl Data {
    pub(super) fn new(blob: Option<StreamingBlob>) -> Self {
        Self(blob.map_or_else(Body::empty, Body::from))
    }

    /// The next bytes; `None` when all have come and are genuine.
    pub(super) async fn next(&mut self) -> S3Result<Option<Bytes>> {
        while let Some(frame) = self.0.frame().await {
            let broken = || error("IncompleteBody", StatusCode::BAD_REQUEST, "the body broke off");
            if let Ok(data) = frame.map_err(|_| broken())?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// The bytes that will come; S3 wants to know before.
pub(super) fn length(length: Option<i64>) -> S3Result<Option<u64>> {
    let length = length.and_then(|length| u64::try_from(length).ok());
    let missing = || {
        let text = "You must provide the Content-Length HTTP header.";
        error("MissingContentLength", StatusCode::LENGTH_REQUIRED, text)
    };
    length.map(Some).ok_or_else(missing)
}

pub(super) async fn put(
    request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let caller = caller(&request)?;
    let S3Request { input, headers, .. } = request;
    let arn = sse::check(&caller, &input.bucket, &headers).await?;
    let announced = Announced::read(&headers, &caller)?;
    let options = PutOptions {
        system: system(&headers)?,
        user: user(input.metadata),
        tags: tags(input.tagging.as_deref())?,
        algorithm: announced.algorithm,
        content_md5: screen::content_md5(&headers)?,
        size: length(input.content_length)?,
        condition: write_condition(input.if_match, input.if_none_match)?,
    };
    let store = &caller.space.store;
    let mut handle = store.put(&input.bucket, &input.key, options).await.map_err(of_store)?;
    let mut data = Data::new(input.body);
    while let Some(bytes) = data.next().await? {
        handle.write(bytes).await.map_err(of_store)?;
    }
    drop(data);
    let done = handle.commit(announced.expected(&caller)?).await.map_err(of_store)?;
    let mut output = PutObjectOutput {
        bucket_key_enabled: Some(true),
        checksum_type: Some(checksum_type(&done)),
        e_tag: Some(etag(&done.etag)),
        ssekms_key_id: Some(arn),
        server_side_encryption: Some(sse::kms()),
        ..PutObjectOutput::default()
    };
    set_checksum!(output, done.checksum.checksum.algorithm(), done.checksum.text());
    Ok(S3Response::new(output))
}

fn checksum_type(done: &Done) -> ChecksumType {
    ChecksumType::from(done.checksum.kind.as_str().to_owned())
}

/// The source that a copy names.
pub(super) fn source(named: &s3s::dto::CopySource) -> S3Result<CopySource> {
    let s3s::dto::CopySource::Bucket { bucket, key, version_id } = named else {
        return Err(invalid("Only a bucket and a key can be copied from."));
    };
    super::words::only_version(version_id.as_deref())?;
    Ok(CopySource { bucket: bucket.to_string(), key: key.to_string(), ..CopySource::default() })
}

pub(super) async fn copy(
    request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let caller = caller(&request)?;
    let S3Request { input, headers, .. } = request;
    let arn = sse::check(&caller, &input.bucket, &headers).await?;
    let mut source = source(&input.copy_source)?;
    source.condition = read_condition(
        input.copy_source_if_match,
        input.copy_source_if_none_match,
        input.copy_source_if_modified_since,
        input.copy_source_if_unmodified_since,
    );
    let replaces = directive(input.metadata_directive.as_ref().map(MetadataDirective::as_str))?;
    let replaces_tags = directive(input.tagging_directive.as_ref().map(TaggingDirective::as_str))?;
    let itself = source.bucket == input.bucket && source.key == input.key;
    if itself && !replaces && !changes(&headers) {
        return Err(invalid(
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let algorithm = input.checksum_algorithm.as_ref().and_then(|a| screen::algorithm(a.as_str()));
    let options = CopyOptions {
        metadata: replaces
            .then(|| Ok::<_, S3Error>((system(&headers)?, user(input.metadata))))
            .transpose()?,
        tags: replaces_tags.then(|| tags(input.tagging.as_deref())).transpose()?,
        algorithm,
        condition: write_condition_of(&headers)?,
    };
    let store = &caller.space.store;
    let copied = store.copy(source, &input.bucket, &input.key, options).await;
    let done = copied.map_err(of_copy)?;
    let mut result = CopyObjectResult {
        checksum_type: Some(checksum_type(&done)),
        e_tag: Some(etag(&done.etag)),
        last_modified: Some(timestamp(done.modified_ms)),
        ..CopyObjectResult::default()
    };
    set_checksum!(result, done.checksum.checksum.algorithm(), done.checksum.text());
    Ok(S3Response::new(CopyObjectOutput {
        bucket_key_enabled: Some(true),
        copy_object_result: Some(result),
        ssekms_key_id: Some(arn),
        server_side_encryption: Some(sse::kms()),
        ..CopyObjectOutput::default()
    }))
}

/// A condition on a copy's source fails as one, whichever it is.
pub(super) fn of_copy(cause: crate::StoreError) -> S3Error {
    match cause {
        crate::StoreError::NotModified(_) => of_store(crate::StoreError::PreconditionFailed),
        crate::StoreError::EntityTooLarge => invalid(
            "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120",
        ),
        other => of_store(other),
    }
}

fn changes(headers: &HeaderMap) -> bool {
    ["x-amz-server-side-encryption", "x-amz-storage-class", "x-amz-website-redirect-location"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// Whether a directive says REPLACE.
fn directive(word: Option<&str>) -> S3Result<bool> {
    match word {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => {
            let text = "Unknown metadata directive.";
            Err(error("InvalidArgument", StatusCode::BAD_REQUEST, text))
        }
    }
}
