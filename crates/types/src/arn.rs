//! Amazon Resource Names, accounts and Regions, parsed once.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a string is not the wanted ARN; the text names the part that is wrong and what to send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseArnError {
    /// An account is twelve digits.
    #[error("`{0}` is not an AWS account id (twelve digits)")]
    Account(String),
    /// A Region is lower-case letters, digits and hyphens.
    #[error(
        "`{0}` is not a Region name (lower-case letters, digits and hyphens, as in eu-central-1)"
    )]
    Region(String),
    /// Not an ARN at all.
    #[error(
        "`{0}` is not an ARN; send the full key ARN, arn:aws:kms:<region>:<account>:key/<key id>"
    )]
    NotAnArn(String),
    /// An alias where a key is needed.
    #[error(
        "`{0}` is an alias; an alias can be pointed at another key, so send the key ARN (aws kms describe-key --key-id <alias> shows it as Arn)"
    )]
    Alias(String),
    /// Another service or kind of resource.
    #[error("`{0}` does not name {1}")]
    Kind(String, &'static str),
    /// Blanks around or inside.
    #[error("`{0}` has blanks or control characters; send the ARN alone")]
    Blank(String),
    /// The key id is neither a UUID nor `mrk-` and 32 hexadecimal digits.
    #[error(
        "`{0}` does not end in a key id (a lower-case UUID, or mrk- and 32 hexadecimal digits)"
    )]
    KeyId(String),
}

fn short(given: &str) -> String {
    given.chars().take(200).collect()
}

macro_rules! text_newtype {
    ($name:ident, $err:ty) => {
        impl TryFrom<String> for $name {
            type Error = $err;
            fn try_from(given: String) -> Result<Self, Self::Error> {
                given.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// An AWS account: twelve digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

impl AccountId {
    /// The account as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = ParseArnError;
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if given.len() == 12 && given.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(given.to_owned()))
        } else {
            Err(ParseArnError::Account(short(given)))
        }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_newtype!(AccountId, ParseArnError);

/// A Region name, as `eu-central-1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

impl Region {
    /// The Region as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Region {
    type Err = ParseArnError;
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let fits = (2..=32).contains(&given.len())
            && given.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !given.starts_with('-')
            && !given.ends_with('-');
        if fits { Ok(Self(given.to_owned())) } else { Err(ParseArnError::Region(short(given))) }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_newtype!(Region, ParseArnError);

/// The six parts of an ARN.
struct Parts<'a> {
    service: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

fn split(given: &str) -> Result<Parts<'_>, ParseArnError> {
    if given.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ParseArnError::Blank(short(given)));
    }
    let mut parts = given.splitn(6, ':');
    let mut next = || parts.next().ok_or_else(|| ParseArnError::NotAnArn(short(given)));
    let (arn, partition, service, region, account, resource) =
        (next()?, next()?, next()?, next()?, next()?, next()?);
    if arn != "arn" || partition != "aws" {
        return Err(ParseArnError::NotAnArn(short(given)));
    }
    Ok(Parts { service, region, account, resource })
}

/// True for a lower-case UUID, or `mrk-` followed by 32 lower-case hexadecimal digits.
pub fn is_key_id(id: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    match id.strip_prefix("mrk-") {
        Some(rest) => rest.len() == 32 && rest.bytes().all(hex),
        None => {
            id.len() == 36
                && id.bytes().enumerate().all(|(i, b)| match i {
                    8 | 13 | 18 | 23 => b == b'-',
                    _ => hex(b),
                })
        }
    }
}

/// True for the id of a multi-Region key: `mrk-` and 32 hexadecimal digits.
pub fn is_multi_region_id(id: &str) -> bool {
    id.starts_with("mrk-") && is_key_id(id)
}

/// `arn:aws:kms:<region>:<account>:key/<key id>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyArn {
    region: Region,
    account: AccountId,
    key_id: String,
}

impl KeyArn {
    /// Builds the ARN of a key; the key id must be one (see [`is_key_id`]).
    pub fn new(region: Region, account: AccountId, key_id: &str) -> Result<Self, ParseArnError> {
        if !is_key_id(key_id) {
            return Err(ParseArnError::KeyId(short(key_id)));
        }
        Ok(Self { region, account, key_id: key_id.to_owned() })
    }
    /// The Region that the key lives in.
    pub fn region(&self) -> &Region {
        &self.region
    }
    /// The account that owns the key.
    pub fn account(&self) -> &AccountId {
        &self.account
    }
    /// The key id: a UUID, or `mrk-` and 32 hexadecimal digits.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }
}

impl FromStr for KeyArn {
    type Err = ParseArnError;
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if given.starts_with("alias/") {
            return Err(ParseArnError::Alias(short(given)));
        }
        let parts = split(given)?;
        if parts.service == "kms" && parts.resource.starts_with("alias/") {
            return Err(ParseArnError::Alias(short(given)));
        }
        let key_id = match (parts.service, parts.resource.strip_prefix("key/")) {
            ("kms", Some(id)) => id,
            _ => return Err(ParseArnError::Kind(short(given), "a KMS key")),
        };
        if !is_key_id(key_id) {
            return Err(ParseArnError::KeyId(short(given)));
        }
        Self::new(parts.region.parse()?, parts.account.parse()?, key_id)
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:kms:{}:{}:key/{}", self.region, self.account, self.key_id)
    }
}

text_newtype!(KeyArn, ParseArnError);

macro_rules! iam_arn {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            account: AccountId,
            name: String,
        }

        impl $name {
            /// Builds the ARN from an account and a name (a leading path is part of the name).
            pub fn new(account: AccountId, name: &str) -> Result<Self, ParseArnError> {
                let fits = !name.is_empty()
                    && name.len() <= 512
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&b));
                if fits {
                    Ok(Self { account, name: name.to_owned() })
                } else {
                    Err(ParseArnError::Kind(short(name), $kind))
                }
            }
            /// The account that owns it.
            pub fn account(&self) -> &AccountId {
                &self.account
            }
            /// Its name, with the path when it has one.
            pub fn name(&self) -> &str {
                &self.name
            }
        }

        impl FromStr for $name {
            type Err = ParseArnError;
            fn from_str(given: &str) -> Result<Self, Self::Err> {
                let parts = split(given)?;
                match (parts.service, parts.region, parts.resource.strip_prefix($prefix)) {
                    ("iam", "", Some(name)) => Self::new(parts.account.parse()?, name),
                    _ => Err(ParseArnError::Kind(short(given), $kind)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("arn:aws:iam::{}:", $prefix, "{}"), self.account, self.name)
            }
        }

        text_newtype!($name, ParseArnError);
    };
}

iam_arn!(
    /// `arn:aws:iam::<account>:role/<name>`.
    RoleArn, "role/", "an IAM role"
);
iam_arn!(
    /// `arn:aws:iam::<account>:user/<name>`.
    UserArn, "user/", "an IAM user"
);

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn key_arns_parse_and_print_alike() {
        let arn: KeyArn = KEY.parse().expect("a key ARN");
        assert_eq!(arn.to_string(), KEY);
        assert_eq!(
            (arn.region().as_str(), arn.account().as_str()),
            ("eu-central-1", "111122223333")
        );
        let mrk = format!("arn:aws:kms:eu-west-1:111122223333:key/mrk-{}", "0a".repeat(16));
        assert_eq!(mrk.parse::<KeyArn>().expect("a key ARN").to_string(), mrk);
    }

    #[test]
    fn each_wrong_key_arn_is_told_what_to_send() {
        let refused = |s: &str| s.parse::<KeyArn>().expect_err(s);
        assert!(matches!(
            refused("1234abcd-12ab-34cd-56ef-1234567890ab"),
            ParseArnError::NotAnArn(_)
        ));
        assert!(matches!(refused("alias/mine"), ParseArnError::Alias(_)));
        assert!(matches!(
            refused("arn:aws:kms:eu-central-1:111122223333:alias/mine"),
            ParseArnError::Alias(_)
        ));
        assert!(matches!(refused(&format!(" {KEY}")), ParseArnError::Blank(_)));
        assert!(matches!(refused(&KEY.replace("1111", "111")), ParseArnError::Account(_)));
        assert!(matches!(refused(&KEY.to_uppercase()), ParseArnError::NotAnArn(_)));
        assert!(matches!(refused(&KEY.replace("kms", "s3")), ParseArnError::Kind(..)));
        assert!(matches!(refused(&KEY.replace("1234abcd", "1234ABCD")), ParseArnError::KeyId(_)));
        assert!(matches!(refused(&KEY.replace("eu-central-1", "")), ParseArnError::Region(_)));
    }

    #[test]
    fn roles_and_users_are_told_apart() {
        let role = "arn:aws:iam::444455556666:role/keystead-cl-1";
        assert_eq!(role.parse::<RoleArn>().expect("a role").to_string(), role);
        assert!(role.parse::<UserArn>().is_err());
    }
}
