//! Documents: the node signs links, and bytes go between it and the client. Control keeps nothing of
//! a document; a new one's name and metadata pass through its memory once, to be signed.

use super::App;
use super::extract::{Body, Owner, Params, Segments};
use super::problem::ApiError;
use crate::config::parse_span;
use crate::store::{Added, Cluster, S3Key};
use crate::time::rfc3339;
use crate::wire::{CreateDocument, CreateLink, DocumentPage, DocumentView, LinkView, Problem};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use keystead_types::documents::{META, NAME, disposition, encode, is_file_name};
use keystead_types::{
    DocumentEntry, DocumentId, DocumentSaid, DocumentWish, LeaseWord, Link, Region, S3Role,
};
use serde::Deserialize;
use std::time::Duration;
use uuid::Uuid;

/// The node answers within this, or the caller is told to come again.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a link is good unless said otherwise, and at most.
const LINK_S: u32 = 15 * 60;
const MOST_LINK_S: u32 = 7 * 24 * 3600;
/// The most that S3 takes in one request.
const MOST_BYTES: u64 = 5 << 30;
/// S3's bound on names and values of user metadata together.
const MOST_META: usize = 2048;
const DAY_MS: u64 = 24 * 3600 * 1000;
const MOST_DAYS: u64 = 3650;

/// Makes a document's id and a link to put it. It is there once its bytes are.
#[utoipa::path(post, path = "/v1/clusters/{cluster}/documents", request_body = CreateDocument,
    security(("token" = [])), params(("cluster" = String, Path, description = "id or name")),
    responses((status = 201, body = DocumentView), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn create(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
    Body(wanted): Body<CreateDocument>,
) -> Result<(StatusCode, Json<DocumentView>), ApiError> {
    let c = app.find(&owner, &named).await?;
    let headers = headers(&wanted)?;
    let now = app.clock.wall_ms();
    let life = wanted.expires_in.as_deref().map(life_ms).transpose()?;
    let expires = life.map(|ms| now.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
    let document = DocumentId::new(now, expires, *Uuid::new_v4().as_bytes());
    let expires_s = within(LINK_S, &document, now);
    let wish = DocumentWish::Upload { document: document.clone(), headers, expires_s };
    let DocumentSaid::Upload(link) = ask(&app, &c, wish).await? else {
        return Err(strange());
    };
    let view = DocumentView {
        expires: document.expires_ms().and_then(rfc3339),
        document,
        created: None,
        size: None,
        upload: Some(link_view(link)),
        download: None,
        head: None,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Query of a page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    after: Option<String>,
}

/// A page of the documents that are there. Their names are read through each one's `head`.
#[utoipa::path(get, path = "/v1/clusters/{cluster}/documents", security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name"),
        ("after" = Option<String>, Query, description = "the `next` of the page before")),
    responses((status = 200, body = DocumentPage), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn list(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments(named): Segments<String>,
    Params(from): Params<After>,
) -> Result<Json<DocumentPage>, ApiError> {
    let c = app.find(&owner, &named).await?;
    let after = from.after.map(|text| text.parse()).transpose();
    let after = after.map_err(|error: keystead_types::id::ParseIdError| {
        ApiError::unprocessable("bad-page", error.to_string())
    })?;
    let wish = DocumentWish::Page { after, expires_s: LINK_S };
    let DocumentSaid::Page { entries, next } = ask(&app, &c, wish).await? else {
        return Err(strange());
    };
    let documents = entries.into_iter().map(|entry| view(entry, None)).collect();
    Ok(Json(DocumentPage { documents, next }))
}

/// One document, with links to get it.
#[utoipa::path(get, path = "/v1/clusters/{cluster}/documents/{document}",
    security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name"), ("document" = String, Path)),
    responses((status = 200, body = DocumentView), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn show(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments((named, document)): Segments<(String, String)>,
) -> Result<Json<DocumentView>, ApiError> {
    let c = app.find(&owner, &named).await?;
    let (entry, download) = shown(&app, &c, &document, LINK_S).await?;
    Ok(Json(view(entry, Some(download))))
}

/// A link to get a document, to be passed on. It holds no longer than the document does.
#[utoipa::path(post, path = "/v1/clusters/{cluster}/documents/{document}/links",
    request_body = CreateLink, security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name"), ("document" = String, Path)),
    responses((status = 201, body = LinkView), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn link(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments((named, document)): Segments<(String, String)>,
    Body(wanted): Body<CreateLink>,
) -> Result<(StatusCode, Json<LinkView>), ApiError> {
    let c = app.find(&owner, &named).await?;
    let asked = wanted.expires_in.as_deref().map(link_s).transpose()?;
    let (_, download) = shown(&app, &c, &document, asked.unwrap_or(LINK_S)).await?;
    Ok((StatusCode::CREATED, Json(link_view(download))))
}

/// Removes a document. Its links lead nowhere from then on.
#[utoipa::path(delete, path = "/v1/clusters/{cluster}/documents/{document}",
    security(("token" = [])),
    params(("cluster" = String, Path, description = "id or name"), ("document" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn remove(
    Owner(owner): Owner,
    State(app): State<App>,
    Segments((named, document)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let c = app.find(&owner, &named).await?;
    let id: DocumentId = parse(&document)?;
    match ask(&app, &c, DocumentWish::Remove { document: id }).await? {
        DocumentSaid::Removed => Ok(StatusCode::NO_CONTENT),
        DocumentSaid::NoDocument => Err(no_document(&document)),
        _ => Err(strange()),
    }
}

async fn shown(
    app: &App,
    c: &Cluster,
    named: &str,
    expires_s: u32,
) -> Result<(DocumentEntry, Link), ApiError> {
    let document: DocumentId = parse(named)?;
    let now = app.clock.wall_ms();
    if document.is_over(now) {
        return Err(no_document(named));
    }
    let expires_s = within(expires_s, &document, now);
    match ask(app, c, DocumentWish::Show { document, expires_s }).await? {
        DocumentSaid::Shown { entry, download } => Ok((entry, download)),
        DocumentSaid::NoDocument => Err(no_document(named)),
        _ => Err(strange()),
    }
}

fn parse(named: &str) -> Result<DocumentId, ApiError> {
    named.parse().map_err(|_| no_document(named))
}

fn no_document(named: &str) -> ApiError {
    ApiError::not_found("document", named)
        .fix("`keystead doc list CLUSTER` shows those that are there; one that ended is gone")
}

/// A link ends no later than its document.
fn within(expires_s: u32, document: &DocumentId, now_ms: i64) -> u32 {
    let left = document.expires_ms().map(|at| (at - now_ms).max(1000) / 1000);
    left.and_then(|s| u32::try_from(s).ok()).map_or(expires_s, |left| left.min(expires_s))
}

fn life_ms(text: &str) -> Result<u64, ApiError> {
    let refuse = |reason| ApiError::unprocessable("bad-expiry", reason);
    let ms = match text.strip_suffix('d').map(str::parse::<u64>) {
        Some(Ok(days)) if days <= MOST_DAYS => days * DAY_MS,
        Some(_) => return Err(refuse(format!("`{text}` is not 1d to {MOST_DAYS}d"))),
        None => parse_span(text).map_err(refuse)?,
    };
    if ms == 0 { Err(refuse("a document that ends at once is none".to_owned())) } else { Ok(ms) }
}

fn link_s(text: &str) -> Result<u32, ApiError> {
    let refuse = |reason| ApiError::unprocessable("bad-expiry", reason);
    let ms = parse_span(text).map_err(refuse)?;
    let seconds = u32::try_from(ms / 1000).ok().filter(|s| (1..=MOST_LINK_S).contains(s));
    seconds.ok_or_else(|| refuse("a link is good for 1s to 168h".to_owned()))
}

/// The headers of the upload: they are signed, and S3 keeps them sealed with the object.
fn headers(wanted: &CreateDocument) -> Result<Vec<(String, String)>, ApiError> {
    if !is_file_name(&wanted.file_name) {
        let detail = "a file name is one part of a path, 1 to 255 bytes, without `/`, `\\` and control characters";
        return Err(ApiError::unprocessable("bad-file-name", detail));
    }
    let kind = wanted.content_type.as_deref().unwrap_or("application/octet-stream");
    if kind.len() > 255 || !kind.contains('/') || !kind.bytes().all(|b| (b' '..=b'~').contains(&b))
    {
        let detail = "a content type is `type/subtype` in ASCII, at most 255 bytes";
        return Err(ApiError::unprocessable("bad-content-type", detail));
    }
    if wanted.size.is_some_and(|size| size > MOST_BYTES) {
        let detail = "one request puts at most 5 GiB";
        return Err(ApiError::unprocessable("too-large", detail)
            .fix("put it by S3 in parts: `keystead s3-key create`, then `aws s3 cp`"));
    }
    let mut headers = vec![
        ("content-type".to_owned(), kind.to_owned()),
        ("content-disposition".to_owned(), disposition(&wanted.file_name)),
        // An id is put once: the link cannot replace what is there.
        ("if-none-match".to_owned(), "*".to_owned()),
    ];
    if let Some(size) = wanted.size {
        headers.push(("content-length".to_owned(), size.to_string()));
    }
    let own = std::iter::once((NAME, &*wanted.file_name));
    let theirs = wanted.metadata.iter().map(|(name, value)| (&**name, &**value));
    let mut bytes = 0;
    for (name, value) in own.chain(theirs) {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let ours = name.starts_with("keystead-") && name != NAME;
        let doubled = name == NAME && bytes > 0;
        if name.is_empty() || !name.bytes().all(fits) || ours || doubled {
            let detail = "a name of metadata is of lower-case letters, digits and hyphens, and does not begin with `keystead-`";
            return Err(ApiError::unprocessable("bad-metadata", detail));
        }
        let value = encode(value);
        bytes += name.len() + value.len();
        headers.push((format!("{META}{name}"), value));
    }
    if bytes > MOST_META {
        let detail =
            format!("name and metadata have {bytes} bytes as headers; at most {MOST_META} fit");
        return Err(ApiError::unprocessable("metadata-too-large", detail));
    }
    Ok(headers)
}

fn link_view(link: Link) -> LinkView {
    LinkView {
        method: link.method,
        url: link.url,
        headers: link.headers.into_iter().collect(),
        expires: rfc3339(link.expires_ms).unwrap_or_default(),
    }
}

fn view(entry: DocumentEntry, download: Option<Link>) -> DocumentView {
    DocumentView {
        expires: entry.document.expires_ms().and_then(rfc3339),
        document: entry.document,
        created: rfc3339(entry.modified_ms),
        size: Some(entry.size),
        upload: None,
        download: download.map(link_view),
        head: Some(link_view(entry.head)),
    }
}

fn strange() -> ApiError {
    let detail = "the node answered something else than it was asked";
    ApiError::new(StatusCode::BAD_GATEWAY, "node-answer", detail)
        .fix("the platform team looks whether node and control are of one version")
}

/// Has the cluster's node answer.
async fn ask(app: &App, c: &Cluster, wish: DocumentWish) -> Result<DocumentSaid, ApiError> {
    if c.binding.is_none() {
        let detail = "the cluster has no key yet, so it holds no documents";
        return Err(ApiError::conflict("not-bound", detail)
            .fix(format!("`keystead cluster associate {}` ties it to its key", c.name)));
    }
    if !app.judged(c, |j| j.seen.is_some_and(|s| s.lease.state == LeaseWord::Live)) {
        return Err(unavailable(app, c, None));
    }
    if !matches!(wish, DocumentWish::Remove { .. }) {
        links_key(app, c).await?;
    }
    let Some((id, waits)) = app.board.desk.ask(&c.region, &c.id, wish) else {
        let detail = "as many calls wait for this cluster's documents as may at a time";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-calls", detail)
            .fix("try again in a moment"));
    };
    let _waiting = Waiting { app, region: c.region.clone(), id };
    app.board.records_changed();
    match tokio::time::timeout(ANSWER, waits).await {
        Ok(Ok(DocumentSaid::Refused(cause))) => Err(unavailable(app, c, Some(cause))),
        Ok(Ok(DocumentSaid::NoBucket)) => {
            let detail = "the cluster has no bucket `documents`";
            Err(ApiError::conflict("no-documents-bucket", detail)
                .fix("make it again by S3: `aws s3 mb s3://documents`"))
        }
        Ok(Ok(DocumentSaid::Failed(why))) => {
            let detail = format!("the node's store failed: {why}");
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "documents-unavailable", detail)
                .fix("the platform team looks at the node's log and disk; then try again"))
        }
        Ok(Ok(said)) => Ok(said),
        _ => Err(unavailable(app, c, None)),
    }
}

fn unavailable(app: &App, c: &Cluster, cause: Option<keystead_types::Cause>) -> ApiError {
    app.judged(c, |judged| {
        let live = judged.seen.is_some_and(|s| s.lease.state == LeaseWord::Live);
        let detail = match cause {
            Some(cause) => format!("the cluster's documents are out of reach: {cause}"),
            None if live => format!("the node gave no answer within {} s", ANSWER.as_secs()),
            None => format!("the cluster's documents are out of reach: {}", judged.message),
        };
        let refused =
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "documents-unavailable", detail)
                .fix(format!("see `keystead why {}`, then try again", c.name));
        match cause.or(judged.cause) {
            Some(cause) => refused.cause(cause),
            None => refused,
        }
    })
}

/// The key that the node signs links with: made at the first need, and again after the owner revoked
/// it, which ends every link that was given out.
async fn links_key(app: &App, c: &Cluster) -> Result<(), ApiError> {
    let has = |c: &Cluster| c.s3_keys.iter().any(|k| k.role == S3Role::Links);
    if has(c) {
        return Ok(());
    }
    let _turn = app.board.desk.keys.lock().await;
    if app.store.cluster(&c.id).await?.as_ref().is_none_or(has) {
        return Ok(());
    }
    let new = S3Key {
        access_key_id: super::s3::access_key_id(),
        role: S3Role::Links,
        description: "links of documents".to_owned(),
        created_ms: app.clock.wall_ms(),
        sealed: None,
        expires_ms: None,
    };
    match app.store.add_s3_key(&c.id, new).await? {
        Added::New => Ok(()),
        Added::Taken | Added::Full => {
            let detail = "the cluster has as many S3 access keys as it may, and links need one";
            Err(ApiError::conflict("too-many-keys", detail)
                .fix("revoke those that nobody uses any more"))
        }
    }
}

/// However the wait ends (the caller may hang up), nothing is asked of the node any more.
struct Waiting<'a> {
    app: &'a App,
    region: Region,
    id: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.app.board.desk.forget(&self.region, &self.id) {
            self.app.board.records_changed();
        }
    }
}
