//! `keystead key`: the owner's hand on every key of a cluster. Each key is called in its own Region
//! as the owner; one that fails keeps nobody from the next.

use super::aws::{Call, Wire, refusal};
use super::{client, json, or_dash, table};
use crate::cli::{KeyArgs, KeyCommand, KeyOf};
use crate::failure::{Failure, render};
use anyhow::Result;
use keystead_types::KeyArn;
use serde::Serialize;
use std::process::ExitCode;

/// What became of one key.
#[derive(Serialize)]
struct Outcome {
    region: String,
    key: KeyArn,
    done: bool,
    /// What KMS said, or why it was not asked.
    error: Option<String>,
}

/// Runs it.
pub(crate) async fn run(args: KeyArgs) -> Result<ExitCode> {
    let (operation, word, of) = match args.command {
        KeyCommand::Disable(of) => ("DisableKey", "disabled", of),
        KeyCommand::Enable(of) => ("EnableKey", "enabled", of),
    };
    let keys = keys(&of).await?;
    let wire = Wire::find(|name| std::env::var(name).ok()).ok_or_else(|| {
        Failure::new("the key owner's credentials or KMS's endpoint are not set")
            .why("keys are changed by their owner alone, as himself")
            .fix(
                "set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or source the file that `keystead dev --env FILE` wrote",
            )
    })?;
    let mut outcomes = Vec::new();
    for key in keys {
        let error = change(&wire, operation, &key).await.err();
        outcomes.push(Outcome {
            region: key.region().to_string(),
            key,
            done: error.is_none(),
            error,
        });
    }
    let whole = outcomes.iter().all(|o| o.done);
    if of.format.json {
        json(&outcomes)?;
    } else {
        let row = |o: &Outcome| {
            let word = if o.done { word } else { "FAILED" };
            [o.region.clone(), word.to_owned(), o.key.to_string(), or_dash(o.error.as_ref())]
        };
        table(["REGION", "RESULT", "KEY", "ERROR"], outcomes.iter().map(row).collect());
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Named, or those that control has on record.
async fn keys(of: &KeyOf) -> Result<Vec<KeyArn>> {
    let Some(name) = &of.cluster else {
        let parse = |text: &String| {
            text.parse().map_err(|e| {
                Failure::new(format!("`{text}` is no key ARN")).why(format!("{e}")).into()
            })
        };
        return of.key_arns.iter().map(parse).collect();
    };
    let found = client(&of.api)?.cluster(name).await?.key_arns;
    if found.is_empty() {
        return Err(Failure::new(format!("{name} has no key yet"))
            .fix(format!("keystead cluster associate {name} --key-arn ARN"))
            .into());
    }
    Ok(found)
}

async fn change(wire: &Wire, operation: &str, key: &KeyArn) -> Result<(), String> {
    let target = format!("TrentService.{operation}");
    let call = Call {
        service: "kms",
        region: key.region().as_str(),
        target: &target,
        content_type: "application/x-amz-json-1.1",
        fix: "correct KEYSTEAD_AWS_ENDPOINT or AWS_ENDPOINT_URL",
    };
    let ask = serde_json::json!({ "KeyId": key });
    match wire.call(&call, &ask).await {
        Ok((status, _)) if status.is_success() => Ok(()),
        Ok((status, answer)) => Err(format!("{} ({})", refusal(&answer), status.as_u16())),
        Err(error) => Err(render(&error).trim_start_matches("error: ").trim().replace('\n', ";")),
    }
}
