//! Keystead's objects: buckets of one cluster, sealed under bucket keys that a lease lends.
//!
//! An object is one AWS Encryption SDK message a part, each in its own file, and a sealed record
//! that names them; it exists when its record is committed in the index, which is written last.
//! This crate knows no KMS and no cluster. It is handed bucket keys and a gate ([`Vault`]), uses a
//! key for stretches of CPU work only, and gives out nothing that the gate does not admit.
//!
//! ```text
//! Store ── put, get, list, copy, multipart ──► index (redb, one writer thread)
//!   │                                            sealed records, times, sizes
//!   └── Vault: gate + bucket keys                buckets/<bucket>/<key>/<version>/part00001
//! ```

pub mod checksum;
mod conditions;
mod disk;
mod error;
pub mod gateway;
mod index;
pub mod limits;
mod model;
mod name;
mod record;
pub mod replicate;
mod role;
mod store;
mod vault;
mod version;

pub use conditions::{ReadCondition, Tag, WriteCondition};
pub use error::{Digest, StoreError};
pub use model::{
    BucketInfo, BucketSettings, Entry, ListQuery, Listing, ObjectChecksum, ObjectInfo, PartInfo,
    PartList, Range, SystemMetadata, Tags, UploadEntry, UploadList, UploadQuery,
};
pub use role::{ReplicationWord, StoreRole};
pub use store::copy::{CopyOptions, CopySource};
pub use store::get::{Body, GetOptions, Got};
pub use store::multipart::{CompleteOptions, CompletePart, PartHandle, PartOptions, UploadOptions};
pub use store::outgoing::Replication;
pub use store::put::{Done, PutHandle, PutOptions};
pub use store::scrub::{ScrubTotals, Scrubbed, Verdict};
pub use store::{Stats, Store};
pub use vault::{BucketKey, Refused, Ring, RingError, Vault};
