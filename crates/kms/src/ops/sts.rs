//! STS: sessions of roles, and who one is.

use super::{Body, Call, Note, Room};
use crate::sessions::{self, Session};
use keystead_aws::policy::{Caller, CallerKind, Denied, Policy, evaluate_trust};
use keystead_aws::query::{self, AssumeRole, AssumedRole};
use keystead_aws::trail::{Resource, iso_seconds};
use keystead_aws::{AwsError, error};
use serde_json::json;

/// A session that assumes a role has it for an hour at most.
const CHAINED_SECONDS: u32 = 3600;

pub(super) fn caller_identity(call: &Call<'_>) -> Body {
    let caller = &call.who.caller;
    Body::Xml(query::get_caller_identity(
        &caller.arn,
        &caller.user_id(),
        &caller.account,
        call.request_id,
    ))
}

pub(super) fn assume_role(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &AssumeRole,
    note: &mut Note,
) -> Result<Body, AwsError> {
    let who = call.who;
    let account = r.role_arn.split(':').nth(4).unwrap_or_default();
    note.resources.push(Resource::role(account, &r.role_arn));
    let action = "sts:AssumeRole";
    // A role that is not there is refused in the words of one that may not be assumed.
    let role = room
        .state
        .roles
        .get(&r.role_arn)
        .ok_or_else(|| Denied::undisclosed(&who.caller, action, &r.role_arn).query_error())?;
    let mut request = call.context(action, &r.role_arn);
    request.key("sts:RoleSessionName", r.role_session_name.as_str());
    if let Some(id) = &r.external_id {
        request.key("sts:ExternalId", id.as_str());
    }
    let session = who.session.as_ref();
    evaluate_trust(
        &who.caller,
        &request,
        &role.record.account,
        &role.trust,
        &who.identity,
        session,
    )
    .into_result()
    .map_err(|denied| denied.query_error())?;
    if who.caller.kind == CallerKind::RoleSession && r.duration_seconds > CHAINED_SECONDS {
        return Err(error::query_validation(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        ));
    }
    if r.duration_seconds > role.record.max_session_seconds {
        return Err(error::query_validation(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    if let Some(text) = &r.policy {
        Policy::parse_identity(text).map_err(|e| error::malformed_policy(e.0))?;
    }
    let expires_ms = call.now_ms + i64::from(r.duration_seconds) * 1000;
    let session = Session {
        access_key_id: String::new(),
        account: role.record.account.clone(),
        role_arn: role.record.arn.clone(),
        role_id: role.record.id.clone(),
        name: r.role_session_name.clone(),
        issued_ms: call.now_ms,
        expires_ms,
        policy: r.policy.clone(),
    };
    let issued = sessions::issue(room.root, session).map_err(|_| error::service_failure())?;
    let session = &issued.session;
    let assumed =
        Caller::role_session(&session.account, &session.role_arn, &session.role_id, &session.name);
    note.response = json!({
        "credentials": {
            "accessKeyId": session.access_key_id,
            "expiration": iso_seconds(expires_ms),
        },
        "assumedRoleUser": { "assumedRoleId": assumed.user_id(), "arn": assumed.arn },
    });
    Ok(Body::Xml(query::assume_role(
        &AssumedRole {
            arn: &assumed.arn,
            assumed_role_id: &assumed.user_id(),
            access_key_id: &session.access_key_id,
            secret_access_key: &issued.secret,
            session_token: &issued.token,
            expiration_ms: expires_ms,
            packed_policy_size: None,
        },
        call.request_id,
    )))
}
