//! S3's operations on a store, one file a family. This one only says which is where; what is not
//! here is answered `NotImplemented` (501) by s3s.

mod bucket;
mod list;
mod multipart;
mod read;
mod remove;
mod settings;
mod sse;
mod words;
mod write;

use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

/// The operations.
pub(super) struct Operations {
    /// The Region that buckets say they lie in.
    pub(super) region: String,
}

/// Each line: the method, the operation's name in S3's types, and who does it.
macro_rules! operations {
    ($self:ident, $request:ident; $($method:ident $input:ident $output:ident => $done:expr;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(async fn $method(
                &$self,
                $request: S3Request<$input>,
            ) -> S3Result<S3Response<$output>> {
                $done
            })*
        }
    };
}

operations! { self, request;
    create_bucket CreateBucketInput CreateBucketOutput => bucket::create(request, &self.region).await;
    delete_bucket DeleteBucketInput DeleteBucketOutput => bucket::delete(request).await;
    head_bucket HeadBucketInput HeadBucketOutput => bucket::head(request, &self.region).await;
    list_buckets ListBucketsInput ListBucketsOutput => bucket::list(request, &self.region).await;
    get_bucket_location GetBucketLocationInput GetBucketLocationOutput => bucket::location(request, &self.region).await;
    get_bucket_encryption GetBucketEncryptionInput GetBucketEncryptionOutput => sse::get_default(request).await;
    put_bucket_encryption PutBucketEncryptionInput PutBucketEncryptionOutput => sse::put_default(request).await;
    list_objects ListObjectsInput ListObjectsOutput => list::v1(request).await;
    list_objects_v2 ListObjectsV2Input ListObjectsV2Output => list::v2(request).await;
    list_object_versions ListObjectVersionsInput ListObjectVersionsOutput => list::versions(request).await;
    get_object GetObjectInput GetObjectOutput => read::get(request).await;
    head_object HeadObjectInput HeadObjectOutput => read::head(request).await;
    get_object_attributes GetObjectAttributesInput GetObjectAttributesOutput => read::attributes(request).await;
    put_object PutObjectInput PutObjectOutput => write::put(request).await;
    copy_object CopyObjectInput CopyObjectOutput => write::copy(request).await;
    delete_object DeleteObjectInput DeleteObjectOutput => remove::one(request).await;
    delete_objects DeleteObjectsInput DeleteObjectsOutput => remove::many(request).await;
    get_object_tagging GetObjectTaggingInput GetObjectTaggingOutput => remove::tags(request).await;
    put_object_tagging PutObjectTaggingInput PutObjectTaggingOutput => remove::put_tags(request).await;
    delete_object_tagging DeleteObjectTaggingInput DeleteObjectTaggingOutput => remove::delete_tags(request).await;
    create_multipart_upload CreateMultipartUploadInput CreateMultipartUploadOutput => multipart::create(request).await;
    upload_part UploadPartInput UploadPartOutput => multipart::upload(request).await;
    upload_part_copy UploadPartCopyInput UploadPartCopyOutput => multipart::copy(request).await;
    complete_multipart_upload CompleteMultipartUploadInput CompleteMultipartUploadOutput => multipart::complete(request).await;
    abort_multipart_upload AbortMultipartUploadInput AbortMultipartUploadOutput => multipart::abort(request).await;
    list_parts ListPartsInput ListPartsOutput => multipart::parts(request).await;
    list_multipart_uploads ListMultipartUploadsInput ListMultipartUploadsOutput => multipart::uploads(request).await;
    get_bucket_versioning GetBucketVersioningInput GetBucketVersioningOutput => settings::bucket_versioning(request).await;
    get_bucket_acl GetBucketAclInput GetBucketAclOutput => settings::bucket_acl(request).await;
    get_object_acl GetObjectAclInput GetObjectAclOutput => settings::object_acl(request).await;
    get_bucket_request_payment GetBucketRequestPaymentInput GetBucketRequestPaymentOutput => settings::bucket_request_payment(request).await;
    get_bucket_ownership_controls GetBucketOwnershipControlsInput GetBucketOwnershipControlsOutput => settings::bucket_ownership_controls(request).await;
    get_bucket_policy_status GetBucketPolicyStatusInput GetBucketPolicyStatusOutput => settings::bucket_policy_status(request).await;
    get_bucket_logging GetBucketLoggingInput GetBucketLoggingOutput => settings::bucket_logging(request).await;
    get_bucket_notification_configuration GetBucketNotificationConfigurationInput GetBucketNotificationConfigurationOutput => settings::bucket_notification_configuration(request).await;
    get_bucket_accelerate_configuration GetBucketAccelerateConfigurationInput GetBucketAccelerateConfigurationOutput => settings::bucket_accelerate_configuration(request).await;
    get_bucket_policy GetBucketPolicyInput GetBucketPolicyOutput => settings::absent(&request, &request.input.bucket, "NoSuchBucketPolicy", "bucket policy").await;
    get_bucket_cors GetBucketCorsInput GetBucketCorsOutput => settings::absent(&request, &request.input.bucket, "NoSuchCORSConfiguration", "CORS configuration").await;
    get_bucket_lifecycle_configuration GetBucketLifecycleConfigurationInput GetBucketLifecycleConfigurationOutput => settings::absent(&request, &request.input.bucket, "NoSuchLifecycleConfiguration", "lifecycle configuration").await;
    get_bucket_tagging GetBucketTaggingInput GetBucketTaggingOutput => settings::absent(&request, &request.input.bucket, "NoSuchTagSet", "TagSet").await;
    get_bucket_website GetBucketWebsiteInput GetBucketWebsiteOutput => settings::absent(&request, &request.input.bucket, "NoSuchWebsiteConfiguration", "website configuration").await;
    get_bucket_replication GetBucketReplicationInput GetBucketReplicationOutput => settings::absent(&request, &request.input.bucket, "ReplicationConfigurationNotFoundError", "replication configuration").await;
    get_object_lock_configuration GetObjectLockConfigurationInput GetObjectLockConfigurationOutput => settings::absent(&request, &request.input.bucket, "ObjectLockConfigurationNotFoundError", "Object Lock configuration").await;
    get_public_access_block GetPublicAccessBlockInput GetPublicAccessBlockOutput => settings::absent(&request, &request.input.bucket, "NoSuchPublicAccessBlockConfiguration", "public access block configuration").await;
    post_object PostObjectInput PostObjectOutput => {
        // By default s3s makes a PutObject of it; no form gets as far as this.
        drop(request);
        Err(S3Error::new(S3ErrorCode::NotImplemented))
    };
}
