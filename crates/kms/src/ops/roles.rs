//! IAM: roles and their inline policies.

use super::{Body, Call, Note, Room, bind};
use crate::store::records::Role;
use crate::store::state::{Change, LiveRole};
use crate::unique_id::spell;
use keystead_aws::policy::{MAX_TRUST_POLICY_CHARS, Policy, evaluate_identity_only};
use keystead_aws::query::{self, CreateRole, PutRolePolicy, RolePolicyName, RoleView};
use keystead_aws::trail::Resource;
use keystead_aws::{AwsError, error};
use keystead_envelope::random;
use serde_json::json;

/// All inline policies of a role together, in characters.
const MOST_INLINE: usize = 10_240;

type Answer = Result<Body, AwsError>;

fn allowed(call: &Call<'_>, action: &str, arn: &str, note: &mut Note) -> Result<(), AwsError> {
    note.resources.push(Resource::role(&call.who.caller.account, arn));
    let request = call.context(action, arn);
    let who = call.who;
    evaluate_identity_only(&who.caller, &request, &who.identity, who.session.as_ref())
        .into_result()
        .map(drop)
        .map_err(|denied| denied.query_error())
}

/// The role of a name, if the caller may do this to it. Whether there is one is told only to who
/// may.
fn find<'a>(
    room: &Room<'a>,
    call: &Call<'_>,
    action: &str,
    name: &str,
    note: &mut Note,
) -> Result<&'a LiveRole, AwsError> {
    let account = &call.who.caller.account;
    let found = room.state.role_of_name(account, name);
    let arn = match found {
        Some(role) => role.record.arn.clone(),
        None => format!("arn:aws:iam::{account}:role/{name}"),
    };
    allowed(call, action, &arn, note)?;
    found.ok_or_else(|| error::no_such_role(name))
}

fn view(role: &Role) -> RoleView<'_> {
    RoleView {
        path: &role.path,
        name: &role.name,
        role_id: &role.id,
        arn: &role.arn,
        created_ms: role.created_ms,
        trust_policy: &role.trust.text,
        description: role.description.as_deref(),
        max_session_duration: role.max_session_seconds,
    }
}

pub(super) fn create(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &CreateRole,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let account = &call.who.caller.account;
    let arn = format!("arn:aws:iam::{account}:role{}{}", r.path, r.role_name);
    allowed(call, "iam:CreateRole", &arn, note)?;
    if !r.tags.is_empty() {
        // Tags give authority (aws:PrincipalTag): making them is a permission of its own.
        allowed(call, "iam:TagRole", &arn, note)?;
    }
    // Names that differ by case only are the same name to IAM.
    let mut mine = room.state.roles.values().filter(|role| role.record.account == *account);
    if mine.any(|role| role.record.name.eq_ignore_ascii_case(&r.role_name)) {
        return Err(error::entity_exists("Role", &r.role_name));
    }
    let text = &r.assume_role_policy_document;
    if text.chars().count() > MAX_TRUST_POLICY_CHARS {
        return Err(AwsError::with_status(
            "LimitExceeded",
            409,
            format!("Cannot exceed quota for ACLSizePerRole: {MAX_TRUST_POLICY_CHARS}"),
        ));
    }
    let policy = Policy::parse_trust(text).map_err(|e| error::malformed_policy(e.0))?;
    let (_, trust) = bind(room, policy, text).map_err(|e| error::malformed_policy(e.0))?;
    let bytes = random::array::<17>().map_err(|_| error::service_failure())?;
    let role = Role {
        arn,
        account: account.clone(),
        path: r.path.clone(),
        name: r.role_name.clone(),
        id: spell("AROA", &bytes),
        created_ms: call.now_ms,
        trust,
        description: r.description.clone(),
        max_session_seconds: r.max_session_duration,
        policies: std::collections::BTreeMap::new(),
        tags: r.tags.clone(),
    };
    note.response =
        json!({ "role": { "arn": role.arn, "roleId": role.id, "roleName": role.name } });
    let answer = query::create_role(&view(&role), call.request_id);
    changes.push(Change::PutRole(role));
    Ok(Body::Xml(answer))
}

pub(super) fn get(room: &Room<'_>, call: &Call<'_>, name: &str, note: &mut Note) -> Answer {
    let role = find(room, call, "iam:GetRole", name, note)?;
    Ok(Body::Xml(query::get_role(&view(&role.record), call.request_id)))
}

pub(super) fn delete(
    room: &Room<'_>,
    call: &Call<'_>,
    name: &str,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let role = find(room, call, "iam:DeleteRole", name, note)?;
    if !role.record.policies.is_empty() {
        return Err(error::delete_conflict());
    }
    changes.push(Change::RemoveRole(role.record.arn.clone()));
    Ok(Body::Xml(query::no_result("DeleteRole", call.request_id)))
}

pub(super) fn put_policy(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &PutRolePolicy,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let role = find(room, call, "iam:PutRolePolicy", &r.role_name, note)?;
    Policy::parse_identity(&r.policy_document).map_err(|e| error::malformed_policy(e.0))?;
    let mut record = role.record.clone();
    record.policies.insert(r.policy_name.clone(), r.policy_document.clone());
    if record.policies.values().map(|p| p.chars().count()).sum::<usize>() > MOST_INLINE {
        return Err(AwsError::with_status(
            "LimitExceeded",
            409,
            format!("Maximum policy size of {MOST_INLINE} bytes exceeded for role {}", record.name),
        ));
    }
    changes.push(Change::PutRole(record));
    Ok(Body::Xml(query::no_result("PutRolePolicy", call.request_id)))
}

pub(super) fn get_policy(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &RolePolicyName,
    note: &mut Note,
) -> Answer {
    let role = find(room, call, "iam:GetRolePolicy", &r.role_name, note)?;
    let document = role.record.policies.get(&r.policy_name);
    let document = document.ok_or_else(|| error::no_such_role_policy(&r.policy_name))?;
    let answer = query::get_role_policy(&r.role_name, &r.policy_name, document, call.request_id);
    Ok(Body::Xml(answer))
}

pub(super) fn delete_policy(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &RolePolicyName,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let role = find(room, call, "iam:DeleteRolePolicy", &r.role_name, note)?;
    let mut record = role.record.clone();
    if record.policies.remove(&r.policy_name).is_none() {
        return Err(error::no_such_role_policy(&r.policy_name));
    }
    changes.push(Change::PutRole(record));
    Ok(Body::Xml(query::no_result("DeleteRolePolicy", call.request_id)))
}
