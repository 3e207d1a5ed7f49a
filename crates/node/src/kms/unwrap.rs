//! The one call that brings a data key into this process.
//!
//! Its own client without a pooled connection, its own short-lived thread with its stack scrubbed,
//! its own runtime: what `memory-notes.md` measured to leave no key byte behind. The output goes
//! to the locked arena at once.

use super::answer::{Failure, judge_kms, spoken};
use super::{Settings, decode, http, pairs, silent};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::primitives::Blob;
use keystead_envelope::memory::{DataKey, run_scrubbed};
use keystead_types::WrappedKey;
use zeroize::Zeroizing;

/// Decrypts a volume's wrapped key as the node's user, by its grant. Blocks.
pub(crate) fn unwrap_key(
    settings: &Settings,
    wrapped: &WrappedKey,
    grant_token: &str,
) -> Result<DataKey, Failure> {
    run_scrubbed(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::Silent { detail: format!("a runtime: {e}") })?;
        runtime.block_on(ask(settings, wrapped, grant_token))
    })
}

async fn ask(
    settings: &Settings,
    wrapped: &WrappedKey,
    grant_token: &str,
) -> Result<DataKey, Failure> {
    let client = settings.kms(http(0), settings.user());
    let asked = client
        .decrypt()
        .key_id(wrapped.key.to_string())
        .ciphertext_blob(Blob::new(decode(wrapped)?))
        .set_encryption_context(Some(pairs(&wrapped.context)))
        .grant_tokens(grant_token)
        .send()
        .await;
    let mut answer = asked.map_err(|error| match spoken(&error) {
        Some(said) => judge_kms(said),
        None => silent(&error),
    })?;
    tracing::info!(key = %wrapped.key, request_id = answer.request_id(), "volume key unwrapped");
    let plaintext = answer.plaintext.take().map(Blob::into_inner).unwrap_or_default();
    let mut plaintext = Zeroizing::new(plaintext);
    if plaintext.len() != 64 {
        return Err(Failure::Corrupt {
            detail: format!("the wrapped key holds {} bytes, not 64", plaintext.len()),
            request_id: None,
        });
    }
    DataKey::from_slice_zeroizing(&mut plaintext)
        .map_err(|e| Failure::Silent { detail: format!("the key arena: {e}") })
}
