//! Refusals as RFC 9457 documents: what, why, and what to do.

use crate::reconcile::said;
use crate::store::StoreError;
use crate::wire::Problem;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use keystead_types::Cause;
use std::io::ErrorKind;

/// A refusal.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Problem>);

impl ApiError {
    /// `kind` is the last part of the type URI and, with blanks, the title.
    pub(crate) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: format!("urn:keystead:problem:{kind}"),
            title: kind.replace('-', " "),
            status: status.as_u16(),
            detail: detail.into(),
            cause: None,
            fix: None,
        }))
    }
    /// With the cause.
    pub(crate) fn cause(mut self, cause: Cause) -> Self {
        self.0.cause = Some(cause);
        self
    }
    /// With what to do.
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.0.fix = Some(fix.into());
        self
    }

    pub(crate) fn unprocessable(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind, detail)
    }
    pub(crate) fn conflict(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, kind, detail)
    }
    /// The same words whether it does not exist or belongs to somebody else.
    pub(crate) fn not_found(what: &str, named: &str) -> Self {
        let named: String = named.chars().take(80).collect();
        let refused =
            Self::new(StatusCode::NOT_FOUND, "not-found", format!("no {what} `{named}` here"));
        match what {
            "cluster" => refused.fix("`keystead cluster list` shows those that are there"),
            "S3 access key" => {
                refused.fix("`keystead s3-key list CLUSTER` shows those that are there")
            }
            "volume" => refused.fix("`keystead volume list CLUSTER` shows those that are there"),
            _ => refused,
        }
    }
    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "no valid token came with the request")
            .fix("send `Authorization: Bearer ks_...`")
    }
    pub(crate) fn forbidden(needed: &str) -> Self {
        let detail = format!("this token is of another scope; {needed} is needed");
        Self::new(StatusCode::FORBIDDEN, "wrong-scope", detail)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let text = said(&error);
        tracing::error!(error = text, "store");
        let refuse = |kind, detail| Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail);
        if matches!(&error, StoreError::Folder { source, .. } if source.kind() == ErrorKind::ReadOnlyFilesystem)
        {
            let detail = "the file system under control's folder is read-only; nothing was changed";
            return refuse("disk-read-only", detail).fix(
                "the platform team unmounts it, checks it (fsck) and mounts it again; control goes on by itself",
            );
        }
        // SQLite's own words for SQLITE_FULL.
        if text.contains("disk is full") {
            let detail = "the disk under control's folder is full; nothing was changed";
            return refuse("disk-full", detail)
                .fix("the platform team frees space; then try again");
        }
        refuse("store-unavailable", "control's own store does not answer; nothing was changed")
            .fix("the platform team looks at control's log and disk; then try again")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
