//! What a handler is given: the caller in the scope that it asks for, the body, the query. All
//! refuse with a problem document.

use super::App;
use super::problem::ApiError;
use crate::config::NodeEntry;
use crate::store::{Organization, TokenHash};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{FromRequest, FromRequestParts, Json, Path, Query, Request};
use http::StatusCode;
use http::header::AUTHORIZATION;
use http::request::Parts;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// SHA-256 of a bearer token.
pub(crate) fn token_hash(token: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

/// Who a token speaks for.
pub(crate) enum Caller {
    Platform,
    Owner(Organization),
    Node(NodeEntry),
}

/// Looks at every kind of token, in constant time each.
pub(crate) async fn caller(parts: &Parts, app: &App) -> Result<Caller, ApiError> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let token = header
        .and_then(|v| v.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(ApiError::unauthorized)?;
    let hash = token_hash(token);
    let same = |known: &TokenHash| verify_slices_are_equal(known, &hash).is_ok();
    if same(&app.platform) {
        return Ok(Caller::Platform);
    }
    if let Some((node, _)) = app.nodes.iter().find(|(_, known)| same(known)) {
        return Ok(Caller::Node(node.clone()));
    }
    // The index finds a hash, which tells nothing of a token.
    match app.store.organization_of(hash).await? {
        Some(owner) => Ok(Caller::Owner(owner)),
        None => Err(ApiError::unauthorized()),
    }
}

/// The platform team.
pub(crate) struct Platform;

impl FromRequestParts<App> for Platform {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match caller(parts, app).await? {
            Caller::Platform => Ok(Self),
            _ => Err(ApiError::forbidden("the platform's")),
        }
    }
}

/// An organization's owner.
pub(crate) struct Owner(pub(crate) Organization);

impl FromRequestParts<App> for Owner {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match caller(parts, app).await? {
            Caller::Owner(organization) => Ok(Self(organization)),
            _ => Err(ApiError::forbidden("an organization's")),
        }
    }
}

/// A node.
pub(crate) struct Node(pub(crate) NodeEntry);

impl FromRequestParts<App> for Node {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match caller(parts, app).await? {
            Caller::Node(node) => Ok(Self(node)),
            _ => Err(ApiError::forbidden("a node's")),
        }
    }
}

fn malformed(status: StatusCode, text: String) -> ApiError {
    let kind = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "too-large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported-media-type",
        _ => "malformed-request",
    };
    ApiError::new(status, kind, text)
}

/// A body arrives within this, or is not waited for.
const BODY: Duration = Duration::from_secs(10);

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        match tokio::time::timeout(BODY, Json::from_request(request, app)).await {
            Ok(Ok(Json(body))) => Ok(Self(body)),
            Ok(Err(refused)) => Err(malformed(refused.status(), refused.body_text())),
            Err(_) => {
                let detail = format!("the body did not arrive within {} s", BODY.as_secs());
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow-body", detail))
            }
        }
    }
}

/// The query; unknown names are refused by the types.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Params<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, app).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(refused) => Err(malformed(refused.status(), refused.body_text())),
        }
    }
}

/// Parts of the path.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Segments<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, app).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(refused) => Err(malformed(refused.status(), refused.body_text())),
        }
    }
}
