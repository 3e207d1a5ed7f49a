//! `keystead organization`, with the platform's token.

use super::{json, platform_client, table};
use crate::cli::{OrganizationArgs, OrganizationCommand};
use crate::out::say;
use anyhow::Result;
use std::process::ExitCode;

/// Runs it.
pub(crate) async fn run(args: OrganizationArgs) -> Result<ExitCode> {
    match args.command {
        OrganizationCommand::Create { name, api, format } => {
            let made = platform_client(&api)?.create_organization(&name).await?;
            if format.json {
                json(&made)?;
            } else {
                say!("organization {} ({})", made.name, made.organization);
                if let Some(token) = &made.token {
                    say!("token        {token}\n             shown once; keep it");
                }
            }
        }
        OrganizationCommand::List { api, format } => {
            let all = platform_client(&api)?.organizations().await?;
            if format.json {
                json(&all)?;
            } else {
                let rows =
                    all.iter().map(|o| [o.organization.to_string(), o.name.clone()]).collect();
                table(["ORGANIZATION", "NAME"], rows);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
