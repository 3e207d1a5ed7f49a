//! Volumes, and the operator's word that a revoked grant may be made anew.

use super::App;
use super::extract::{Owner, Segments};
use super::problem::ApiError;
use super::view::volume;
use crate::store::{Cluster, Organization, Volume};
use crate::wire::{Problem, VolumeView};
use axum::Json;
use axum::extract::State;
use keystead_types::VolumeId;

/// The cluster's volumes.
#[utoipa::path(get, path = "/v1/clusters/{cluster}/volumes", security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name")),
    responses((status = 200, body = Vec<VolumeView>), (status = 404, body = Problem)))]
pub(super) async fn list(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
) -> Result<Json<Vec<VolumeView>>, ApiError> {
    Ok(Json(app.view(&app.find(&owner, &named).await?).volumes))
}

async fn find(app: &App, owner: &Organization, named: &str) -> Result<(Cluster, Volume), ApiError> {
    let found = match named.parse::<VolumeId>() {
        Ok(id) => {
            let cluster = app.store.cluster_of_volume(&id).await?;
            cluster.filter(|c| c.organization == owner.id).and_then(|c| {
                let v = c.volumes.iter().find(|v| v.id == id).cloned()?;
                Some((c, v))
            })
        }
        Err(_) => None,
    };
    found.ok_or_else(|| ApiError::not_found("volume", named))
}

fn shown(app: &App, cluster: &Cluster, v: &Volume) -> VolumeView {
    app.judged(cluster, |judged| volume(cluster, v, judged.seen))
}

/// One volume.
#[utoipa::path(get, path = "/v1/volumes/{volume}", security(("token" = [])),
    params(("volume" = String, Path, description = "id of the volume")),
    responses((status = 200, body = VolumeView), (status = 404, body = Problem)))]
pub(super) async fn show(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
) -> Result<Json<VolumeView>, ApiError> {
    let (cluster, v) = find(&app, &owner, &named).await?;
    Ok(Json(shown(&app, &cluster, &v)))
}

/// Asks for a new grant. Asked again before the node has made it, nothing more is asked for.
#[utoipa::path(post, path = "/v1/volumes/{volume}/regrant", security(("token" = [])),
    params(("volume" = String, Path, description = "id of the volume")),
    responses((status = 200, body = VolumeView), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn regrant(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
) -> Result<Json<VolumeView>, ApiError> {
    let (cluster, v) = find(&app, &owner, &named).await?;
    if cluster.binding.is_none() {
        let detail = "the cluster has no key yet, so its volumes have no grants";
        return Err(ApiError::conflict("not-bound", detail));
    }
    let waiting = shown(&app, &cluster, &v)
        .observed_grant_generation
        .is_some_and(|observed| observed < v.grant_generation);
    if !waiting && app.store.regrant(&v.id, v.grant_generation).await? {
        tracing::info!(volume = %v.id, generation = v.grant_generation + 1, "a new grant is asked for");
        app.board.records_changed();
    }
    let (cluster, v) = find(&app, &owner, &named).await?;
    Ok(Json(shown(&app, &cluster, &v)))
}
