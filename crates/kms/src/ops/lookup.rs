//! CloudTrail's LookupEvents: an account's own records in a Region, newest first.

use super::keys::identity_allows;
use super::{Body, Call, Done, Note, Room};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_aws::AwsError;
use keystead_aws::cloudtrail::{self, LookupEvents};
use std::cell::Cell;

pub(crate) fn lookup_events(room: &Room<'_>, call: &Call<'_>, r: &LookupEvents) -> Done {
    Done { result: look(room, call, r), changes: Vec::new(), note: Note::default() }
}

fn look(room: &Room<'_>, call: &Call<'_>, r: &LookupEvents) -> Result<Body, AwsError> {
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
    let reached = Cell::new(after.is_none());
    let (records, more) = room.trail.newest(0, r.max_results, |record| {
        if !reached.get() {
            reached.set(record.get("eventID").and_then(|id| id.as_str()) == after.as_deref());
            return false;
        }
        let is = |name: &str, value: &str| record.get(name).is_some_and(|v| v == value);
        is("recipientAccountId", account) && is("awsRegion", call.region.as_str()) && r.fits(record)
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
