//! The bucket keys of one cluster, behind the gate of its lease.
//!
//! A key is lent for a stretch of CPU work, under a read lock that is never held across I/O or an
//! await. The gate is compared before the work and after it, so that a process that was stopped in
//! the middle gives out nothing that it made meanwhile. Closing takes the write lock: when it
//! returns, no work is under way and the keys are wiped.

use keystead_envelope::lease::LeaseGate;
use keystead_envelope::memory::DataKey;
use keystead_envelope::message::{Header, Wrapped};
use keystead_types::{Cause, Clock};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

/// The gate is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data is out of reach: {cause}")]
pub struct Refused {
    /// Why.
    pub cause: Cause,
}

/// A bucket's data key, and how each KMS key wrapped it.
#[derive(Debug)]
pub struct BucketKey {
    wrapped: Vec<Wrapped>,
    key: DataKey,
}

impl BucketKey {
    /// A key of 32 bytes and its wrapped forms, exactly as headers carry them.
    pub fn new(wrapped: Vec<Wrapped>, key: DataKey) -> Self {
        Self { wrapped, key }
    }
    /// Its wrapped forms.
    pub fn wrapped(&self) -> &[Wrapped] {
        &self.wrapped
    }
    /// The key.
    pub fn key(&self) -> &DataKey {
        &self.key
    }
}

/// A ring without the key that it is to write with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the current key is none of the bucket's")]
pub struct RingError;

/// The keys of one bucket.
#[derive(Debug)]
pub struct Ring {
    context: BTreeMap<String, String>,
    keys: Vec<BucketKey>,
    current: usize,
}

impl Ring {
    /// The encryption context of all its keys, the keys, and which of them is written with.
    pub fn new(
        context: BTreeMap<String, String>,
        keys: Vec<BucketKey>,
        current: usize,
    ) -> Result<Self, RingError> {
        if current >= keys.len() {
            return Err(RingError);
        }
        Ok(Self { context, keys, current })
    }

    /// The encryption context.
    pub fn context(&self) -> &BTreeMap<String, String> {
        &self.context
    }

    /// The key that new messages are sealed with.
    pub fn current(&self) -> &BucketKey {
        &self.keys[self.current]
    }

    /// The key of a message: context and wrapped keys must be those of one of ours, to the byte.
    /// Our record says which keys a bucket has, never the stored bytes.
    pub fn of(&self, header: &Header) -> Option<&BucketKey> {
        if *header.context() != self.context {
            return None;
        }
        self.keys.iter().find(|key| key.wrapped == header.wrapped())
    }
}

#[derive(Debug)]
struct Rings {
    /// What a bucket without a ring is refused with.
    cause: Cause,
    open: HashMap<String, Ring>,
    /// Buckets refused for a reason of their own.
    refused: HashMap<String, Cause>,
}

/// The bucket keys of one cluster.
pub struct Vault {
    gate: Arc<LeaseGate>,
    clock: Arc<dyn Clock>,
    rings: RwLock<Rings>,
}

impl Vault {
    /// A vault without keys; every bucket is refused with `cause` until it is opened.
    pub fn new(gate: Arc<LeaseGate>, clock: Arc<dyn Clock>, cause: Cause) -> Self {
        let rings = Rings { cause, open: HashMap::new(), refused: HashMap::new() };
        Self { gate, clock, rings: RwLock::new(rings) }
    }

    /// Opens a bucket with its keys, or replaces them (after a rotation).
    pub fn open(&self, bucket: &str, ring: Ring) {
        let mut rings = self.rings.write().unwrap_or_else(PoisonError::into_inner);
        rings.refused.remove(bucket);
        rings.open.insert(bucket.to_owned(), ring);
    }

    /// Closes every bucket. Returns when no key is in use, and all are wiped.
    pub fn close(&self, cause: Cause) {
        let mut rings = self.rings.write().unwrap_or_else(PoisonError::into_inner);
        *rings = Rings { cause, open: HashMap::new(), refused: HashMap::new() };
    }

    /// Closes one bucket.
    pub fn close_bucket(&self, bucket: &str, cause: Cause) {
        let mut rings = self.rings.write().unwrap_or_else(PoisonError::into_inner);
        rings.open.remove(bucket);
        rings.refused.insert(bucket.to_owned(), cause);
    }

    /// May this bucket be read and written now? For admission, and before each piece of plaintext
    /// leaves. A gate that closed by silence has no other word than "KMS does not answer".
    pub fn check(&self, bucket: &str) -> Result<(), Refused> {
        let rings = self.rings.read().unwrap_or_else(PoisonError::into_inner);
        self.admit(&rings, bucket).map(drop)
    }

    /// The lease lives, by the clock.
    pub fn is_open(&self) -> bool {
        self.gate.admits(self.clock.boot())
    }

    /// Lends a bucket's keys for CPU work. Never call anything in `work` that waits.
    pub fn lend<T>(&self, bucket: &str, work: impl FnOnce(&Ring) -> T) -> Result<T, Refused> {
        let rings = self.rings.read().unwrap_or_else(PoisonError::into_inner);
        let made = work(self.admit(&rings, bucket)?);
        self.admit(&rings, bucket)?;
        Ok(made)
    }

    fn admit<'a>(&self, rings: &'a Rings, bucket: &str) -> Result<&'a Ring, Refused> {
        let Some(ring) = rings.open.get(bucket) else {
            let cause = rings.refused.get(bucket).copied().unwrap_or(rings.cause);
            return Err(Refused { cause });
        };
        if !self.gate.admits(self.clock.boot()) {
            return Err(Refused { cause: Cause::KmsUnreachable });
        }
        Ok(ring)
    }
}
