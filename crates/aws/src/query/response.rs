//! XML answers of STS and IAM.

use super::{IAM_NAMESPACE, STS_NAMESPACE};
use crate::error::escape;
use crate::trail::iso_seconds;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Policy documents stand percent-encoded in answers, as RFC 3986 has it.
const DOCUMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What AssumeRole gives. Neither Debug nor Clone: it holds a secret.
pub struct AssumedRole<'a> {
    /// `arn:aws:sts::<account>:assumed-role/<name>/<session>`.
    pub arn: &'a str,
    /// `AROA…:<session>`.
    pub assumed_role_id: &'a str,
    /// `ASIA…`.
    pub access_key_id: &'a str,
    /// The secret.
    pub secret_access_key: &'a str,
    /// The token.
    pub session_token: &'a str,
    /// End of the session, milliseconds since the epoch.
    pub expiration_ms: i64,
    /// How much of the room for a session policy is used, in percent.
    pub packed_policy_size: Option<u8>,
}

/// A role as IAM shows it.
#[derive(Debug, Clone)]
pub struct RoleView<'a> {
    /// The path, `/` at both ends.
    pub path: &'a str,
    /// The name.
    pub name: &'a str,
    /// `AROA…`.
    pub role_id: &'a str,
    /// The ARN.
    pub arn: &'a str,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// The trust policy.
    pub trust_policy: &'a str,
    /// Description.
    pub description: Option<&'a str>,
    /// Seconds.
    pub max_session_duration: u32,
}

fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

fn answer(namespace: &str, action: &str, result: &str, request_id: &str) -> String {
    format!(
        "<{action}Response xmlns=\"{namespace}\"><{action}Result>{result}</{action}Result><ResponseMetadata>{}</ResponseMetadata></{action}Response>",
        element("RequestId", request_id)
    )
}

/// Answer of AssumeRole.
pub fn assume_role(role: &AssumedRole<'_>, request_id: &str) -> String {
    let packed = role
        .packed_policy_size
        .map(|size| element("PackedPolicySize", &size.to_string()))
        .unwrap_or_default();
    let result = format!(
        "<AssumedRoleUser>{}{}</AssumedRoleUser><Credentials>{}{}{}{}</Credentials>{packed}",
        element("AssumedRoleId", role.assumed_role_id),
        element("Arn", role.arn),
        element("AccessKeyId", role.access_key_id),
        element("SecretAccessKey", role.secret_access_key),
        element("SessionToken", role.session_token),
        element("Expiration", &iso_seconds(role.expiration_ms)),
    );
    answer(STS_NAMESPACE, "AssumeRole", &result, request_id)
}

/// Answer of GetCallerIdentity.
pub fn get_caller_identity(arn: &str, user_id: &str, account: &str, request_id: &str) -> String {
    let result =
        [element("Arn", arn), element("UserId", user_id), element("Account", account)].concat();
    answer(STS_NAMESPACE, "GetCallerIdentity", &result, request_id)
}

fn role(role: &RoleView<'_>) -> String {
    let document = utf8_percent_encode(role.trust_policy, DOCUMENT).to_string();
    let description = role.description.map(|d| element("Description", d)).unwrap_or_default();
    format!(
        "<Role>{}{}{}{}{}{}{description}{}</Role>",
        element("Path", role.path),
        element("RoleName", role.name),
        element("RoleId", role.role_id),
        element("Arn", role.arn),
        element("CreateDate", &iso_seconds(role.created_ms)),
        element("AssumeRolePolicyDocument", &document),
        element("MaxSessionDuration", &role.max_session_duration.to_string()),
    )
}

/// Answer of CreateRole.
pub fn create_role(view: &RoleView<'_>, request_id: &str) -> String {
    answer(IAM_NAMESPACE, "CreateRole", &role(view), request_id)
}

/// Answer of GetRole.
pub fn get_role(view: &RoleView<'_>, request_id: &str) -> String {
    answer(IAM_NAMESPACE, "GetRole", &role(view), request_id)
}

/// Answer of GetRolePolicy.
pub fn get_role_policy(
    role_name: &str,
    policy_name: &str,
    document: &str,
    request_id: &str,
) -> String {
    let document = utf8_percent_encode(document, DOCUMENT).to_string();
    let result = [
        element("RoleName", role_name),
        element("PolicyName", policy_name),
        element("PolicyDocument", &document),
    ]
    .concat();
    answer(IAM_NAMESPACE, "GetRolePolicy", &result, request_id)
}

/// Answer of IAM actions that give nothing back: DeleteRole, PutRolePolicy, DeleteRolePolicy.
pub fn no_result(action: &str, request_id: &str) -> String {
    format!(
        "<{action}Response xmlns=\"{IAM_NAMESPACE}\"><ResponseMetadata>{}</ResponseMetadata></{action}Response>",
        element("RequestId", request_id)
    )
}
