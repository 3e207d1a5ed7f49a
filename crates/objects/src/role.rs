//! What a store is to its cluster's other Region.

/// Which of a cluster's two stores this is. A cluster is made with or without a backup Region for
/// good, so a folder has the same role at each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreRole {
    /// There is no other Region.
    #[default]
    Alone,
    /// Objects are written here, and each change is queued for the other Region.
    Primary,
    /// Replicas come here, and nothing else is written.
    Backup,
}

/// How far an object's replication is, in S3's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicationWord {
    /// The other Region has not confirmed the object as it stands.
    Pending,
    /// It has.
    Completed,
    /// This is the other Region's copy.
    Replica,
}

impl ReplicationWord {
    /// As `x-amz-replication-status` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Completed => "COMPLETED",
            Self::Replica => "REPLICA",
        }
    }
}
