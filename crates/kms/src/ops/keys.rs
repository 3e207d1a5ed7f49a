//! Keys: made, described, listed, switched, scheduled for deletion; their policies.

use super::find::{Found, find};
use super::{Body, Call, Note, Room, bind, conditions, page, paged, seconds};
use crate::store::records::{Key, KeySpec, KeyState, Material};
use crate::store::state::Change;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
use keystead_envelope::memory::DataKey;
use keystead_envelope::random;
use keystead_types::KeyArn;
use serde_json::{Value, json};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

type Answer = Result<Body, AwsError>;

/// What sealed material is bound to.
pub(super) fn material_aad(arn: &KeyArn, material_id: &str) -> Vec<u8> {
    format!("keystead material 1\n{arn}\n{material_id}").into_bytes()
}

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
    let shape = |request: &mut RequestContext| {
        conditions::of_kind(request, &r.key_spec, usage, &r.origin);
        conditions::flag(request, "kms:MultiRegion", r.multi_region);
        let bypass = "kms:BypassPolicyLockoutSafetyCheck";
        conditions::flag(request, bypass, r.bypass_lockout_check);
        conditions::of_tags(request, &r.tags);
    };
    identity_allows(call, "kms:CreateKey", "*", shape)?;
    if !r.tags.is_empty() {
        identity_allows(call, "kms:TagResource", "*", shape)?;
    }
    let spec = spec_of(r, usage)?;
    let id = uuid::Uuid::new_v4().to_string();
    let account = call.account()?;
    let arn = KeyArn::new(call.region.clone(), account, &id).map_err(|_| error::internal())?;
    note.resources.push(Resource::key(arn.account().as_str(), &arn.to_string()));
    let text = match &r.policy {
        Some(text) => text.clone(),
        None => default_policy(arn.account().as_str()),
    };
    let tags: Vec<_> = r.tags.iter().map(|t| (t.key.clone(), t.value.clone())).collect();
    let policy = checked_policy(room, call, &arn, &text, r.bypass_lockout_check, |request| {
        conditions::of_key(request, spec, &tags);
    })?;
    let material = make_material(room, &arn)?;
    let key = Key {
        arn,
        spec,
        description: r.description.clone(),
        created_ms: call.now_ms,
        state: KeyState::Enabled,
        policy,
        material,
        tags,
    };
    let metadata = metadata(&key);
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
    if r.multi_region {
        return Err(error::unsupported("Multi-Region keys are not supported by this server."));
    }
    Ok(spec)
}

fn make_material(room: &Room<'_>, arn: &KeyArn) -> Result<Material, AwsError> {
    let id = hex::encode(random::array::<32>().map_err(|_| error::internal())?);
    let material = DataKey::random(32).map_err(|_| error::internal())?;
    let sealed = room.root.seal(&material_aad(arn, &id), material.expose());
    let sealed = sealed.map_err(|_| error::internal())?;
    Ok(Material { id, sealed: STANDARD.encode(sealed) })
}

fn default_policy(account: &str) -> String {
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
fn checked_policy(
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

pub(super) fn metadata(key: &Key) -> Value {
    let (state, date) = match key.state {
        KeyState::Enabled => ("Enabled", None),
        KeyState::Disabled => ("Disabled", None),
        KeyState::PendingDeletion { date_ms, .. } => ("PendingDeletion", Some(date_ms)),
    };
    let mut metadata = json!({
        "AWSAccountId": key.arn.account(),
        "KeyId": key.arn.key_id(),
        "Arn": key.arn,
        "CreationDate": seconds(key.created_ms),
        "Enabled": state == "Enabled",
        "Description": key.description,
        "KeyUsage": key.spec.usage(),
        "KeyState": state,
        "Origin": conditions::ORIGIN,
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": key.spec.as_str(),
        "KeySpec": key.spec.as_str(),
        "MultiRegion": false,
    });
    match key.spec {
        KeySpec::Symmetric => {
            metadata["EncryptionAlgorithms"] = json!(["SYMMETRIC_DEFAULT"]);
            metadata["CurrentKeyMaterialId"] = key.material.id.as_str().into();
        }
        KeySpec::Hmac256 => metadata["MacAlgorithms"] = json!(["HMAC_SHA_256"]),
    }
    if let Some(date) = date {
        metadata["DeletionDate"] = seconds(date);
    }
    metadata
}

/// The same object with its members' names as the trail spells them.
fn lower_camel(object: &Value) -> Value {
    let members = object.as_object().into_iter().flatten().map(|(name, value)| {
        let name = match name.as_str() {
            "AWSAccountId" => "aWSAccountId".to_owned(),
            other => {
                let (first, rest) = other.split_at(1);
                format!("{}{rest}", first.to_ascii_lowercase())
            }
        };
        (name, value.clone())
    });
    Value::Object(members.collect())
}

pub(super) fn describe(room: &Room<'_>, call: &Call<'_>, r: &KeyOnly, note: &mut Note) -> Answer {
    super::grants::check_tokens(room, &r.grant_tokens)?;
    let found = find(room, call, &r.key_id, Operation::DescribeKey, note)?;
    found.allowed(room, call, Operation::DescribeKey)?;
    Ok(Body::Json(json!({ "KeyMetadata": metadata(&found.key.record) })))
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
    found.not_pending()?;
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
    found.not_pending()?;
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
    found.not_pending()?;
    let window = i64::from(r.pending_window_in_days) * DAY_MS;
    // By the scheduler's own clock: put forward before, it must not cut this window short.
    let window = window.saturating_add(call.ahead_ms);
    let date_ms = call.now_ms.saturating_add(window);
    let due_running_ms = call.running_ms.saturating_add(window.unsigned_abs());
    switch(&found, KeyState::PendingDeletion { date_ms, due_running_ms }, note, changes);
    let shown = keystead_aws::trail::iso_seconds(date_ms);
    note.response = json!({
        "keyId": found.arn(),
        "keyState": "PendingDeletion",
        "deletionDate": shown,
    });
    Ok(Body::Json(json!({
        "KeyId": found.arn(),
        "DeletionDate": seconds(date_ms),
        "KeyState": "PendingDeletion",
        "PendingWindowInDays": r.pending_window_in_days,
    })))
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
