//! Aliases: names of an account's own keys in a Region.

use super::find::{Found, by_arn, find};
use super::keys::identity_allows;
use super::{Body, Call, Note, Room, page, paged, seconds};
use crate::store::records::Alias;
use crate::store::state::Change;
use keystead_aws::ops::{AliasAndTarget, DeleteAlias, ListAliases, Operation};
use keystead_aws::trail::Resource;
use keystead_aws::{AwsError, error};
use serde_json::{Value, json};

const MOST_PER_KEY: usize = 50;

/// The alias of a request, if the caller's identity policies let him do this to it: an alias is an
/// object of its own, and its key's policy is asked for the key.
fn named(call: &Call<'_>, name: &str, op: Operation, note: &mut Note) -> Result<String, AwsError> {
    let account = call.account()?;
    let arn = format!("arn:aws:kms:{}:{account}:{name}", call.region);
    note.resources.push(Resource::alias(account.as_str(), &arn));
    identity_allows(call, op.info().actions[0], &arn, |_| {})?;
    Ok(arn)
}

/// The alias and its key now, if the caller may do this to the key.
fn present<'a>(
    room: &Room<'a>,
    call: &Call<'_>,
    name: &str,
    op: Operation,
    note: &mut Note,
) -> Result<(&'a Alias, Found<'a>), AwsError> {
    let arn = named(call, name, op, note)?;
    let alias = room.state.aliases.get(&arn).ok_or_else(|| error::alias_not_found(&arn))?;
    let found = by_arn(room, &alias.target, note).ok_or_else(error::internal)?;
    found.allowed(room, call, op)?;
    Ok((alias, found))
}

/// The key that an alias is to name, if it takes one more.
fn target<'a>(
    room: &Room<'a>,
    call: &Call<'_>,
    given: &str,
    op: Operation,
    note: &mut Note,
) -> Result<Found<'a>, AwsError> {
    let found = find(room, call, given, op, note)?;
    found.allowed(room, call, op)?;
    found.not_pending()?;
    Ok(found)
}

fn room_for_one(room: &Room<'_>, found: &Found<'_>) -> Result<(), AwsError> {
    if room.state.alias_names(found.arn()).count() >= MOST_PER_KEY {
        return Err(error::limit_exceeded(format!("The key has {MOST_PER_KEY} aliases.")));
    }
    Ok(())
}

pub(super) fn create(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &AliasAndTarget,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Result<Body, AwsError> {
    let op = Operation::CreateAlias;
    let arn = named(call, &r.alias_name, op, note)?;
    let found = target(room, call, &r.target_key_id, op, note)?;
    if room.state.aliases.contains_key(&arn) {
        return Err(error::alias_exists(&arn));
    }
    room_for_one(room, &found)?;
    changes.push(Change::PutAlias(Alias {
        arn,
        name: r.alias_name.clone(),
        target: found.arn().clone(),
        created_ms: call.now_ms,
        updated_ms: None,
    }));
    Ok(Body::Empty)
}

pub(super) fn update(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &AliasAndTarget,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Result<Body, AwsError> {
    let op = Operation::UpdateAlias;
    let (alias, now) = present(room, call, &r.alias_name, op, note)?;
    let next = target(room, call, &r.target_key_id, op, note)?;
    if now.key.record.spec != next.key.record.spec {
        return Err(error::alias_of_another_kind(&alias.arn));
    }
    if now.arn() == next.arn() {
        return Ok(Body::Empty);
    }
    room_for_one(room, &next)?;
    // Gone from the one and new at the other: who watches either key is told.
    changes.push(Change::RemoveAlias(alias.clone()));
    changes.push(Change::PutAlias(Alias {
        target: next.arn().clone(),
        updated_ms: Some(call.now_ms),
        ..alias.clone()
    }));
    Ok(Body::Empty)
}

pub(super) fn delete(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &DeleteAlias,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Result<Body, AwsError> {
    let (alias, _) = present(room, call, &r.alias_name, Operation::DeleteAlias, note)?;
    changes.push(Change::RemoveAlias(alias.clone()));
    Ok(Body::Empty)
}

pub(super) fn list(room: &Room<'_>, call: &Call<'_>, r: &ListAliases) -> Result<Body, AwsError> {
    identity_allows(call, "kms:ListAliases", "*", |_| {})?;
    let account = call.account()?;
    let of_key = match &r.key_id {
        None => None,
        Some(given) => {
            let found = find(room, call, given, Operation::ListAliases, &mut Note::default())?;
            Some(found.arn().clone())
        }
    };
    let mine = room.state.aliases.values().filter(|alias| {
        *alias.target.account() == account
            && alias.target.region() == call.region
            && of_key.as_ref().is_none_or(|key| *key == alias.target)
    });
    let (found, next) = page(mine, |a| a.arn.clone(), r.marker.as_deref(), r.limit)?;
    let aliases: Vec<Value> = found
        .iter()
        .map(|alias| {
            json!({
                "AliasName": alias.name,
                "AliasArn": alias.arn,
                "TargetKeyId": alias.target.key_id(),
                "CreationDate": seconds(alias.created_ms),
                "LastUpdatedDate": seconds(alias.updated_ms.unwrap_or(alias.created_ms)),
            })
        })
        .collect();
    Ok(paged(json!({ "Aliases": aliases }), next))
}
