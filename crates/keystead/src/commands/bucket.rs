//! `keystead bucket`.

use super::{client, json, or_dash, table, word};
use crate::cli::{BucketArgs, BucketCommand};
use anyhow::Result;
use keystead_control::wire::BucketView;
use std::process::ExitCode;

/// Runs it.
pub(crate) async fn run(args: BucketArgs) -> Result<ExitCode> {
    let BucketCommand::List { cluster, api, format } = args.command;
    let buckets = client(&api)?.buckets(&cluster).await?;
    if format.json {
        json(&buckets)?;
    } else {
        let rows = buckets.iter().map(row).collect();
        table(["NAME", "BUCKET", "STATE", "CAUSE", "DATA-KEYS", "MESSAGE"], rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn row(b: &BucketView) -> [String; 6] {
    [
        b.name.clone(),
        b.bucket.to_string(),
        or_dash(b.state.as_ref().map(word)),
        or_dash(b.cause),
        b.data_keys.to_string(),
        or_dash(b.message.as_ref()),
    ]
}
