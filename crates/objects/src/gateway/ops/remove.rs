//! DeleteObject, DeleteObjects, and the tags of an object.

use super::words::{caller, doubled_tag, only_version, write_condition};
use crate::gateway::Caller;
use crate::gateway::answer::error;
use crate::gateway::refusal::{invalid, of_store};
use crate::{StoreError, Tags, WriteCondition};
use http::StatusCode;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETagCondition, Error,
    GetObjectTaggingInput, GetObjectTaggingOutput, ObjectIdentifier, PutObjectTaggingInput,
    PutObjectTaggingOutput, Tag,
};
use s3s::{S3Request, S3Response, S3Result};

/// Most keys of one DeleteObjects.
const MOST_KEYS: usize = 1000;

pub(super) async fn one(
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    only_version(input.version_id.as_deref())?;
    if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
        return Err(unconditional());
    }
    let condition = write_condition(input.if_match, None)?;
    delete(&caller, &input.bucket, &input.key, condition).await?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

fn unconditional() -> s3s::S3Error {
    let text = "Only the ETag can be a condition of a deletion.";
    error("NotImplemented", StatusCode::NOT_IMPLEMENTED, text)
}

/// What is not there is deleted as well.
async fn delete(
    caller: &Caller,
    bucket: &str,
    key: &str,
    condition: WriteCondition,
) -> S3Result<()> {
    match caller.space.store.delete(bucket, key, condition).await {
        Ok(_) => Ok(()),
        Err(StoreError::NoSuchKey) => Err(of_store(StoreError::PreconditionFailed)),
        Err(cause) => Err(of_store(cause)),
    }
}

pub(super) async fn many(
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let objects = input.delete.objects;
    if objects.is_empty() || objects.len() > MOST_KEYS {
        let text = "The XML you provided was not well-formed or did not validate against our published schema";
        return Err(error("MalformedXML", StatusCode::BAD_REQUEST, text));
    }
    // The bucket's absence is the whole request's.
    caller.space.store.bucket(&input.bucket).await.map_err(of_store)?;
    let quiet = input.delete.quiet.unwrap_or(false);
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for object in objects {
        match listed(&caller, &input.bucket, &object).await {
            Ok(()) if quiet => {}
            Ok(()) => deleted.push(DeletedObject {
                key: Some(object.key),
                version_id: object.version_id,
                ..DeletedObject::default()
            }),
            Err(error) => errors.push(Error {
                code: Some(error.code().as_str().to_owned()),
                key: Some(object.key),
                message: error.message().map(str::to_owned),
                version_id: object.version_id,
            }),
        }
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        request_charged: None,
    }))
}

async fn listed(caller: &Caller, bucket: &str, object: &ObjectIdentifier) -> S3Result<()> {
    only_version(object.version_id.as_deref())?;
    if object.last_modified_time.is_some() || object.size.is_some() {
        return Err(unconditional());
    }
    let condition = write_condition(object.e_tag.clone().map(ETagCondition::ETag), None)?;
    delete(caller, bucket, &object.key, condition).await
}

pub(super) async fn tags(
    request: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    only_version(input.version_id.as_deref())?;
    let tags = caller.space.store.tags(&input.bucket, &input.key).await.map_err(of_store)?;
    let tag = |(key, value)| Tag { key: Some(key), value: Some(value) };
    Ok(S3Response::new(GetObjectTaggingOutput {
        tag_set: tags.into_iter().map(tag).collect(),
        version_id: None,
    }))
}

pub(super) async fn put_tags(
    request: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    only_version(input.version_id.as_deref())?;
    let mut tags = Tags::new();
    for tag in input.tagging.tag_set {
        let key = tag.key.ok_or_else(|| invalid("a tag has no key"))?;
        if tags.insert(key, tag.value.unwrap_or_default()).is_some() {
            return Err(doubled_tag());
        }
    }
    let store = &caller.space.store;
    store.set_tags(&input.bucket, &input.key, tags).await.map_err(of_store)?;
    Ok(S3Response::new(PutObjectTaggingOutput::default()))
}

pub(super) async fn delete_tags(
    request: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    only_version(input.version_id.as_deref())?;
    let store = &caller.space.store;
    store.set_tags(&input.bucket, &input.key, Tags::new()).await.map_err(of_store)?;
    Ok(S3Response::new(DeleteObjectTaggingOutput::default()))
}
