//! `keystead dev` and `keystead doctor`.

use super::Format;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DevArgs {
    #[command(subcommand)]
    pub(crate) command: Option<DevCommand>,
    #[command(flatten)]
    pub(crate) run: DevRun,
}

#[derive(Debug, Args)]
pub(crate) struct DevRun {
    #[command(flatten)]
    pub(crate) folder: DevFolder,
    /// Write shell exports here once every port answers
    #[arg(long, value_name = "FILE")]
    pub(crate) env: Option<PathBuf>,
    /// Where control listens; port 0 picks a free one and keeps it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7440")]
    pub(crate) control_listen: SocketAddr,
    /// Where KMS listens; port 0 picks a free one and keeps it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7480")]
    pub(crate) kms_listen: SocketAddr,
    /// Where S3 listens; port 0 picks a free one and keeps it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7490")]
    pub(crate) s3_listen: SocketAddr,
    /// Where S3 of the second Region listens; port 0 picks a free one and keeps it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7491")]
    pub(crate) second_s3_listen: SocketAddr,
    /// Serve eu-central-1 alone: no second node, no cluster with a backup Region
    #[arg(long)]
    pub(crate) single_region: bool,
    /// A further name, with its port, that clients call KMS by, as behind a proxy; repeatable
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) kms_host: Vec<String>,
    /// How long a frozen workload stays in memory
    #[arg(long, value_name = "SPAN", default_value = "15m")]
    pub(crate) evict_after: String,
    /// How keys are held in memory: secret or mlock
    #[arg(long, value_name = "KIND", default_value = "secret", value_parser = ["secret", "mlock"])]
    pub(crate) arena: String,
    /// Serve although swap is on and not encrypted
    #[arg(long)]
    pub(crate) insecure_swap: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DevFolder {
    /// Where everything is kept [default: ~/.local/share/keystead]
    #[arg(long, value_name = "DIR", env = "KEYSTEAD_DATA", hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) folder: DevFolder,
    /// Port that control is to have
    #[arg(long, value_name = "PORT", default_value_t = 7440)]
    pub(crate) control_port: u16,
    /// Port that KMS is to have
    #[arg(long, value_name = "PORT", default_value_t = 7480)]
    pub(crate) kms_port: u16,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DevCommand {
    /// Stop everything that runs over a folder
    Stop(DevFolder),
    /// Stop, then delete the folder
    Clean(DevFolder),
    /// Put KMS's scheduler forward: keys whose waiting period is over are deleted, due rotations happen
    KmsClock {
        /// By how much, as +8d
        #[arg(value_name = "SPAN")]
        by: String,
        #[command(flatten)]
        folder: DevFolder,
    },
}
