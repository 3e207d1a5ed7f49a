//! What S3 answers: code, status and text of each fault.

use super::{AuthFault, BodyFault};
use crate::AwsError;

impl AuthFault {
    /// The answer of S3. A request without any signature is anonymous, and those are denied.
    pub fn s3(&self) -> AwsError {
        let (code, status, text): (_, _, &str) = match self {
            Self::MissingToken => ("AccessDenied", 403, "Access Denied"),
            Self::UnknownToken => (
                "InvalidAccessKeyId",
                403,
                "The AWS Access Key Id you provided does not exist in our records.",
            ),
            Self::SessionOver => ("ExpiredToken", 400, "The provided token has expired."),
            Self::Mismatch => ("SignatureDoesNotMatch", 403, MISMATCH),
            Self::Unsigned(_) => (
                "AccessDenied",
                403,
                "There were headers present in the request which were not signed",
            ),
            Self::Expired { .. } | Self::NotYet { .. } | Self::Skewed => (
                "RequestTimeTooSkewed",
                403,
                "The difference between the request time and the current time is too large.",
            ),
            Self::Lapsed => ("AccessDenied", 403, "Request has expired"),
            Self::NotBegun => ("AccessDenied", 403, "Request is not yet valid"),
            Self::Mechanism(_) => (
                "InvalidRequest",
                400,
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
            ),
            Self::TwoMechanisms => (
                "InvalidArgument",
                400,
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified",
            ),
            Self::Query(text) => ("AuthorizationQueryParametersError", 400, text),
            Self::InQuery(fault) => {
                let text =
                    format!("Error parsing the X-Amz-Credential parameter; {}", fault.scope_text());
                return AwsError::client("AuthorizationQueryParametersError", text);
            }
            Self::Incomplete(_)
            | Self::Region(_)
            | Self::ForeignRegion { .. }
            | Self::Service(_)
            | Self::Terminator
            | Self::ScopeDate => {
                let text = format!("The authorization header is malformed; {}", self.scope_text());
                return AwsError::client("AuthorizationHeaderMalformed", text);
            }
            Self::NoPayload => (
                "InvalidRequest",
                400,
                "Missing required header for this request: x-amz-content-sha256",
            ),
            Self::Payload(value) => {
                let text = format!(
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-UNSIGNED-PAYLOAD-TRAILER, or a valid sha256 value, not '{value}'"
                );
                return AwsError::client("InvalidArgument", text);
            }
            Self::NoLength => (
                "MissingContentLength",
                411,
                "You must provide the x-amz-decoded-content-length HTTP header.",
            ),
            Self::Invalid(text) => ("InvalidRequest", 400, text),
        };
        AwsError::with_status(code, status, text)
    }

    /// An element more in the answer, where S3 has one: clients read the Region there and turn to
    /// it, and people the headers that they forgot.
    pub fn s3_detail(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::ForeignRegion { served, .. } => Some(("Region", served)),
            Self::InQuery(fault) => fault.s3_detail(),
            Self::Unsigned(name) => Some(("HeadersNotSigned", name)),
            _ => None,
        }
    }

    /// What is wrong with the credential and its scope.
    fn scope_text(&self) -> String {
        match self {
            Self::ForeignRegion { given, served } => {
                format!("the region '{given}' is wrong; expecting '{served}'")
            }
            Self::Service(service) => {
                format!("incorrect service. This endpoint belongs to \"{service}\".")
            }
            Self::Terminator => "incorrect terminator. It must be \"aws4_request\".".to_owned(),
            Self::ScopeDate => {
                "Invalid credential date. This date is not the same as X-Amz-Date.".to_owned()
            }
            Self::Region(given) => format!("'{given}' is no region"),
            Self::Incomplete(what) => what.clone(),
            _ => String::new(),
        }
    }
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your key and signing method.";

impl BodyFault {
    /// The answer of S3. Whatever is wrong with the framing, S3 calls the body incomplete.
    pub fn s3(&self) -> AwsError {
        let (code, status, text) = match self {
            Self::Digest => (
                "XAmzContentSHA256Mismatch",
                400,
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ),
            Self::Signature => ("SignatureDoesNotMatch", 403, MISMATCH),
            Self::Framing(_) => ("IncompleteBody", 400, "The request body terminated unexpectedly"),
            Self::Trailer(_) => (
                "MalformedTrailerError",
                400,
                "The request contained trailing data that was not well-formed or did not conform to our published schema.",
            ),
        };
        AwsError::with_status(code, status, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_are_s3s() {
        let foreign =
            AuthFault::ForeignRegion { given: "us-east-1".into(), served: "eu-central-1".into() };
        let text = "the region 'us-east-1' is wrong; expecting 'eu-central-1'";
        let told = foreign.s3();
        assert_eq!(
            (told.code.as_ref(), told.status, told.message),
            (
                "AuthorizationHeaderMalformed",
                400,
                Some(format!("The authorization header is malformed; {text}"))
            )
        );
        assert_eq!(foreign.s3_detail(), Some(("Region", "eu-central-1")));
        let in_query = AuthFault::InQuery(Box::new(foreign));
        assert_eq!(in_query.s3_detail(), Some(("Region", "eu-central-1")));
        assert_eq!(
            in_query.s3().message,
            Some(format!("Error parsing the X-Amz-Credential parameter; {text}"))
        );
        for (fault, code, status) in [
            (AuthFault::MissingToken, "AccessDenied", 403),
            (AuthFault::UnknownToken, "InvalidAccessKeyId", 403),
            (AuthFault::Mismatch, "SignatureDoesNotMatch", 403),
            (AuthFault::Unsigned("x-amz-acl".into()), "AccessDenied", 403),
            (AuthFault::Skewed, "RequestTimeTooSkewed", 403),
            (AuthFault::Lapsed, "AccessDenied", 403),
            (AuthFault::Mechanism("AWS".into()), "InvalidRequest", 400),
            (AuthFault::TwoMechanisms, "InvalidArgument", 400),
            (AuthFault::Query("why".into()), "AuthorizationQueryParametersError", 400),
            (in_query, "AuthorizationQueryParametersError", 400),
            (AuthFault::Terminator, "AuthorizationHeaderMalformed", 400),
            (AuthFault::NoPayload, "InvalidRequest", 400),
            (AuthFault::NoLength, "MissingContentLength", 411),
        ] {
            let told = fault.s3();
            assert_eq!((told.code.as_ref(), told.status), (code, status), "{fault:?}");
            assert!(told.message.is_some_and(|text| !text.is_empty()), "{fault:?}");
            assert!(!fault.text().is_empty(), "{fault:?}");
        }
        for (fault, code, status) in [
            (BodyFault::Digest, "XAmzContentSHA256Mismatch", 400),
            (BodyFault::Signature, "SignatureDoesNotMatch", 403),
            (BodyFault::Framing("why"), "IncompleteBody", 400),
            (BodyFault::Trailer("why"), "MalformedTrailerError", 400),
        ] {
            let told = fault.s3();
            assert_eq!((told.code.as_ref(), told.status), (code, status), "{fault:?}");
        }
    }
}
