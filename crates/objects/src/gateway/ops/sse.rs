//! Encryption as the client sees it: always SSE-KMS, under the bucket's key, with a bucket key.

use super::words::caller;
use crate::gateway::refusal::{invalid, of_store};
use crate::gateway::{Caller, Space};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use s3s::dto::{
    GetBucketEncryptionInput, GetBucketEncryptionOutput, PutBucketEncryptionInput,
    PutBucketEncryptionOutput, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
};
use s3s::{S3Request, S3Response, S3Result};
use std::collections::BTreeMap;

pub(super) fn kms() -> ServerSideEncryption {
    ServerSideEncryption::from_static(ServerSideEncryption::AWS_KMS)
}

/// The ARN of a bucket's key, for the answers.
pub(super) async fn key_of(space: &Space, bucket: &str) -> S3Result<String> {
    Ok(space.store.bucket(bucket).await.map_err(of_store)?.settings.key_arn)
}

/// Whether `named`, an ARN or a bare id, is the key `arn`.
fn is_key(named: &str, arn: &str) -> bool {
    named == arn || arn.rsplit_once(":key/").is_some_and(|(_, id)| named == id)
}

fn other_key(arn: &str) -> s3s::S3Error {
    invalid(format!(
        "Objects of this bucket are encrypted under {arn}; another key cannot be named."
    ))
}

/// What a write says of its encryption must be what is done. Gives the ARN of the bucket's key.
pub(super) async fn check(caller: &Caller, bucket: &str, headers: &HeaderMap) -> S3Result<String> {
    let arn = key_of(&caller.space, bucket).await?;
    let text = |name: &str| match headers.get(name) {
        None => Ok(None),
        Some(value) => value.to_str().map(Some).map_err(|_| invalid(format!("{name} is not text"))),
    };
    let algorithm = text("x-amz-server-side-encryption")?;
    if let Some(named) = text("x-amz-server-side-encryption-aws-kms-key-id")? {
        if algorithm.is_none() {
            return Err(invalid(
                "A KMS key is named without x-amz-server-side-encryption: aws:kms.",
            ));
        }
        if !is_key(named, &arn) {
            return Err(other_key(&arn));
        }
    }
    if let Some(context) = text("x-amz-server-side-encryption-context")? {
        check_context(caller, bucket, context)?;
    }
    Ok(arn)
}

/// The context is the bucket's, for all its objects share the bucket key.
fn check_context(caller: &Caller, bucket: &str, header: &str) -> S3Result<()> {
    let json = BASE64.decode(header).ok();
    let sent: Option<BTreeMap<String, String>> =
        json.and_then(|json| serde_json::from_slice(&json).ok());
    let Some(sent) = sent else {
        return Err(invalid(
            "x-amz-server-side-encryption-context is not a base64-encoded JSON of string pairs.",
        ));
    };
    let fits = caller.space.store.vault().lend(bucket, |ring| *ring.context() == sent);
    match fits.map_err(|refused| of_store(refused.into()))? {
        true => Ok(()),
        false => Err(invalid(
            "The encryption context of this bucket's objects is the bucket's own, for they share its bucket key; another cannot be named.",
        )),
    }
}

/// Default encryption, as it always is.
pub(super) async fn get_default(
    request: S3Request<GetBucketEncryptionInput>,
) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
    let arn = key_of(&caller(&request)?.space, &request.input.bucket).await?;
    let rule = ServerSideEncryptionRule {
        apply_server_side_encryption_by_default: Some(ServerSideEncryptionByDefault {
            kms_master_key_id: Some(arn),
            sse_algorithm: kms(),
        }),
        bucket_key_enabled: Some(true),
    };
    Ok(S3Response::new(GetBucketEncryptionOutput {
        server_side_encryption_configuration: Some(ServerSideEncryptionConfiguration {
            rules: vec![rule],
        }),
    }))
}

/// Accepts the default encryption that there is, and no other.
pub(super) async fn put_default(
    request: S3Request<PutBucketEncryptionInput>,
) -> S3Result<S3Response<PutBucketEncryptionOutput>> {
    let caller = caller(&request)?;
    let arn = key_of(&caller.space, &request.input.bucket).await?;
    for rule in &request.input.server_side_encryption_configuration.rules {
        if rule.bucket_key_enabled == Some(false) {
            return Err(invalid("Buckets of this endpoint have a bucket key, always."));
        }
        let Some(default) = &rule.apply_server_side_encryption_by_default else { continue };
        if default.sse_algorithm.as_str() != ServerSideEncryption::AWS_KMS {
            return Err(invalid(format!(
                "Objects of this endpoint are encrypted under the cluster's KMS key: the algorithm must be aws:kms, not {}.",
                default.sse_algorithm.as_str()
            )));
        }
        if default.kms_master_key_id.as_deref().is_some_and(|named| !is_key(named, &arn)) {
            return Err(other_key(&arn));
        }
    }
    Ok(S3Response::new(PutBucketEncryptionOutput::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_arn_or_id() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1";
        assert!(is_key(arn, arn));
        assert!(is_key("mrk-1", arn));
        for other in ["", "mrk-2", "key/mrk-1", "arn:aws:kms:eu-west-1:111122223333:key/mrk-1"] {
            assert!(!is_key(other, arn), "{other}");
        }
    }
}
