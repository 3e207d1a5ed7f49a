//! `keystead preflight`: a node tries the key as the tenant role; each line is one check.

use super::progress::Progress;
use super::{client, json};
use crate::cli::PreflightArgs;
use crate::failure::Failure;
use crate::out::say;
use anyhow::Result;
use keystead_control::client::Client;
use keystead_control::wire::PreflightView;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(150);

/// Runs it.
pub(crate) async fn run(args: PreflightArgs) -> Result<ExitCode> {
    let result = perform(&client(&args.api)?, &args.name, &args.key_arns).await?;
    show(&result, args.format.json)?;
    Ok(if result.state == "passed" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks for one and waits for the node's word.
pub(crate) async fn perform(
    client: &Client,
    name: &str,
    key_arns: &[String],
) -> Result<PreflightView> {
    let begun = Instant::now();
    let progress = Progress::start();
    progress.say(&format!("{name}: a node tries the key as the tenant role"));
    let mut view = client.preflight(name, key_arns).await?;
    while view.state == "pending" {
        if begun.elapsed() > LIMIT {
            return Err(Failure::new("the preflight has no result")
                .why(format!("no node answered within {} s", LIMIT.as_secs()))
                .fix(format!("keystead why {name}"))
                .into());
        }
        tokio::time::sleep(EVERY).await;
        progress.say(&format!("{name}: a node tries the key as the tenant role"));
        view = client.preflight_result(name, &view.preflight).await?;
    }
    Ok(view)
}

/// The lines, and for a failed check the statement to add.
pub(crate) fn show(view: &PreflightView, as_json: bool) -> Result<()> {
    if as_json {
        return json(view);
    }
    say!("preflight {} of {}: {}", view.preflight, view.key_arn, view.state);
    // Many checks fail for one reason: its repair is said once.
    let mut said = Vec::new();
    for check in &view.checks {
        let word = if check.ok { "ok  " } else { "FAIL" };
        let detail = check.detail.as_deref().unwrap_or_default();
        say!("  {word}  {}", format!("{:<36} {detail}", check.check).trim_end());
        let repair = (check.cause, &check.missing_statement, &check.fix);
        if check.ok || said.contains(&repair) {
            continue;
        }
        said.push(repair);
        if let Some(cause) = check.cause {
            say!("        cause: {cause}");
        }
        if let Some(sid) = &check.missing_statement {
            say!("        missing statement: {sid}");
        }
        if let Some(fix) = &check.fix {
            say!("        fix: {fix}");
        }
        if let Some(patch) = &check.patch {
            say!("{}", serde_json::to_string_pretty(patch)?);
        }
    }
    Ok(())
}
