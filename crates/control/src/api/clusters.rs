//! Clusters.

use super::extract::{Body, Owner, Params, Segments};
use super::problem::ApiError;
use super::{App, POLL_MS, check_name};
use crate::board::{FRESH, WATCHES};
use crate::config::parse_span;
use crate::policy;
use crate::store::{Bucket, Cluster, Select, Volume};
use crate::why::explain;
use crate::wire::{ClusterView, CreateCluster, Phase, Problem, WhyView};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use keystead_types::{AccountId, BucketId, ClusterId, VolumeId};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// The organization's clusters.
#[utoipa::path(get, path = "/v1/clusters", security(("token" = [])),
    responses((status = 200, body = Vec<ClusterView>)))]
pub(super) async fn list(
    Owner(owner): Owner,
    State(app): State<App>,
) -> Result<Json<Vec<ClusterView>>, ApiError> {
    let all = app.store.clusters(Select::Organization(&owner.id)).await?;
    Ok(Json(all.iter().map(|c| app.view(c)).collect()))
}

/// Makes a cluster; its tenant role follows by itself.
#[utoipa::path(post, path = "/v1/clusters", request_body = CreateCluster,
    security(("token" = [])),
    responses((status = 201, body = ClusterView), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn create(
    Owner(owner): Owner,
    State(app): State<App>,
    Body(wanted): Body<CreateCluster>,
) -> Result<(StatusCode, Json<ClusterView>), ApiError> {
    check_name(&wanted.name)?;
    let refuse = |kind, detail: String| ApiError::unprocessable(kind, detail);
    if wanted.encryption != "external" {
        return Err(refuse(
            "unknown-encryption",
            "`external` is the only encryption offered".to_owned(),
        ));
    }
    for region in std::iter::once(&wanted.region).chain(&wanted.backup_region) {
        if app.nodes.iter().all(|(n, _)| n.region != *region) {
            let served: Vec<_> = app.nodes.iter().map(|(n, _)| n.region.as_str()).collect();
            return Err(refuse("region-not-served", format!("no node serves {region}"))
                .fix(format!("choose one of: {}", served.join(", "))));
        }
    }
    if wanted.backup_region.as_ref() == Some(&wanted.region) {
        let detail = format!("region and backup_region are both {}", wanted.region);
        return Err(
            refuse("backup-region-is-region", detail).fix("choose another backup Region, or none")
        );
    }
    let template = wanted.template.as_deref().unwrap_or("postgres");
    let Some(template) = app.templates.get(template) else {
        return Err(refuse("unknown-template", "no such template".to_owned())
            .fix(format!("choose one of: {}", app.templates.names())));
    };
    let evict_after_ms = match &wanted.evict_after {
        Some(text) => parse_span(text).map_err(|reason| refuse("bad-evict-after", reason))?,
        None => app.evict_after_ms,
    };
    let volumes = template.disks.iter().map(|disk| Volume {
        id: VolumeId::from_uuid(Uuid::now_v7()),
        disk: disk.name.clone(),
        size_bytes: disk.size_bytes,
        wrapped: None,
        key_digest: None,
        grant_generation: 1,
    });
    let created_ms = app.clock.wall_ms();
    let buckets = template.buckets.iter().map(|name| Bucket {
        id: BucketId::from_uuid(Uuid::now_v7()),
        name: name.clone(),
        created_ms,
        keys: vec![],
    });
    let made = Cluster {
        id: ClusterId::from_uuid(Uuid::now_v7()),
        organization: owner.id,
        name: wanted.name,
        region: wanted.region,
        backup_region: wanted.backup_region,
        template: template.name.clone(),
        evict_after_ms,
        created_ms,
        generation: 1,
        tenant_role: None,
        binding: None,
        canary: None,
        second_canary: None,
        volumes: volumes.collect(),
        buckets: buckets.collect(),
        credentials: vec![],
        s3_keys: vec![],
    };
    if !app.store.add_cluster(made.clone()).await? {
        let detail = format!("the organization has a cluster `{}`", made.name);
        return Err(ApiError::conflict("name-taken", detail).fix("choose another name"));
    }
    tracing::info!(cluster = %made.id, name = made.name, region = %made.region, "cluster made");
    app.board.nudge.notify_one();
    app.board.records_changed();
    Ok((StatusCode::CREATED, Json(app.view(&made))))
}

/// One cluster, by id or name.
#[utoipa::path(get, path = "/v1/clusters/{cluster}", security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name")),
    responses((status = 200, body = ClusterView), (status = 404, body = Problem)))]
pub(super) async fn show(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
) -> Result<Json<ClusterView>, ApiError> {
    Ok(Json(app.view(&app.find(&owner, &named).await?)))
}

/// Query of a watch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Watch {
    until: Option<Phase>,
    timeout_ms: Option<u64>,
}

/// Answers when the phase is `until` (or changes, without it), or after `timeout_ms`.
#[utoipa::path(get, path = "/v1/clusters/{cluster}/watch", security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name"),
        ("until" = Option<Phase>, Query, description = "the phase waited for"),
        ("timeout_ms" = Option<u64>, Query, description = "at most 60000")),
    responses((status = 200, body = ClusterView), (status = 404, body = Problem),
        (status = 429, body = Problem)))]
pub(super) async fn watch(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
    Params(query): Params<Watch>,
) -> Result<Json<ClusterView>, ApiError> {
    let wait = Duration::from_millis(query.timeout_ms.unwrap_or(30_000).min(POLL_MS));
    let deadline = Instant::now() + wait;
    let Some(_watching) = app.board.begin_watch(&owner.id) else {
        let detail = format!("the organization has {WATCHES} watches open");
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-watches", detail)
            .fix("end some of them, then try again"));
    };
    let mut bell = app.board.on_anything();
    let mut first = None;
    loop {
        bell.borrow_and_update();
        let cluster = app.find(&owner, &named).await?;
        let view = app.view(&cluster);
        let reached = match query.until {
            Some(until) => view.phase == until,
            None => *first.get_or_insert(view.phase) != view.phase,
        };
        if reached || Instant::now() >= deadline {
            return Ok(Json(view));
        }
        // A node that falls silent rings no bell: the report's own end is waited for.
        let lapse = app
            .board
            .report(&cluster.region)
            .map(|r| FRESH.saturating_sub(app.clock.boot().since(r.at)))
            .filter(|left| !left.is_zero())
            .map_or(deadline, |left| deadline.min(Instant::now() + left));
        tokio::select! {
            _ = bell.changed() => {}
            () = tokio::time::sleep_until(lapse) => {}
            () = app.board.stopped() => return Ok(Json(view)),
        }
    }
}

/// What is wrong, since when, and the commands that repair it.
#[utoipa::path(get, path = "/v1/clusters/{cluster}/why", security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name")),
    responses((status = 200, body = WhyView), (status = 404, body = Problem)))]
pub(super) async fn why(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
) -> Result<Json<WhyView>, ApiError> {
    let cluster = app.find(&owner, &named).await?;
    Ok(Json(app.judged(&cluster, |judged| explain(&cluster, judged))))
}

/// Query of a key policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyPolicy {
    customer_account: String,
}

/// The policy to put on the owner's key.
#[utoipa::path(get, path = "/v1/clusters/{cluster}/key-policy", security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name"),
        ("customer_account" = String, Query, description = "the key owner's account")),
    responses((status = 200, body = Object), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn key_policy(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
    Params(query): Params<KeyPolicy>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let cluster = app.find(&owner, &named).await?;
    let account: AccountId = query
        .customer_account
        .parse()
        .map_err(|e| ApiError::unprocessable("bad-account", format!("{e}")))?;
    let role = cluster.tenant_role.as_ref().ok_or_else(|| super::binding::no_role(&cluster))?;
    Ok(Json(policy::key_policy(&account, role)))
}
