//! Grants. They are in force from the answer on; a token is accepted and changes nothing.

use super::find::find;
use super::keys::identity_allows;
use super::{Body, Call, Note, Room, page, paged, principal_id, seconds};
use crate::store::records::{Grant, KeySpec};
use crate::store::state::Change;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_aws::ops::{
    CreateGrant, HMAC_GRANT_OPERATIONS, ListGrants, ListRetirableGrants, Operation, RetireGrant,
    RevokeGrant, SYMMETRIC_GRANT_OPERATIONS,
};
use keystead_aws::policy::{
    ConstraintKind, EvaluateInput, NewGrant, RequestContext, evaluate_retire,
};
use keystead_aws::{AwsError, error};
use keystead_envelope::random;
use keystead_types::{KeyArn, arn::is_key_id};
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Answer = Result<Body, AwsError>;

const TOKEN: &[u8] = b"keystead grant token 1";
const MOST_PER_KEY: usize = 50_000;

/// A token is the sealed name of its grant: a new one each time, all of them alike.
fn token(room: &Room<'_>, grant: &Grant) -> Result<String, AwsError> {
    let name = format!("{} {}", grant.key, grant.id);
    let sealed = room.root.seal(TOKEN, name.as_bytes()).map_err(|_| error::internal())?;
    Ok(STANDARD.encode(sealed))
}

fn of_token(room: &Room<'_>, token: &str) -> Result<(KeyArn, String), AwsError> {
    let sealed = STANDARD.decode(token).map_err(|_| error::invalid_grant_token())?;
    let name = room.root.open_bytes(TOKEN, &sealed).map_err(|_| error::invalid_grant_token())?;
    let name = std::str::from_utf8(&name).map_err(|_| error::invalid_grant_token())?;
    let (key, id) = name.split_once(' ').ok_or_else(error::invalid_grant_token)?;
    Ok((key.parse().map_err(|_| error::invalid_grant_token())?, id.to_owned()))
}

/// Grant tokens must be ours; what they name is in force without them.
pub(super) fn check_tokens(room: &Room<'_>, tokens: &[String]) -> Result<(), AwsError> {
    tokens.iter().try_for_each(|token| of_token(room, token).map(drop))
}

/// A principal of a grant: it exists; its unique id where it has one.
fn principal(room: &Room<'_>, arn: &str) -> Result<Option<String>, AwsError> {
    let invalid = || error::invalid_principal(arn);
    let known = |account: &str| room.principals.has_account(account);
    if arn.len() == 12 && known(arn) {
        return Ok(None);
    }
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", "aws", service, "", account, resource] = parts.as_slice() else {
        return Err(invalid());
    };
    if !known(account) {
        return Err(invalid());
    }
    match *service {
        "iam" if *resource == "root" => Ok(None),
        "iam" => principal_id(room, arn).map(Some).ok_or_else(invalid),
        "sts" => {
            let session = resource.strip_prefix("assumed-role/").and_then(|r| r.split_once('/'));
            let plain = |s: &str| !s.is_empty() && !s.contains(['/', '*', '?']);
            match session {
                Some((role, name)) if plain(role) && plain(name) => Ok(None),
                _ => Err(invalid()),
            }
        }
        _ => Err(invalid()),
    }
}

/// Grant calls here are never made by an AWS service for the caller.
fn not_for_a_service(request: &mut RequestContext) {
    request.key("kms:GrantIsForAWSResource", "false");
}

fn shape(r: &CreateGrant, request: &mut RequestContext) {
    not_for_a_service(request);
    request.key("kms:GranteePrincipal", r.grantee_principal.as_str());
    if let Some(retiring) = &r.retiring_principal {
        request.key("kms:RetiringPrincipal", retiring.as_str());
    }
    for operation in &r.operations {
        request.key("kms:GrantOperations", operation.as_str());
    }
    let mut context = BTreeMap::new();
    for (kind, pairs) in r.constraints.each() {
        let kind = match kind {
            ConstraintKind::Equals => "EncryptionContextEquals",
            ConstraintKind::Subset => "EncryptionContextSubset",
        };
        request.key("kms:GrantConstraintType", kind);
        context.extend(pairs.clone());
    }
    request.encryption_context = Some(context);
    request.new_grant =
        Some(NewGrant { operations: r.operations.clone(), constraints: r.constraints.clone() });
}

pub(super) fn create(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &CreateGrant,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    note.dry_run = r.dry_run;
    check_tokens(room, &r.grant_tokens)?;
    let op = Operation::CreateGrant;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed_with(room, call, op, |request| shape(r, request))?;
    found.usable()?;
    if r.operations.is_empty() {
        return Err(error::validation("At least one grant operation must be specified."));
    }
    let (fitting, kind) = match found.key.record.spec {
        KeySpec::Symmetric => (SYMMETRIC_GRANT_OPERATIONS, "a symmetric encryption"),
        KeySpec::Hmac256 => (HMAC_GRANT_OPERATIONS, "an HMAC"),
    };
    if let Some(other) = r.operations.iter().find(|o| !fitting.contains(&o.as_str())) {
        return Err(AwsError::client(
            "ValidationError",
            format!("Grant operation {other} is not supported for {kind} key."),
        ));
    }
    let grantee_id = principal(room, &r.grantee_principal)?;
    let retiring_id = match &r.retiring_principal {
        Some(retiring) => principal(room, retiring)?,
        None => None,
    };
    if room.state.grant_count(found.arn()) >= MOST_PER_KEY {
        return Err(error::limit_exceeded(format!(
            "The key has {MOST_PER_KEY} grants; retire or revoke some."
        )));
    }
    if r.dry_run {
        return Err(error::dry_run());
    }
    let id = hex::encode(random::array::<32>().map_err(|_| error::internal())?);
    let made = Grant {
        id,
        key: found.arn().clone(),
        name: r.name.clone(),
        created_ms: call.now_ms,
        grantee: r.grantee_principal.clone(),
        grantee_id,
        retiring: r.retiring_principal.clone(),
        retiring_id,
        issuing_account: call.who.caller.account.clone(),
        operations: r.operations.clone(),
        constraints: r.constraints.clone(),
    };
    let same = room.state.grants(found.arn()).find(|grant| made.repeats(grant));
    let grant = same.unwrap_or(&made);
    note.response = json!({ "grantId": grant.id, "keyId": found.arn() });
    let answer = json!({ "GrantId": grant.id, "GrantToken": token(room, grant)? });
    if same.is_none() {
        changes.push(Change::PutGrant(made));
    }
    Ok(Body::Json(answer))
}

impl Grant {
    /// The same name and the same parameters: a retry.
    fn repeats(&self, other: &Self) -> bool {
        let sorted = |operations: &[String]| {
            let mut operations = operations.to_vec();
            operations.sort();
            operations.dedup();
            operations
        };
        self.name.is_some()
            && self.name == other.name
            && (&self.grantee, &self.grantee_id) == (&other.grantee, &other.grantee_id)
            && (&self.retiring, &self.retiring_id) == (&other.retiring, &other.retiring_id)
            && self.issuing_account == other.issuing_account
            && self.constraints == other.constraints
            && sorted(&self.operations) == sorted(&other.operations)
    }

    fn listed(&self) -> Value {
        let mut entry = json!({
            "KeyId": self.key,
            "GrantId": self.id,
            "Name": self.name.as_deref().unwrap_or_default(),
            "CreationDate": seconds(self.created_ms),
            "GranteePrincipal": self.grantee,
            "IssuingAccount": format!("arn:aws:iam::{}:root", self.issuing_account),
            "Operations": self.operations,
        });
        if let Some(retiring) = &self.retiring {
            entry["RetiringPrincipal"] = retiring.as_str().into();
        }
        if !self.constraints.is_empty() {
            entry["Constraints"] = json!(self.constraints);
        }
        entry
    }
}

pub(super) fn list(room: &Room<'_>, call: &Call<'_>, r: &ListGrants, note: &mut Note) -> Answer {
    let op = Operation::ListGrants;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed_with(room, call, op, not_for_a_service)?;
    let fits = |grant: &&Grant| {
        r.grant_id.as_ref().is_none_or(|id| *id == grant.id)
            && r.grantee_principal.as_ref().is_none_or(|p| *p == grant.grantee)
    };
    let grants = room.state.grants(found.arn()).filter(fits);
    let (grants, next) = page(grants, |g| g.id.clone(), r.marker.as_deref(), r.limit)?;
    let grants: Vec<Value> = grants.iter().map(|grant| grant.listed()).collect();
    Ok(paged(json!({ "Grants": grants }), next))
}

/// The grants that a principal of the caller's account may retire, whoever owns their keys. What
/// the caller's policies must allow is the principal; the keys are not asked.
pub(super) fn list_retirable(room: &Room<'_>, call: &Call<'_>, r: &ListRetirableGrants) -> Answer {
    let retiring = &r.retiring_principal;
    identity_allows(call, "kms:ListRetirableGrants", retiring, |_| {})?;
    let id = principal(room, retiring)?;
    let account = retiring.split(':').nth(4).unwrap_or(retiring);
    if account != call.who.caller.account {
        return Err(error::invalid_principal(retiring));
    }
    let grants = room.state.all_grants().filter(|grant| {
        grant.key.region() == call.region
            && (grant.retiring.as_ref(), &grant.retiring_id) == (Some(retiring), &id)
    });
    let marker_of = |grant: &Grant| format!("{} {}", grant.key, grant.id);
    let (grants, next) = page(grants, marker_of, r.marker.as_deref(), r.limit)?;
    let grants: Vec<Value> = grants.iter().map(|grant| grant.listed()).collect();
    Ok(paged(json!({ "Grants": grants }), next))
}

pub(super) fn revoke(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &RevokeGrant,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    note.dry_run = r.dry_run;
    let op = Operation::RevokeGrant;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed_with(room, call, op, not_for_a_service)?;
    let grant = room.state.grant(found.arn(), &r.grant_id);
    grant.ok_or_else(|| error::invalid_grant_id(&r.grant_id))?;
    if r.dry_run {
        return Err(error::dry_run());
    }
    note.response = json!({ "keyId": found.arn() });
    changes.push(Change::RemoveGrant(found.arn().clone(), r.grant_id.clone()));
    Ok(Body::Empty)
}

pub(super) fn retire(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &RetireGrant,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    note.dry_run = r.dry_run;
    let (key_id, grant_id) = match (&r.grant_token, &r.key_id, &r.grant_id) {
        (Some(token), _, _) => {
            let (key, id) = of_token(room, token)?;
            (key.to_string(), id)
        }
        (None, Some(key), Some(id)) => (key.clone(), id.clone()),
        _ => return Err(error::invalid_grant_token()),
    };
    if is_key_id(&key_id) {
        return Err(error::validation("RetireGrant takes the key's ARN, not its id."));
    }
    let op = Operation::RetireGrant;
    let found = find(room, call, &key_id, op, note)?;
    note.additional = Some(json!({ "grantId": grant_id }));
    let grant = room.state.grant(found.arn(), &grant_id);
    let grant = grant.ok_or_else(|| error::invalid_grant_id(&grant_id))?;
    let request = found.request(room, call, "kms:RetireGrant");
    let input = EvaluateInput {
        caller: &call.who.caller,
        request: &request,
        key_account: found.arn().account().as_str(),
        key_policy: &found.key.policy,
        identity: &call.who.identity,
        session: call.who.session.as_ref(),
        grants: &[],
        cross_account: true,
    };
    let retiring = grant.retiring_view();
    evaluate_retire(&input, &grant.view(), retiring.as_ref(), &grant.issuing_account)
        .into_result()
        .map_err(|denied| denied.kms_error())?;
    if r.dry_run {
        return Err(error::dry_run());
    }
    note.response = json!({ "keyId": found.arn() });
    changes.push(Change::RemoveGrant(found.arn().clone(), grant_id));
    Ok(Body::Empty)
}
