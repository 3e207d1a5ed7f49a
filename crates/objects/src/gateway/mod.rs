//! The S3 gateway: HTTP in front of the stores of this node's clusters.
//!
//! ```text
//! listen ─► auth ─► space ─► screen ─► s3s (parses) ─► ops ─► Store
//!   TCP      our own   is the    what is not   names, XML     one file a family
//!            SigV4     cluster   served        
//!            verifier  open?     
//! ```
//!
//! s3s parses requests and writes answers; it never sees a signature. Its own verification takes
//! what S3 no longer does (version 2, any Region, any expiry), so ours stands before it, and what
//! has been verified is taken out of the request. The way past is closed twice: s3s is private to
//! this module, and each of its operations demands the [`Caller`] that only our verifier makes.
//!
//! The gateway knows no cluster and no KMS. An access key leads to a [`Space`]; the node makes both,
//! shuts a space when it freezes its cluster, and opens it at the thaw.

mod answer;
mod auth;
mod body;
mod host;
mod listen;
mod ops;
mod query;
mod refusal;
mod replica;
mod screen;
mod service;
mod space;
mod wire;

pub use host::Hosts;
pub use listen::serve;
pub use space::{Buckets, Space};

use answer::Ids;
use body::{Checked, Outcome};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use keystead_types::{Cause, Clock, S3Role};
use s3s::Body;
use s3s::service::S3Service;
use space::Seat;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use zeroize::Zeroizing;

type Answer = Response<Body>;

/// What of a refused request's body is still read, so that its sender comes to read the answer:
/// for a stranger little, for a caller that we know enough for a large part.
const STRANGERS_REST: (u64, Duration) = (256 << 10, Duration::from_secs(2));
const CALLERS_REST: (u64, Duration) = (64 << 20, Duration::from_secs(20));

/// An access key that is known.
pub struct Found {
    /// Its secret.
    pub secret: Zeroizing<String>,
    /// What it may do.
    pub role: S3Role,
    /// The one cluster that it opens.
    pub space: Arc<Space>,
}

/// What is known of an access key.
pub enum Lookup {
    /// There is none of that id.
    Unknown,
    /// There is one, and its secret is out of reach: who names it is told why, unverified, and
    /// nothing else.
    Sealed(Cause),
    /// Here it is.
    Found(Found),
}

/// Where access keys are looked up; asked at every request, so a revoked one is refused at once.
pub trait Keys: Send + Sync {
    /// The access key of that id.
    fn find(&self, access_key_id: &str) -> Lookup;
}

/// Who made a request. Only [`auth`] makes one.
#[derive(Clone)]
struct Caller {
    space: Arc<Space>,
    role: S3Role,
    outcome: Outcome,
    /// Names of the trailers that come behind the body.
    trailers: Vec<String>,
}

/// What the gateway is to be.
pub struct Settings {
    /// The names that it answers to.
    pub hosts: Hosts,
    /// The Region that requests must be signed for.
    pub region: String,
}

/// The gateway.
pub struct Gateway {
    keys: Arc<dyn Keys>,
    clock: Arc<dyn Clock>,
    hosts: Hosts,
    regions: Vec<String>,
    s3: S3Service,
    stop: watch::Sender<bool>,
}

impl Gateway {
    /// A gateway; [`serve`] puts it on a port.
    pub fn new(settings: Settings, keys: Arc<dyn Keys>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let Settings { hosts, region } = settings;
        let s3 = service::new(hosts.clone(), &region);
        let stop = watch::Sender::new(false);
        Arc::new(Self { keys, clock, hosts, regions: vec![region], s3, stop })
    }

    /// Ends [`serve`]: requests under way have a moment to end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>, seat: &Seat) -> Answer {
        let ids = Ids::new();
        let path = request.uri().path().to_owned();
        let expects = request.headers().contains_key(http::header::EXPECT);
        let empty = request.body().is_end_stream();
        let outcome = Outcome::default();
        let answer = self.answer_bare(request, seat, &ids, &outcome).await;
        let mut answer = answer::complete(answer, &ids, &path).await;
        // Answered without `100 Continue`, as S3 does it. Of a connection that went on, botocore
        // would take the next answer's first line for a header, and hang.
        if expects && (empty || !outcome.asked()) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn answer_bare(
        &self,
        request: Request<Incoming>,
        seat: &Seat,
        ids: &Ids,
        outcome: &Outcome,
    ) -> Answer {
        let (mut head, body) = request.into_parts();
        let waits = head.headers.contains_key(http::header::EXPECT);
        let now_ms = self.clock.wall_ms();
        let keys = self.keys.as_ref();
        let admitted = match auth::admit(&head, keys, &self.hosts, &self.regions, now_ms) {
            Ok(admitted) => admitted,
            Err(denied) => {
                tracing::debug!(request = ids.request, path = head.uri.path(), "not admitted");
                drain(Some(body), waits, STRANGERS_REST).await;
                return denied.answer();
            }
        };
        let space = &admitted.found.space;
        let about = self.hosts.about(&head);
        let (replicates, refused) = match replica::is_for(&head, &admitted) {
            Ok(replicates) => (replicates, Ok(())),
            Err(error) => (false, Err(error)),
        };
        let screened = space
            .seat(seat)
            .and_then(|()| space.gate())
            .map_err(refusal::of_cause)
            .and(refused)
            // What the signature brought goes first: what a presigned URL carries is screened, too.
            .and_then(|()| auth::strip(&mut head, &admitted, outcome.clone()))
            .and_then(|()| query::check(&head, about))
            .and_then(|()| screen::check(&mut head, &admitted.claim))
            .and_then(|()| screen::digests(&head));
        let digests = match screened {
            Ok(digests) => digests,
            Err(error) => {
                drain(Some(body), waits, CALLERS_REST).await;
                return answer::of_error(error, None);
            }
        };
        tracing::debug!(
            request = ids.request,
            access_key = admitted.access_key_id,
            method = %head.method,
            path = head.uri.path(),
        );
        let auth::Admitted { claim, check, found, .. } = admitted;
        let checked = Checked::new(body, check, claim.length, digests, outcome.clone());
        if replicates {
            let answer = replica::take(&found.space, checked).await;
            drain(outcome.rest(), false, CALLERS_REST).await;
            return answer;
        }
        let request = Request::from_parts(head, Body::http_body_unsync(checked));
        let answer = match self.s3.call(request).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(request = ids.request, ?error, "s3s");
                answer::internal()
            }
        };
        // Who was never told to send has not sent: hyper tells when the body is first asked for.
        drain(outcome.rest(), waits && !outcome.asked(), CALLERS_REST).await;
        // A body that broke is the cause of whatever the operation made of it.
        match outcome.broken() {
            Some(broken) if !answer.status().is_success() => {
                answer::of_error(refusal::of_body(&broken), None)
            }
            _ => answer,
        }
    }
}

/// Reads the rest of a body that nobody wants, within bounds. A sender that waits for `100 Continue`
/// has sent none, and must not be told to.
async fn drain(body: Option<Incoming>, waits: bool, (most, time): (u64, Duration)) {
    let Some(mut body) = body.filter(|_| !waits) else { return };
    let all = async {
        let mut read: u64 = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > most {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(time, all).await;
}
