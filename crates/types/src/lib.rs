//! Keystead's common words: identifiers, ARNs, regions, causes, encryption context, and what
//! control and node say to each other (assignment and status).
//!
//! This crate does no I/O, knows no async and holds no secret. A type enters it when two crates
//! that do not import each other use it.

pub mod arn;
pub mod assignment;
pub mod cause;
pub mod clock;
pub mod context;
pub mod documents;
pub mod id;
pub mod objects;
pub mod status;
pub mod template;

pub use arn::{AccountId, KeyArn, ParseArnError, Region, RoleArn, UserArn};
pub use assignment::{
    Assignment, Binding, ClusterAssignment, LeaseSettings, Part, Peer, PreflightRequest,
    Revocation, SecondKey, VolumeAssignment, WrappedKey,
};
pub use cause::Cause;
pub use clock::{Boot, Clock};
pub use context::EncryptionContext;
pub use documents::{
    DocumentAnswer, DocumentAsk, DocumentAsks, DocumentEntry, DocumentSaid, DocumentWish, Link,
};
pub use id::{BucketId, ClusterId, DocumentId, OrganizationId, PreflightId, VolumeId};
pub use objects::{
    BucketAssignment, BucketStatus, BucketWish, BucketWord, MadeBucketKey, MadeS3Key,
    S3KeyAssignment, S3Role, StoreKey,
};
pub use status::{
    ClusterStatus, LeaseStatus, LeaseWord, Made, MadeVolume, NodeStatus, PreflightCheck,
    PreflightReport, ReplicationStatus, VolumeStatus, VolumeWord, WorkloadStatus, WorkloadWord,
};
pub use template::{Disk, Process, Template};
