//! Replication of a cluster's objects to its backup Region: sealed, byte for byte, as they lie on
//! disk. Nothing is opened but records, and nothing is sealed anew.
//!
//! ```text
//! primary: commit + queue ─► sender ── PUT /.replica, signed chunks ──► gateway ─► backup: files, then commit
//!          confirm        ◄─────────── 200, when all is durable ◄──────
//! ```
//! The body of the PUT, whose every byte is bound by the access key of role replicator:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the manifest, big-endian |
//! | so many | the manifest: JSON, what changed and how long the rest is |
//! | `record_bytes` | the sealed record |
//! | `parts`, in turn | the sealed part files, in the record's order |
//!
//! A change without parts is an offer: it is taken when the backup has the version's parts (a
//! change of tags), or answered 412, and then comes again with them. What each answer means to the
//! sender stands at [`Word`].

mod carry;
mod sender;

pub use sender::{Replicator, Target};

use crate::index::history::History;
pub(crate) use crate::index::queue::Kind;
pub(crate) use carry::CHUNK;

use serde::{Deserialize, Serialize};

/// The route.
pub(crate) const PATH: &str = "/.replica";

/// In a 409: the highest number that the backup has taken, of another history than the primary's
/// (see [`crate::index::history`]). The primary then numbers above it and sends everything anew.
pub(crate) const HIGHEST: &str = "x-keystead-highest-taken";
/// The code of that answer.
pub(crate) const OTHER_HISTORY: &str = "OtherHistory";

/// What a change is, and how long the rest of the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) bucket: String,
    /// Empty for [`Kind::Emptied`].
    pub(crate) key: String,
    pub(crate) kind: Kind,
    /// The change's number at the primary.
    pub(crate) sequence: u64,
    /// Every number up to this is settled there.
    pub(crate) floor: u64,
    pub(crate) history: History,
    /// Of an object: what follows here.
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) record_file: String,
    #[serde(default)]
    pub(crate) record_bytes: usize,
    /// Bytes of each part's file; none in an offer.
    #[serde(default)]
    pub(crate) parts: Vec<u64>,
}

/// What the backup's answer means to the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// It is durable there, now or since long.
    Taken,
    /// The version's parts are needed as well.
    PartsNeeded,
    /// The bucket is not open there: its turn comes later, others go on.
    BucketClosed,
    /// This object is not taken; others go on.
    Foreign,
    /// There is no room; deletions go on.
    Full,
    /// Nothing can be taken now.
    Closed,
}

impl Word {
    pub(crate) fn of(status: u16) -> Self {
        match status {
            200 => Self::Taken,
            412 => Self::PartsNeeded,
            409 => Self::BucketClosed,
            422 => Self::Foreign,
            507 => Self::Full,
            _ => Self::Closed,
        }
    }
}
