//! The calls that bring data keys into this process.
//!
//! Their own client without a pooled connection, their own short-lived thread with its stack
//! scrubbed, their own runtime: what `memory-notes.md` measured to leave no key byte behind. The
//! output goes to the locked arena at once.

use super::answer::{Failure, judge_kms, spoken};
use super::tenant::{Purpose, Tenants};
use super::{Materials, SdkErrorOf, Settings, decode, http, pairs, silent, wrapped};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::primitives::Blob;
use keystead_envelope::memory::{DataKey, run_scrubbed};
use keystead_types::{EncryptionContext, KeyArn, RoleArn, WrappedKey};
use zeroize::Zeroizing;

const VOLUME_KEY_BYTES: usize = 64;
const BUCKET_KEY_BYTES: usize = 32;

/// Decrypts a volume's wrapped key as the node's user, by its grant. Blocks.
pub(crate) fn unwrap_key(
    settings: &Settings,
    wrapped: &WrappedKey,
    grant_token: &str,
) -> Result<DataKey, Failure> {
    on_own_thread(async {
        let client = settings.kms(http(0), settings.user());
        ask(&client, wrapped, Some(grant_token), None, VOLUME_KEY_BYTES).await
    })
}

/// Decrypts wrapped keys of buckets as the tenant role, all at once. Blocks. The outer error: the
/// role is not to be had.
pub(crate) fn unwrap_as_tenant(
    settings: &Settings,
    role: &RoleArn,
    wrapped: &[WrappedKey],
) -> Result<Vec<Result<DataKey, Failure>>, Failure> {
    on_own_thread(async {
        let tenants = Tenants::new(settings, http(0));
        let credentials = tenants.credentials(role, Purpose::Open).await?;
        let client = settings.kms(http(0), credentials);
        let mut opened = Vec::with_capacity(wrapped.len());
        for one in wrapped {
            opened.push(ask(&client, one, None, Some(&settings.materials), BUCKET_KEY_BYTES).await);
        }
        Ok(opened)
    })
}

/// Makes a data key under the KMS keys of two Regions, as the tenant role: GenerateDataKey under the
/// first, Encrypt under the second. The plaintext is in this process for the moment between the two,
/// on the way that [`unwrap_key`] takes. Blocks.
pub(crate) fn make_for_two(
    (own, key): (&Settings, &KeyArn),
    (other, second): (&Settings, &KeyArn),
    role: &RoleArn,
    context: &EncryptionContext,
) -> Result<Vec<WrappedKey>, Failure> {
    on_own_thread(async {
        // First: while the other Region is silent no data key is made that nobody can use.
        let there = as_tenant(other, role).await.map_err(|failure| failure.of(second))?;
        let generated = as_tenant(own, role)
            .await?
            .generate_data_key()
            .key_id(key.to_string())
            .number_of_bytes(BUCKET_KEY_BYTES as i32)
            .set_encryption_context(Some(pairs(context)))
            .send()
            .await;
        let mut generated = generated.map_err(|error| judged(&error))?;
        let plaintext = generated.plaintext.take().map(Blob::into_inner).unwrap_or_default();
        let plaintext = Zeroizing::new(plaintext);
        let first = wrapped(key, context, generated.ciphertext_blob())?;
        tracing::info!(%key, request_id = generated.request_id(), "data key generated");
        if plaintext.len() != BUCKET_KEY_BYTES {
            let detail = format!("a data key of {} bytes came", plaintext.len());
            return Err(Failure::Silent { detail });
        }
        let encrypted = there
            .encrypt()
            .key_id(second.to_string())
            .plaintext(Blob::new(plaintext.as_slice()))
            .set_encryption_context(Some(pairs(context)))
            .send()
            .await;
        let encrypted = encrypted.map_err(|error| judged(&error).of(second))?;
        tracing::info!(key = %second, request_id = encrypted.request_id(), "data key encrypted");
        let second = wrapped(second, context, encrypted.ciphertext_blob())?;
        Ok(vec![first, second])
    })
}

async fn as_tenant(settings: &Settings, role: &RoleArn) -> Result<aws_sdk_kms::Client, Failure> {
    let tenants = Tenants::new(settings, http(0));
    let credentials = tenants.credentials(role, Purpose::Provision).await?;
    Ok(settings.kms(http(0), credentials))
}

fn judged<E>(error: &SdkErrorOf<E>) -> Failure
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::fmt::Debug,
{
    match spoken(error) {
        Some(said) => judge_kms(said),
        None => silent(error),
    }
}

fn on_own_thread<T: Send>(
    work: impl Future<Output = Result<T, Failure>> + Send,
) -> Result<T, Failure> {
    run_scrubbed(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::Silent { detail: format!("a runtime: {e}") })?;
        runtime.block_on(work)
    })
}

async fn ask(
    client: &aws_sdk_kms::Client,
    wrapped: &WrappedKey,
    grant_token: Option<&str>,
    materials: Option<&Materials>,
    bytes: usize,
) -> Result<DataKey, Failure> {
    let asked = client
        .decrypt()
        .key_id(wrapped.key.to_string())
        .ciphertext_blob(Blob::new(decode(wrapped)?))
        .set_encryption_context(Some(pairs(&wrapped.context)))
        .set_grant_tokens(grant_token.map(|token| vec![token.to_owned()]))
        .send()
        .await;
    let mut answer = asked.map_err(|error| judged(&error))?;
    if let (Some(materials), Some(id)) = (materials, answer.key_material_id()) {
        materials.learn(wrapped, id);
    }
    tracing::info!(key = %wrapped.key, request_id = answer.request_id(), "data key unwrapped");
    let plaintext = answer.plaintext.take().map(Blob::into_inner).unwrap_or_default();
    let mut plaintext = Zeroizing::new(plaintext);
    if plaintext.len() != bytes {
        return Err(Failure::Corrupt {
            detail: format!("the wrapped key holds {} bytes, not {bytes}", plaintext.len()),
            request_id: None,
        });
    }
    DataKey::from_slice_zeroizing(&mut plaintext)
        .map_err(|e| Failure::Silent { detail: format!("the key arena: {e}") })
}
