//! Buckets: made, found, listed, removed; and what S3 says of a bucket where nothing was set.

use super::list::owner;
use super::words::{caller, timestamp};
use crate::gateway::answer::error;
use crate::gateway::refusal::of_store;
use crate::gateway::{Caller, Space};
use http::StatusCode;
use s3s::dto::{
    Bucket, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput, DeleteBucketInput,
    DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput, Grant, Grantee,
    HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput, Permission, Type,
};
use s3s::{S3Error, S3Request, S3Response, S3Result};

pub(super) async fn create(
    request: S3Request<CreateBucketInput>,
    region: &str,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    if input.object_lock_enabled_for_bucket == Some(true) {
        let text = "Object Lock is not served.";
        return Err(error("NotImplemented", StatusCode::NOT_IMPLEMENTED, text));
    }
    let configuration = input.create_bucket_configuration.as_ref();
    let named = configuration.and_then(|c| c.location_constraint.as_ref());
    if let Some(named) = named
        && !named.as_str().is_empty()
        && named.as_str() != region
    {
        return Err(error(
            "IllegalLocationConstraintException",
            StatusCode::BAD_REQUEST,
            format!(
                "The {} location constraint is incompatible for the region specific endpoint this request was sent to.",
                named.as_str()
            ),
        ));
    }
    caller.space.buckets.create(&input.bucket).await.map_err(of_store)?;
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{}", input.bucket)) }))
}

pub(super) async fn delete(
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let caller = caller(&request)?;
    caller.space.buckets.delete(&request.input.bucket).await.map_err(of_store)?;
    Ok(S3Response::with_status(DeleteBucketOutput::default(), StatusCode::NO_CONTENT))
}

/// The bucket must be there.
pub(super) async fn exists(caller: &Caller, bucket: &str) -> S3Result<()> {
    caller.space.store.bucket(bucket).await.map(drop).map_err(of_store)
}

pub(super) async fn head(
    request: S3Request<HeadBucketInput>,
    region: &str,
) -> S3Result<S3Response<HeadBucketOutput>> {
    exists(&caller(&request)?, &request.input.bucket).await?;
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: s3s::region::Region::new(region.into()).ok().map(|_| region.to_owned()),
        ..HeadBucketOutput::default()
    }))
}

pub(super) async fn location(
    request: S3Request<GetBucketLocationInput>,
    region: &str,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    exists(&caller(&request)?, &request.input.bucket).await?;
    // That Region alone has no constraint.
    let told = Some(region).filter(|region| *region != "us-east-1");
    Ok(S3Response::new(GetBucketLocationOutput {
        location_constraint: told.map(|r| BucketLocationConstraint::from(r.to_owned())),
    }))
}

pub(super) async fn list(
    request: S3Request<ListBucketsInput>,
    region: &str,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.unwrap_or_default();
    let most = input.max_buckets.and_then(|n| usize::try_from(n).ok()).unwrap_or(10_000);
    let found = caller.space.store.list_buckets().await.map_err(of_store)?;
    let mut behind = found.into_iter().filter(|b| b.name.starts_with(&prefix) && b.name > after);
    let page: Vec<Bucket> = behind
        .by_ref()
        .take(most)
        .map(|bucket| Bucket {
            bucket_region: Some(region.to_owned()),
            creation_date: Some(timestamp(bucket.created_ms)),
            name: Some(bucket.name),
        })
        .collect();
    let next = page.last().and_then(|bucket| bucket.name.clone());
    Ok(S3Response::new(ListBucketsOutput {
        continuation_token: next.filter(|_| behind.next().is_some()),
        buckets: Some(page),
        owner: Some(owner(&caller.space)),
        prefix: input.prefix,
    }))
}

/// The answer where S3 keeps a configuration and this bucket has none.
pub(super) async fn absent<T>(
    caller: &Caller,
    bucket: &str,
    code: &'static str,
    what: &str,
) -> S3Result<T> {
    exists(caller, bucket).await?;
    Err(unset(code, what))
}

fn unset(code: &'static str, what: &str) -> S3Error {
    error(code, StatusCode::NOT_FOUND, format!("The {what} does not exist"))
}

/// The one grant of every bucket and object: the owner's.
pub(super) fn grants(space: &Space) -> Vec<Grant> {
    let owner = owner(space);
    vec![Grant {
        grantee: Some(Grantee {
            display_name: owner.display_name,
            email_address: None,
            id: owner.id,
            type_: Type::from_static(Type::CANONICAL_USER),
            uri: None,
        }),
        permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
    }]
}
