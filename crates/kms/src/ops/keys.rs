//! Keys: made, described, listed, switched, scheduled for deletion; their policies.

use super::find::{Found, find};
use super::material::Fresh;
use super::metadata::{Family, lower_camel, metadata};
use super::{Body, Call, Note, Room, bind, conditions, page, paged, seconds};
use crate::store::records::{Key, KeySpec, KeyState, MultiRegion};
use crate::store::state::Change;
use keystead_aws::ops::{
    CreateKey, KeyOnly, ListKeys, ListOfKey, Operation, PutKeyPolicy, ScheduleKeyDeletion,
    UpdateKeyDescription,
};
use keystead_aws::policy::{
    MAX_KEY_POLICY_BYTES, Policy, RequestContext, StoredPolicy, evaluate_identity_only,
    lockout_safe,
};
use keystead_aws::trail::Resource;
use keystead_aws::{AwsError, error};
use keystead_types::KeyArn;
use serde_json::{Value, json};

pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// AWS's service that keeps multi-Region keys alike, and the role that it has in an account. Here
/// nothing needs either; a policy that denies making them keeps multi-Region keys from being made.
const SYNCHRONIZER: &str = "mrk.kms.amazonaws.com";
const ITS_ROLE: &str = "AWSServiceRoleForKeyManagementServiceMultiRegionKeys";

type Answer = Result<Body, AwsError>;

/// An operation without a key: identity policies decide.
pub(super) fn identity_allows(
    call: &Call<'_>,
    action: &str,
    resource: &str,
    shape: impl FnOnce(&mut RequestContext),
) -> Result<(), AwsError> {
    let mut request = call.context(action, resource);
    shape(&mut request);
    let who = call.who;
    evaluate_identity_only(&who.caller, &request, &who.identity, who.session.as_ref())
        .into_result()
        .map(drop)
        .map_err(|denied| denied.kms_error())
}

pub(super) fn create(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &CreateKey,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let usage = r.key_usage.as_deref().unwrap_or(KeySpec::Symmetric.usage());
    let multi_region = r.multi_region.then_some(MultiRegion::Primary);
    let shape = |request: &mut RequestContext| {
        conditions::of_kind(request, &r.key_spec, usage, &r.origin);
        conditions::of_multi_region(request, multi_region);
        let bypass = "kms:BypassPolicyLockoutSafetyCheck";
        conditions::flag(request, bypass, r.bypass_lockout_check);
        conditions::of_tags(request, &r.tags);
    };
    identity_allows(call, "kms:CreateKey", "*", shape)?;
    if !r.tags.is_empty() {
        identity_allows(call, "kms:TagResource", "*", shape)?;
    }
    let account = call.account()?;
    if r.multi_region {
        let role =
            format!("arn:aws:iam::{account}:role/aws-service-role/{SYNCHRONIZER}/{ITS_ROLE}");
        identity_allows(call, "iam:CreateServiceLinkedRole", &role, |request| {
            request.key("iam:AWSServiceName", SYNCHRONIZER);
        })?;
    }
    let spec = spec_of(r, usage)?;
    let id = uuid::Uuid::new_v4();
    let id = if r.multi_region { format!("mrk-{}", id.simple()) } else { id.to_string() };
    let arn = KeyArn::new(call.region.clone(), account, &id).map_err(|_| error::internal())?;
    note.resources.push(Resource::key(arn.account().as_str(), &arn.to_string()));
    let text = match &r.policy {
        Some(text) => text.clone(),
        None => default_policy(arn.account().as_str()),
    };
    let tags: Vec<_> = r.tags.iter().map(|t| (t.key.clone(), t.value.clone())).collect();
    let policy = checked_policy(room, call, &arn, &text, r.bypass_lockout_check, |request| {
        conditions::of_key(request, spec, multi_region, &tags);
    })?;
    let material = Fresh::make(std::iter::empty(), None)?.seal(room.root, &arn)?;
    let key = Key {
        arn,
        spec,
        description: r.description.clone(),
        created_ms: call.now_ms,
        state: KeyState::Enabled,
        policy,
        material,
        older: Vec::new(),
        schedule: None,
        multi_region,
        tags,
    };
    let family = Family { primary: key.arn.clone(), replicas: Vec::new() };
    let metadata = metadata(&key, Some(&family));
    note.response = json!({ "keyMetadata": lower_camel(&metadata) });
    changes.push(Change::PutKey(key));
    Ok(Body::Json(json!({ "KeyMetadata": metadata })))
}

/// The spec of a new key; what this server does not make is said by its name.
fn spec_of(r: &CreateKey, usage: &str) -> Result<KeySpec, AwsError> {
    let specs = [KeySpec::Symmetric, KeySpec::Hmac256];
    let Some(spec) = specs.into_iter().find(|spec| spec.as_str() == r.key_spec) else {
        return Err(error::unsupported(format!(
            "KeySpec {} is not supported by this server; use SYMMETRIC_DEFAULT or HMAC_256.",
            r.key_spec
        )));
    };
    if usage != spec.usage() {
        return Err(error::key_usage_unfit(usage, spec.as_str()));
    }
    if r.origin != conditions::ORIGIN {
        return Err(error::unsupported(format!(
            "Origin {} is not supported by this server; use AWS_KMS.",
            r.origin
        )));
    }
    Ok(spec)
}

pub(super) fn default_policy(account: &str) -> String {
    json!({
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [{
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": { "AWS": format!("arn:aws:iam::{account}:root") },
            "Action": "kms:*",
            "Resource": "*",
        }],
    })
    .to_string()
}

/// Reads a new key policy, ties it to its principals, and sees that the caller keeps his hand on
/// the key.
pub(super) fn checked_policy(
    room: &Room<'_>,
    call: &Call<'_>,
    arn: &KeyArn,
    text: &str,
    bypass_lockout_check: bool,
    shape: impl FnOnce(&mut RequestContext),
) -> Result<StoredPolicy, AwsError> {
    if text.len() > MAX_KEY_POLICY_BYTES {
        let what = format!("The key policy has more than {MAX_KEY_POLICY_BYTES} bytes.");
        return Err(error::limit_exceeded(what));
    }
    let policy = Policy::parse_key_policy(text).map_err(|e| error::malformed_key_policy(e.0))?;
    let (bound, stored) = bind(room, policy, text).map_err(|e| error::malformed_key_policy(e.0))?;
    if !bypass_lockout_check {
        let mut request = call.context("kms:PutKeyPolicy", &arn.to_string());
        shape(&mut request);
        conditions::of_policy(&mut request, "default", Some(false));
        let who = call.who;
        let account = arn.account().as_str();
        let session = who.session.as_ref();
        if !lockout_safe(&who.caller, &request, account, &bound, &who.identity, session) {
            return Err(error::lockout());
        }
    }
    Ok(stored)
}

pub(super) fn describe(room: &Room<'_>, call: &Call<'_>, r: &KeyOnly, note: &mut Note) -> Answer {
    super::grants::check_tokens(room, &r.grant_tokens)?;
    let found = find(room, call, &r.key_id, Operation::DescribeKey, note)?;
    found.allowed(room, call, Operation::DescribeKey)?;
    let key = &found.key.record;
    let family = Family::of(room.state, key);
    Ok(Body::Json(json!({ "KeyMetadata": metadata(key, family.as_ref()) })))
}

pub(super) fn list(room: &Room<'_>, call: &Call<'_>, r: &ListKeys) -> Answer {
    identity_allows(call, "kms:ListKeys", "*", |_| {})?;
    let account = call.account()?;
    let mine = room.state.keys.values().map(|key| &key.record.arn);
    let mine = mine.filter(|arn| *arn.account() == account && arn.region() == call.region);
    let (found, next) = page(mine, |arn| arn.key_id().to_owned(), r.marker.as_deref(), r.limit)?;
    let keys: Vec<Value> =
        found.iter().map(|arn| json!({ "KeyId": arn.key_id(), "KeyArn": arn })).collect();
    Ok(paged(json!({ "Keys": keys }), next))
}

/// Changes a key's state.
fn switch(found: &Found<'_>, to: KeyState, note: &mut Note, changes: &mut Vec<Change>) {
    note.response = json!({ "keyId": found.arn() });
    // Setting what is set already changes nothing, so nobody is woken.
    if found.key.record.state != to {
        changes.push(Change::PutKey(Key { state: to, ..found.key.record.clone() }));
    }
}

pub(super) fn enable(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &KeyOnly,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let found = find(room, call, &r.key_id, Operation::EnableKey, note)?;
    found.allowed(room, call, Operation::EnableKey)?;
    found.switchable()?;
    switch(&found, KeyState::Enabled, note, changes);
    Ok(Body::Empty)
}

pub(super) fn disable(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &KeyOnly,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let found = find(room, call, &r.key_id, Operation::DisableKey, note)?;
    found.allowed(room, call, Operation::DisableKey)?;
    found.switchable()?;
    switch(&found, KeyState::Disabled, note, changes);
    Ok(Body::Empty)
}

pub(super) fn schedule_deletion(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &ScheduleKeyDeletion,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let op = Operation::ScheduleKeyDeletion;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed_with(room, call, op, |request| {
        let days = r.pending_window_in_days.to_string();
        request.key("kms:ScheduleKeyDeletionPendingWindowInDays", days);
    })?;
    found.deletable()?;
    let replicas = Family::of(room.state, &found.key.record)
        .filter(|family| family.primary == *found.arn())
        .map_or(0, |family| family.replicas.len());
    let window_days = r.pending_window_in_days;
    let state = if replicas == 0 {
        pending_deletion(window_days, call.now_ms, call.running_ms, call.ahead_ms)
    } else {
        KeyState::PendingReplicaDeletion { window_days }
    };
    switch(&found, state, note, changes);
    note.response = json!({ "keyId": found.arn(), "keyState": state.as_str() });
    let mut answer = json!({
        "KeyId": found.arn(),
        "KeyState": state.as_str(),
        "PendingWindowInDays": window_days,
    });
    if let KeyState::PendingDeletion { date_ms, .. } = state {
        note.response["deletionDate"] = keystead_aws::trail::iso_seconds(date_ms).into();
        answer["DeletionDate"] = seconds(date_ms);
    }
    Ok(Body::Json(answer))
}

/// A window that begins now. It is counted by the scheduler's own clock: put forward before, that
/// must not cut the window short.
pub(crate) fn pending_deletion(
    window_days: u16,
    now_ms: i64,
    running_ms: u64,
    ahead_ms: i64,
) -> KeyState {
    let window = (i64::from(window_days) * DAY_MS).saturating_add(ahead_ms);
    KeyState::PendingDeletion {
        date_ms: now_ms.saturating_add(window),
        due_running_ms: running_ms.saturating_add(window.unsigned_abs()),
    }
}

pub(super) fn cancel_deletion(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &KeyOnly,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let found = find(room, call, &r.key_id, Operation::CancelKeyDeletion, note)?;
    found.allowed(room, call, Operation::CancelKeyDeletion)?;
    if found.not_pending().is_ok() {
        return Err(error::not_pending_deletion(&found.arn().to_string()));
    }
    switch(&found, KeyState::Disabled, note, changes);
    Ok(Body::Json(json!({ "KeyId": found.arn() })))
}

pub(super) fn update_description(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &UpdateKeyDescription,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let found = find(room, call, &r.key_id, Operation::UpdateKeyDescription, note)?;
    found.allowed(room, call, Operation::UpdateKeyDescription)?;
    found.not_pending()?;
    note.response = json!({ "keyId": found.arn() });
    let description = r.description.clone();
    if description != found.key.record.description {
        changes.push(Change::PutKey(Key { description, ..found.key.record.clone() }));
    }
    Ok(Body::Empty)
}

pub(super) fn list_policies(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &ListOfKey,
    note: &mut Note,
) -> Answer {
    let found = find(room, call, &r.key_id, Operation::ListKeyPolicies, note)?;
    found.allowed(room, call, Operation::ListKeyPolicies)?;
    let names = ["default"];
    let (names, next) =
        page(names.iter(), |name| (*name).to_owned(), r.marker.as_deref(), r.limit)?;
    Ok(paged(json!({ "PolicyNames": names }), next))
}

pub(super) fn get_policy(room: &Room<'_>, call: &Call<'_>, r: &KeyOnly, note: &mut Note) -> Answer {
    let found = find(room, call, &r.key_id, Operation::GetKeyPolicy, note)?;
    found.allowed_with(room, call, Operation::GetKeyPolicy, |request| {
        conditions::of_policy(request, &r.policy_name, None);
    })?;
    if r.policy_name != "default" {
        return Err(error::policy_not_found());
    }
    let policy = &found.key.record.policy.text;
    Ok(Body::Json(json!({ "Policy": policy, "PolicyName": "default" })))
}

pub(super) fn put_policy(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &PutKeyPolicy,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let found = find(room, call, &r.key_id, Operation::PutKeyPolicy, note)?;
    let bypass = r.bypass_lockout_check;
    found.allowed_with(room, call, Operation::PutKeyPolicy, |request| {
        conditions::of_policy(request, &r.policy_name, Some(bypass));
    })?;
    let policy = checked_policy(room, call, found.arn(), &r.policy, bypass, |request| {
        found.shape(room, request);
    })?;
    note.response = json!({ "keyId": found.arn() });
    changes.push(Change::PutKey(Key { policy, ..found.key.record.clone() }));
    Ok(Body::Empty)
}
