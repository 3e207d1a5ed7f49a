//! CloudTrail's LookupEvents: an account's own records in a Region, newest first.

use super::keys::identity_allows;
use super::{Body, Call, Done, Note};
use crate::trail::{Query, Trail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_aws::AwsError;
use keystead_aws::cloudtrail::{self, LookupEvents};

pub(crate) fn lookup_events(trail: &Trail, call: &Call<'_>, r: &LookupEvents) -> Done {
    Done { result: look(trail, call, r), changes: Vec::new(), note: Note::default() }
}

fn look(trail: &Trail, call: &Call<'_>, r: &LookupEvents) -> Result<Body, AwsError> {
    identity_allows(call, cloudtrail::LOOKUP_ACTION, "*", |_| {})?;
    // The token is the id of the last event shown: later events do not shift the pages.
    let after = match &r.next_token {
        None => None,
        Some(token) => {
            let bytes = STANDARD.decode(token).ok();
            let id = bytes.and_then(|b| String::from_utf8(b).ok());
            let id = id.filter(|id| uuid::Uuid::try_parse(id).is_ok());
            Some(id.ok_or_else(|| {
                AwsError::client("InvalidNextTokenException", "Invalid NextToken.")
            })?)
        }
    };
    let account = call.who.caller.account.as_str();
    let region = call.region.as_str();
    // Texts that a record has for certain if it fits; an event is parsed only if it has them.
    let mut contains = vec![member("recipientAccountId", account), member("awsRegion", region)];
    contains.extend(r.attribute.as_ref().map(|(_, value)| in_json(value)));
    let query = Query { after: after.as_deref(), contains, most: r.max_results };
    let (records, more) = trail.newest(&query, |record| {
        let is = |name: &str, value: &str| record.get(name).is_some_and(|v| v == value);
        is("recipientAccountId", account) && is("awsRegion", region) && r.fits(record)
    });
    let next = match records.last() {
        Some(last) if more => {
            last.get("eventID").and_then(|id| id.as_str()).map(|id| STANDARD.encode(id))
        }
        _ => None,
    };
    let events = records.iter().map(cloudtrail::event).collect();
    Ok(Body::Json(cloudtrail::answer(events, next.as_deref())))
}

fn member(name: &str, value: &str) -> String {
    format!("\"{name}\":\"{}\"", in_json(value))
}

/// The text as it stands inside a JSON string.
fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
