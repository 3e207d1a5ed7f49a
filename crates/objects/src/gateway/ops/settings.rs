//! What S3 says of the many settings that a bucket may have and these have not. Stock clients ask
//! for some of them unbidden, and take an error for trouble.

use super::bucket;
use super::list::owner;
use super::words::{caller, only_version};
use crate::GetOptions;
use crate::gateway::refusal::of_store;
use s3s::dto::{
    GetBucketAccelerateConfigurationInput, GetBucketAccelerateConfigurationOutput,
    GetBucketAclInput, GetBucketAclOutput, GetBucketLoggingInput, GetBucketLoggingOutput,
    GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput,
    GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput, GetBucketPolicyStatusInput,
    GetBucketPolicyStatusOutput, GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput,
    GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectAclInput, GetObjectAclOutput,
    ObjectOwnership, OwnershipControls, OwnershipControlsRule, Payer, PolicyStatus,
};
use s3s::{S3Request, S3Response, S3Result};

/// A setting that there is not.
pub(super) async fn absent<I, O>(
    request: &S3Request<I>,
    bucket: &str,
    code: &'static str,
    what: &str,
) -> S3Result<S3Response<O>> {
    bucket::absent(&caller(request)?, bucket, code, what).await
}

/// Never switched on.
pub(super) async fn bucket_versioning(
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    bucket::exists(&caller(&request)?, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}

pub(super) async fn bucket_logging(
    request: S3Request<GetBucketLoggingInput>,
) -> S3Result<S3Response<GetBucketLoggingOutput>> {
    bucket::exists(&caller(&request)?, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketLoggingOutput::default()))
}

pub(super) async fn bucket_notification_configuration(
    request: S3Request<GetBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
    bucket::exists(&caller(&request)?, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketNotificationConfigurationOutput::default()))
}

pub(super) async fn bucket_accelerate_configuration(
    request: S3Request<GetBucketAccelerateConfigurationInput>,
) -> S3Result<S3Response<GetBucketAccelerateConfigurationOutput>> {
    bucket::exists(&caller(&request)?, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketAccelerateConfigurationOutput::default()))
}

pub(super) async fn bucket_request_payment(
    request: S3Request<GetBucketRequestPaymentInput>,
) -> S3Result<S3Response<GetBucketRequestPaymentOutput>> {
    bucket::exists(&caller(&request)?, &request.input.bucket).await?;
    let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
    Ok(S3Response::new(GetBucketRequestPaymentOutput { payer }))
}

pub(super) async fn bucket_ownership_controls(
    request: S3Request<GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
    bucket::exists(&caller(&request)?, &request.input.bucket).await?;
    let owner = ObjectOwnership::from_static(ObjectOwnership::BUCKET_OWNER_ENFORCED);
    let rules = vec![OwnershipControlsRule { object_ownership: owner }];
    Ok(S3Response::new(GetBucketOwnershipControlsOutput {
        ownership_controls: Some(OwnershipControls { rules }),
    }))
}

pub(super) async fn bucket_policy_status(
    request: S3Request<GetBucketPolicyStatusInput>,
) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
    bucket::exists(&caller(&request)?, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketPolicyStatusOutput {
        policy_status: Some(PolicyStatus { is_public: Some(false) }),
    }))
}

pub(super) async fn bucket_acl(
    request: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    let caller = caller(&request)?;
    bucket::exists(&caller, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketAclOutput {
        grants: Some(bucket::grants(&caller.space)),
        owner: Some(owner(&caller.space)),
    }))
}

pub(super) async fn object_acl(
    request: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let caller = caller(&request)?;
    let input = &request.input;
    only_version(input.version_id.as_deref())?;
    let head = caller.space.store.head(&input.bucket, &input.key, GetOptions::default()).await;
    head.map_err(of_store)?;
    Ok(S3Response::new(GetObjectAclOutput {
        grants: Some(bucket::grants(&caller.space)),
        owner: Some(owner(&caller.space)),
        request_charged: None,
    }))
}
