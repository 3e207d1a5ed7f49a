//! Requests of multi-Region keys and of rotation, and how they are read.

use super::Tag;
use super::decode::{limit, marker, policy};
use super::tags::{check_tags, read_tags};
use crate::AwsError;
use crate::json::{Fields, fault, validation_error};
use keystead_types::Region;

/// Days between automatic rotations, unless they are said.
pub const DEFAULT_ROTATION_DAYS: u16 = 365;

/// ReplicateKey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicateKey {
    /// The primary key, as sent.
    pub key_id: String,
    /// Where its replica is to be.
    pub replica_region: Region,
    /// The replica's key policy; the default one when absent, never the primary's.
    pub policy: Option<String>,
    /// The replica's description; empty when absent.
    pub description: String,
    /// The replica's tags.
    pub tags: Vec<Tag>,
    /// Skips the lockout check.
    pub bypass_lockout_check: bool,
}

/// UpdatePrimaryRegion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatePrimaryRegion {
    /// The primary key as it is now, as sent.
    pub key_id: String,
    /// The Region of the replica that becomes the primary key.
    pub primary_region: Region,
}

/// EnableKeyRotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnableKeyRotation {
    /// The key, as sent.
    pub key_id: String,
    /// Days between rotations, 90 to 2560.
    pub period_days: u16,
}

/// ListKeyRotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListKeyRotations {
    /// The key, as sent.
    pub key_id: String,
    /// Also the first material, which no rotation made.
    pub all_material: bool,
    /// Page size.
    pub limit: usize,
    /// Where to go on.
    pub marker: Option<String>,
}

/// ListRetirableGrants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRetirableGrants {
    /// Whose grants to retire, an ARN.
    pub retiring_principal: String,
    /// Page size.
    pub limit: usize,
    /// Where to go on.
    pub marker: Option<String>,
}

impl ReplicateKey {
    pub(super) fn read(f: &mut Fields) -> Result<Self, AwsError> {
        let key_id = f.required("KeyId", 1, 2048)?;
        let replica_region = f.required("ReplicaRegion", 1, 32)?;
        let text = f.text("Policy", 1, 131_072)?;
        let read = Self {
            key_id,
            policy: policy(f, text),
            description: f.text("Description", 0, 8192)?.unwrap_or_default(),
            tags: read_tags(f)?,
            bypass_lockout_check: f.flag("BypassPolicyLockoutSafetyCheck")?,
            replica_region: region(f, &replica_region, "replicaRegion")?,
        };
        Ok(read)
    }

    pub(super) fn check(&self) -> Result<(), AwsError> {
        check_tags(&self.tags)
    }
}

impl UpdatePrimaryRegion {
    pub(super) fn read(f: &mut Fields) -> Result<Self, AwsError> {
        let key_id = f.required("KeyId", 1, 2048)?;
        let primary_region = f.required("PrimaryRegion", 1, 32)?;
        let primary_region = region(f, &primary_region, "primaryRegion")?;
        Ok(Self { key_id, primary_region })
    }
}

/// A Region by AWS's pattern; whatever else was wrong so far is told with it.
fn region(f: &mut Fields, given: &str, path: &str) -> Result<Region, AwsError> {
    if let (true, Ok(region)) = (is_region(given), given.parse()) {
        return Ok(region);
    }
    // An empty one was told by its length.
    if !given.is_empty() {
        let rule = r"Member must satisfy regular expression pattern: ^([a-z]+-){2,3}\d+$";
        f.note(fault(given, path, rule));
    }
    Err(validation_error(f.faults()))
}

/// Two or three words of letters, each with a hyphen after it, then digits.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    let all =
        |text: &str, fits: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| fits(&b));
    (2..=3).contains(&words.len())
        && words.iter().all(|word| all(word, u8::is_ascii_lowercase))
        && all(number, u8::is_ascii_digit)
}

impl EnableKeyRotation {
    pub(super) fn read(f: &mut Fields) -> Result<Self, AwsError> {
        let key_id = f.required("KeyId", 1, 2048)?;
        let days = f.number("RotationPeriodInDays", 90, 2560)?;
        let period_days = days.and_then(|d| u16::try_from(d).ok());
        Ok(Self { key_id, period_days: period_days.unwrap_or(DEFAULT_ROTATION_DAYS) })
    }
}

impl ListKeyRotations {
    pub(super) fn read(f: &mut Fields) -> Result<Self, AwsError> {
        let key_id = f.required("KeyId", 1, 2048)?;
        let words = ["ALL_KEY_MATERIAL", "ROTATIONS_ONLY"];
        let include = f.word("IncludeKeyMaterial", &words)?;
        Ok(Self {
            key_id,
            all_material: include.as_deref() == Some(words[0]),
            limit: limit(f, 1000, 100)?,
            marker: marker(f)?,
        })
    }
}

impl ListRetirableGrants {
    pub(super) fn read(f: &mut Fields) -> Result<Self, AwsError> {
        f.unserved("RetiringServicePrincipal")?;
        Ok(Self {
            retiring_principal: f.required("RetiringPrincipal", 1, 256)?,
            limit: limit(f, 100, 50)?,
            marker: marker(f)?,
        })
    }
}
