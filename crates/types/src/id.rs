//! Identifiers: UUID version 7 with a prefix that names the kind.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A string that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a {kind} (expected `{prefix}` followed by a lower-case UUID)")]
pub struct ParseIdError {
    given: String,
    kind: &'static str,
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The prefix of every identifier of this kind.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps a UUID made by the caller (version 7, so that identifiers sort by age).
            pub fn from_uuid(uuid: uuid::Uuid) -> Self {
                Self(format!("{}{}", $prefix, uuid.hyphenated()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(given: &str) -> Result<Self, Self::Err> {
                let refuse = || ParseIdError {
                    given: given.chars().take(80).collect(),
                    kind: $kind,
                    prefix: $prefix,
                };
                let rest = given.strip_prefix($prefix).ok_or_else(refuse)?;
                let uuid = uuid::Uuid::try_parse(rest).map_err(|_| refuse())?;
                if uuid.hyphenated().to_string() != rest {
                    return Err(refuse());
                }
                Ok(Self(given.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;
            fn try_from(given: String) -> Result<Self, Self::Error> {
                given.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// One tenant's orchestration cluster.
    ClusterId, "cl-", "cluster id"
);
id!(
    /// One encrypted volume.
    VolumeId, "vol-", "volume id"
);
id!(
    /// A tenant of the platform.
    OrganizationId, "org-", "organization id"
);
id!(
    /// One preflight: candidate key ARNs and what a node found.
    PreflightId, "pf-", "preflight id"
);

id!(
    /// One bucket of a cluster.
    BucketId, "bkt-", "bucket id"
);

id!(
    /// One document of a cluster; `documents.rs` says what stands in it.
    DocumentId, "doc-", "document id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_its_own_prefix_and_lower_case_uuids() {
        let id = ClusterId::from_uuid(uuid::Uuid::now_v7());
        assert_eq!(id.as_str().parse::<ClusterId>(), Ok(id.clone()));
        for bad in ["", "cl-", "vol-0190", &id.as_str().to_uppercase(), &format!("{id} ")] {
            assert!(bad.parse::<ClusterId>().is_err(), "{bad}");
        }
    }
}
