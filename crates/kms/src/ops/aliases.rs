//! Aliases: names of an account's own keys in a Region.

use super::find::find;
use super::keys::identity_allows;
use super::{Body, Call, Note, Room, page, paged, seconds};
use crate::store::records::Alias;
use crate::store::state::Change;
use keystead_aws::ops::{CreateAlias, ListAliases, Operation};
use keystead_aws::{AwsError, error};
use serde_json::{Value, json};

const MOST_PER_KEY: usize = 50;

pub(super) fn create(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &CreateAlias,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Result<Body, AwsError> {
    let op = Operation::CreateAlias;
    let arn = format!("arn:aws:kms:{}:{}:{}", call.region, call.account()?, r.alias_name);
    // The alias is an object of its own: identity policies allow it, the key's policy the key.
    identity_allows(call, "kms:CreateAlias", &arn, |_| {})?;
    let found = find(room, call, &r.target_key_id, op, note)?;
    found.allowed(room, call, op)?;
    found.not_pending()?;
    if room.state.aliases.contains_key(&arn) {
        return Err(error::alias_exists(&arn));
    }
    if room.state.aliases.values().filter(|a| a.target == *found.arn()).count() >= MOST_PER_KEY {
        return Err(error::limit_exceeded(format!("The key has {MOST_PER_KEY} aliases.")));
    }
    changes.push(Change::PutAlias(Alias {
        arn,
        name: r.alias_name.clone(),
        target: found.arn().clone(),
        created_ms: call.now_ms,
    }));
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
                "LastUpdatedDate": seconds(alias.created_ms),
            })
        })
        .collect();
    Ok(paged(json!({ "Aliases": aliases }), next))
}
