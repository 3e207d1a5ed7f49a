//! Typed STS and IAM requests.

use super::form::{Form, finish};
use super::{IAM_VERSION, STS_VERSION};
use crate::json::fault;
use crate::{AwsError, error};

/// AssumeRole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumeRole {
    /// The role's ARN, as sent.
    pub role_arn: String,
    /// The session's name.
    pub role_session_name: String,
    /// 900 to 43,200 seconds.
    pub duration_seconds: u32,
    /// `sts:ExternalId`.
    pub external_id: Option<String>,
    /// Session policy.
    pub policy: Option<String>,
}

/// CreateRole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRole {
    /// The name.
    pub role_name: String,
    /// The path, `/` when absent.
    pub path: String,
    /// The trust policy, decoded.
    pub assume_role_policy_document: String,
    /// Description.
    pub description: Option<String>,
    /// 3600 to 43,200 seconds.
    pub max_session_duration: u32,
    /// Tags, (key, value).
    pub tags: Vec<(String, String)>,
}

/// PutRolePolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRolePolicy {
    /// The role's name.
    pub role_name: String,
    /// The inline policy's name.
    pub policy_name: String,
    /// The document, decoded.
    pub policy_document: String,
}

/// GetRolePolicy and DeleteRolePolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolePolicyName {
    /// The role's name.
    pub role_name: String,
    /// The inline policy's name.
    pub policy_name: String,
}

/// A decoded request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum QueryRequest {
    AssumeRole(AssumeRole),
    GetCallerIdentity,
    CreateRole(CreateRole),
    GetRole { role_name: String },
    DeleteRole { role_name: String },
    PutRolePolicy(PutRolePolicy),
    GetRolePolicy(RolePolicyName),
    DeleteRolePolicy(RolePolicyName),
}

const NAME: &[u8] = b"+=,.@_-";
const NAME_PATTERN: &str = r"[\w+=,.@-]+";

fn word(text: &str, extra: &[u8]) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
}

fn patterned(faults: &mut Vec<String>, value: &str, path: &str, extra: &[u8], pattern: &str) {
    if !word(value, extra) {
        let rule = format!("Member must satisfy regular expression pattern: {pattern}");
        faults.push(fault(value, path, &rule));
    }
}

impl QueryRequest {
    /// Decodes a form. `service` is the scope's: `sts` or `iam`.
    pub fn decode(service: &str, form: &Form) -> Result<Self, AwsError> {
        let action = form.get("Action").unwrap_or_default();
        let version = form.get("Version").unwrap_or_default();
        let wanted = match service {
            "sts" => STS_VERSION,
            _ => IAM_VERSION,
        };
        if version != wanted {
            return Err(error::invalid_action(action, version));
        }
        let mut faults = Vec::new();
        let f = &mut faults;
        let request = match (service, action) {
            ("sts", "AssumeRole") => Self::AssumeRole(AssumeRole::read(form, f)?),
            ("sts", "GetCallerIdentity") => Self::GetCallerIdentity,
            ("iam", "CreateRole") => Self::CreateRole(CreateRole::read(form, f)),
            ("iam", "GetRole") => Self::GetRole { role_name: role_name(form, f) },
            ("iam", "DeleteRole") => Self::DeleteRole { role_name: role_name(form, f) },
            ("iam", "PutRolePolicy") => Self::PutRolePolicy(PutRolePolicy {
                role_name: role_name(form, f),
                policy_name: policy_name(form, f),
                policy_document: form.required("PolicyDocument", 1, 131_072, f),
            }),
            ("iam", "GetRolePolicy") => Self::GetRolePolicy(RolePolicyName::read(form, f)),
            ("iam", "DeleteRolePolicy") => Self::DeleteRolePolicy(RolePolicyName::read(form, f)),
            _ => return Err(error::invalid_action(action, version)),
        };
        finish(&faults)?;
        Ok(request)
    }

    /// The action's name: event name of the trail.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AssumeRole(_) => "AssumeRole",
            Self::GetCallerIdentity => "GetCallerIdentity",
            Self::CreateRole(_) => "CreateRole",
            Self::GetRole { .. } => "GetRole",
            Self::DeleteRole { .. } => "DeleteRole",
            Self::PutRolePolicy(_) => "PutRolePolicy",
            Self::GetRolePolicy(_) => "GetRolePolicy",
            Self::DeleteRolePolicy(_) => "DeleteRolePolicy",
        }
    }

    /// `readOnly` of the trail.
    pub fn read_only(&self) -> bool {
        match self {
            Self::AssumeRole(_)
            | Self::GetCallerIdentity
            | Self::GetRole { .. }
            | Self::GetRolePolicy(_) => true,
            Self::CreateRole(_)
            | Self::DeleteRole { .. }
            | Self::PutRolePolicy(_)
            | Self::DeleteRolePolicy(_) => false,
        }
    }
}

fn role_name(form: &Form, faults: &mut Vec<String>) -> String {
    let name = form.required("RoleName", 1, 64, faults);
    patterned(faults, &name, "roleName", NAME, NAME_PATTERN);
    name
}

fn policy_name(form: &Form, faults: &mut Vec<String>) -> String {
    let name = form.required("PolicyName", 1, 128, faults);
    patterned(faults, &name, "policyName", NAME, NAME_PATTERN);
    name
}

fn seconds(form: &Form, name: &str, min: u32, max: u32, faults: &mut Vec<String>) -> u32 {
    let Some(given) = form.get(name) else { return 3600 };
    let path = super::form::lower_first(name);
    let what = match given.parse::<u32>() {
        Ok(n) if n < min => format!("Member must have value greater than or equal to {min}"),
        Ok(n) if n > max => format!("Member must have value less than or equal to {max}"),
        Ok(n) => return n,
        Err(_) => "Member must be a whole number".to_owned(),
    };
    faults.push(fault(given, &path, &what));
    3600
}

impl AssumeRole {
    fn read(form: &Form, faults: &mut Vec<String>) -> Result<Self, AwsError> {
        for later in ["PolicyArns", "Tags", "SourceIdentity", "SerialNumber", "TokenCode"] {
            if form.has(later) {
                return Err(error::query_validation(format!(
                    "{later} is not supported by this server"
                )));
            }
        }
        let role_arn = form.required("RoleArn", 20, 2048, faults);
        let role_session_name = form.required("RoleSessionName", 2, 64, faults);
        patterned(faults, &role_session_name, "roleSessionName", NAME, r"[\w+=,.@-]*");
        let external_id = form.optional("ExternalId", 2, 1224, faults);
        if let Some(id) = &external_id {
            patterned(faults, id, "externalId", b"+=,.@:/_-", r"[\w+=,.@:\/-]*");
        }
        let request = Self {
            role_arn,
            role_session_name,
            duration_seconds: seconds(form, "DurationSeconds", 900, 43_200, faults),
            external_id,
            policy: form.optional("Policy", 1, 2048, faults),
        };
        if faults.is_empty() && request.role_arn.parse::<keystead_types::RoleArn>().is_err() {
            return Err(error::query_validation(format!("{} is invalid", request.role_arn)));
        }
        Ok(request)
    }
}

impl CreateRole {
    fn read(form: &Form, faults: &mut Vec<String>) -> Self {
        let path = form.optional("Path", 1, 512, faults).unwrap_or_else(|| "/".to_owned());
        let plain = path.bytes().all(|b| (0x21..=0x7e).contains(&b) && !b"*?\"<>".contains(&b));
        if !(path.starts_with('/') && path.ends_with('/') && plain) {
            let rule = r"Member must satisfy regular expression pattern: (\u002F)|(\u002F[\u0021-\u007E]+\u002F)";
            faults.push(fault(&path, "path", rule));
        }
        Self {
            role_name: role_name(form, faults),
            path,
            assume_role_policy_document: form.required(
                "AssumeRolePolicyDocument",
                1,
                131_072,
                faults,
            ),
            description: form.optional("Description", 0, 1000, faults),
            max_session_duration: seconds(form, "MaxSessionDuration", 3600, 43_200, faults),
            tags: form.tags("Tags", faults),
        }
    }
}

impl RolePolicyName {
    fn read(form: &Form, faults: &mut Vec<String>) -> Self {
        Self { role_name: role_name(form, faults), policy_name: policy_name(form, faults) }
    }
}
