//! What control is told at start: one TOML file, unknown keys refused. Secrets stay in files of
//! their own, readable by their owner alone, and are read once.

use keystead_types::{AccountId, Region, UserArn};
use serde::Deserialize;
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A secret that others may read.
    #[error("{0} holds a secret and is readable by others; chmod 600 it")]
    Mode(PathBuf),
    /// Not what is expected in there.
    #[error("{path}: {reason}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong, without the value.
        reason: String,
    },
}

/// One node that control answers to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeEntry {
    /// Its Region.
    pub region: Region,
    /// Its name.
    pub name: String,
    /// Its IAM user, named in the trust policy of every tenant role.
    pub user_arn: UserArn,
    /// File with its bearer token.
    pub token_file: PathBuf,
}

/// The settings of `keystead control serve`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlConfig {
    /// Where the API listens; loopback only.
    pub listen: SocketAddr,
    /// Its own folder.
    pub data: PathBuf,
    /// The account that tenant roles are made in.
    pub provider_account: AccountId,
    /// Where IAM answers.
    pub aws_endpoint: String,
    /// File with the access key of the user keystead-control.
    pub credentials: PathBuf,
    /// File with the platform's bearer token.
    pub platform_token: PathBuf,
    /// Default of `evict_after`, as `15m`.
    #[serde(default)]
    pub evict_after: Option<String>,
    /// The nodes, one a Region.
    #[serde(default)]
    pub node: Vec<NodeEntry>,
}

/// An access key; never printed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

impl ControlConfig {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self = toml::from_str(&text).map_err(|e| content(path, e.message()))?;
        if !config.listen.ip().is_loopback() {
            return Err(content(path, "`listen` must be a loopback address; put TLS in front"));
        }
        if let Some(text) = &config.evict_after {
            parse_span(text).map_err(|reason| content(path, &reason))?;
        }
        Ok(config)
    }

    pub(crate) fn credentials(&self) -> Result<Credentials, ConfigError> {
        let text = secret_file(&self.credentials)?;
        // The parser's own text would quote the line, which holds the secret.
        toml::from_str(&text)
            .map_err(|_| content(&self.credentials, "expected access_key_id and secret_access_key"))
    }
}

fn content(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Content { path: path.to_owned(), reason: reason.to_owned() }
}

/// Reads a file that only its owner may read, without the line end.
pub(crate) fn secret_file(path: &Path) -> Result<String, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(read)?.mode() & 0o077 != 0 {
        return Err(ConfigError::Mode(path.to_owned()));
    }
    Ok(fs::read_to_string(path).map_err(read)?.trim_end().to_owned())
}

/// A bearer token. An empty one would let in whoever sends none.
pub(crate) fn token_file(path: &Path) -> Result<String, ConfigError> {
    let token = secret_file(path)?;
    let one_word = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    if one_word { Ok(token) } else { Err(content(path, "expected one token, printable ASCII")) }
}

/// Reads `90s`, `15m` or `2h` as milliseconds; at most 7 days.
pub(crate) fn parse_span(text: &str) -> Result<u64, String> {
    let refuse = || format!("`{text}` is not a span; write it as 90s, 15m or 2h, at most 168h");
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(refuse)?;
    let factor = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(refuse()),
    };
    let count: u32 = digits.parse().map_err(|_| refuse())?;
    let ms = u64::from(count) * factor;
    if ms > 7 * 24 * 3_600_000 { Err(refuse()) } else { Ok(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_of_a_private_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        for (text, mode, good) in [
            ("ks_a\n", 0o600, true),
            ("ks_a\n", 0o640, false),
            ("", 0o600, false),
            ("\n", 0o600, false),
            ("ks_a ks_b", 0o600, false),
        ] {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(token_file(&path).is_ok(), good, "{text:?} {mode:o}");
        }
    }

    #[test]
    fn spans_are_read_or_refused() {
        assert_eq!(parse_span("15m"), Ok(900_000));
        assert_eq!(parse_span("0s"), Ok(0));
        for bad in ["", "m", "15", "-1s", "15 m", "169h", "1ü"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
