//! One error for what a store is asked; each kind is one answer of S3.

use crate::checksum::Algorithm;
use crate::model::ObjectInfo;
use crate::vault::Refused;
use std::io;

/// Why the store does not do what it was asked. Closed: the gateway maps each kind.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The gate is closed: the key says no, or nobody answers for it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No such bucket.
    #[error("there is no bucket {0}")]
    NoSuchBucket(String),
    /// The bucket is there already.
    #[error("there is a bucket {0} already")]
    BucketExists(String),
    /// The cluster has as many buckets as it may.
    #[error("there are {0} buckets, and no more may be made")]
    TooManyBuckets(usize),
    /// The bucket holds objects.
    #[error("the bucket {0} is not empty")]
    BucketNotEmpty(String),
    /// Not a bucket's name.
    #[error("not a bucket name")]
    InvalidBucketName,
    /// No such object.
    #[error("there is no such key")]
    NoSuchKey,
    /// No such upload: completed, aborted, or never begun.
    #[error("there is no such upload")]
    NoSuchUpload,
    /// An empty key, or one that is too long.
    #[error("not a key: {0} bytes")]
    InvalidKey(usize),
    /// The range lies outside the object.
    #[error("the range lies outside the object's {size} bytes")]
    InvalidRange {
        /// Bytes of the object.
        size: u64,
    },
    /// The object has no part of that number.
    #[error("there is no part {0}")]
    InvalidPartNumber(u32),
    /// A condition does not hold.
    #[error("a condition does not hold")]
    PreconditionFailed,
    /// A read's condition says that the reader has it already.
    #[error("not modified")]
    NotModified(Box<ObjectInfo>),
    /// The data does not have the checksum that was announced.
    #[error("the data does not have the {0} that was sent")]
    BadDigest(Digest),
    /// A checksum that S3 does not make in this way.
    #[error("{0}")]
    InvalidChecksum(&'static str),
    /// Fewer or more bytes came than were announced.
    #[error("{got} bytes came, {announced} were announced")]
    IncompleteBody {
        /// Announced.
        announced: u64,
        /// Received.
        got: u64,
    },
    /// A part named at completion is not there, or has another ETag or checksum.
    #[error("part {0} is not there, or has another ETag or checksum")]
    InvalidPart(u16),
    /// Parts named at completion are not in ascending order.
    #[error("parts are not in ascending order")]
    InvalidPartOrder,
    /// A completion that names no part.
    #[error("no part is named")]
    NoParts,
    /// A part that is not the last is too small.
    #[error("part {part} is smaller than allowed")]
    EntityTooSmall {
        /// Its number.
        part: u16,
        /// Its bytes.
        size: u64,
    },
    /// More bytes than an object or part may have.
    #[error("more bytes than allowed")]
    EntityTooLarge,
    /// User metadata is too long.
    #[error("the user metadata is too long")]
    MetadataTooLarge,
    /// Tags that S3 does not take.
    #[error("not a tag set: {0}")]
    InvalidTag(&'static str),
    /// What is stored is not what was written: damaged, swapped, foreign, or cut. An alarm went out.
    #[error("what is stored does not authenticate: {0}")]
    Corrupt(&'static str),
    /// The disk is full. Nothing is half there.
    #[error("the disk is full")]
    NoSpace,
    /// A caller went away in the middle of this handle's work; nothing is stored.
    #[error("the request was broken off")]
    Interrupted,
    /// The disk.
    #[error("the disk of the objects")]
    Io(#[source] io::Error),
    /// The index.
    #[error("the index of the objects")]
    Index(#[source] Box<redb::Error>),
    /// The index is being opened again after a failed write, or could not be.
    #[error("the index of the objects is not open")]
    Unavailable,
    /// A write into the backup Region's store.
    #[error("this is the backup Region's store: it takes replicas, and nothing else is written")]
    ReadOnly,
    /// A replica that is none of this cluster's, or not what it says. An alarm went out.
    #[error("not a replica of this cluster: {0}")]
    Foreign(&'static str),
    /// A replica whose number does not follow on what was taken here.
    #[error(
        "the changes taken here, up to number {highest}, are not the primary's: one Region's objects were restored from an older copy, or lost"
    )]
    OtherHistory {
        /// The highest number taken.
        highest: u64,
    },
    /// The folder was written by another version.
    #[error("the folder's VERSION is {0}, which this build does not read")]
    Layout(String),
    /// A message could not be sealed.
    #[error("a message could not be sealed")]
    Seal(#[source] keystead_envelope::message::MessageError),
}

/// Which digest did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// One of the flexible checksums.
    Checksum(Algorithm),
    /// Content-MD5.
    Md5,
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Checksum(algorithm) => algorithm.fmt(f),
            Self::Md5 => f.write_str("Content-MD5"),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io(error),
        }
    }
}
