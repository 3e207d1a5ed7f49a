//! Multipart uploads.

use super::list::{Names, count, owner, page};
use super::sse;
use super::words::{
    Announced, caller, etag, read_condition, set_checksum, system, tags, timestamp, user,
    write_condition,
};
use super::write::{Data, length, of_copy, source};
use crate::checksum::{Algorithm, Checksum, Hasher, Kind};
use crate::gateway::answer::error;
use crate::gateway::refusal::{invalid, of_store};
use crate::gateway::{Caller, screen};
use crate::limits::MAX_PARTS;
use crate::{
    CompleteOptions, CompletePart, Digest, ObjectChecksum, PartHandle, PartOptions, StoreError,
    UploadOptions, UploadQuery,
};
use http::StatusCode;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, CopyPartResult,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, Initiator, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Part,
    StorageClass, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result};

pub(super) async fn create(
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let caller = caller(&request)?;
    let S3Request { input, headers, .. } = request;
    let arn = sse::check(&caller, &input.bucket, &headers).await?;
    let kind = input.checksum_type.as_ref().map(ChecksumType::as_str);
    let unknown = || invalid("Value for x-amz-checksum-type header is invalid.");
    let options = UploadOptions {
        system: system(&headers)?,
        user: user(input.metadata),
        tags: tags(input.tagging.as_deref())?,
        algorithm: input.checksum_algorithm.as_ref().and_then(|a| screen::algorithm(a.as_str())),
        kind: kind.map(|kind| Kind::parse(kind).ok_or_else(unknown)).transpose()?,
    };
    if options.kind.is_some() && options.algorithm.is_none() {
        return Err(invalid(
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
        ));
    }
    let told = options.algorithm.is_some();
    let store = &caller.space.store;
    let upload = store.create_upload(&input.bucket, &input.key, options).await.map_err(of_store)?;
    let (algorithm, kind) = upload.checksum;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        bucket_key_enabled: Some(true),
        checksum_algorithm: told.then(|| ChecksumAlgorithm::from(algorithm.as_str().to_owned())),
        checksum_type: told.then(|| ChecksumType::from(kind.as_str().to_owned())),
        key: Some(input.key),
        ssekms_key_id: Some(arn),
        server_side_encryption: Some(sse::kms()),
        upload_id: Some(upload.upload_id),
        ..CreateMultipartUploadOutput::default()
    }))
}

fn number(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok().filter(|n| (1..=MAX_PARTS).contains(n));
    number.ok_or_else(|| {
        let text = "Part number must be an integer between 1 and 10000, inclusive";
        error("InvalidArgument", StatusCode::BAD_REQUEST, text)
    })
}

/// Begins a part. An upload that named no checksum is summed by CRC64NVME as a whole, and its parts
/// may come with any other: that one is compared here, and is not kept.
async fn begin(
    caller: &Caller,
    input: &UploadPartInput,
    number: u16,
    mut options: PartOptions,
) -> S3Result<(PartHandle, Option<Hasher>)> {
    let store = &caller.space.store;
    let (bucket, key, upload) = (&input.bucket, &input.key, &input.upload_id);
    match (store.put_part(bucket, key, upload, number, options.clone()).await, options.algorithm) {
        (Ok(handle), _) => Ok((handle, None)),
        (Err(StoreError::InvalidChecksum(why)), Some(algorithm)) => {
            let listed = store.list_parts(bucket, key, upload, 0, 1).await.map_err(of_store)?;
            if listed.upload.checksum != (Algorithm::Crc64Nvme, Kind::FullObject) {
                return Err(of_store(StoreError::InvalidChecksum(why)));
            }
            options.algorithm = None;
            let begun = store.put_part(bucket, key, upload, number, options).await;
            Ok((begun.map_err(of_store)?, Some(Hasher::new(algorithm))))
        }
        (Err(cause), _) => Err(of_store(cause)),
    }
}

pub(super) async fn upload(
    request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let caller = caller(&request)?;
    let S3Request { input, headers, .. } = request;
    let number = number(input.part_number)?;
    let announced = Announced::read(&headers, &caller)?;
    let options = PartOptions {
        algorithm: announced.algorithm,
        content_md5: screen::content_md5(&headers)?,
        size: length(input.content_length)?,
    };
    let arn = sse::key_of(&caller.space, &input.bucket).await?;
    let (mut handle, mut own) = begin(&caller, &input, number, options).await?;
    let mut data = Data::new(input.body);
    while let Some(bytes) = data.next().await? {
        if let Some(hasher) = &mut own {
            hasher.update(&bytes);
        }
        handle.write(bytes).await.map_err(of_store)?;
    }
    drop(data);
    let mut expected = announced.expected(&caller)?;
    if let Some(hasher) = own
        && let Some(sent) = expected.take()
        && hasher.finish() != sent
    {
        return Err(of_store(StoreError::BadDigest(Digest::Checksum(sent.algorithm()))));
    }
    let done = handle.commit(expected).await.map_err(of_store)?;
    let mut output = UploadPartOutput {
        bucket_key_enabled: Some(true),
        e_tag: Some(etag(&done.etag)),
        ssekms_key_id: Some(arn),
        server_side_encryption: Some(sse::kms()),
        ..UploadPartOutput::default()
    };
    set_checksum!(output, done.checksum.checksum.algorithm(), done.checksum.checksum.base64());
    Ok(S3Response::new(output))
}

/// `bytes=a-b`, both ends given.
fn copy_range(text: &str) -> S3Result<(u64, u64)> {
    match s3s::dto::Range::parse(text) {
        Ok(s3s::dto::Range::Int { first, last: Some(last) }) => Ok((first, last)),
        _ => {
            let text = "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy";
            Err(error("InvalidArgument", StatusCode::BAD_REQUEST, text))
        }
    }
}

pub(super) async fn copy(
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let number = number(input.part_number)?;
    let mut source = source(&input.copy_source)?;
    source.condition = read_condition(
        input.copy_source_if_match,
        input.copy_source_if_none_match,
        input.copy_source_if_modified_since,
        input.copy_source_if_unmodified_since,
    );
    let range = input.copy_source_range.as_deref().map(copy_range).transpose()?;
    let arn = sse::key_of(&caller.space, &input.bucket).await?;
    let (bucket, key, upload) = (&input.bucket, &input.key, &input.upload_id);
    let copied = caller.space.store.copy_part(source, range, bucket, key, upload, number).await;
    let done = copied.map_err(of_copy)?;
    let mut result = CopyPartResult {
        e_tag: Some(etag(&done.etag)),
        last_modified: Some(timestamp(done.modified_ms)),
        ..CopyPartResult::default()
    };
    set_checksum!(result, done.checksum.checksum.algorithm(), done.checksum.checksum.base64());
    Ok(S3Response::new(UploadPartCopyOutput {
        bucket_key_enabled: Some(true),
        copy_part_result: Some(result),
        ssekms_key_id: Some(arn),
        server_side_encryption: Some(sse::kms()),
        ..UploadPartCopyOutput::default()
    }))
}

/// The one checksum among the fields of an input.
macro_rules! sent_checksum {
    ($input:expr) => {{
        use crate::checksum::Algorithm as A;
        [
            (A::Crc32, &$input.checksum_crc32),
            (A::Crc32c, &$input.checksum_crc32c),
            (A::Crc64Nvme, &$input.checksum_crc64nvme),
            (A::Sha1, &$input.checksum_sha1),
            (A::Sha256, &$input.checksum_sha256),
        ]
        .into_iter()
        .find_map(|(algorithm, text)| text.as_deref().map(|text| (algorithm, text)))
    }};
}

fn named_part(part: CompletedPart) -> S3Result<CompletePart> {
    let malformed = || {
        let text = "The XML you provided was not well-formed or did not validate against our published schema";
        error("MalformedXML", StatusCode::BAD_REQUEST, text)
    };
    let checksum = match sent_checksum!(part) {
        Some((algorithm, text)) => {
            Some(Checksum::from_base64(algorithm, text).ok_or_else(malformed)?)
        }
        None => None,
    };
    let number = number(part.part_number.ok_or_else(malformed)?)?;
    let etag = part.e_tag.ok_or_else(malformed)?.into_value();
    Ok(CompletePart { number, etag, checksum })
}

/// The whole object's checksum, as its client has it: with `-N` it is one over N parts'.
fn whole(input: &CompleteMultipartUploadInput) -> S3Result<Option<ObjectChecksum>> {
    let Some((algorithm, text)) = sent_checksum!(input) else { return Ok(None) };
    let wrong = || invalid(format!("Value for the {algorithm} checksum header is invalid."));
    let (value, parts) = match text.split_once('-') {
        Some((value, parts)) => (value, parts.parse().map_err(|_| wrong())?),
        None => (text, 0),
    };
    let checksum = Checksum::from_base64(algorithm, value).ok_or_else(wrong)?;
    let told = input.checksum_type.as_ref().map(ChecksumType::as_str).and_then(Kind::parse);
    let seen = if parts > 0 { Kind::Composite } else { Kind::FullObject };
    let kind = told.unwrap_or(seen);
    let named = input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_ref());
    let named = named.and_then(|named| u16::try_from(named.len()).ok()).unwrap_or_default();
    let parts = if kind == Kind::Composite && parts == 0 { named } else { parts };
    Ok(Some(ObjectChecksum { checksum, kind, parts }))
}

pub(super) async fn complete(
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let checksum = whole(&input)?;
    let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let parts: Vec<CompletePart> = parts.into_iter().map(named_part).collect::<S3Result<_>>()?;
    let options = CompleteOptions {
        condition: write_condition(input.if_match, input.if_none_match)?,
        checksum,
        size: input.mpu_object_size.and_then(|size| u64::try_from(size).ok()),
    };
    let arn = sse::key_of(&caller.space, &input.bucket).await?;
    let (bucket, key, upload) = (&input.bucket, &input.key, &input.upload_id);
    let store = &caller.space.store;
    let done =
        store.complete_upload(bucket, key, upload, parts, options).await.map_err(of_store)?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        bucket_key_enabled: Some(true),
        checksum_type: Some(ChecksumType::from(done.checksum.kind.as_str().to_owned())),
        e_tag: Some(etag(&done.etag)),
        key: Some(input.key),
        ssekms_key_id: Some(arn),
        server_side_encryption: Some(sse::kms()),
        ..CompleteMultipartUploadOutput::default()
    };
    set_checksum!(output, done.checksum.checksum.algorithm(), done.checksum.text());
    Ok(S3Response::new(output))
}

pub(super) async fn abort(
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let store = &caller.space.store;
    store.abort_upload(&input.bucket, &input.key, &input.upload_id).await.map_err(of_store)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

fn standard() -> Option<StorageClass> {
    Some(StorageClass::from_static(StorageClass::STANDARD))
}

pub(super) async fn parts(
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let after = input.part_number_marker.unwrap_or(0);
    let behind = u16::try_from(after).unwrap_or(u16::MAX);
    let max = page(input.max_parts)?;
    let (bucket, key, upload) = (&input.bucket, &input.key, &input.upload_id);
    let listed = caller.space.store.list_parts(bucket, key, upload, behind, max).await;
    let found = listed.map_err(of_store)?;
    let part = |part: &crate::PartInfo| {
        let mut out = Part {
            e_tag: Some(etag(&part.etag)),
            last_modified: Some(timestamp(part.modified_ms)),
            part_number: Some(part.number.into()),
            size: i64::try_from(part.size).ok(),
            ..Part::default()
        };
        if let Some(sum) = &part.checksum {
            set_checksum!(out, sum.algorithm(), sum.base64());
        }
        out
    };
    let (algorithm, kind) = found.upload.checksum;
    let space = &caller.space;
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        checksum_algorithm: Some(ChecksumAlgorithm::from(algorithm.as_str().to_owned())),
        checksum_type: Some(ChecksumType::from(kind.as_str().to_owned())),
        initiator: Some(initiator(&space.owner)),
        is_truncated: Some(found.next.is_some()),
        key: Some(input.key),
        max_parts: count(max),
        next_part_number_marker: found.next.map(i32::from),
        owner: Some(owner(space)),
        part_number_marker: Some(after),
        parts: Some(found.parts.iter().map(part).collect()),
        storage_class: standard(),
        upload_id: Some(input.upload_id),
        ..ListPartsOutput::default()
    }))
}

fn initiator(name: &str) -> Initiator {
    Initiator { display_name: Some(name.to_owned()), id: Some(name.to_owned()) }
}

pub(super) async fn uploads(
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let names = Names::new(input.encoding_type.as_ref())?;
    let max_uploads = page(input.max_uploads)?;
    let marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
    let query = UploadQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: marker.map(|key| (key, input.upload_id_marker.clone().filter(|id| !id.is_empty()))),
        max_uploads,
    };
    let space = &caller.space;
    let found = space.store.list_uploads(&input.bucket, query).await.map_err(of_store)?;
    let upload = |upload: &crate::UploadEntry| MultipartUpload {
        checksum_algorithm: Some(ChecksumAlgorithm::from(upload.checksum.0.as_str().to_owned())),
        checksum_type: Some(ChecksumType::from(upload.checksum.1.as_str().to_owned())),
        initiated: Some(timestamp(upload.begun_ms)),
        initiator: Some(initiator(&space.owner)),
        key: Some(names.of(&upload.key)),
        owner: Some(owner(space)),
        storage_class: standard(),
        upload_id: Some(upload.upload_id.clone()),
    };
    let (next_key, next_id) = found.next.clone().map_or((None, None), |(key, id)| (Some(key), id));
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: names.prefixes(&found.common_prefixes),
        delimiter: names.opt(input.delimiter.as_deref()),
        encoding_type: input.encoding_type,
        is_truncated: Some(found.next.is_some()),
        key_marker: Some(names.of(&input.key_marker.unwrap_or_default())),
        max_uploads: count(max_uploads),
        next_key_marker: names.opt(next_key.as_deref()),
        next_upload_id_marker: next_id,
        prefix: Some(names.of(&input.prefix.unwrap_or_default())),
        request_charged: None,
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        uploads: Some(found.uploads.iter().map(upload).collect()),
    }))
}
