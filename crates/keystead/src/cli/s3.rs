//! `keystead bucket` and `keystead s3-key`.

use super::{Api, Format, cluster_name};
use clap::{Args, Subcommand, ValueEnum};
use keystead_types::S3Role;

#[derive(Debug, Args)]
pub(crate) struct BucketArgs {
    #[command(subcommand)]
    pub(crate) command: BucketCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BucketCommand {
    /// Buckets of a cluster; S3 itself makes and removes them (aws s3 mb, aws s3 rb)
    List {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct S3KeyArgs {
    #[command(subcommand)]
    pub(crate) command: S3KeyCommand,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    /// Get, head and list
    Reader,
    /// Everything
    Writer,
}

impl From<RoleArg> for S3Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Reader => Self::Reader,
            RoleArg::Writer => Self::Writer,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum S3KeyCommand {
    /// Make a key; its secret is shown once
    Create {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        /// What it may do
        #[arg(long)]
        role: RoleArg,
        /// Who uses it
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// Keys of a cluster, without their secrets
    List {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// Make a successor of the same role; the old key ends after the overlap
    Rotate {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        /// Access key id of the old one
        access_key_id: String,
        /// How long the old key goes on, as 24h; 0s ends it at once
        #[arg(long, value_name = "SPAN", default_value = "24h")]
        overlap: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// End a key, as soon as the node has heard of it
    Revoke {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        /// Its access key id
        access_key_id: String,
        #[command(flatten)]
        api: Api,
    },
}
