//! `keystead policy`.

use super::{client, json};
use crate::cli::{PolicyArgs, PolicyCommand};
use anyhow::Result;
use std::process::ExitCode;

/// Runs it. The policy is JSON either way: it goes into `aws kms create-key --policy`.
pub(crate) async fn run(args: PolicyArgs) -> Result<ExitCode> {
    let PolicyCommand::Render { name, customer_account, api, format: _ } = args.command;
    json(&client(&api)?.key_policy(&name, &customer_account).await?)?;
    Ok(ExitCode::SUCCESS)
}
