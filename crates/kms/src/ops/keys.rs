//! Keys: made, described, listed, switched, scheduled for deletion; their policies.

use super::find::{Found, find};
use super::{Body, Call, Note, Room, bind, page, paged, seconds};
use crate::store::records::{Key, KeyState, Material};
use crate::store::state::Change;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_aws::ops::{
    CreateKey, KeyOnly, ListKeys, Operation, PutKeyPolicy, ScheduleKeyDeletion,
};
use keystead_aws::policy::{
    MAX_KEY_POLICY_BYTES, Policy, StoredPolicy, evaluate_identity_only, lockout_safe,
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
    shape: impl FnOnce(&mut keystead_aws::policy::RequestContext),
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
    identity_allows(call, "kms:CreateKey", "*", |_| {})?;
    if !r.tags.is_empty() {
        identity_allows(call, "kms:TagResource", "*", |_| {})?;
    }
    for (given, ours, what) in [
        (&r.key_spec, "SYMMETRIC_DEFAULT", "KeySpec"),
        (&r.key_usage, "ENCRYPT_DECRYPT", "KeyUsage"),
        (&r.origin, "AWS_KMS", "Origin"),
    ] {
        if given != ours {
            return Err(error::unsupported(format!(
                "{what} {given} is not supported by this server; use {ours}."
            )));
        }
    }
    if r.multi_region {
        return Err(error::unsupported("Multi-Region keys are not supported by this server."));
    }
    let id = uuid::Uuid::new_v4().to_string();
    let account = call.account()?;
    let arn = KeyArn::new(call.region.clone(), account, &id).map_err(|_| error::internal())?;
    note.resources.push(Resource::key(arn.account().as_str(), &arn.to_string()));
    let text = match &r.policy {
        Some(text) => text.clone(),
        None => default_policy(arn.account().as_str()),
    };
    let policy = checked_policy(room, call, &arn, &text, r.bypass_lockout_check)?;
    let material = make_material(room, &arn)?;
    let key = Key {
        arn,
        description: r.description.clone(),
        created_ms: call.now_ms,
        state: KeyState::Enabled,
        policy,
        material,
        tags: r.tags.iter().map(|t| (t.key.clone(), t.value.clone())).collect(),
    };
    let metadata = metadata(&key);
    note.response = json!({ "keyMetadata": lower_camel(&metadata) });
    changes.push(Change::PutKey(key));
    Ok(Body::Json(json!({ "KeyMetadata": metadata })))
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
) -> Result<StoredPolicy, AwsError> {
    if text.len() > MAX_KEY_POLICY_BYTES {
        let what = format!("The key policy has more than {MAX_KEY_POLICY_BYTES} bytes.");
        return Err(error::limit_exceeded(what));
    }
    let policy = Policy::parse_key_policy(text).map_err(|e| error::malformed_key_policy(e.0))?;
    let (bound, stored) = bind(room, policy, text).map_err(|e| error::malformed_key_policy(e.0))?;
    if !bypass_lockout_check {
        let request = call.context("kms:PutKeyPolicy", &arn.to_string());
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
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": state,
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": false,
        "CurrentKeyMaterialId": key.material.id,
    });
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
    found.allowed(room, call, op)?;
    found.not_pending()?;
    let window = i64::from(r.pending_window_in_days) * DAY_MS;
    let date_ms = call.now_ms + window;
    let due_running_ms = call.running_ms + window.unsigned_abs();
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

pub(super) fn get_policy(room: &Room<'_>, call: &Call<'_>, r: &KeyOnly, note: &mut Note) -> Answer {
    let found = find(room, call, &r.key_id, Operation::GetKeyPolicy, note)?;
    found.allowed(room, call, Operation::GetKeyPolicy)?;
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
    found.allowed(room, call, Operation::PutKeyPolicy)?;
    let policy = checked_policy(room, call, found.arn(), &r.policy, r.bypass_lockout_check)?;
    note.response = json!({ "keyId": found.arn() });
    changes.push(Change::PutKey(Key { policy, ..found.key.record.clone() }));
    Ok(Body::Empty)
}
