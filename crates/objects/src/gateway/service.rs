//! s3s, made so that nothing gets through it that our verifier has not admitted.

use super::Caller;
use super::auth::may;
use super::host::Hosts;
use super::ops::Operations;
use super::replica::read_only;
use keystead_types::S3Role;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Result};
use std::sync::Arc;

/// The longest XML body: 1,000 keys to delete, or 10,000 parts to complete.
const MOST_XML: usize = 4 << 20;

pub(super) fn new(hosts: Hosts, region: &str) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Operations { region: region.to_owned() });
    builder.set_host(hosts);
    // The access check is made only where there is an authenticator.
    builder.set_auth(NoSecrets);
    builder.set_access(Admission);
    let mut config = S3Config::default();
    config.xml_max_body_size = MOST_XML;
    config.form_max_parts = 0;
    config.form_max_fields_size = 0;
    config.post_object_max_file_size = 0;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

/// Knows no secret: a signature that reached s3s would be refused.
struct NoSecrets;

#[async_trait::async_trait]
impl S3Auth for NoSecrets {
    async fn get_secret_key(&self, _access_key: &str) -> S3Result<SecretKey> {
        Err(S3Error::new(S3ErrorCode::AccessDenied))
    }
}

/// Asks for the caller that our verifier found, and whether it may.
struct Admission;

#[async_trait::async_trait]
impl S3Access for Admission {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = context.s3_op().name().to_owned();
        match context.extensions_mut().get::<Caller>() {
            Some(caller) if may(caller.role, &operation) => {
                read_only(caller, &operation).map_or(Ok(()), Err)
            }
            Some(caller) if caller.role == S3Role::Links => Err(S3Error::with_message(
                S3ErrorCode::AccessDenied,
                format!("a link is for putting and getting a document, not for {operation}"),
            )),
            Some(_) => Err(S3Error::with_message(
                S3ErrorCode::AccessDenied,
                format!("this access key only reads; {operation} writes"),
            )),
            None => Err(S3Error::new(S3ErrorCode::AccessDenied)),
        }
    }
}
