//! Preflight and association: each key is tried by its Region's node first, then all are written at
//! once, for good.

use super::App;
use super::extract::{Body, Owner, Segments};
use super::problem::ApiError;
use super::s3::replicator;
use crate::preflight;
use crate::store::{Bound, Cluster, Keys, Preflight};
use crate::wire::{Associate, ClusterView, KeyArns, PreflightView, Problem};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use keystead_types::{Cause, KeyArn, ParseArnError, Part, PreflightId, Region, Revocation};
use uuid::Uuid;

/// A cluster may have so many preflights that no node has answered.
const WAITING: usize = 8;

/// The tenant role is still being made.
pub(super) fn no_role(cluster: &Cluster) -> ApiError {
    ApiError::conflict("role-not-made", "the cluster's tenant role is not made yet")
        .fix(format!("keystead cluster watch {} --until AwaitingKey", cluster.name))
}

fn bound_already(cluster: &Cluster, keys: &Keys) -> ApiError {
    let keys: Vec<String> = keys.all().map(ToString::to_string).collect();
    let detail = format!("{} is bound to {} for good", cluster.name, keys.join(" and "));
    ApiError::conflict("already-bound", detail).fix("another key needs another cluster")
}

fn wrong_number(detail: String) -> ApiError {
    ApiError::unprocessable("wrong-number-of-keys", detail)
}

fn parsed(text: &str) -> Result<KeyArn, ApiError> {
    text.parse().map_err(|error: ParseArnError| {
        let kind = match error {
            ParseArnError::Alias(_) => "alias-instead-of-key",
            ParseArnError::Blank(_) => "blanks-in-arn",
            _ => "not-a-key-arn",
        };
        ApiError::unprocessable(kind, error.to_string())
    })
}

/// The key to try.
fn candidate(given: &KeyArns, cluster: &Cluster) -> Result<KeyArn, ApiError> {
    let [text] = given.key_arns.as_slice() else {
        let detail =
            format!("a preflight tries one key: 1 is needed, {} came", given.key_arns.len());
        return Err(wrong_number(detail).fix("ask for one preflight a key"));
    };
    let key = parsed(text)?;
    if cluster.part(key.region()).is_none() {
        let regions: Vec<&str> = regions(cluster).map(Region::as_str).collect();
        let regions = regions.join(" and ");
        let detail = format!("the key lies in {}, the cluster in {regions}", key.region());
        return Err(ApiError::unprocessable("wrong-region", detail)
            .cause(Cause::WrongRegion)
            .fix(format!("create the key in {regions}")));
    }
    Ok(key)
}

fn regions(cluster: &Cluster) -> impl Iterator<Item = &Region> {
    std::iter::once(&cluster.region).chain(&cluster.backup_region)
}

/// The keys to bind: one a Region, each in its own place.
fn keys(app: &App, cluster: &Cluster, given: &Associate) -> Result<Keys, ApiError> {
    let found = given.key_arns.iter().map(|t| parsed(t)).collect::<Result<Vec<_>, _>>()?;
    let came = found.len();
    let (key, second) = match (found.as_slice(), &cluster.backup_region) {
        ([key], None) => (key, None),
        ([key, second], Some(backup)) => (key, Some((second, backup))),
        (_, None) => {
            let detail = format!("one key ARN a Region: 1 is needed, {came} came");
            return Err(
                wrong_number(detail).fix(format!("send the key in {} alone", cluster.region))
            );
        }
        (_, Some(backup)) => {
            let detail = format!("one key ARN a Region: 2 are needed, {came} came");
            return Err(wrong_number(detail).fix(format!(
                "send the key in {} first and the key in {backup} second",
                cluster.region
            )));
        }
    };
    if let Some((second, backup)) = second {
        if key == second {
            let detail = format!("both key ARNs are {key}; each Region has a key of its own");
            return Err(ApiError::unprocessable("equal-keys", detail)
                .fix(format!("create a key in {backup}, or a replica of this one there")));
        }
        if key.region() == backup && *second.region() == cluster.region {
            let detail = format!(
                "the two key ARNs are swapped: the first (--key-arn) is of the cluster's Region {}, the second (--backup-key-arn) of the backup Region {backup}",
                cluster.region
            );
            return Err(ApiError::unprocessable("swapped-keys", detail)
                .cause(Cause::WrongRegion)
                .fix(format!("--key-arn {second} --backup-key-arn {key}")));
        }
        check_place(app, second, backup, Part::Backup)?;
    } else if given.revocation.is_some() {
        let detail =
            "revocation says what one of two keys does; the cluster has one Region and one key";
        return Err(ApiError::unprocessable("one-region", detail).fix("leave `revocation` out"));
    }
    check_place(app, key, &cluster.region, Part::Primary)?;
    let revocation: Revocation = given.revocation.unwrap_or_default();
    Ok(Keys { key: key.clone(), second: second.map(|(second, _)| second.clone()), revocation })
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
    let key = candidate(&given, &cluster)?;
    if cluster.tenant_role.is_none() {
        return Err(no_role(&cluster));
    }
    if let Some(bound) = cluster.binding.as_ref().filter(|b| b.all().all(|k| *k != key)) {
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

/// Ties the cluster to its keys, once and for all.
#[utoipa::path(put, path = "/v1/clusters/{cluster}/binding", request_body = Associate,
    security(("token" = [])), params(("cluster" = String, Path, description = "id or name")),
    responses((status = 200, body = ClusterView), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn associate(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
    Body(given): Body<Associate>,
) -> Result<Json<ClusterView>, ApiError> {
    let cluster = app.find(&owner, &named).await?;
    if let Some(bound) = &cluster.binding {
        return Err(bound_already(&cluster, bound));
    }
    let keys = keys(&app, &cluster, &given)?;
    if cluster.tenant_role.is_none() {
        return Err(no_role(&cluster));
    }
    let now_ms = app.clock.wall_ms();
    let tried = app.store.preflights_of(&cluster.id).await?;
    for key in keys.all() {
        if !preflight::opens(&tried, key, now_ms) {
            let option = if *key == keys.key { "--key-arn" } else { "--backup-key-arn" };
            let detail = format!("no preflight of {key} passed in the last 10 minutes");
            return Err(ApiError::unprocessable("no-preflight", detail)
                .fix(format!("keystead preflight {} {option} {key}", cluster.name)));
        }
    }
    let replicator = keys.second.is_some().then(|| replicator(now_ms));
    match app.store.bind(&cluster.id, &keys, replicator, now_ms).await? {
        Bound::Done => {}
        Bound::Already(there) => return Err(bound_already(&cluster, &there)),
        Bound::Elsewhere(key) => {
            let detail =
                format!("{key} is bound outside of this organization and cannot be shared");
            return Err(ApiError::conflict("key-bound-elsewhere", detail)
                .fix("create a key for this cluster"));
        }
        Bound::Absent => return Err(ApiError::not_found("cluster", &named)),
    }
    let second = keys.second.as_ref().map(tracing::field::display);
    tracing::info!(cluster = %cluster.id, key = %keys.key, second, "associated");
    app.board.records_changed();
    Ok(Json(app.view(&app.find(&owner, cluster.id.as_str()).await?)))
}

/// The key lies in this Region and in no account of the provider.
fn check_place(app: &App, key: &KeyArn, region: &Region, part: Part) -> Result<(), ApiError> {
    if key.region() != region {
        let detail = match part {
            Part::Primary => format!("the key lies in {}, the cluster in {region}", key.region()),
            Part::Backup => format!(
                "the second key lies in {}, the cluster's backup Region is {region}",
                key.region()
            ),
        };
        return Err(ApiError::unprocessable("wrong-region", detail)
            .cause(Cause::WrongRegion)
            .fix(format!("create the key in {region}")));
    }
    if *key.account() == app.provider {
        let detail =
            format!("{key} lies in the provider's own account; there the owner would not hold it");
        return Err(ApiError::unprocessable("providers-account", detail)
            .fix("use a key of the owner's own account"));
    }
    Ok(())
}
