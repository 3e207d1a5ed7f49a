//! Keys on the command line: those of an association, and `keystead key`.

use super::{Api, Format, cluster_name};
use clap::{Args, Subcommand, ValueEnum};
use keystead_types::Revocation;

/// One key a Region of a cluster; at least one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct BoundKeys {
    /// The key in the cluster's Region
    #[arg(long, value_name = "ARN")]
    pub(crate) key_arn: Option<String>,
    /// The key in its backup Region
    #[arg(long, value_name = "ARN")]
    pub(crate) backup_key_arn: Option<String>,
}

/// What a refusal by one of two keys does.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RevocationArg {
    /// It freezes the whole cluster, in both Regions
    Any,
    /// It freezes the key's own Region
    Each,
}

impl From<RevocationArg> for Revocation {
    fn from(arg: RevocationArg) -> Self {
        match arg {
            RevocationArg::Any => Self::Any,
            RevocationArg::Each => Self::Each,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Disable every key of a cluster at once: it freezes
    Disable(KeyOf),
    /// Enable every key of a cluster again: it thaws
    Enable(KeyOf),
}

/// Whose keys.
#[derive(Debug, Args)]
pub(crate) struct KeyOf {
    /// Name or id of the cluster; control is asked for its keys (KEYSTEAD_TOKEN)
    #[arg(long, value_parser = cluster_name, required_unless_present = "key_arns")]
    pub(crate) cluster: Option<String>,
    /// A key, instead of asking control; once for each
    #[arg(long = "key-arn", value_name = "ARN", conflicts_with = "cluster")]
    pub(crate) key_arns: Vec<String>,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn keys_are_named_in_their_own_place() {
        Cli::command().debug_assert();
        let reads = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        for good in [
            "keystead preflight c --key-arn A",
            "keystead preflight c --backup-key-arn B",
            "keystead preflight c --key-arn A --backup-key-arn B",
            "keystead cluster associate c --key-arn A",
            "keystead cluster associate c --key-arn A --backup-key-arn B --revocation each",
            "keystead key disable --cluster c",
            "keystead key enable --key-arn A --key-arn B --json",
        ] {
            assert!(reads(good), "{good}");
        }
        for bad in [
            "keystead preflight c",
            "keystead preflight c --key-arn A --key-arn B",
            "keystead cluster associate c --backup-key-arn B",
            "keystead cluster associate c --key-arn A --revocation never",
            "keystead key disable",
            "keystead key disable --cluster c --key-arn A",
        ] {
            assert!(!reads(bad), "{bad}");
        }
    }
}
