//! What an answer of KMS or STS means for a lease: refused, silent or corrupt. Pure.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use keystead_types::{Cause, KeyArn};

/// A call that did not do what it was for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// KMS said no.
    #[error("{cause}: {detail}")]
    Refused { cause: Cause, detail: String, request_id: Option<String> },
    /// Nobody said anything that counts: time-outs, faults, throttling, credential faults.
    #[error("no answer: {detail}")]
    Silent { detail: String },
    /// The ciphertext does not belong to the recorded key and context.
    #[error("wrapped-key-mismatch: {detail}")]
    Corrupt { detail: String, request_id: Option<String> },
}

impl Failure {
    /// The cause to be shown.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Refused { cause, .. } => *cause,
            Self::Silent { .. } => Cause::KmsUnreachable,
            Self::Corrupt { .. } => Cause::WrappedKeyMismatch,
        }
    }
    /// The words of the answer.
    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::Refused { detail, .. }
            | Self::Silent { detail }
            | Self::Corrupt { detail, .. } => detail,
        }
    }
    /// The same, told of a key: in a call about two of them the words alone do not say which.
    pub(crate) fn of(mut self, key: &KeyArn) -> Self {
        match &mut self {
            Self::Refused { detail, .. }
            | Self::Silent { detail }
            | Self::Corrupt { detail, .. } => *detail = format!("{key}: {detail}"),
        }
        self
    }
    /// Its request id.
    pub(crate) fn request_id(&self) -> Option<String> {
        match self {
            Self::Refused { request_id, .. } | Self::Corrupt { request_id, .. } => {
                request_id.clone()
            }
            Self::Silent { .. } => None,
        }
    }
}

/// An error as the wire carried it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spoken {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) status: u16,
    pub(crate) request_id: Option<String>,
}

/// Takes an SDK error apart; `None` when no answer came at all.
pub(crate) fn spoken<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<Spoken> {
    let SdkError::ServiceError(answer) = error else { return None };
    let meta = answer.err().meta();
    let raw = answer.raw();
    Some(Spoken {
        code: meta.code().unwrap_or_default().to_owned(),
        message: meta.message().unwrap_or_default().to_owned(),
        status: raw.status().as_u16(),
        request_id: raw
            .headers()
            .get("x-amzn-requestid")
            .map(str::to_owned)
            .or_else(|| meta.extra("aws_request_id").map(str::to_owned)),
    })
}

/// A success of DryRun is this error.
pub(crate) const DRY_RUN: &str = "DryRunOperationException";

/// True when the credentials, not their rights, are at fault: take new ones and ask again.
pub(crate) fn is_credential_fault(code: &str) -> bool {
    matches!(
        code,
        "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "ExpiredTokenException"
            | "ExpiredToken"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignatureException"
    )
}

/// Judges an answer of KMS (DESIGN 6, "Refused or silent").
pub(crate) fn judge_kms(said: Spoken) -> Failure {
    let detail = said.words();
    let Spoken { code, message, status, request_id } = said;
    let refused =
        |cause| Failure::Refused { cause, detail: detail.clone(), request_id: request_id.clone() };
    if status >= 500 {
        return Failure::Silent { detail };
    }
    match code.as_str() {
        "DisabledException" => refused(Cause::KeyDisabled),
        "KMSInvalidStateException" if message.contains("pending deletion") => {
            refused(Cause::KeyPendingDeletion)
        }
        "KMSInvalidStateException" => refused(Cause::KeyDisabled),
        "NotFoundException" if message.starts_with("Invalid arn") => refused(Cause::WrongRegion),
        "NotFoundException" => refused(Cause::KeyDeleted),
        "AccessDeniedException" => refused(Cause::PolicyDenies),
        "InvalidKeyUsageException" | "UnsupportedOperationException" => {
            refused(Cause::WrongSpecOrUsage)
        }
        // CreateGrant's, for an operation that the key's spec does not have.
        "ValidationError" if message.to_lowercase().contains("grant operation") => {
            refused(Cause::WrongSpecOrUsage)
        }
        "InvalidCiphertextException" | "IncorrectKeyException" => {
            Failure::Corrupt { detail, request_id }
        }
        _ => Failure::Silent { detail },
    }
}

/// Judges an answer of STS to AssumeRole.
pub(crate) fn judge_sts(said: Spoken) -> Failure {
    let detail = said.words();
    match said.code.as_str() {
        "AccessDenied" | "AccessDeniedException" => {
            Failure::Refused { cause: Cause::RoleNotAssumable, detail, request_id: said.request_id }
        }
        _ => Failure::Silent { detail },
    }
}

impl Spoken {
    fn words(&self) -> String {
        match (self.code.as_str(), self.message.as_str()) {
            ("", _) => format!("HTTP {}", self.status),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kms(code: &str, message: &str, status: u16) -> Failure {
        judge_kms(Spoken {
            code: code.into(),
            message: message.into(),
            status,
            request_id: Some("r".into()),
        })
    }

    #[test]
    fn each_answer_has_one_meaning() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/k";
        let table = [
            ("DisabledException", format!("{arn} is disabled."), Cause::KeyDisabled),
            (
                "KMSInvalidStateException",
                format!("{arn} is pending deletion."),
                Cause::KeyPendingDeletion,
            ),
            ("NotFoundException", format!("Key '{arn}' does not exist"), Cause::KeyDeleted),
            ("NotFoundException", "Invalid arn eu-west-1".into(), Cause::WrongRegion),
            ("AccessDeniedException", "User: …".into(), Cause::PolicyDenies),
            ("InvalidKeyUsageException", String::new(), Cause::WrongSpecOrUsage),
            ("ValidationError", "Grant operation Decrypt …".into(), Cause::WrongSpecOrUsage),
        ];
        for (code, message, cause) in table {
            let found = kms(code, &message, 400);
            assert!(
                matches!(&found, Failure::Refused { cause: c, .. } if *c == cause),
                "{code}: {found:?}"
            );
            assert_eq!(found.request_id().as_deref(), Some("r"));
        }
        for code in ["InvalidCiphertextException", "IncorrectKeyException"] {
            assert_eq!(kms(code, "", 400).cause(), Cause::WrappedKeyMismatch);
        }
    }

    #[test]
    fn faults_throttling_and_credential_faults_are_silence() {
        for (code, status) in [
            ("KMSInternalException", 500),
            ("AccessDeniedException", 503),
            ("ThrottlingException", 400),
            ("UnrecognizedClientException", 400),
            ("", 502),
        ] {
            assert!(matches!(kms(code, "m", status), Failure::Silent { .. }), "{code}");
        }
        let expired = Spoken { code: "ExpiredToken".into(), status: 403, ..Spoken::default() };
        assert!(matches!(judge_sts(expired), Failure::Silent { .. }));
        let denied = Spoken { code: "AccessDenied".into(), status: 403, ..Spoken::default() };
        assert_eq!(judge_sts(denied).cause(), Cause::RoleNotAssumable);
    }
}
