//! How a request names a key: id, key ARN, alias name, alias ARN.

use crate::{AwsError, error};
use keystead_types::{AccountId, KeyArn, Region, arn::is_key_id};

/// A key identifier, by form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRef {
    /// Form I: a key id of the caller's account.
    Id(String),
    /// Form A: a key ARN.
    Arn(KeyArn),
    /// Form N: an alias of the caller's account, with its `alias/`.
    Alias(String),
    /// Form R: an alias ARN.
    AliasArn {
        /// The account.
        account: AccountId,
        /// The name, with its `alias/`.
        alias: String,
    },
}

impl KeyRef {
    /// Reads an identifier in a request to `region`. Forms N and R only where the operation takes
    /// them; an ARN of another Region is told by its Region.
    pub fn parse(given: &str, region: &Region, takes_alias: bool) -> Result<Self, AwsError> {
        let invalid = || error::invalid_key_id(given);
        if is_key_id(given) {
            return Ok(Self::Id(given.to_owned()));
        }
        if given.starts_with("alias/") {
            return if takes_alias && is_alias(given) {
                Ok(Self::Alias(given.to_owned()))
            } else {
                Err(invalid())
            };
        }
        let parts: Vec<&str> = given.splitn(6, ':').collect();
        let ["arn", "aws", "kms", arn_region, account, resource] = parts.as_slice() else {
            return Err(invalid());
        };
        let arn_region: Region = arn_region.parse().map_err(|_| invalid())?;
        let account: AccountId = account.parse().map_err(|_| invalid())?;
        let alias = is_alias(resource);
        let key_id = resource.strip_prefix("key/").filter(|id| is_key_id(id));
        if key_id.is_none() && !(alias && takes_alias) {
            return Err(invalid());
        }
        if arn_region != *region {
            return Err(error::wrong_region(arn_region.as_str()));
        }
        match key_id {
            Some(id) => Ok(Self::Arn(KeyArn::new(arn_region, account, id).map_err(|_| invalid())?)),
            None => Ok(Self::AliasArn { account, alias: (*resource).to_owned() }),
        }
    }

    /// `kms:RequestAlias`, when the request used an alias.
    pub fn alias(&self) -> Option<&str> {
        match self {
            Self::Alias(alias) | Self::AliasArn { alias, .. } => Some(alias),
            Self::Id(_) | Self::Arn(_) => None,
        }
    }
}

/// `alias/` and letters, digits, `/`, `_`, `-`.
pub(crate) fn is_alias(text: &str) -> bool {
    text.len() <= 256
        && text.strip_prefix("alias/").is_some_and(|name| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-".contains(&b))
        })
}
