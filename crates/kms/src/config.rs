//! What the server is told at start: one TOML file, unknown keys refused.

use crate::principals::{Principals, PrincipalsError};
use keystead_envelope::memory::{ArenaMode, DataKey, parse_swaps};
use keystead_envelope::root_key::RootKey;
use keystead_types::Region;
use serde::Deserialize;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Not what belongs in there.
    #[error("{path}: {reason}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong, without the value.
        reason: String,
    },
    /// The start file.
    #[error(transparent)]
    Principals(#[from] PrincipalsError),
}

/// The settings of `keystead kms serve`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmsConfig {
    /// Where the AWS wire listens; loopback only.
    pub listen: SocketAddr,
    /// Its own folder.
    pub data: PathBuf,
    /// The start file with accounts and users.
    pub principals: PathBuf,
    /// File with the root key, 64 hexadecimal digits: for `keystead dev` only.
    pub insecure_plain_root_key: PathBuf,
    /// How keys are held in memory: `secret` (the default) or `mlock`.
    #[serde(default)]
    pub arena: Arena,
    /// Serve although swap is on and in clear: memory may reach a disk.
    #[serde(default)]
    pub insecure_swap: bool,
    /// Further names that clients may call this server by, with the port.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The Regions that this server stands for, as `["eu-central-1", "eu-west-1"]`; a call that is
    /// signed for another one is refused. Left out, it takes any Region name.
    #[serde(default)]
    pub regions: Vec<Region>,
    /// File with the milliseconds that the scheduler is ahead of the clocks; read every second,
    /// when it is nobody else's (0600). For `keystead dev` only: deletions and rotations then fall
    /// due when somebody says so.
    #[serde(default)]
    pub insecure_scheduler_ahead: Option<PathBuf>,
}

/// How keys are held in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arena {
    /// memfd_secret(2) where the kernel has it, else mlock(2).
    #[default]
    Secret,
    /// mlock(2); a test can find keys in it.
    Mlock,
}

impl From<Arena> for ArenaMode {
    fn from(arena: Arena) -> Self {
        match arena {
            Arena::Secret => Self::Secret,
            Arena::Mlock => Self::Mlock,
        }
    }
}

impl KmsConfig {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        let config: Self = toml::from_str(&text).map_err(|e| content(path, e.message()))?;
        if !config.listen.ip().is_loopback() {
            return Err(content(path, "`listen` must be a loopback address; put TLS in front"));
        }
        Ok(config)
    }

    /// Refuses swap that is on and in clear.
    pub(crate) fn check_swap(&self) -> Result<(), ConfigError> {
        let plain = parse_swaps(&read(Path::new("/proc/swaps"))?);
        match plain.first() {
            Some(device) if !self.insecure_swap => Err(content(
                Path::new("/proc/swaps"),
                &format!(
                    "{device} is on and key material may reach it; run `swapoff {device}`, or set insecure_swap when it is encrypted"
                ),
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn principals(&self) -> Result<Principals, ConfigError> {
        Ok(Principals::load(&self.principals)?)
    }

    pub(crate) fn root_key(&self) -> Result<RootKey, ConfigError> {
        let path = &self.insecure_plain_root_key;
        let mode = std::fs::metadata(path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?
            .mode();
        if mode & 0o077 != 0 {
            return Err(content(path, "others may read the root key; chmod 600 it"));
        }
        let text = read(path)?;
        let wrong = || content(path, "the root key is 64 hexadecimal digits");
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), &mut *bytes).map_err(|_| wrong())?;
        let key = DataKey::from_slice_zeroizing(&mut *bytes)
            .map_err(|error| content(path, &error.to_string()))?;
        RootKey::new(key).ok_or_else(wrong)
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

fn content(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Content { path: path.to_owned(), reason: reason.to_owned() }
}
