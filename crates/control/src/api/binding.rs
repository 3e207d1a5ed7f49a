//! Preflight and association: a key is tried by the node first, then written once.

use super::App;
use super::extract::{Body, Owner, Segments};
use super::problem::ApiError;
use crate::preflight;
use crate::store::{Bound, Cluster, Preflight};
use crate::wire::{ClusterView, KeyArns, PreflightView, Problem};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use keystead_types::{Cause, KeyArn, ParseArnError, PreflightId};
use uuid::Uuid;

/// A cluster may have so many preflights that no node has answered.
const WAITING: usize = 8;

/// The tenant role is still being made.
pub(super) fn no_role(cluster: &Cluster) -> ApiError {
    ApiError::conflict("role-not-made", "the cluster's tenant role is not made yet")
        .fix(format!("keystead cluster watch {} --until AwaitingKey", cluster.name))
}

fn bound_already(cluster: &Cluster, key: &KeyArn) -> ApiError {
    let detail = format!("{} is bound to {key} for good", cluster.name);
    ApiError::conflict("already-bound", detail).fix("another key needs another cluster")
}

/// The one ARN of a cluster in one Region.
fn the_key(given: &KeyArns) -> Result<KeyArn, ApiError> {
    let [text] = given.key_arns.as_slice() else {
        let detail = format!("one key ARN a Region: 1 is needed, {} came", given.key_arns.len());
        return Err(ApiError::unprocessable("wrong-number-of-keys", detail));
    };
    text.parse().map_err(|error: ParseArnError| {
        let kind = match error {
            ParseArnError::Alias(_) => "alias-instead-of-key",
            ParseArnError::Blank(_) => "blanks-in-arn",
            _ => "not-a-key-arn",
        };
        ApiError::unprocessable(kind, error.to_string())
    })
}

/// Has the Region's node try a key as the tenant role.
#[utoipa::path(post, path = "/v1/clusters/{cluster}/preflights", request_body = KeyArns,
    security(("token" = [])), params(("cluster" = String, Path, description = "id or name")),
    responses((status = 201, body = PreflightView), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 429, body = Problem)))]
pub(super) async fn preflight(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
    Body(given): Body<KeyArns>,
) -> Result<(StatusCode, Json<PreflightView>), ApiError> {
    let cluster = app.find(&owner, &named).await?;
    let key = the_key(&given)?;
    if cluster.tenant_role.is_none() {
        return Err(no_role(&cluster));
    }
    if let Some(bound) = cluster.binding.as_ref().filter(|b| **b != key) {
        return Err(bound_already(&cluster, bound));
    }
    let new = Preflight {
        id: PreflightId::from_uuid(Uuid::now_v7()),
        cluster: cluster.id.clone(),
        key,
        created_ms: app.clock.wall_ms(),
        report: None,
    };
    if !app.store.add_preflight(new.clone(), WAITING).await? {
        let detail = format!("{WAITING} preflights of this cluster wait for the node");
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-preflights", detail)
            .fix(format!("keystead why {}", cluster.name)));
    }
    app.board.records_changed();
    Ok((StatusCode::CREATED, Json(preflight::view(&cluster, &new))))
}

/// What the node found.
#[utoipa::path(get, path = "/v1/clusters/{cluster}/preflights/{preflight}",
    security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name"),
        ("preflight" = String, Path, description = "id of the preflight")),
    responses((status = 200, body = PreflightView), (status = 404, body = Problem)))]
pub(super) async fn preflight_result(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments((named, id)): Segments<(String, String)>,
) -> Result<Json<PreflightView>, ApiError> {
    let cluster = app.find(&owner, &named).await?;
    let found = match id.parse::<PreflightId>() {
        Ok(id) => app.store.preflight(&id).await?.filter(|p| p.cluster == cluster.id),
        Err(_) => None,
    };
    let found = found.ok_or_else(|| ApiError::not_found("preflight", &id))?;
    Ok(Json(preflight::view(&cluster, &found)))
}

/// Ties the cluster to its key, once and for all.
#[utoipa::path(put, path = "/v1/clusters/{cluster}/binding", request_body = KeyArns,
    security(("token" = [])), params(("cluster" = String, Path, description = "id or name")),
    responses((status = 200, body = ClusterView), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn associate(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
    Body(given): Body<KeyArns>,
) -> Result<Json<ClusterView>, ApiError> {
    let cluster = app.find(&owner, &named).await?;
    if let Some(bound) = &cluster.binding {
        return Err(bound_already(&cluster, bound));
    }
    let key = the_key(&given)?;
    if cluster.tenant_role.is_none() {
        return Err(no_role(&cluster));
    }
    check_place(&app, &cluster, &key)?;
    let now_ms = app.clock.wall_ms();
    if !preflight::opens(&app.store.preflights_of(&cluster.id).await?, &key, now_ms) {
        let detail = format!("no preflight of {key} passed in the last 10 minutes");
        return Err(ApiError::unprocessable("no-preflight", detail)
            .fix(format!("keystead preflight {} --key-arn {key}", cluster.name)));
    }
    match app.store.bind(&cluster.id, &key, now_ms).await? {
        Bound::Done => {}
        Bound::Already(there) => return Err(bound_already(&cluster, &there)),
        Bound::Elsewhere => {
            let detail = "this key is bound outside of this organization and cannot be shared";
            return Err(ApiError::conflict("key-bound-elsewhere", detail)
                .fix("create a key for this cluster"));
        }
        Bound::Absent => return Err(ApiError::not_found("cluster", &named)),
    }
    tracing::info!(cluster = %cluster.id, %key, "associated");
    app.board.records_changed();
    Ok(Json(app.view(&app.find(&owner, cluster.id.as_str()).await?)))
}

fn check_place(app: &App, cluster: &Cluster, key: &KeyArn) -> Result<(), ApiError> {
    if *key.region() != cluster.region {
        let detail = format!("the key lies in {}, the cluster in {}", key.region(), cluster.region);
        return Err(ApiError::unprocessable("wrong-region", detail)
            .cause(Cause::WrongRegion)
            .fix(format!("create the key in {}", cluster.region)));
    }
    if *key.account() == app.provider {
        let detail =
            "the key lies in the provider's own account; there the owner would not hold it";
        return Err(ApiError::unprocessable("providers-account", detail)
            .fix("use a key of the owner's own account"));
    }
    Ok(())
}
