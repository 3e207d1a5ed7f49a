//! Multi-Region families: a primary key, and a replica in each further Region.
//!
//! | shared, and changed in all of them at once | each key's own |
//! |---|---|
//! | key id, spec, usage, materials, rotation | Region, policy, grants, aliases, tags, description, state |

use super::find::find;
use super::keys::{checked_policy, default_policy, identity_allows};
use super::metadata::{Family, lower_camel, metadata};
use super::{Body, Call, Further, Note, Room, conditions, material};
use crate::store::records::{Key, KeyState, MultiRegion};
use crate::store::state::Change;
use keystead_aws::ops::{Operation, ReplicateKey, UpdatePrimaryRegion};
use keystead_aws::policy::RequestContext;
use keystead_aws::{AwsError, error};
use keystead_types::KeyArn;
use serde_json::{Value, json};

type Answer = Result<Body, AwsError>;

pub(super) fn replicate(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &ReplicateKey,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let op = Operation::ReplicateKey;
    let found = find(room, call, &r.key_id, op, note)?;
    let primary = &found.key.record;
    found.allowed_with(room, call, op, |request| {
        request.key("kms:ReplicaRegion", r.replica_region.as_str());
        conditions::of_tags(request, &r.tags);
        let bypass = "kms:BypassPolicyLockoutSafetyCheck";
        conditions::flag(request, bypass, r.bypass_lockout_check);
    })?;
    // The replica is made there, as by CreateKey.
    let there = Call { region: &r.replica_region, ..*call };
    let kind = Some(MultiRegion::Replica);
    let shape = |request: &mut RequestContext| {
        conditions::of_kind(
            request,
            primary.spec.as_str(),
            primary.spec.usage(),
            conditions::ORIGIN,
        );
        conditions::of_multi_region(request, kind);
        let bypass = "kms:BypassPolicyLockoutSafetyCheck";
        conditions::flag(request, bypass, r.bypass_lockout_check);
        conditions::of_tags(request, &r.tags);
    };
    identity_allows(&there, "kms:CreateKey", "*", shape)?;
    if !r.tags.is_empty() {
        identity_allows(&there, "kms:TagResource", "*", shape)?;
    }
    found.settled()?;
    let not_primary = || error::not_primary(&primary.arn.to_string());
    let mut family = Family::of(room.state, primary)
        .filter(|family| family.primary == primary.arn)
        .ok_or_else(not_primary)?;
    room.regions.check(&r.replica_region)?;
    let (account, id) = (primary.arn.account().clone(), primary.arn.key_id());
    let arn = KeyArn::new(r.replica_region.clone(), account, id).map_err(|_| error::internal())?;
    if room.state.keys.contains_key(&arn) {
        return Err(error::replica_exists(&arn.to_string()));
    }
    let text = match &r.policy {
        Some(text) => text.clone(),
        None => default_policy(arn.account().as_str()),
    };
    let tags: Vec<_> = r.tags.iter().map(|t| (t.key.clone(), t.value.clone())).collect();
    let policy = checked_policy(room, &there, &arn, &text, r.bypass_lockout_check, |request| {
        conditions::of_key(request, primary.spec, kind, &tags);
    })?;
    let (material, older) = material::replicate(room, primary, &arn)?;
    let replica = Key {
        arn: arn.clone(),
        spec: primary.spec,
        description: r.description.clone(),
        created_ms: call.now_ms,
        state: KeyState::Creating,
        policy,
        material,
        older,
        schedule: primary.schedule,
        multi_region: kind,
        tags,
    };
    family.replicas.push(arn.clone());
    let metadata = metadata(&replica, Some(&family));
    let shown = lower_camel(&metadata);
    note.response = json!({ "replicaKeyMetadata": shown, "replicaPolicy": text });
    note.further.push(Further::Elsewhere {
        name: "CreateKey",
        key: arn,
        parameters: created(r, primary, &text),
        response: json!({ "keyMetadata": shown }),
    });
    changes.push(Change::PutKey(replica));
    let tags: Vec<Value> =
        r.tags.iter().map(|t| json!({ "TagKey": t.key, "TagValue": t.value })).collect();
    Ok(Body::Json(json!({
        "ReplicaKeyMetadata": metadata,
        "ReplicaPolicy": text,
        "ReplicaTags": tags,
    })))
}

/// The request of the CreateKey that a replica's Region has on record.
fn created(r: &ReplicateKey, primary: &Key, policy: &str) -> Value {
    json!({
        "policy": policy,
        "description": r.description,
        "keySpec": primary.spec.as_str(),
        "customerMasterKeySpec": primary.spec.as_str(),
        "keyUsage": primary.spec.usage(),
        "origin": conditions::ORIGIN,
        "multiRegion": true,
        "bypassPolicyLockoutSafetyCheck": r.bypass_lockout_check,
    })
}

/// Makes a replica the primary key, and the primary key a replica.
pub(super) fn update_primary(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &UpdatePrimaryRegion,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let op = Operation::UpdatePrimaryRegion;
    let shape = |request: &mut RequestContext| {
        request.key("kms:PrimaryRegion", r.primary_region.as_str());
    };
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed_with(room, call, op, shape)?;
    found.usable()?;
    let old = &found.key.record;
    let arn = old.arn.to_string();
    if old.multi_region != Some(MultiRegion::Primary) {
        return Err(error::not_primary(&arn));
    }
    if r.primary_region == *call.region {
        return Err(error::unsupported(format!("{arn} is the multi-region primary key already.")));
    }
    let there = Call { region: &r.primary_region, ..*call };
    let Some(next) = found.in_region(room, &r.primary_region) else {
        let (account, id) = (old.arn.account(), old.arn.key_id());
        let absent = format!("arn:aws:kms:{}:{account}:key/{id}", r.primary_region);
        return Err(error::key_not_found(&absent));
    };
    next.allowed_with(room, &there, op, shape)?;
    next.usable()?;
    note.response = json!({ "keyId": arn });
    note.further.push(Further::Elsewhere {
        name: "UpdatePrimaryRegion",
        key: next.arn().clone(),
        parameters: json!({ "keyId": r.key_id, "primaryRegion": r.primary_region }),
        response: json!({ "keyId": next.arn() }),
    });
    for (key, kind) in [(old, MultiRegion::Replica), (&next.key.record, MultiRegion::Primary)] {
        let (state, multi_region) = (KeyState::Updating, Some(kind));
        changes.push(Change::PutKey(Key { state, multi_region, ..key.clone() }));
    }
    Ok(Body::Empty)
}
