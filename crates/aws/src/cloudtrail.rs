//! LookupEvents: its request, and a trail record as an event of its answer.

use crate::AwsError;
use crate::json::Fields;
use serde_json::{Map, Value, json};

/// `X-Amz-Target` of CloudTrail is this and the operation's name.
pub const TARGET_PREFIX: &str = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.";
/// The IAM action.
pub const LOOKUP_ACTION: &str = "cloudtrail:LookupEvents";

const KEYS: &[&str] = &[
    "EventId",
    "EventName",
    "ReadOnly",
    "Username",
    "ResourceType",
    "ResourceName",
    "EventSource",
    "AccessKeyId",
];

/// LookupEvents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupEvents {
    /// The one attribute that events must have: name, value.
    pub attribute: Option<(String, String)>,
    /// Not before, milliseconds since the epoch.
    pub start_ms: Option<i64>,
    /// Not after, milliseconds since the epoch.
    pub end_ms: Option<i64>,
    /// 1 to 50.
    pub max_results: usize,
    /// Where to go on.
    pub next_token: Option<String>,
}

impl LookupEvents {
    /// Decodes the body.
    pub fn decode(body: &[u8]) -> Result<Self, AwsError> {
        let refuse = |code: &'static str, text: &str| Err(AwsError::client(code, text));
        let mut f = Fields::read(body)?;
        let mut attributes = f.inners("LookupAttributes")?;
        if attributes.len() > 1 {
            return refuse(
                "InvalidLookupAttributesException",
                "You can only specify one attribute in your request.",
            );
        }
        let attribute = match attributes.pop() {
            None => None,
            Some(mut a) => {
                let key = a.word("AttributeKey", KEYS)?.unwrap_or_default();
                let value = a.required("AttributeValue", 1, 2000)?;
                f.absorb(a);
                Some((key, value))
            }
        };
        let start_ms = f.moment("StartTime")?;
        let end_ms = f.moment("EndTime")?;
        let max_results = match f.number("MaxResults", i64::MIN, i64::MAX)? {
            None => 50,
            Some(n @ 1..=50) => usize::try_from(n).unwrap_or(50),
            Some(_) => {
                return refuse(
                    "InvalidMaxResultsException",
                    "A maximum results value must be between 1 and 50.",
                );
            }
        };
        let next_token = f.text("NextToken", 1, 4096)?;
        if f.text("EventCategory", 0, 64)?.is_some() {
            return refuse(
                "InvalidEventCategoryException",
                "Only management events can be looked up here.",
            );
        }
        f.finish()?;
        if let (Some(start), Some(end)) = (start_ms, end_ms)
            && start > end
        {
            return refuse(
                "InvalidTimeRangeException",
                "The start time must be before the end time.",
            );
        }
        Ok(Self { attribute, start_ms, end_ms, max_results, next_token })
    }

    /// True when a record of the trail fits attribute and time.
    pub fn fits(&self, record: &Map<String, Value>) -> bool {
        let time = event_ms(record);
        let after = self.start_ms.is_none_or(|s| time.is_some_and(|t| t >= s - s.rem_euclid(1000)));
        let before = self.end_ms.is_none_or(|e| time.is_some_and(|t| t <= e));
        after && before && self.attribute.as_ref().is_none_or(|(k, v)| has(record, k, v))
    }
}

fn text<'a>(record: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    record.get(name).and_then(Value::as_str)
}

fn event_ms(record: &Map<String, Value>) -> Option<i64> {
    let moment: jiff::Timestamp = text(record, "eventTime")?.parse().ok()?;
    Some(moment.as_millisecond())
}

fn read_only(record: &Map<String, Value>) -> &'static str {
    if record.get("readOnly") == Some(&Value::Bool(true)) { "true" } else { "false" }
}

fn resources(record: &Map<String, Value>) -> impl Iterator<Item = (&str, &str)> {
    let list = record.get("resources").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|r| Some((r["type"].as_str()?, r["ARN"].as_str()?)))
}

/// User name, session name, or nothing.
fn username(record: &Map<String, Value>) -> Option<&str> {
    let who = record.get("userIdentity")?;
    match who["type"].as_str()? {
        "IAMUser" => who["userName"].as_str(),
        "AssumedRole" => who["arn"].as_str()?.rsplit('/').next(),
        "Root" => Some("root"),
        _ => None,
    }
}

fn has(record: &Map<String, Value>, key: &str, wanted: &str) -> bool {
    match key {
        "EventId" => text(record, "eventID") == Some(wanted),
        "EventName" => text(record, "eventName") == Some(wanted),
        "ReadOnly" => read_only(record) == wanted,
        "Username" => username(record) == Some(wanted),
        "ResourceType" => resources(record).any(|(kind, _)| kind == wanted),
        "ResourceName" => resources(record).any(|(_, arn)| arn == wanted),
        "EventSource" => text(record, "eventSource") == Some(wanted),
        "AccessKeyId" => {
            record.get("userIdentity").and_then(|w| w["accessKeyId"].as_str()) == Some(wanted)
        }
        _ => false,
    }
}

/// A trail record as an event. The record's text goes out without the chain's members, which are
/// no part of what CloudTrail shows.
pub fn event(record: &Map<String, Value>) -> Value {
    let mut shown = record.clone();
    shown.remove("sequence");
    shown.remove("chain");
    let mut event = json!({
        "EventId": text(record, "eventID"),
        "EventName": text(record, "eventName"),
        "ReadOnly": read_only(record),
        "EventTime": event_ms(record).map(|ms| ms.div_euclid(1000)),
        "EventSource": text(record, "eventSource"),
        "Resources": resources(record)
            .map(|(kind, arn)| json!({"ResourceType": kind, "ResourceName": arn}))
            .collect::<Vec<_>>(),
        "CloudTrailEvent": Value::Object(shown).to_string(),
    });
    if let Some(name) = username(record) {
        event["Username"] = name.into();
    }
    if let Some(id) = record.get("userIdentity").and_then(|w| w["accessKeyId"].as_str()) {
        event["AccessKeyId"] = id.into();
    }
    event
}

/// The answer: events, newest first.
pub fn answer(events: Vec<Value>, next_token: Option<&str>) -> Value {
    match next_token {
        Some(token) => json!({"Events": events, "NextToken": token}),
        None => json!({"Events": events}),
    }
}
