//! The node's settings: one TOML file, unknown keys refused, each value overridable by an
//! environment variable `KEYSTEAD__SECTION__KEY`.

use keystead_types::{Region, UserArn};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is not readable.
    #[error("read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A secret that others may read.
    #[error("{path} holds a secret and is readable by others (mode {mode:o}); chmod 600 it")]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not what is expected in there.
    #[error("{path}: {reason}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// How the key arena is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arena {
    /// memfd_secret(2), else locked memory.
    #[default]
    Secret,
    /// Locked memory: what a debugger may read; for tests that search memory.
    Mlock,
}

/// The S3 gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// Where it listens: on loopback, for off loopback every port needs TLS.
    pub listen: SocketAddr,
    /// The domain whose subdomains are buckets (virtual-hosted style), when there is one.
    pub domain: Option<String>,
}

/// The settings of `keystead node serve`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The Region whose clusters it serves.
    pub region: Region,
    /// Its name in reports and in grants.
    pub name: String,
    /// Its own folder.
    pub data: PathBuf,
    /// Where control listens.
    pub control_url: String,
    /// File with the bearer token for control.
    pub control_token: PathBuf,
    /// The holder's socket.
    pub hold_socket: PathBuf,
    /// File with the access key of the node's user.
    pub credentials: PathBuf,
    /// The node's user: grantee of the volume grants.
    pub user_arn: UserArn,
    /// How the key arena is held.
    #[serde(default)]
    pub arena: Arena,
    /// Serve although swap is on and not encrypted.
    #[serde(default)]
    pub insecure_swap: bool,
    /// On SIGTERM: stop workloads and detach volumes; else they stay with the holder.
    #[serde(default)]
    pub detach_on_stop: bool,
    /// Where S3 is served; nowhere without it.
    pub s3: Option<S3>,
    /// The AWS endpoint of each Region.
    pub kms: BTreeMap<Region, String>,
}

impl NodeConfig {
    /// Reads the file and lays the environment over it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, std::env::vars())
            .map_err(|reason| ConfigError::Content { path: path.to_owned(), reason })
    }

    /// [`Self::load`] with both sources given.
    pub fn parse(
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, String> {
        let mut table: toml::Table = toml::from_str(text).map_err(|e| e.to_string())?;
        for (name, value) in environment {
            if let Some(rest) = name.strip_prefix("KEYSTEAD__") {
                overlay(&mut table, &rest.to_ascii_lowercase(), &value);
            }
        }
        let config: Self = table.try_into().map_err(|e: toml::de::Error| e.to_string())?;
        if !config.kms.contains_key(&config.region) {
            return Err(format!("[kms] names no endpoint for {}", config.region));
        }
        if let Some(s3) = config.s3.as_ref().filter(|s3| !s3.listen.ip().is_loopback()) {
            return Err(format!(
                "[s3] cannot listen on {}: off loopback every port needs TLS, which comes later",
                s3.listen
            ));
        }
        Ok(config)
    }

    /// The endpoint of the node's own Region.
    pub fn endpoint(&self) -> &str {
        self.kms.get(&self.region).map_or("", String::as_str)
    }
}

/// Sets `section__key`; a bool stays a bool when it reads as one.
fn overlay(table: &mut toml::Table, name: &str, value: &str) {
    let parsed = value.parse::<bool>().map_or_else(|_| value.into(), toml::Value::Boolean);
    match name.split_once("__") {
        None => {
            table.insert(name.to_owned(), parsed);
        }
        Some((section, key)) => {
            // A Region name has hyphens, which a shell's variable name has not.
            let key = if section == "kms" { key.replace('_', "-") } else { key.to_owned() };
            let entry = table
                .entry(section.to_owned())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let Some(inner) = entry.as_table_mut() {
                inner.insert(key, parsed);
            }
        }
    }
}

/// The access key of the node's user; never printed.
pub(crate) struct Credentials {
    /// Its id, public.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Zeroizing<String>,
}

impl Credentials {
    /// Reads the file; it must be readable by its owner alone.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            access_key_id: String,
            secret_access_key: String,
        }
        let text = read_secret(path)?;
        let file: File = toml::from_str(&text).map_err(|_| ConfigError::Content {
            path: path.to_owned(),
            // The parser's own words would quote the secret.
            reason: "not a TOML file with access_key_id and secret_access_key".to_owned(),
        })?;
        Ok(Self {
            access_key_id: file.access_key_id,
            secret_access_key: Zeroizing::new(file.secret_access_key),
        })
    }
}

/// Reads a file that its owner alone may read.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let fault = |source| ConfigError::Read { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(fault)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(ConfigError::Mode { path: path.to_owned(), mode });
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        region = "eu-central-1"
        name = "n"
        data = "/d"
        control_url = "http://127.0.0.1:7440"
        control_token = "/t"
        hold_socket = "/s"
        credentials = "/c"
        user_arn = "arn:aws:iam::444455556666:user/keystead-node-eu-central-1"
        [kms]
        eu-central-1 = "http://127.0.0.1:7480"
    "#;

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<NodeConfig, String> {
        NodeConfig::parse(text, env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let plain = parse(TEXT, &[]).expect("the documented file");
        assert_eq!(plain.endpoint(), "http://127.0.0.1:7480");
        assert!(!plain.insecure_swap);
        let env = [
            ("KEYSTEAD__KMS__EU_CENTRAL_1", "http://127.0.0.1:1"),
            ("KEYSTEAD__INSECURE_SWAP", "true"),
            ("KEYSTEAD_TOKEN", "the client's, not ours"),
        ];
        let changed = parse(TEXT, &env).expect("overridden");
        assert_eq!(changed.endpoint(), "http://127.0.0.1:1");
        assert!(changed.insecure_swap);
    }

    #[test]
    fn unknown_keys_and_a_missing_endpoint_are_refused() {
        assert!(parse(TEXT, &[("KEYSTEAD__TYPO", "1")]).is_err());
        let far = format!("{TEXT}\n[s3]\nlisten = \"0.0.0.0:7490\"\n");
        assert!(parse(&far, &[]).expect_err("no TLS").contains("TLS"));
        let other = TEXT.replace("eu-central-1 =", "eu-west-1 =");
        assert!(parse(&other, &[]).expect_err("no endpoint").contains("eu-central-1"));
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_and_never_quoted() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c");
        std::fs::write(&path, "secret_access_key = \"hush").expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("mode");
        assert!(matches!(Credentials::load(&path), Err(ConfigError::Mode { .. })));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("mode");
        let said = Credentials::load(&path).err().expect("malformed").to_string();
        assert!(!said.contains("hush"), "{said}");
    }
}
