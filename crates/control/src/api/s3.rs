//! Buckets, and the S3 access keys of a cluster. A key's secret is made by the node, sealed under
//! the cluster's own key; it passes through here once, to whoever asked, and is written nowhere.

use super::App;
use super::extract::{Body, Owner, Segments};
use super::node::Tally;
use super::problem::ApiError;
use super::view::bucket;
use crate::config::parse_span;
use crate::store::{Added, Bucket, CREDENTIALS, Cluster, Keys, Recorded, S3Key};
use crate::time::rfc3339;
use crate::wire::{BucketView, CreateS3Key, Problem, RotateS3Key, S3KeyView};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use keystead_types::{
    BucketId, BucketWish, ClusterId, ClusterStatus, EncryptionContext, LeaseWord, S3Role, StoreKey,
    objects::is_bucket_name,
};
use std::time::Duration;
use uuid::Uuid;

/// The node answers within this, or the key is taken back.
const SECRET: Duration = Duration::from_secs(10);
/// How long a rotated key goes on, unless said otherwise.
const OVERLAP: &str = "24h";
const DESCRIPTION: usize = 256;
/// So many wishes of a cluster are taken from one status.
const WISHES: usize = 16;

/// The cluster's buckets.
#[utoipa::path(get, path = "/v1/clusters/{cluster}/buckets", security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name")),
    responses((status = 200, body = Vec<BucketView>), (status = 404, body = Problem)))]
pub(super) async fn buckets(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
) -> Result<Json<Vec<BucketView>>, ApiError> {
    let c = app.find(&owner, &named).await?;
    let all = app.judged(&c, |j| c.buckets.iter().map(|b| bucket(&c, b, j.seen)).collect());
    Ok(Json(all))
}

/// The cluster's S3 access keys, without their secrets.
#[utoipa::path(get, path = "/v1/clusters/{cluster}/s3-keys", security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name")),
    responses((status = 200, body = Vec<S3KeyView>), (status = 404, body = Problem)))]
pub(super) async fn list(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
) -> Result<Json<Vec<S3KeyView>>, ApiError> {
    let c = app.find(&owner, &named).await?;
    Ok(Json(of_users(&c).map(|k| view(&app, &c, k)).collect()))
}

/// Makes an S3 access key. The answer alone has its secret.
#[utoipa::path(post, path = "/v1/clusters/{cluster}/s3-keys", request_body = CreateS3Key,
    security(("token" = [])), params(("cluster" = String, Path, description = "id or name")),
    responses((status = 201, body = S3KeyView), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn create(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
    Body(wanted): Body<CreateS3Key>,
) -> Result<(StatusCode, Json<S3KeyView>), ApiError> {
    let c = app.find(&owner, &named).await?;
    if wanted.description.len() > DESCRIPTION || wanted.description.chars().any(char::is_control) {
        let detail =
            format!("a description has at most {DESCRIPTION} bytes and no control character");
        return Err(ApiError::unprocessable("bad-description", detail));
    }
    check_role(wanted.role)?;
    let made = make(&app, &c, wanted.role, wanted.description).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Makes a successor of the same role; the old key ends after the overlap.
#[utoipa::path(post, path = "/v1/clusters/{cluster}/s3-keys/{access_key_id}/rotate",
    request_body = RotateS3Key, security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name"),
        ("access_key_id" = String, Path)),
    responses((status = 201, body = S3KeyView), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn rotate(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments((named, id)): Segments<(String, String)>,
    Body(wanted): Body<RotateS3Key>,
) -> Result<(StatusCode, Json<S3KeyView>), ApiError> {
    let c = app.find(&owner, &named).await?;
    let old = find(&c, &id)?.clone();
    check_role(old.role)?;
    let overlap = parse_span(wanted.overlap.as_deref().unwrap_or(OVERLAP))
        .map_err(|reason| ApiError::unprocessable("bad-overlap", reason))?;
    let made = make(&app, &c, old.role, old.description).await?;
    let end = app.clock.wall_ms().saturating_add(i64::try_from(overlap).unwrap_or(i64::MAX));
    app.store.expire_s3_key(&c.id, &id, end).await?;
    tracing::info!(cluster = %c.id, old = id, new = made.access_key_id, "S3 access key rotated");
    app.board.records_changed();
    Ok((StatusCode::CREATED, Json(made)))
}

/// Ends an S3 access key; it opens nothing once the node has heard of it.
#[utoipa::path(delete, path = "/v1/clusters/{cluster}/s3-keys/{access_key_id}",
    security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name"),
        ("access_key_id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn revoke(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments((named, id)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let c = app.find(&owner, &named).await?;
    find(&c, &id)?;
    app.store.remove_s3_key(&c.id, &id).await?;
    tracing::info!(cluster = %c.id, key = id, "S3 access key revoked");
    app.board.records_changed();
    Ok(StatusCode::NO_CONTENT)
}

/// All but the one that the cluster's nodes replicate with.
fn of_users(cluster: &Cluster) -> impl Iterator<Item = &S3Key> {
    cluster.s3_keys.iter().filter(|k| k.role != S3Role::Replicator)
}

fn find<'a>(cluster: &'a Cluster, id: &str) -> Result<&'a S3Key, ApiError> {
    let found = of_users(cluster).find(|k| k.access_key_id == id);
    found.ok_or_else(|| ApiError::not_found("S3 access key", id))
}

/// Nobody is given a key of the platform's own use.
fn check_role(role: S3Role) -> Result<(), ApiError> {
    match role {
        S3Role::Reader | S3Role::Writer => Ok(()),
        S3Role::Replicator | S3Role::Links => {
            let detail = format!("a key of the role {role} is the nodes' own; nobody is given one");
            Err(ApiError::unprocessable("bad-role", detail))
        }
    }
}

fn view(app: &App, c: &Cluster, k: &S3Key) -> S3KeyView {
    S3KeyView {
        access_key_id: k.access_key_id.clone(),
        cluster: c.id.clone(),
        role: k.role,
        description: k.description.clone(),
        created: rfc3339(k.created_ms).unwrap_or_default(),
        expires: k.expires_ms.and_then(rfc3339),
        secret_access_key: None,
        endpoint: app.s3_endpoint(c),
        region: c.region.clone(),
    }
}

/// A key that a node has sealed; taken back when none does in time.
async fn make(
    app: &App,
    c: &Cluster,
    role: S3Role,
    description: String,
) -> Result<S3KeyView, ApiError> {
    if c.binding.is_none() {
        let detail = "the cluster has no key yet, so there is nothing to seal a secret under";
        return Err(ApiError::conflict("not-bound", detail));
    }
    if !app.judged(c, |j| j.seen.is_some_and(|s| s.lease.state == LeaseWord::Live)) {
        return Err(not_made(app, c));
    }
    // Ended ones make room.
    let now = app.clock.wall_ms();
    for ended in c.s3_keys.iter().filter(|k| k.expires_ms.is_some_and(|at| at <= now)) {
        app.store.remove_s3_key(&c.id, &ended.access_key_id).await?;
    }
    let new = S3Key {
        access_key_id: access_key_id(),
        role,
        description,
        created_ms: now,
        sealed: None,
        expires_ms: None,
    };
    let told = app.board.await_secret(&new.access_key_id);
    let mut pending =
        Pending { app, cluster: c.id.clone(), id: new.access_key_id.clone(), made: false };
    match app.store.add_s3_key(&c.id, new.clone()).await? {
        Added::New => {}
        Added::Taken | Added::Full => {
            let detail = "the cluster has as many S3 access keys as it may";
            return Err(ApiError::conflict("too-many-keys", detail)
                .fix("revoke those that nobody uses any more"));
        }
    }
    app.board.records_changed();
    if let Ok(Ok(secret)) = tokio::time::timeout(SECRET, told).await {
        tracing::info!(cluster = %c.id, key = new.access_key_id, %role, "S3 access key made");
        pending.made = true;
        return Ok(S3KeyView { secret_access_key: Some(secret), ..view(app, c, &new) });
    }
    Err(not_made(app, c))
}

fn not_made(app: &App, c: &Cluster) -> ApiError {
    app.judged(c, |judged| {
        let live = judged.seen.is_some_and(|s| s.lease.state == LeaseWord::Live);
        let detail = if live {
            format!("the node made no secret within {} s", SECRET.as_secs())
        } else {
            format!("a secret cannot be sealed now: {}", judged.message)
        };
        let refused = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "secret-not-made", detail)
            .fix(format!("see `keystead why {}`, then try again; nothing was left behind", c.name));
        match judged.cause {
            Some(cause) => refused.cause(cause),
            None => refused,
        }
    })
}

/// However the wait ends (the caller may hang up), nobody is left waiting, and a key whose secret
/// nobody has is taken back.
struct Pending<'a> {
    app: &'a App,
    cluster: ClusterId,
    id: String,
    made: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.app.board.forget_secret(&self.id);
        if self.made {
            return;
        }
        let (app, cluster, id) = (self.app.clone(), self.cluster.clone(), self.id.clone());
        tokio::spawn(async move {
            match app.store.remove_s3_key(&cluster, &id).await {
                Ok(_) => app.board.records_changed(),
                Err(error) => {
                    tracing::warn!(%cluster, key = id, %error, "a key without a holder stays")
                }
            }
        });
    }
}

/// The key that a cluster's nodes replicate with; its secret is sealed like any other.
pub(super) fn replicator(now_ms: i64) -> S3Key {
    S3Key {
        access_key_id: access_key_id(),
        role: S3Role::Replicator,
        description: "replication".to_owned(),
        created_ms: now_ms,
        sealed: None,
        expires_ms: None,
    }
}

/// `KSIA` and 16 letters and digits, as long as AWS's.
pub(super) fn access_key_id() -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let random = Uuid::new_v4();
    // Each byte gives five bits; two of the sixteen have fixed ones, which leaves 74 or more.
    let letter = |b: &u8| char::from(LETTERS[usize::from(b & 31)]);
    let text: String = random.as_bytes().iter().map(letter).collect();
    format!("KSIA{text}")
}

/// Records what a node made for buckets and S3 access keys, and what users of S3 asked it for. The
/// cluster is bound and of the node's Region.
pub(super) async fn record(
    app: &App,
    cluster: &Cluster,
    seen: &ClusterStatus,
    tally: &mut Tally,
) -> Result<(), ApiError> {
    for made in &seen.made.buckets {
        let context = EncryptionContext::bucket(&cluster.id, &made.bucket);
        let what = format!("a data key of {}", made.bucket);
        record_key(app, cluster, made.bucket.as_str(), &made.key, (&context, &what), tally).await?;
    }
    if let Some(key) = &seen.made.credentials {
        let context = EncryptionContext::credentials(&cluster.id);
        let what = format!("the credentials' data key of {}", cluster.id);
        record_key(app, cluster, CREDENTIALS, key, (&context, &what), tally).await?;
    }
    for made in &seen.made.s3_keys {
        let done = app.store.record_sealed(&cluster.id, &made.access_key_id, &made.sealed).await?;
        if matches!(done, Recorded::New | Recorded::Same) {
            app.board.tell_secret(&made.access_key_id, &made.secret);
            tally.changed |= done == Recorded::New;
        }
        // Absent: it was taken back. Other: made twice, and the first one stays.
    }
    // The node waits for few at a time; what is more comes again with the next status.
    for wish in seen.wishes.iter().take(WISHES) {
        match wish {
            BucketWish::Create(name) if is_bucket_name(name) => {
                let new = Bucket {
                    id: BucketId::from_uuid(Uuid::now_v7()),
                    name: name.clone(),
                    created_ms: app.clock.wall_ms(),
                    keys: vec![],
                };
                // The node knows by the next assignment; a wish is repeated until then.
                tally.changed |= app.store.add_bucket(&cluster.id, new).await? == Added::New;
            }
            BucketWish::Create(_) => tally.refuse("a bucket name that S3 does not know".to_owned()),
            BucketWish::Remove(id) => {
                let now = app.clock.wall_ms();
                tally.changed |= app.store.remove_bucket(&cluster.id, id, now).await?;
            }
        }
    }
    Ok(())
}

async fn record_key(
    app: &App,
    cluster: &Cluster,
    store: &str,
    key: &StoreKey,
    (context, what): (&EncryptionContext, &str),
    tally: &mut Tally,
) -> Result<(), ApiError> {
    // One wrapped key a Region, the primary's first.
    let keys: Vec<_> = cluster.binding.iter().flat_map(Keys::all).collect();
    let whole = key.wrapped.len() == keys.len()
        && key.wrapped.iter().zip(keys).all(|(wrapped, key)| wrapped.is_of(key, context));
    if whole {
        tally.add(what, app.store.record_store_key(&cluster.id, store, key).await?);
    } else {
        tally.refuse(format!("{what} is not wrapped under exactly the bound keys and its context"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_access_key_ids_and_differ() {
        let (one, two) = (access_key_id(), access_key_id());
        assert_eq!((one.len(), &one[..4]), (20, "KSIA"));
        assert_ne!(one, two);
        assert!(one.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
    }
}
