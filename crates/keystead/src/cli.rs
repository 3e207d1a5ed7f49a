//! The command line.

mod dev;
mod doc;
mod key;
mod s3;

use clap::{Args, Parser, Subcommand};
pub(crate) use dev::{DevArgs, DevCommand, DevFolder, DevRun, DoctorArgs};
pub(crate) use doc::{DocArgs, DocCommand};
pub(crate) use key::{BoundKeys, KeyArgs, KeyCommand, KeyOf, RevocationArg};
pub(crate) use s3::{BucketArgs, BucketCommand, S3KeyArgs, S3KeyCommand};
use std::path::PathBuf;

/// Data platform whose every byte depends on a key that its owner holds.
#[derive(Debug, Parser)]
#[command(name = "keystead", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The key-management server
    #[command(subcommand)]
    Kms(Role),
    /// The data plane of one Region
    #[command(subcommand)]
    Node(Role),
    /// The API
    #[command(subcommand)]
    Control(Role),
    /// The keyless holder of mounts and processes
    #[command(subcommand)]
    Hold(Role),
    /// Run all four roles on this machine
    Dev(DevArgs),
    /// Check what this machine lacks
    Doctor(DoctorArgs),
    /// Clusters
    Cluster(ClusterArgs),
    /// The key owner's hand on every key of a cluster (the owner's AWS credentials)
    Key(KeyArgs),
    /// Try keys as the cluster's tenant role
    Preflight(PreflightArgs),
    /// What is wrong with a cluster, and the command that repairs it
    Why(WhyArgs),
    /// Key policies
    Policy(PolicyArgs),
    /// Encrypted volumes
    Volume(VolumeArgs),
    /// Buckets
    Bucket(BucketArgs),
    /// S3 access keys
    S3Key(S3KeyArgs),
    /// Documents
    Doc(DocArgs),
    /// The trail of key use
    Audit(AuditArgs),
    /// Organizations (platform token)
    Organization(OrganizationArgs),
}

/// A role.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Run it until SIGTERM
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Its TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// End when the supervisor ends
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

/// What stands in a path by itself; control knows which names there are.
fn cluster_name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if text.is_empty() || !text.bytes().all(fits) {
        return Err("a name is of lower-case letters, digits and hyphens".to_owned());
    }
    Ok(text.to_owned())
}

/// Where control is.
#[derive(Debug, Args)]
pub(crate) struct Api {
    /// Address of the API
    #[arg(
        long,
        env = "KEYSTEAD_API",
        default_value = "http://127.0.0.1:7440",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) api: String,
}

/// How to answer.
#[derive(Debug, Args)]
pub(crate) struct Format {
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make a cluster; it then waits for its owner's key
    Create {
        /// A DNS label
        name: String,
        /// Where it runs
        #[arg(long)]
        region: String,
        /// Another Region that its objects are replicated to, under a key of its own; for good
        #[arg(long, value_name = "REGION")]
        backup_region: Option<String>,
        /// Whose key: external
        #[arg(long, value_parser = ["external"])]
        encryption: String,
        /// The workload
        #[arg(long)]
        template: Option<String>,
        /// How long a frozen workload stays in memory, as 15m
        #[arg(long, value_name = "SPAN")]
        evict_after: Option<String>,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// Every cluster of the organization
    List {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// One cluster
    Get {
        /// Name or id
        #[arg(value_parser = cluster_name)]
        name: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// Wait for a phase
    Watch {
        /// Name or id
        #[arg(value_parser = cluster_name)]
        name: String,
        /// Creating, AwaitingKey, Provisioning, Starting, Ready, Frozen, Dead or Unknown
        #[arg(long, value_name = "PHASE")]
        until: String,
        /// Give up after this long
        #[arg(long, value_name = "SPAN", default_value = "60s")]
        timeout: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// Preflight, then tie the cluster to its owner's keys, once and for all
    Associate {
        /// Name or id
        #[arg(value_parser = cluster_name)]
        name: String,
        /// The key in the cluster's Region
        #[arg(long, value_name = "ARN")]
        key_arn: String,
        /// The key in its backup Region
        #[arg(long, value_name = "ARN")]
        backup_key_arn: Option<String>,
        /// What a refusal by one of the two keys freezes; any when not said
        #[arg(long)]
        revocation: Option<RevocationArg>,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PreflightArgs {
    /// Name or id of the cluster
    #[arg(value_parser = cluster_name)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) keys: BoundKeys,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// Name or id of the cluster
    #[arg(value_parser = cluster_name)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// The key policy that lets a cluster use its owner's key
    Render {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        name: String,
        /// The key owner's account
        #[arg(
            long,
            env = "KEYSTEAD_CUSTOMER_ACCOUNT",
            value_name = "ACCOUNT",
            hide_env_values = true
        )]
        customer_account: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    pub(crate) command: VolumeCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Volumes of a cluster
    List {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// One volume
    Show {
        /// Id of the volume
        volume: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// Make a new grant after the owner revoked the old one
    Regrant {
        /// Id of the volume
        volume: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// The last records: of LookupEvents, or of a trail's folder
    Tail(TailArgs),
    /// Verify a trail's chain, offline
    Verify {
        #[command(flatten)]
        trail: Trail,
        /// Heads kept elsewhere, one JSON object a line
        #[arg(long, value_name = "FILE")]
        heads: Vec<PathBuf>,
        /// The trail's public key, 64 hexadecimal digits
        #[arg(long, value_name = "HEX")]
        public_key: Option<String>,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Read this folder of segments, offline, and ask nobody
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Only what touched this key
    #[arg(long, value_name = "ARN")]
    pub(crate) key: Option<String>,
    /// Only events of this name, as DisableKey
    #[arg(long, value_name = "EVENT")]
    pub(crate) name: Option<String>,
    /// How many
    #[arg(short = 'n', long, default_value_t = 20)]
    pub(crate) lines: usize,
    /// Region that is asked [default: the key's, $AWS_REGION or eu-central-1]
    #[arg(long)]
    pub(crate) region: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Trail {
    /// Folder of the trail's segments [default: $KEYSTEAD_DATA/kms/trail]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct OrganizationArgs {
    #[command(subcommand)]
    pub(crate) command: OrganizationCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OrganizationCommand {
    /// Make one; its owner's token is shown once
    Create {
        /// A DNS label
        name: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// Every organization
    List {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
}
