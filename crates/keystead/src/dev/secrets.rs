//! What is made once for a folder: access keys, tokens, the root key, the instance's name.

use super::Place;
use super::folder::{Folder, write_private};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;

/// An access key of a dev user.
#[derive(Serialize, Deserialize)]
pub(crate) struct AccessKey {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

/// All of it; never printed. The owner's token joins when control has made the organization.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Secrets {
    /// Eight digits that tell this folder's cgroups from another's.
    pub(crate) instance: String,
    pub(crate) platform_token: String,
    pub(crate) node_token: String,
    pub(crate) root_key: String,
    pub(crate) provider: AccessKey,
    pub(crate) customer: AccessKey,
    pub(crate) node: AccessKey,
    pub(crate) control: AccessKey,
    /// Absent in a folder of an older program, until its next start.
    pub(crate) second_node: Option<NodeSecrets>,
}

/// What the second Region's node has.
#[derive(Serialize, Deserialize)]
pub(crate) struct NodeSecrets {
    pub(crate) token: String,
    pub(crate) key: AccessKey,
}

impl NodeSecrets {
    fn make() -> Result<Self> {
        Ok(Self { token: format!("ks_{}", hex(24)?), key: access_key()? })
    }
}

impl Secrets {
    /// Token and access key of a Region's node.
    pub(crate) fn node(&self, place: Place) -> Result<(&str, &AccessKey)> {
        match place {
            Place::First => Ok((&self.node_token, &self.node)),
            Place::Second => {
                let second = self.second_node.as_ref().context("no secrets of a second node")?;
                Ok((&second.token, &second.key))
            }
        }
    }

    /// The folder's, made on the first start.
    pub(crate) fn load_or_make(folder: &Folder) -> Result<Self> {
        let path = folder.config("secrets.toml");
        if path.exists() {
            let text = fs::read_to_string(&path)?;
            // The parser's own words would quote the line.
            let mut kept: Self = toml::from_str(&text)
                .map_err(|_| anyhow::anyhow!("{} is damaged", path.display()))?;
            if kept.second_node.is_none() {
                kept.second_node = Some(NodeSecrets::make()?);
                write_private(&path, &toml::to_string(&kept)?)?;
            }
            return Ok(kept);
        }
        let made = Self {
            instance: hex(4)?,
            platform_token: format!("ks_{}", hex(24)?),
            node_token: format!("ks_{}", hex(24)?),
            root_key: hex(32)?,
            provider: access_key()?,
            customer: access_key()?,
            node: access_key()?,
            control: access_key()?,
            second_node: Some(NodeSecrets::make()?),
        };
        write_private(&path, &toml::to_string(&made)?)?;
        Ok(made)
    }
}

fn access_key() -> Result<AccessKey> {
    Ok(AccessKey {
        access_key_id: format!("AKIA{}", letters(16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")?),
        secret_access_key: letters(
            40,
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        )?,
    })
}

fn random(count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    keystead_envelope::random::fill(&mut bytes).context("make a secret")?;
    Ok(bytes)
}

/// That many random bytes as hexadecimal digits.
pub(super) fn hex(count: usize) -> Result<String> {
    Ok(random(count)?.iter().map(|b| format!("{b:02x}")).collect())
}

/// The alphabets have 32 and 64 letters, so that the remainder is even.
fn letters(count: usize, alphabet: &[u8]) -> Result<String> {
    Ok(random(count)?
        .iter()
        .map(|b| char::from(alphabet[usize::from(*b) % alphabet.len()]))
        .collect())
}
