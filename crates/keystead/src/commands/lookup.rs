//! CloudTrail's LookupEvents over the AWS wire.

use super::aws::{Call, Wire};
use crate::failure::Failure;
use anyhow::{Context, Result};
use keystead_aws::cloudtrail::TARGET_PREFIX;
use serde_json::{Value, json};
use std::collections::VecDeque;

const PAGE: usize = 50;
/// So many pages are turned for records that a filter of ours lets through.
const MOST_PAGES: usize = 400;

/// The newest `lines` records that fit, oldest first.
pub(crate) async fn newest(
    wire: &Wire,
    region: &str,
    filter: &super::audit::Filter,
    lines: usize,
) -> Result<VecDeque<Value>> {
    let mut found = VecDeque::new();
    let mut token: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let mut ask = json!({ "MaxResults": PAGE.min(lines.max(1)) });
        // CloudTrail takes one attribute; the other is looked at here.
        let attribute = filter.key.as_ref().map(|key| ("ResourceName", key));
        let attribute = attribute.or(filter.name.as_ref().map(|name| ("EventName", name)));
        if let Some((key, value)) = attribute {
            ask["LookupAttributes"] = json!([{"AttributeKey": key, "AttributeValue": value}]);
        }
        if let Some(token) = &token {
            ask["NextToken"] = json!(token);
        }
        let answer = call(wire, region, &ask).await?;
        for event in answer["Events"].as_array().into_iter().flatten() {
            let text = event["CloudTrailEvent"].as_str().unwrap_or_default();
            let record: Value = serde_json::from_str(text).context("read an event")?;
            if filter.fits(&record) && found.len() < lines {
                found.push_front(record);
            }
        }
        token = answer["NextToken"].as_str().map(str::to_owned);
        if token.is_none() || found.len() >= lines {
            break;
        }
    }
    Ok(found)
}

async fn call(wire: &Wire, region: &str, ask: &Value) -> Result<Value> {
    let target = format!("{TARGET_PREFIX}LookupEvents");
    let fix = "correct KEYSTEAD_AWS_ENDPOINT, or read the folder by --dir";
    let call = Call {
        service: "cloudtrail",
        region,
        target: &target,
        content_type: "application/x-amz-json-1.1",
        fix,
    };
    let (status, value) = wire.call(&call, ask).await?;
    if status.is_success() && value["Events"].is_array() {
        return Ok(value);
    }
    Err(Failure::new(format!("LookupEvents was refused ({})", status.as_u16()))
        .why(super::aws::refusal(&value))
        .fix(format!(
            "the user of {} needs cloudtrail:LookupEvents; or read the folder by --dir",
            wire.access_key_id()
        ))
        .into())
}
