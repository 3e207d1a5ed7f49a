//! Tags of keys.

use super::conditions::of_tags;
use super::find::{Found, find};
use super::{Body, Call, Note, Room, page, paged};
use crate::store::records::Key;
use crate::store::state::Change;
use keystead_aws::ops::{ListOfKey, MOST_TAGS, Operation, TagResource, UntagResource};
use keystead_aws::{AwsError, error};
use serde_json::{Value, json};

type Answer = Result<Body, AwsError>;
type Tags = Vec<(String, String)>;

fn put(found: &Found<'_>, tags: Tags, note: &mut Note, changes: &mut Vec<Change>) -> Body {
    note.response = json!({ "keyId": found.arn() });
    if tags != found.key.record.tags {
        changes.push(Change::PutKey(Key { tags, ..found.key.record.clone() }));
    }
    Body::Empty
}

pub(super) fn tag(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &TagResource,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let op = Operation::TagResource;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed_with(room, call, op, |request| of_tags(request, &r.tags))?;
    found.not_pending()?;
    let mut tags = found.key.record.tags.clone();
    for given in &r.tags {
        match tags.iter_mut().find(|(key, _)| *key == given.key) {
            Some((_, value)) => value.clone_from(&given.value),
            None => tags.push((given.key.clone(), given.value.clone())),
        }
    }
    if tags.len() > MOST_TAGS {
        return Err(error::limit_exceeded(format!("The key would have over {MOST_TAGS} tags.")));
    }
    Ok(put(&found, tags, note, changes))
}

pub(super) fn untag(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &UntagResource,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let op = Operation::UntagResource;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed_with(room, call, op, |request| {
        for key in &r.tag_keys {
            request.key("aws:TagKeys", key.as_str());
        }
    })?;
    found.not_pending()?;
    let mut tags = found.key.record.tags.clone();
    tags.retain(|(key, _)| !r.tag_keys.contains(key));
    Ok(put(&found, tags, note, changes))
}

pub(super) fn list(room: &Room<'_>, call: &Call<'_>, r: &ListOfKey, note: &mut Note) -> Answer {
    let op = Operation::ListResourceTags;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed(room, call, op)?;
    let mut tags: Vec<&(String, String)> = found.key.record.tags.iter().collect();
    tags.sort();
    let (tags, next) = page(tags.into_iter(), |t| t.0.clone(), r.marker.as_deref(), r.limit)?;
    let tags: Vec<Value> =
        tags.iter().map(|(k, v)| json!({ "TagKey": k, "TagValue": v })).collect();
    Ok(paged(json!({ "Tags": tags }), next))
}
