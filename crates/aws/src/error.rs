//! The error catalogue: wire names, statuses and exact texts.
//!
//! An [`AwsError`] is what a caller sees and nothing more; what the server knows beside it stays
//! with the server. JSON services answer [`AwsError::json_body`], query services
//! [`AwsError::query_xml`].

use std::{borrow::Cow, fmt::Write as _};

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {}", message.as_deref().unwrap_or("(no message)"))]
pub struct AwsError {
    /// The name on the wire.
    pub code: Cow<'static, str>,
    /// HTTP status.
    pub status: u16,
    /// The text; some errors have none at all.
    pub message: Option<String>,
    /// The server's fault: clients may try again.
    pub fault: bool,
}

impl AwsError {
    /// A client error with status 400.
    pub fn client(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), status: 400, message: Some(message.into()), fault: false }
    }

    /// A client error with another status (query services use 403, 404 and 409).
    pub fn with_status(
        code: impl Into<Cow<'static, str>>,
        status: u16,
        message: impl Into<String>,
    ) -> Self {
        Self { status, ..Self::client(code, message) }
    }

    fn silent(code: &'static str) -> Self {
        Self { code: code.into(), status: 400, message: None, fault: false }
    }

    /// `errorCode` of the trail: access denied loses its suffix there.
    pub fn trail_code(&self) -> &str {
        if self.code == "AccessDeniedException" { "AccessDenied" } else { &self.code }
    }

    /// The body of a JSON service. An error without a text has no `message` member.
    pub fn json_body(&self) -> String {
        let code = serde_json::Value::from(self.code.as_ref());
        match &self.message {
            Some(text) => {
                format!(
                    r#"{{"__type":{code},"message":{}}}"#,
                    serde_json::Value::from(text.as_str())
                )
            }
            None => format!(r#"{{"__type":{code}}}"#),
        }
    }

    /// The body of a query service; `namespace` is that of the service's answers.
    pub fn query_xml(&self, namespace: &str, request_id: &str) -> String {
        let side = if self.fault { "Receiver" } else { "Sender" };
        let mut xml = format!("<ErrorResponse xmlns=\"{namespace}\">\n  <Error>\n");
        let text = self.message.as_deref().unwrap_or_default();
        let _ = write!(
            xml,
            "    <Type>{side}</Type>\n    <Code>{}</Code>\n    <Message>{}</Message>\n  </Error>\n  <RequestId>{}</RequestId>\n</ErrorResponse>\n",
            escape(&self.code),
            escape(text),
            escape(request_id)
        );
        xml
    }
}

/// Escapes text for an XML element; characters that XML cannot hold become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            c if (c as u32) < 0x20 || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

// KMS.

/// A well-formed key ARN that names no key.
pub fn key_not_found(key_arn: &str) -> AwsError {
    AwsError::client("NotFoundException", format!("Key '{key_arn}' does not exist"))
}
/// A key identifier of no known form.
pub fn invalid_key_id(as_sent: &str) -> AwsError {
    AwsError::client("NotFoundException", format!("Invalid keyId '{as_sent}'"))
}
/// A key ARN of another Region than the request's.
pub fn wrong_region(region: &str) -> AwsError {
    AwsError::client("NotFoundException", format!("Invalid arn {region}"))
}
/// No such alias.
pub fn alias_not_found(alias_arn: &str) -> AwsError {
    AwsError::client("NotFoundException", format!("Alias {alias_arn} is not found."))
}
/// A key policy of another name than `default`.
pub fn policy_not_found() -> AwsError {
    AwsError::client("NotFoundException", "No such policy exists")
}
/// The alias is taken.
pub fn alias_exists(alias_arn: &str) -> AwsError {
    AwsError::client(
        "AlreadyExistsException",
        format!("An alias with the name {alias_arn} already exists"),
    )
}
/// An alias name without its prefix.
pub fn alias_prefix() -> AwsError {
    validation(
        "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
    )
}
/// `alias/aws/…` belongs to AWS.
pub fn alias_reserved() -> AwsError {
    AwsError::client("NotAuthorizedException", "")
}
/// UpdateAlias to a key of another spec or usage.
pub fn alias_of_another_kind(alias_arn: &str) -> AwsError {
    validation(format!(
        "Alias {alias_arn} must keep its key's type and usage: the current and the new key differ."
    ))
}
/// Tags that are refused.
pub fn tags(text: &str) -> AwsError {
    AwsError::client("TagException", text)
}
/// CreateKey without a usage of a key that is not symmetric.
pub fn key_usage_missing() -> AwsError {
    validation(
        "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
    )
}
/// CreateKey with a usage that the spec does not have.
pub fn key_usage_unfit(usage: &str, spec: &str) -> AwsError {
    validation(format!("KeyUsage {usage} is not compatible with KeySpec {spec}"))
}
/// A request that breaks its shape.
pub fn validation(text: impl Into<String>) -> AwsError {
    AwsError::client("ValidationException", text)
}
/// A body that is not the JSON that the operation takes.
pub fn serialization(text: Option<String>) -> AwsError {
    AwsError { message: text, ..AwsError::silent("SerializationException") }
}
/// The key is disabled.
pub fn disabled(key_arn: &str) -> AwsError {
    AwsError::client("DisabledException", format!("{key_arn} is disabled."))
}
/// The key is in a state that the operation does not take: `what` is `pending import`, `creating` …
pub fn invalid_state(key_arn: &str, what: &str) -> AwsError {
    AwsError::client("KMSInvalidStateException", format!("{key_arn} is {what}."))
}
/// The key's deletion is pending.
pub fn pending_deletion(key_arn: &str) -> AwsError {
    invalid_state(key_arn, "pending deletion")
}
/// ReplicateKey, UpdatePrimaryRegion or a rotation of a key that is no primary key.
pub fn not_primary(key_arn: &str) -> AwsError {
    unsupported(format!("{key_arn} is not a multi-region primary key."))
}
/// ReplicateKey to a Region that has a key of the family.
pub fn replica_exists(key_arn: &str) -> AwsError {
    AwsError::client("AlreadyExistsException", format!("Key '{key_arn}' already exists"))
}
/// A rotation of a key whose kind does not rotate.
pub fn does_not_rotate(key_arn: &str, spec: &str) -> AwsError {
    unsupported(format!("{key_arn} key spec is {spec} which is not valid for this operation."))
}
/// The key was rotated on demand as often as a key may be.
pub fn rotations_used_up(key_arn: &str) -> AwsError {
    limit_exceeded(format!(
        "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: {key_arn}"
    ))
}
/// RotateKeyOnDemand shortly before an automatic rotation.
pub fn rotation_is_due(key_arn: &str) -> AwsError {
    AwsError::client(
        "ConflictException",
        format!("An automatic rotation of {key_arn} is in progress or due within 20 minutes."),
    )
}
/// A principal of a grant that does not exist, or is not the caller's to ask for.
pub fn invalid_principal(arn: &str) -> AwsError {
    AwsError::client(
        "InvalidArnException",
        format!("ARN does not refer to a valid principal: {arn}"),
    )
}
/// CancelKeyDeletion of a key that does not wait for deletion.
pub fn not_pending_deletion(key_arn: &str) -> AwsError {
    invalid_state(key_arn, "not pending deletion (or pending replica deletion)")
}
/// Wrong context, tampered or foreign blob: AWS says nothing more.
pub fn invalid_ciphertext() -> AwsError {
    AwsError::silent("InvalidCiphertextException")
}
/// KeyId is not the blob's key.
pub fn incorrect_key() -> AwsError {
    AwsError::client(
        "IncorrectKeyException",
        "The key ID in the request does not identify a CMK that can perform this operation.",
    )
}
/// The key's usage does not fit the operation.
pub fn invalid_key_usage(key_arn: &str, usage: &str, op: &str) -> AwsError {
    AwsError::client(
        "InvalidKeyUsageException",
        format!("{key_arn} key usage is {usage} which is not valid for {op}."),
    )
}
/// Something that this server does not do.
pub fn unsupported(text: impl Into<String>) -> AwsError {
    AwsError::client("UnsupportedOperationException", text)
}
/// A member or an operation of AWS's that this server does not do.
pub fn not_served(name: &str) -> AwsError {
    unsupported(format!("{name} is not supported by this server."))
}
/// DryRun that would have succeeded.
pub fn dry_run() -> AwsError {
    AwsError::client(
        "DryRunOperationException",
        "The request would have succeeded, but the DryRun option is set.",
    )
}
/// A quota is reached.
pub fn limit_exceeded(text: impl Into<String>) -> AwsError {
    AwsError::client("LimitExceededException", text)
}
/// A paging marker that this server did not give out.
pub fn invalid_marker() -> AwsError {
    AwsError::client("InvalidMarkerException", "Invalid marker")
}
/// No such grant on the key.
pub fn invalid_grant_id(grant_id: &str) -> AwsError {
    AwsError::client("InvalidGrantIdException", format!("Grant ID {grant_id} not found"))
}
/// A grant token that this server did not give out.
pub fn invalid_grant_token() -> AwsError {
    AwsError::client("InvalidGrantTokenException", "Invalid grant token")
}
/// A key policy that is refused.
pub fn malformed_key_policy(text: impl Into<String>) -> AwsError {
    AwsError::client("MalformedPolicyDocumentException", text)
}
/// The caller would lock himself out.
pub fn lockout() -> AwsError {
    malformed_key_policy(
        "The new key policy will not allow you to update the key policy in the future.",
    )
}
/// KMS refuses; the text is one of contract 3.5 (see [`crate::policy::Denied`]).
pub fn kms_access_denied(text: impl Into<String>) -> AwsError {
    AwsError::client("AccessDeniedException", text)
}
/// An operation that no JSON service here has.
pub fn unknown_operation() -> AwsError {
    AwsError::silent("UnknownOperationException")
}
/// The server's own fault.
pub fn internal() -> AwsError {
    AwsError {
        code: "KMSInternalException".into(),
        status: 500,
        message: Some("The request failed due to an internal error.".into()),
        fault: true,
    }
}
/// The disk is full or the trail cannot be written: nothing is done that cannot be recorded.
pub fn unavailable(text: impl Into<String>) -> AwsError {
    AwsError {
        code: "DependencyTimeoutException".into(),
        status: 500,
        message: Some(text.into()),
        fault: true,
    }
}

// STS and IAM.

/// STS and IAM refuse (403).
pub fn query_access_denied(text: impl Into<String>) -> AwsError {
    AwsError::with_status("AccessDenied", 403, text)
}
/// A parameter of a query request that breaks its shape.
pub fn query_validation(text: impl Into<String>) -> AwsError {
    AwsError::client("ValidationError", text)
}
/// The name is taken (409): `kind` is `Role`, `User` …
pub fn entity_exists(kind: &str, name: &str) -> AwsError {
    AwsError::with_status(
        "EntityAlreadyExists",
        409,
        format!("{kind} with name {name} already exists."),
    )
}
/// No such entity (404).
pub fn no_such_entity(text: impl Into<String>) -> AwsError {
    AwsError::with_status("NoSuchEntity", 404, text)
}
/// No such role (404).
pub fn no_such_role(name: &str) -> AwsError {
    no_such_entity(format!("The role with name {name} cannot be found."))
}
/// No such inline policy of a role (404).
pub fn no_such_role_policy(name: &str) -> AwsError {
    no_such_entity(format!("The role policy with name {name} cannot be found."))
}
/// Something still hangs on the entity (409).
pub fn delete_conflict() -> AwsError {
    AwsError::with_status(
        "DeleteConflict",
        409,
        "Cannot delete entity, must delete policies first.",
    )
}
/// An identity or trust policy that is refused (400).
pub fn malformed_policy(text: impl Into<String>) -> AwsError {
    AwsError::client("MalformedPolicyDocument", text)
}
/// An action that no query service here has (400).
pub fn invalid_action(action: &str, version: &str) -> AwsError {
    AwsError::client(
        "InvalidAction",
        format!("Could not find operation {action} for version {version}"),
    )
}
/// The server's own fault, query form.
pub fn service_failure() -> AwsError {
    AwsError {
        code: "ServiceFailure".into(),
        status: 500,
        message: Some("The request processing has failed because of an unknown error.".into()),
        fault: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_those_of_the_wire() {
        assert_eq!(
            disabled("arn:k").json_body(),
            r#"{"__type":"DisabledException","message":"arn:k is disabled."}"#
        );
        assert_eq!(invalid_ciphertext().json_body(), r#"{"__type":"InvalidCiphertextException"}"#);
        assert_eq!(kms_access_denied("no").trail_code(), "AccessDenied");
        assert_eq!(dry_run().trail_code(), "DryRunOperationException");
        assert!(internal().fault && internal().status == 500);
        let xml = no_such_role("a<b").query_xml("https://iam.amazonaws.com/doc/2010-05-08/", "r-1");
        assert!(xml.contains("<Type>Sender</Type>") && xml.contains("a&lt;b"), "{xml}");
    }
}
