//! From our record to a ring: which wrapped keys are asked for, and what they open.

use crate::kms::Settings;
use crate::kms::answer::Failure;
use crate::kms::unwrap::unwrap_as_tenant;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keystead_envelope::memory::DataKey;
use keystead_envelope::message::Wrapped;
use keystead_objects::{BucketKey, Ring};
use keystead_types::{
    BucketId, Cause, ClusterAssignment, EncryptionContext, RoleArn, StoreKey, WrappedKey,
};
use std::sync::Arc;

/// What brings the data keys of buckets into this process.
pub(crate) trait OpenKeys: Send + Sync + 'static {
    /// Decrypts wrapped keys as the tenant role. Blocks.
    fn open(
        &self,
        role: &RoleArn,
        wrapped: &[WrappedKey],
    ) -> Result<Vec<Result<DataKey, Failure>>, Failure>;
}

impl OpenKeys for Arc<Settings> {
    fn open(
        &self,
        role: &RoleArn,
        wrapped: &[WrappedKey],
    ) -> Result<Vec<Result<DataKey, Failure>>, Failure> {
        unwrap_as_tenant(self, role, wrapped)
    }
}

/// Under this name the vault has the ring of the S3 credentials; no bucket can be called so.
pub(super) const CREDENTIALS: &str = ".s3-credentials";

/// One ring to be opened: a bucket's or the credentials'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Name in the vault.
    pub(super) name: String,
    /// Absent for the credentials.
    pub(super) bucket: Option<BucketId>,
    context: EncryptionContext,
    keys: Vec<StoreKey>,
}

impl Asked {
    /// The wrapped keys that this node opens. Another one is a mismatch.
    fn own(&self, wanted: &ClusterAssignment) -> Result<Vec<WrappedKey>, String> {
        let own = |key: &StoreKey| {
            let bound = wanted.binding.as_ref()?;
            key.own(&bound.key, &self.context).cloned()
        };
        let found: Option<Vec<_>> = self.keys.iter().map(own).collect();
        found.ok_or_else(|| "a recorded data key is not of the bound key and context".to_owned())
    }
}

/// Everything that control has recorded a key of.
pub(super) fn asked(wanted: &ClusterAssignment) -> Vec<Asked> {
    let credentials = Asked {
        name: CREDENTIALS.to_owned(),
        bucket: None,
        context: EncryptionContext::credentials(&wanted.cluster),
        keys: wanted.credentials.clone(),
    };
    let buckets = wanted.buckets.iter().map(|b| Asked {
        name: b.name.clone(),
        bucket: Some(b.bucket.clone()),
        context: EncryptionContext::bucket(&wanted.cluster, &b.bucket),
        keys: b.keys.clone(),
    });
    std::iter::once(credentials).chain(buckets).filter(|a| !a.keys.is_empty()).collect()
}

/// Why a ring does not open.
#[derive(Debug)]
pub(super) struct RingFault {
    pub(super) cause: Cause,
    pub(super) detail: String,
}

impl From<Failure> for RingFault {
    fn from(failure: Failure) -> Self {
        Self { cause: failure.cause(), detail: failure.detail().to_owned() }
    }
}

/// Opens rings in one go, each judged for itself. Blocks.
pub(super) fn open(
    keys: &dyn OpenKeys,
    wanted: &ClusterAssignment,
    asked: &[Asked],
) -> Vec<Result<Ring, RingFault>> {
    let own: Vec<_> = asked.iter().map(|one| one.own(wanted)).collect();
    let all: Vec<WrappedKey> = own.iter().flatten().flatten().cloned().collect();
    if all.is_empty() {
        // Nothing of it is ours to ask for.
        return own.into_iter().map(|o| Err(mismatch(o.err().unwrap_or_default()))).collect();
    }
    let mut opened = match keys.open(&wanted.tenant_role, &all) {
        Ok(opened) => opened.into_iter(),
        Err(failure) => {
            let fault = RingFault::from(failure);
            let same = || RingFault { cause: fault.cause, detail: fault.detail.clone() };
            return own.into_iter().map(|o| Err(o.err().map_or_else(same, mismatch))).collect();
        }
    };
    asked
        .iter()
        .zip(own)
        .map(|(one, own)| {
            let count = own.map_err(mismatch)?.len();
            ring(one, opened.by_ref().take(count))
        })
        .collect()
}

fn mismatch(detail: String) -> RingFault {
    RingFault { cause: Cause::WrappedKeyMismatch, detail }
}

fn ring(
    asked: &Asked,
    opened: impl Iterator<Item = Result<DataKey, Failure>>,
) -> Result<Ring, RingFault> {
    // Every answer is taken, so that the next ring meets its own.
    let opened: Vec<_> = opened.collect();
    let mut ring = Vec::with_capacity(asked.keys.len());
    for (recorded, opened) in asked.keys.iter().zip(opened) {
        let wrapped = recorded.wrapped.iter().map(header_form).collect::<Result<_, _>>();
        ring.push(BucketKey::new(wrapped.map_err(mismatch)?, opened?));
    }
    let newest = ring.len().saturating_sub(1);
    Ring::new(asked.context.pairs().clone(), ring, newest).map_err(|e| mismatch(e.to_string()))
}

/// A wrapped key as the headers of messages carry it.
fn header_form(wrapped: &WrappedKey) -> Result<Wrapped, String> {
    let ciphertext = STANDARD
        .decode(&wrapped.ciphertext)
        .map_err(|_| "the recorded ciphertext is not base64".to_owned())?;
    Ok(Wrapped { key_arn: wrapped.key.to_string(), ciphertext })
}
