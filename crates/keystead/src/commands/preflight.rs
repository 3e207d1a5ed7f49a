//! `keystead preflight`: the node of each key's Region tries it as the tenant role; each line is one
//! check.

use super::progress::Progress;
use super::{client, json};
use crate::cli::{BoundKeys, PreflightArgs};
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
    let BoundKeys { key_arn, backup_key_arn } = args.keys;
    let key_arns: Vec<String> = key_arn.into_iter().chain(backup_key_arn).collect();
    let results = perform(&client(&args.api)?, &args.name, &key_arns).await?;
    show(&results, args.format.json)?;
    Ok(if passed(&results) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// True when each key passed.
pub(crate) fn passed(results: &[PreflightView]) -> bool {
    results.iter().all(|r| r.state == "passed")
}

/// Asks for one a key and waits for the nodes' word.
pub(crate) async fn perform(
    client: &Client,
    name: &str,
    key_arns: &[String],
) -> Result<Vec<PreflightView>> {
    let begun = Instant::now();
    let progress = Progress::start();
    let mut views = Vec::new();
    for key_arn in key_arns {
        progress.say(&format!("{name}: a node tries the key as the tenant role"));
        views.push(client.preflight(name, key_arn).await?);
    }
    for view in &mut views {
        while view.state == "pending" {
            if begun.elapsed() > LIMIT {
                return Err(Failure::new(format!(
                    "the preflight of {} has no result",
                    view.key_arn
                ))
                .why(format!(
                    "no node in {} answered within {} s",
                    view.key_arn.region(),
                    LIMIT.as_secs()
                ))
                .fix(format!("keystead why {name}"))
                .into());
            }
            tokio::time::sleep(EVERY).await;
            progress.say(&format!("{name}: a node tries the key as the tenant role"));
            *view = client.preflight_result(name, &view.preflight).await?;
        }
    }
    Ok(views)
}

/// In JSON one document: of one key its preflight, of two a list of both.
pub(crate) fn show(results: &[PreflightView], as_json: bool) -> Result<()> {
    match results {
        [one] if as_json => json(one),
        several if as_json => json(&several),
        _ => results.iter().try_for_each(lines),
    }
}

/// The lines, and for a failed check the statement to add.
fn lines(view: &PreflightView) -> Result<()> {
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
