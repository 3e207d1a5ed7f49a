//! Organizations, with the platform's token; and who a token speaks for.

use super::extract::{Body, Caller, Platform, caller, token_hash};
use super::problem::ApiError;
use super::{App, check_name};
use crate::store::Organization;
use crate::wire::{CreateOrganization, OrganizationView, Problem, WhoAmI};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;
use keystead_types::OrganizationId;
use uuid::Uuid;

/// Who the token speaks for.
#[utoipa::path(get, path = "/v1/whoami", security(("token" = [])),
    responses((status = 200, body = WhoAmI), (status = 401, body = Problem)))]
pub(super) async fn whoami(
    State(app): State<App>,
    request: Request,
) -> Result<Json<WhoAmI>, ApiError> {
    let (parts, _) = request.into_parts();
    let (scope, name) = match caller(&parts, &app).await? {
        Caller::Platform => ("platform", None),
        Caller::Owner(organization) => ("organization", Some(organization.name)),
        Caller::Node(_) => return Err(ApiError::forbidden("the platform's or an organization's")),
    };
    Ok(Json(WhoAmI { scope: scope.to_owned(), name }))
}

/// Makes an organization; its token is shown this once.
#[utoipa::path(post, path = "/v1/organizations", request_body = CreateOrganization,
    security(("token" = [])),
    responses((status = 201, body = OrganizationView), (status = 409, body = Problem)))]
pub(super) async fn create(
    _: Platform,
    State(app): State<App>,
    Body(wanted): Body<CreateOrganization>,
) -> Result<(StatusCode, Json<OrganizationView>), ApiError> {
    check_name(&wanted.name)?;
    let mut secret = [0; 24];
    SystemRandom::new().fill(&mut secret).map_err(|_| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no-randomness", "no random bytes")
    })?;
    let token = format!("ks_{}", hex::encode(secret));
    let made = Organization {
        id: OrganizationId::from_uuid(Uuid::now_v7()),
        name: wanted.name,
        created_ms: app.clock.wall_ms(),
    };
    if !app.store.add_organization(made.clone(), token_hash(&token)).await? {
        let detail = format!("an organization `{}` exists", made.name);
        return Err(ApiError::conflict("name-taken", detail).fix("choose another name"));
    }
    tracing::info!(organization = %made.id, name = made.name, "organization made");
    let view = OrganizationView { organization: made.id, name: made.name, token: Some(token) };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Every organization.
#[utoipa::path(get, path = "/v1/organizations", security(("token" = [])),
    responses((status = 200, body = Vec<OrganizationView>)))]
pub(super) async fn list(
    _: Platform,
    State(app): State<App>,
) -> Result<Json<Vec<OrganizationView>>, ApiError> {
    let all = app.store.organizations().await?;
    let view = |o: Organization| OrganizationView { organization: o.id, name: o.name, token: None };
    Ok(Json(all.into_iter().map(view).collect()))
}
