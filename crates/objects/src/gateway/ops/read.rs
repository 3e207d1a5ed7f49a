//! GetObject, HeadObject, GetObjectAttributes.

use super::sse;
use super::words::{
    caller, etag, kept_headers, only_version, read_condition, set_checksum, timestamp,
};
use crate::gateway::refusal::{invalid, of_store};
use crate::{GetOptions, ObjectChecksum, ObjectInfo, Range};
use bytes::Bytes;
use futures_core::Stream as _;
use http_body::{Frame, SizeHint};
use s3s::dto::{
    Checksum, ChecksumType, GetObjectAttributesInput, GetObjectAttributesOutput,
    GetObjectAttributesParts, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    ObjectPart, ReplicationStatus, StorageClass, StreamingBlob,
};
use s3s::{Body, S3Request, S3Response, S3Result};
use std::pin::Pin;
use std::task::{Context, Poll};

/// An object's bytes on their way out. The store lends itself the key for a batch at a time, so a
/// client that reads slowly holds none; an error in the middle ends the connection, and what the
/// client has is shorter than it was told.
struct Outgoing(crate::Body);

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = crate::StoreError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = Pin::new(&mut self.get_mut().0).poll_next(cx);
        next.map(|item| item.map(|item| item.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.remaining())
    }
}

fn range(range: s3s::dto::Range) -> Range {
    match range {
        s3s::dto::Range::Int { first, last: None } => Range::From(first),
        s3s::dto::Range::Int { first, last: Some(last) } => Range::Inclusive(first, last),
        s3s::dto::Range::Suffix { length } => Range::Last(length),
    }
}

fn part(number: Option<i32>) -> S3Result<Option<u32>> {
    let valid = |n: i32| u32::try_from(n).ok().filter(|n| *n > 0);
    let wrong = || invalid("Part number must be an integer between 1 and 10000, inclusive");
    number.map(|n| valid(n).ok_or_else(wrong)).transpose()
}

/// `bytes a-b/n`, where only some of the object is given.
fn content_range(span: &std::ops::Range<u64>, asked: bool, info: &ObjectInfo) -> Option<String> {
    let some = asked && span.end > span.start;
    some.then(|| format!("bytes {}-{}/{}", span.start, span.end - 1, info.size))
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The checksum is told only of the whole: clients compare it with what they receive.
fn told<'a>(
    info: &'a ObjectInfo,
    span: &std::ops::Range<u64>,
    asked: bool,
) -> Option<&'a ObjectChecksum> {
    let whole = span.start == 0 && span.end == info.size;
    info.checksum.as_ref().filter(|_| asked && whole)
}

/// The fields that Get and Head share.
macro_rules! describe {
    ($output:expr, $info:expr, $span:expr, $partial:expr, $arn:expr, $checksum:expr) => {{
        let info: &ObjectInfo = $info;
        let system = info.system.clone();
        $output.accept_ranges = Some("bytes".to_owned());
        $output.bucket_key_enabled = Some(true);
        $output.cache_control = system.cache_control;
        $output.content_disposition = system.content_disposition;
        $output.content_encoding = system.content_encoding;
        $output.content_language = system.content_language;
        $output.content_length = Some(signed($span.end - $span.start));
        $output.content_range = content_range($span, $partial, info);
        let content_type = system.content_type;
        $output.content_type =
            Some(content_type.unwrap_or_else(|| "binary/octet-stream".to_owned()));
        $output.e_tag = Some(etag(&info.etag));
        $output.last_modified = Some(timestamp(info.modified_ms));
        $output.replication_status =
            info.replication.map(|word| ReplicationStatus::from(word.as_str().to_owned()));
        $output.metadata = Some(info.user.clone().into_iter().collect());
        $output.ssekms_key_id = Some($arn);
        $output.server_side_encryption = Some(sse::kms());
        $output.storage_class = system.storage_class.map(StorageClass::from);
        $output.website_redirect_location = system.website_redirect;
        if let Some(checksum) = $checksum {
            $output.checksum_type = Some(ChecksumType::from(checksum.kind.as_str().to_owned()));
            set_checksum!($output, checksum.checksum.algorithm(), checksum.text());
        }
    }};
}

/// What a get and a head ask in the same words.
macro_rules! asked {
    ($input:ident) => {
        GetOptions {
            range: $input.range.map(range),
            part_number: part($input.part_number)?,
            condition: read_condition(
                $input.if_match,
                $input.if_none_match,
                $input.if_modified_since,
                $input.if_unmodified_since,
            ),
        }
    };
}

/// How many parts there are, told to who asks for one.
fn parts_count(info: &ObjectInfo, asked: bool) -> Option<i32> {
    let count = i32::try_from(info.parts.len()).ok().filter(|count| *count > 0);
    count.filter(|_| asked)
}

pub(super) async fn get(
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    only_version(input.version_id.as_deref())?;
    let (ranged, by_part) = (input.range.is_some(), input.part_number.is_some());
    if ranged && by_part {
        return Err(invalid("Cannot specify both Range header and partNumber query parameter"));
    }
    let options = asked!(input);
    let arn = sse::key_of(&caller.space, &input.bucket).await?;
    let got = caller.space.store.get(&input.bucket, &input.key, options).await.map_err(of_store)?;
    let checksum = told(&got.info, &got.range, input.checksum_mode.is_some() && !ranged);
    let mut output = GetObjectOutput {
        parts_count: parts_count(&got.info, by_part),
        tag_count: i32::try_from(got.info.tags.len()).ok().filter(|n| *n > 0),
        ..GetObjectOutput::default()
    };
    describe!(output, &got.info, &got.range, ranged || by_part, arn, checksum);
    let headers = kept_headers(&got.info);
    output.body = Some(StreamingBlob::from(Body::http_body_unsync(Outgoing(got.body))));
    Ok(S3Response::with_headers(output, headers))
}

pub(super) async fn head(
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    only_version(input.version_id.as_deref())?;
    let (ranged, by_part) = (input.range.is_some(), input.part_number.is_some());
    let options = asked!(input);
    let arn = sse::key_of(&caller.space, &input.bucket).await?;
    let head = caller.space.store.head(&input.bucket, &input.key, options).await;
    let (info, span) = head.map_err(of_store)?;
    let checksum = told(&info, &span, input.checksum_mode.is_some() && !ranged);
    let mut output = HeadObjectOutput {
        parts_count: parts_count(&info, by_part),
        ..HeadObjectOutput::default()
    };
    describe!(output, &info, &span, ranged || by_part, arn, checksum);
    let mut answer = S3Response::with_headers(output, kept_headers(&info));
    if answer.output.content_range.is_some() {
        answer.status = Some(http::StatusCode::PARTIAL_CONTENT);
    }
    Ok(answer)
}

pub(super) async fn attributes(
    request: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    only_version(input.version_id.as_deref())?;
    let options = GetOptions::default();
    let head = caller.space.store.head(&input.bucket, &input.key, options).await;
    let (info, _) = head.map_err(of_store)?;
    // One header line may name several.
    let named = input.object_attributes.iter().flat_map(|line| line.as_str().split(','));
    let named: Vec<&str> = named.map(str::trim).collect();
    let wants = |name: &str| named.contains(&name);
    let storage = info.system.storage_class.clone().unwrap_or_else(|| "STANDARD".to_owned());
    let mut output = GetObjectAttributesOutput {
        e_tag: wants("ETag").then(|| etag(&info.etag)),
        last_modified: Some(timestamp(info.modified_ms)),
        object_size: wants("ObjectSize").then(|| signed(info.size)),
        storage_class: wants("StorageClass").then(|| StorageClass::from(storage)),
        ..GetObjectAttributesOutput::default()
    };
    if let Some(sum) = info.checksum.as_ref().filter(|_| wants("Checksum")) {
        let mut checksum = Checksum {
            checksum_type: Some(ChecksumType::from(sum.kind.as_str().to_owned())),
            ..Checksum::default()
        };
        set_checksum!(checksum, sum.checksum.algorithm(), sum.checksum.base64());
        output.checksum = Some(checksum);
    }
    if wants("ObjectParts") && !info.parts.is_empty() {
        let after = input.part_number_marker.unwrap_or(0);
        let most = usize::try_from(input.max_parts.unwrap_or(1000)).unwrap_or(0).min(1000);
        output.object_parts = Some(parts(&info, after, most));
    }
    Ok(S3Response::new(output))
}

fn parts(info: &ObjectInfo, after: i32, most: usize) -> GetObjectAttributesParts {
    let mut behind = info.parts.iter().filter(|part| i32::from(part.number) > after);
    let page: Vec<ObjectPart> = behind.by_ref().take(most).map(described).collect();
    let more = behind.next().is_some();
    GetObjectAttributesParts {
        is_truncated: Some(more),
        max_parts: i32::try_from(most).ok(),
        next_part_number_marker: page.last().and_then(|part| part.part_number).filter(|_| more),
        part_number_marker: Some(after),
        parts: Some(page),
        total_parts_count: i32::try_from(info.parts.len()).ok(),
    }
}

fn described(part: &crate::PartInfo) -> ObjectPart {
    let mut out = ObjectPart {
        part_number: Some(part.number.into()),
        size: Some(signed(part.size)),
        ..ObjectPart::default()
    };
    if let Some(sum) = &part.checksum {
        set_checksum!(out, sum.algorithm(), sum.base64());
    }
    out
}
