//! What can be wrong with a signature, and the wire forms of the JSON and query services; S3's form
//! is in `s3_fault`.

use crate::AwsError;

/// Why a request is not taken as its claimed sender's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthFault {
    /// No Authorization header.
    #[error("no authorization header")]
    MissingToken,
    /// The header, or the date, is not whole; the text names what is missing.
    #[error("incomplete signature: {0}")]
    Incomplete(String),
    /// The access key is unknown, or the session token is not the one given out with it.
    #[error("unknown access key or wrong session token")]
    UnknownToken,
    /// The session is over.
    #[error("session expired")]
    SessionOver,
    /// Wrong secret, another body, another host: the cause is not told.
    #[error("signature does not match")]
    Mismatch,
    /// A header that must be signed is not.
    #[error("header {0} must be signed")]
    Unsigned(String),
    /// Signed too long ago.
    #[error("signature of {sent} is older than {limit}")]
    Expired {
        /// As sent.
        sent: String,
        /// The oldest that is taken.
        limit: String,
        /// The server's clock.
        now: String,
    },
    /// Signed in the future.
    #[error("signature of {sent} is later than {limit}")]
    NotYet {
        /// As sent.
        sent: String,
        /// The latest that is taken.
        limit: String,
        /// The server's clock.
        now: String,
    },
    /// The scope's Region is none, or not one that the endpoint serves.
    #[error("scope names region {0}")]
    Region(String),
    /// The scope's service is another; the field is the right one.
    #[error("scope must name service {0}")]
    Service(String),
    /// The scope does not end in `aws4_request`.
    #[error("scope has a wrong terminator")]
    Terminator,
    /// The scope's date is not that of the request.
    #[error("scope date differs from the request's date")]
    ScopeDate,

    // S3's alone.
    /// Another scheme than ours: the field is its name. Version 2, ECDSA, Bearer.
    #[error("signature scheme {0} is not spoken")]
    Mechanism(String),
    /// Signed in the header and in the query.
    #[error("signed in the header and in the query")]
    TwoMechanisms,
    /// A parameter of a presigned URL is missing, repeated or not well-formed.
    #[error("presigned: {0}")]
    Query(String),
    /// A fault of the scope that a presigned URL names.
    #[error("presigned: {0}")]
    InQuery(Box<AuthFault>),
    /// The presigned URL's time is over.
    #[error("presigned request has expired")]
    Lapsed,
    /// The presigned URL's time has not begun.
    #[error("presigned request is not yet valid")]
    NotBegun,
    /// Signed more than a quarter of an hour ago, or ahead.
    #[error("the clocks differ too much")]
    Skewed,
    /// The scope names a Region that this endpoint does not serve.
    #[error("scope names region {given}, this is {served}")]
    ForeignRegion {
        /// As sent.
        given: String,
        /// The endpoint's own.
        served: String,
    },
    /// No `x-amz-content-sha256`.
    #[error("x-amz-content-sha256 is missing")]
    NoPayload,
    /// An `x-amz-content-sha256` that is none of those spoken; the field is its value.
    #[error("x-amz-content-sha256 {0:?} is not spoken")]
    Payload(String),
    /// A chunked body without `x-amz-decoded-content-length`.
    #[error("x-amz-decoded-content-length is missing")]
    NoLength,
    /// A header about the body that cannot be; the field is the whole text.
    #[error("{0}")]
    Invalid(String),
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";

impl AuthFault {
    /// The text that the caller sees.
    pub fn text(&self) -> String {
        match self {
            Self::MissingToken => "Missing Authentication Token".to_owned(),
            Self::Incomplete(what) => what.clone(),
            Self::UnknownToken => "The security token included in the request is invalid.".to_owned(),
            Self::SessionOver => "The security token included in the request is expired".to_owned(),
            Self::Mismatch => MISMATCH.to_owned(),
            Self::Unsigned(name) if name == "host" => {
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned()
            }
            Self::Unsigned(name) => {
                format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")
            }
            Self::Expired { sent, limit, now } => {
                format!("Signature expired: {sent} is now earlier than {limit} ({now} - 5 min.)")
            }
            Self::NotYet { sent, limit, now } => format!(
                "Signature not yet current: {sent} is still later than {limit} ({now} + 5 min.)"
            ),
            Self::Region(region) => {
                format!("Credential should be scoped to a valid Region, not '{region}'")
            }
            Self::Service(service) => {
                format!("Credential should be scoped to correct service: '{service}'")
            }
            Self::Terminator => {
                "Credential should be scoped with a valid terminator: 'aws4_request'".to_owned()
            }
            Self::ScopeDate => "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP".to_owned(),
            s3_only => s3_only.s3().message.unwrap_or_default(),
        }
    }

    /// The answer of a JSON service (status 400).
    pub fn json(&self) -> AwsError {
        let code = match self {
            Self::MissingToken => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::UnknownToken => "UnrecognizedClientException",
            Self::SessionOver => "ExpiredTokenException",
            _ => "InvalidSignatureException",
        };
        AwsError::client(code, self.text())
    }

    /// The answer of a query service (status 403, but for an incomplete header).
    pub fn query(&self) -> AwsError {
        let (code, status) = match self {
            Self::MissingToken => {
                let text = "Request is missing Authentication Token";
                return AwsError::with_status("MissingAuthenticationToken", 403, text);
            }
            Self::Incomplete(_) => ("IncompleteSignature", 400),
            Self::UnknownToken => ("InvalidClientTokenId", 403),
            Self::SessionOver => ("ExpiredToken", 403),
            _ => ("SignatureDoesNotMatch", 403),
        };
        AwsError::with_status(code, status, self.text())
    }
}
