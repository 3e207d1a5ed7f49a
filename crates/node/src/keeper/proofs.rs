//! One proof of one cluster: its canary and each of its stores, asked at the same moment.

use super::Subject;
use crate::kms::Kms;
use crate::kms::answer::Failure;
use crate::time::boot;
use keystead_types::{Boot, BucketId, Cause, ClusterId, VolumeId};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Whose proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    Canary,
    Store(VolumeId),
    /// Freezes that bucket alone.
    Bucket(BucketId),
}

/// A proof that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) whom: Whom,
    pub(crate) failure: Failure,
}

/// What a round came to.
pub(super) struct Round {
    pub(super) cluster: ClusterId,
    pub(super) sent: Boot,
    /// The subject that was proved; a round about an older one counts for nothing.
    pub(super) version: u64,
    pub(super) parts: Vec<(Whom, Result<(), Failure>)>,
}

/// Proves; every part is asked, whatever the others answer.
pub(super) async fn prove(kms: Arc<Kms>, subject: Arc<Subject>) -> Round {
    let sent = boot();
    let mut asked = JoinSet::new();
    {
        let (kms, subject) = (kms.clone(), subject.clone());
        asked
            .spawn(async move { (Whom::Canary, kms.canary(&subject.role, &subject.canary).await) });
    }
    for store in subject.stores.clone() {
        let kms = kms.clone();
        asked.spawn(async move {
            let answer = kms.store(&store.wrapped, &store.token).await;
            (Whom::Store(store.volume), answer)
        });
    }
    for bucket in subject.buckets.clone() {
        let (kms, role) = (kms.clone(), subject.role.clone());
        asked.spawn(async move {
            let answer = kms.bucket(&role, &bucket.wrapped).await;
            (Whom::Bucket(bucket.bucket), answer)
        });
    }
    let parts = asked.join_all().await;
    Round { cluster: subject.cluster.clone(), sent, version: subject.version, parts }
}

/// The word of a round for the cluster: the gravest answer wins, the canary's before a store's. What
/// a bucket is answered concerns that bucket. Pure.
pub(crate) fn verdict(parts: &[(Whom, Result<(), Failure>)]) -> Result<(), Denied> {
    let rank = |whom: &Whom, failure: &Failure| {
        let gravity = match failure {
            Failure::Corrupt { .. } => 3,
            Failure::Refused { .. } => 2,
            Failure::Silent { .. } => 0,
        };
        // A cause that names itself (disabled) says more than a denial.
        let exact = u8::from(failure.cause() != Cause::PolicyDenies);
        (gravity, u8::from(*whom == Whom::Canary), exact)
    };
    parts
        .iter()
        .filter(|(whom, _)| !matches!(whom, Whom::Bucket(_)))
        .filter_map(|(whom, answer)| answer.as_ref().err().map(|failure| (whom, failure)))
        .max_by_key(|(whom, failure)| rank(whom, failure))
        .map_or(Ok(()), |(whom, failure)| {
            Err(Denied { whom: whom.clone(), failure: failure.clone() })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(cause: Cause) -> Result<(), Failure> {
        Err(Failure::Refused { cause, detail: String::new(), request_id: None })
    }

    #[test]
    fn the_gravest_answer_wins_and_silence_never_hides_a_refusal() {
        let store = Whom::Store(VolumeId::from_uuid(uuid::Uuid::now_v7()));
        let silent = || Err(Failure::Silent { detail: "x".into() });
        assert_eq!(verdict(&[(Whom::Canary, Ok(())), (store.clone(), Ok(()))]), Ok(()));
        let denied =
            verdict(&[(Whom::Canary, silent()), (store.clone(), refused(Cause::PolicyDenies))])
                .expect_err("denied");
        assert_eq!(denied.whom, store);
        let denied = verdict(&[
            (store.clone(), refused(Cause::PolicyDenies)),
            (Whom::Canary, refused(Cause::KeyDisabled)),
        ])
        .expect_err("denied");
        assert_eq!((denied.whom, denied.failure.cause()), (Whom::Canary, Cause::KeyDisabled));
        let denied = verdict(&[(Whom::Canary, silent()), (store, Ok(()))]).expect_err("silent");
        assert!(matches!(denied.failure, Failure::Silent { .. }));
        let bucket = Whom::Bucket(BucketId::from_uuid(uuid::Uuid::now_v7()));
        let parts = [(Whom::Canary, Ok(())), (bucket, refused(Cause::PolicyDenies))];
        assert_eq!(verdict(&parts), Ok(()), "a bucket's refusal is its own");
    }
}
