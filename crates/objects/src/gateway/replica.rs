//! The route on which the primary's node brings what changed. It is for the access key of role
//! replicator alone, that key is good for nothing else, and only a backup's store takes anything.

use super::answer::{self, error};
use super::auth::Admitted;
use super::body::{Broken, Checked};
use super::refusal::{of_body, of_store};
use super::space::Space;
use super::{Answer, Caller};
use crate::limits::{MAX_MANIFEST_BYTES, MAX_RECORD_BYTES};
use crate::replicate::{HIGHEST, Kind, Manifest, OTHER_HISTORY, PATH};
use crate::store::replica::Begun;
use crate::{StoreError, StoreRole};
use bytes::{Buf as _, Bytes, BytesMut};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use keystead_aws::sigv4::{Payload, S3Form};
use keystead_types::S3Role;
use s3s::{Body, S3Error};
use std::sync::Arc;

/// Is the request one of replication? Whoever may not is refused here.
pub(super) fn is_for(head: &Parts, admitted: &Admitted) -> Result<bool, S3Error> {
    let denied = |text: &str| Err(error("AccessDenied", StatusCode::FORBIDDEN, text));
    let replicator = admitted.found.role == S3Role::Replicator;
    match (head.uri.path() == PATH, replicator) {
        (false, false) => return Ok(false),
        (true, false) => return denied("this access key does not replicate"),
        (false, true) => return denied("this access key replicates, and nothing else"),
        (true, true) => {}
    }
    if admitted.found.space.store.role() != StoreRole::Backup {
        return denied("this is not the cluster's backup Region");
    }
    let claim = &admitted.claim;
    let bound = claim.payload == Payload::SignedChunks && claim.form == S3Form::Header;
    match head.method == Method::PUT && bound {
        true => Ok(true),
        false => denied("a replica comes by PUT in signed chunks"),
    }
}

/// Why a replica is not taken.
enum Fault {
    Broken(Broken),
    Store(StoreError),
    /// The version's parts are needed.
    Parts,
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Takes one change. 200 is said when it is durable.
pub(super) async fn take(space: &Arc<Space>, body: Checked) -> Answer {
    let mut feed = Feed { body, rest: Bytes::new() };
    let fault = match taken(space, &mut feed).await {
        Ok(()) => return Response::new(Body::empty()),
        Err(fault) => fault,
    };
    let said = |code, status, text: String| error(code, status, text);
    if let Fault::Store(cause @ StoreError::OtherHistory { highest }) = &fault {
        // The primary's node raises the alarm, once.
        tracing::warn!(cluster = space.owner, %cause, "a replica is refused");
        let refusal = said(OTHER_HISTORY, StatusCode::CONFLICT, cause.to_string());
        let mut answer = answer::of_error(refusal, None);
        answer.headers_mut().insert(HIGHEST, (*highest).into());
        return answer;
    }
    answer::of_error(
        match fault {
            Fault::Broken(broken) => of_body(&broken),
            Fault::Parts => {
                let text = "the version is not here: its parts are needed".to_owned();
                said("PreconditionFailed", StatusCode::PRECONDITION_FAILED, text)
            }
            // The bucket's own: the cluster is open, else nothing had come so far.
            Fault::Store(cause @ (StoreError::NoSuchBucket(_) | StoreError::Refused(_))) => {
                said("OperationAborted", StatusCode::CONFLICT, cause.to_string())
            }
            Fault::Store(cause @ StoreError::Foreign(_)) => {
                tracing::error!(alarm = true, cluster = space.owner, %cause, "a replica is refused");
                said("InvalidRequest", StatusCode::UNPROCESSABLE_ENTITY, cause.to_string())
            }
            Fault::Store(cause) => of_store(cause),
        },
        None,
    )
}

async fn taken(space: &Arc<Space>, feed: &mut Feed) -> Result<(), Fault> {
    const SHORT: StoreError = StoreError::Foreign("a body without a manifest");
    let length = feed.exact(4).await?.ok_or(SHORT)?.get_u32() as usize;
    if length > MAX_MANIFEST_BYTES {
        return Err(StoreError::Foreign("a manifest that is too long").into());
    }
    let manifest = feed.exact(length).await?.ok_or(SHORT)?;
    let manifest = serde_json::from_slice::<Manifest>(&manifest);
    let Ok(manifest) = manifest else {
        // A byte that changed on the way is the signature's to tell.
        feed.end().await?;
        return Err(StoreError::Foreign("a manifest that is none").into());
    };
    let store = &space.store;
    if matches!(manifest.kind, Kind::Delete | Kind::Emptied) {
        feed.end().await?;
        return Ok(store.take_gone(manifest).await?);
    }
    if manifest.record_bytes > MAX_RECORD_BYTES {
        return Err(StoreError::Foreign("a record that is too long").into());
    }
    let record = feed.exact(manifest.record_bytes).await?.ok_or(SHORT)?;
    match store.begin_replica(manifest, record.into()).await {
        // Said of what was signed alone: a changed number must not pass for an old one.
        Ok(Begun::Old) => Ok(feed.end().await?),
        Ok(Begun::PartsNeeded) => Err(Fault::Parts),
        Ok(Begun::Goes(mut incoming)) => {
            while let Some(data) = feed.some().await? {
                incoming = match incoming.write(data).await {
                    Ok(incoming) => incoming,
                    Err(cause) => return Err(feed.blame(cause).await),
                };
            }
            Ok(incoming.commit().await?)
        }
        Err(cause) => Err(feed.blame(cause).await),
    }
}

/// The body, some bytes at a time.
struct Feed {
    body: Checked,
    rest: Bytes,
}

impl Feed {
    async fn some(&mut self) -> Result<Option<Bytes>, Broken> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        while let Some(frame) = self.body.frame().await {
            match frame?.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// So many bytes; `None` when there are fewer.
    async fn exact(&mut self, bytes: usize) -> Result<Option<BytesMut>, Broken> {
        let mut whole = BytesMut::new();
        while whole.len() < bytes {
            let Some(mut data) = self.some().await? else { return Ok(None) };
            let wanted = data.split_to(data.len().min(bytes - whole.len()));
            whole.extend_from_slice(&wanted);
            self.rest = data;
        }
        Ok(Some(whole))
    }

    /// Reads to the end, which says whether all of it is genuine.
    async fn end(&mut self) -> Result<(), Broken> {
        while self.some().await?.is_some() {}
        Ok(())
    }

    /// What does not authenticate may have been changed on the way: that is no alarm.
    async fn blame(&mut self, cause: StoreError) -> Fault {
        if let StoreError::Foreign(_) | StoreError::OtherHistory { .. } = cause
            && let Err(broken) = self.end().await
        {
            return Fault::Broken(broken);
        }
        Fault::Store(cause)
    }
}

/// Why a caller does not do this here: a backup is only read.
pub(super) fn read_only(caller: &Caller, operation: &str) -> Option<S3Error> {
    let reads = ["Get", "Head", "List"].iter().any(|verb| operation.starts_with(verb));
    let primary = caller.space.primary.as_ref().filter(|_| !reads)?;
    let text = format!(
        "{operation} is refused: this Region holds the backup of the cluster's objects and is only read. Write in the primary Region {primary}."
    );
    Some(error("AccessDenied", StatusCode::FORBIDDEN, text))
}
