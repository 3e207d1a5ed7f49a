//! `keystead doc`.

use super::{Api, Format, cluster_name};
use clap::{Args, Subcommand};
use keystead_types::DocumentId;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct DocArgs {
    #[command(subcommand)]
    pub(crate) command: DocCommand,
}

/// `k=v`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Debug, Subcommand)]
pub(crate) enum DocCommand {
    /// Put a file as a new document
    Put {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        /// The file
        file: PathBuf,
        /// What the document is called [default: the file's name]
        #[arg(long)]
        name: Option<String>,
        /// Its media type
        #[arg(long, value_name = "TYPE", default_value = "application/octet-stream")]
        content_type: String,
        /// A pair of its metadata; may be given more than once
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        meta: Vec<(String, String)>,
        /// It ends after this, as 24h or 30d [default: never]
        #[arg(long, value_name = "SPAN")]
        expires: Option<String>,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// Get a document
    Get {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        /// Its id
        document: DocumentId,
        /// Where to, `-` for standard output [default: its own name, in this folder]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// Documents of a cluster
    List {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// A link for somebody who has no account here
    Link {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        /// The document's id
        document: DocumentId,
        /// How long it is good, as 15m; at most 168h
        #[arg(long, value_name = "SPAN", default_value = "15m")]
        expires: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        format: Format,
    },
    /// Remove a document; links to it lead nowhere from then on
    Rm {
        /// Name or id of the cluster
        #[arg(value_parser = cluster_name)]
        cluster: String,
        /// Its id
        document: DocumentId,
        #[command(flatten)]
        api: Api,
    },
}
