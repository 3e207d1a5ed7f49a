//! The API: routes, and the state that they share. A handler reads and writes records, asks the
//! pure rooms for words, and decides nothing else.

mod binding;
mod clusters;
mod documents;
mod extract;
mod node;
mod organizations;
mod problem;
mod s3;
#[cfg(test)]
mod tests;
mod view;
mod volumes;

pub(crate) use extract::token_hash;

use crate::board::Board;
use crate::config::NodeEntry;
use crate::store::{Store, TokenHash};
use crate::templates::Templates;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use http::StatusCode;
use keystead_types::{AccountId, Clock};
use problem::ApiError;
use std::{ops::Deref, sync::Arc};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Every body is smaller than this.
const BODY_BYTES: usize = 1024 * 1024;
/// No long poll is longer than this.
const POLL_MS: u64 = 60_000;

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) board: Arc<Board>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) templates: Templates,
    pub(crate) provider: AccountId,
    /// Default of `evict_after`.
    pub(crate) evict_after_ms: u64,
    pub(crate) platform: TokenHash,
    pub(crate) nodes: Vec<(NodeEntry, TokenHash)>,
}

/// The state as axum clones it.
#[derive(Clone)]
pub(crate) struct App(pub(crate) Arc<Shared>);

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Keystead control", description = "Clusters under keys that their owners hold."),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The whole API.
pub(crate) fn router(app: App) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(organizations::whoami))
        .routes(routes!(organizations::list, organizations::create))
        .routes(routes!(clusters::list, clusters::create))
        .routes(routes!(clusters::show))
        .routes(routes!(clusters::watch))
        .routes(routes!(clusters::why))
        .routes(routes!(clusters::key_policy))
        .routes(routes!(binding::preflight))
        .routes(routes!(binding::preflight_result))
        .routes(routes!(binding::associate))
        .routes(routes!(volumes::list))
        .routes(routes!(volumes::show))
        .routes(routes!(volumes::regrant))
        .routes(routes!(s3::buckets))
        .routes(routes!(s3::list, s3::create))
        .routes(routes!(s3::rotate))
        .routes(routes!(s3::revoke))
        .routes(routes!(documents::list, documents::create))
        .routes(routes!(documents::show, documents::remove))
        .routes(routes!(documents::link))
        .routes(routes!(node::assignment))
        .routes(routes!(node::status))
        .split_for_parts();
    router
        .route("/v1/openapi.json", get(async move || axum::Json(document.clone())))
        .route("/healthz", get(async || "ok\n"))
        .fallback(async |uri: http::Uri| ApiError::not_found("resource", uri.path()))
        .method_not_allowed_fallback(async || {
            let detail = "this resource does not know the method";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(app)
}

/// A DNS label: lower-case letters, digits and hyphens, 1 to 63, no hyphen at the ends.
fn check_name(name: &str) -> Result<(), ApiError> {
    let fits = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    // A name that reads as an id would make `{id or name}` ambiguous.
    if fits && name.parse::<keystead_types::ClusterId>().is_err() {
        return Ok(());
    }
    let detail = "a name is 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end, and is no cluster id";
    Err(ApiError::unprocessable("bad-name", detail))
}
