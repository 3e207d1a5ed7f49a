//! The node's two verbs: it pulls its assignment and puts its status.

use super::extract::{Body, Node, Params};
use super::problem::ApiError;
use super::s3;
use super::{App, POLL_MS};
use crate::assignment::assignment as compose;
use crate::board::Report;
use crate::config::NodeEntry;
use crate::store::{Cluster, Recorded, Select};
use crate::wire::Problem;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use keystead_types::{
    ClusterStatus, EncryptionContext, Made, MadeVolume, NodeStatus, Part, Region, WrappedKey,
};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// Query of an assignment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Poll {
    region: String,
    after: Option<u64>,
    documents: Option<u64>,
    wait_ms: Option<u64>,
}

fn check_region(node: &NodeEntry, region: &str) -> Result<(), ApiError> {
    if node.region.as_str() == region {
        return Ok(());
    }
    let detail = format!("this token is of the node in {}", node.region);
    Err(ApiError::new(StatusCode::FORBIDDEN, "wrong-node", detail))
}

/// The Region's desired state, when it is newer than `after`; 204 after `wait_ms` when it is not.
#[utoipa::path(get, path = "/v1/node/assignment", security(("token" = [])),
    params(("region" = String, Query), ("after" = Option<u64>, Query),
        ("documents" = Option<u64>, Query,
            description = "the serial of what the node has of documents"),
        ("wait_ms" = Option<u64>, Query, description = "at most 60000")),
    responses((status = 200, body = Object), (status = 204), (status = 403, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn assignment(
    Node(node): Node,
    State(app): State<App>,
    Params(poll): Params<Poll>,
) -> Result<Response, ApiError> {
    check_region(&node, &poll.region)?;
    let wait = Duration::from_millis(poll.wait_ms.unwrap_or(0).min(POLL_MS));
    let deadline = Instant::now() + wait;
    let mut bell = app.board.on_records();
    loop {
        bell.borrow_and_update();
        let generation = app.store.generation(&node.region).await?;
        match poll.after {
            Some(after) if after > generation => {
                // An old copy of the store was put back: its word would undo what the node has.
                tracing::error!(region = %node.region, after, generation, "the store is older than the node");
                let detail = format!("the node acts on {after}, the store knows only {generation}");
                return Err(ApiError::conflict("store-older-than-node", detail)
                    .fix("restore the newest copy of control's store"));
            }
            Some(after)
                if after == generation
                    && poll.documents.is_none_or(|d| d == app.board.desk.serial(&node.region)) => {}
            _ => return Ok(Json(current(&app, generation, &node.region).await?).into_response()),
        }
        if Instant::now() >= deadline {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        tokio::select! {
            _ = bell.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = app.board.stopped() => return Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }
}

/// The generation was read first: what is newer than it comes again with the next one.
async fn current(
    app: &App,
    generation: u64,
    region: &Region,
) -> Result<keystead_types::Assignment, ApiError> {
    let clusters = app.store.clusters(Select::Region(region)).await?;
    let pending = app.store.pending_preflights(region).await?;
    let endpoints = app.store.endpoints().await?;
    let templates = &app.templates;
    let mut whole = compose(generation, region, &clusters, &pending, templates, &endpoints);
    whole.documents = app.board.desk.asks(region);
    Ok(whole)
}

/// What the node observed. Its reports and what it made are durable when this answers.
#[utoipa::path(put, path = "/v1/node/status", request_body = Object, security(("token" = [])),
    responses((status = 204), (status = 403, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn status(
    Node(node): Node,
    State(app): State<App>,
    Body(status): Body<NodeStatus>,
) -> Result<StatusCode, ApiError> {
    check_region(&node, status.region.as_str())?;
    if status.node != node.name {
        let detail = format!("this token is of the node {}", node.name);
        return Err(ApiError::new(StatusCode::FORBIDDEN, "wrong-node", detail));
    }
    let (at, wall_ms) = (app.clock.boot(), app.clock.wall_ms());
    let mut tally = Tally::default();
    for seen in &status.clusters {
        record_made(&app, &node.region, seen, &mut tally).await?;
    }
    for report in &status.preflights {
        let known = app.store.preflight(&report.preflight).await?;
        // A finished one is repeated until the assignment no longer names it.
        let Some(known) = known.filter(|p| p.report.is_none() && p.key == report.key) else {
            continue;
        };
        let cluster = app.store.cluster(&known.cluster).await?;
        if cluster.is_some_and(|c| *c.tries(&known.key) == node.region) {
            tally.add("preflight", app.store.record_report(report, wall_ms).await?);
        } else {
            tally.refuse(format!("{} is no preflight of this Region", report.preflight));
        }
    }
    // Looked up in the records once a process, and whenever it moves.
    if let Some(endpoint) = &status.s3_endpoint {
        let before = app.board.report(&node.region);
        if before.and_then(|r| r.status.s3_endpoint.clone()).as_ref() != Some(endpoint) {
            tally.changed |= app.store.record_endpoint(&node.region, endpoint).await?;
        }
    }
    // Records first: who sees the new status sees what it speaks of. Secrets went to who asked.
    let mut status = status;
    status.clusters.iter_mut().for_each(|c| c.made.s3_keys.clear());
    for answer in std::mem::take(&mut status.documents) {
        tally.changed |= app.board.desk.answer(&node.region, answer);
    }
    app.board.put_report(Report { status, at, wall_ms });
    if tally.changed {
        app.board.records_changed();
    }
    match tally.refused {
        None => Ok(StatusCode::NO_CONTENT),
        Some(detail) => {
            tracing::warn!(region = %node.region, detail, "a node's record was refused");
            Err(ApiError::conflict("written-once", detail))
        }
    }
}

/// What became of a status's records.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) changed: bool,
    refused: Option<String>,
}

impl Tally {
    pub(super) fn add(&mut self, what: &str, done: Recorded) {
        match done {
            Recorded::New => self.changed = true,
            Recorded::Same => {}
            Recorded::Other => self.refuse(format!("another {what} is on record and stays")),
            Recorded::Absent => self.refuse(format!("no such record for this {what}")),
        }
    }
    pub(super) fn refuse(&mut self, text: String) {
        self.refused.get_or_insert(text);
    }
}

/// Records what was made. It must be of a bound cluster of the node's Region, under the bound keys
/// and with the context that follows from our records. A backup Region's node makes its canary and
/// nothing else.
async fn record_made(
    app: &App,
    region: &Region,
    seen: &ClusterStatus,
    tally: &mut Tally,
) -> Result<(), ApiError> {
    let made = &seen.made;
    if *made == Made::default() && seen.wishes.is_empty() {
        return Ok(());
    }
    let cluster = app.store.cluster(&seen.cluster).await?;
    let part = cluster.as_ref().and_then(|c| c.part(region));
    let (Some(cluster), Some(part)) = (cluster.filter(|c| c.binding.is_some()), part) else {
        tally.refuse(format!("{} is no bound cluster of this Region", seen.cluster));
        return Ok(());
    };
    if let Some(canary) = &made.canary {
        let keys = cluster.binding.as_ref();
        let key = keys.and_then(|keys| match part {
            Part::Primary => Some(&keys.key),
            Part::Backup => keys.second.as_ref(),
        });
        let context = EncryptionContext::canary(&cluster.id);
        if key.is_some_and(|key| canary.is_of(key, &context)) {
            tally.add("canary", app.store.record_canary(&cluster.id, part, canary).await?);
        } else {
            tally.refuse(format!("the canary of {} is of another key or context", cluster.id));
        }
    }
    if part == Part::Backup {
        let canary = made.canary.clone();
        if *made != (Made { canary, ..Made::default() }) || !seen.wishes.is_empty() {
            let text = format!("{region} is the backup Region of {}", cluster.id);
            tally.refuse(format!(
                "{text}: keys are made and buckets asked for in {}",
                cluster.region
            ));
        }
        return Ok(());
    }
    for volume in &made.volumes {
        record_volume(app, &cluster, volume, tally).await?;
    }
    s3::record(app, &cluster, seen, tally).await?;
    Ok(())
}

/// True for the key of the cluster's own Region.
fn fits(cluster: &Cluster, wrapped: &WrappedKey, context: &EncryptionContext) -> bool {
    cluster.binding.as_ref().is_some_and(|keys| wrapped.is_of(&keys.key, context))
}

async fn record_volume(
    app: &App,
    cluster: &Cluster,
    made: &MadeVolume,
    tally: &mut Tally,
) -> Result<(), ApiError> {
    let id = &made.volume;
    if cluster.volumes.iter().all(|v| v.id != *id) {
        tally.refuse(format!("{id} is no volume of {}", cluster.id));
        return Ok(());
    }
    if let Some(wrapped) = &made.wrapped {
        if fits(cluster, wrapped, &EncryptionContext::volume(&cluster.id, id)) {
            tally.add("wrapped key", app.store.record_wrapped(id, wrapped).await?);
        } else {
            tally.refuse(format!("the wrapped key of {id} is of another key or context"));
        }
    }
    if let Some(digest) = &made.key_digest {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if (32..=128).contains(&digest.len()) && digest.bytes().all(hex) {
            tally.add("key digest", app.store.record_digest(id, digest).await?);
        } else {
            tally.refuse(format!("the digest of {id} is not hexadecimal"));
        }
    }
    Ok(())
}
