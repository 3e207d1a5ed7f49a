//! The listener: HTTP/1.1 with keep-alive on loopback, one task a connection.

use crate::calls::{Answer, Kms, Request};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use keystead_listen::accept;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// The longest body: a watch of 10,000 keys.
const MOST_BODY: usize = 4 * 1024 * 1024;
/// Bodies above this are read a few at a time for each user's access key, and for nobody else:
/// strangers neither fill the memory nor keep a node's watch waiting.
const LARGE_BODY: usize = 64 * 1024;
const LARGE_AT_ONCE: usize = 4;
const MOST_CONNECTIONS: usize = 8192;
/// Descriptors that connections leave to store, trail and log.
const SPARE_FILES: u64 = 64;
/// For the head of a request, and how long a connection may idle.
const HEAD: Duration = Duration::from_secs(60);
const BODY: Duration = Duration::from_secs(10);
/// How long calls under way have at the end; watches answer within their second.
const LAST: Duration = Duration::from_secs(2);

/// Turns for large bodies, by access key.
type Turns = HashMap<String, Semaphore>;

/// Takes as many descriptors as the system allows.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

/// Connections at once: never so many that the trail cannot open its next segment.
fn most_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let left = usize::try_from(files.saturating_sub(SPARE_FILES)).unwrap_or(MOST_CONNECTIONS);
    left.clamp(1, MOST_CONNECTIONS)
}

/// Serves until `stop` turns true.
pub(crate) async fn run(listener: TcpListener, kms: Arc<Kms>, stop: watch::Receiver<bool>) {
    let turn = |id: &str| (id.to_owned(), Semaphore::new(LARGE_AT_ONCE));
    let large: Arc<Turns> = Arc::new(kms.principals.access_keys().map(turn).collect());
    let mut end = stop.clone();
    let serve = |stream, peer| {
        let (kms, large, stop) = (kms.clone(), large.clone(), stop.clone());
        connection(TokioIo::new(stream), peer, kms, large, stop)
    };
    accept(listener, most_connections(), stopped(&mut end), LAST, serve).await;
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(
    io: TokioIo<tokio::net::TcpStream>,
    peer: SocketAddr,
    kms: Arc<Kms>,
    large: Arc<Turns>,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let (kms, large) = (kms.clone(), large.clone());
        async move { Ok::<_, Infallible>(one(request, peer, &kms, &large).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 * 1024)
        .serve_connection(io, service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection");
            }
        }
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn one(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    kms: &Kms,
    large: &Turns,
) -> hyper::Response<Full<Bytes>> {
    let request_id = uuid::Uuid::new_v4().to_string();
    if request.method() == http::Method::GET && request.uri().path() == "/healthz" {
        let body = b"ok\n".to_vec();
        return response(Answer { status: 200, content_type: "text/plain", body }, &request_id);
    }
    let (head, body) = request.into_parts();
    let turns = claimed_access_key(&head).and_then(|id| large.get(id));
    let body = match tokio::time::timeout(BODY, read_body(body, turns)).await {
        Ok(Some(body)) => body,
        Ok(None) => return plain(413, "the body is too long or broke off", &request_id),
        Err(_) => return plain(408, "the body did not arrive in 10 s", &request_id),
    };
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers,
        body,
        peer: peer.ip().to_string(),
        request_id,
    };
    let answer = kms.answer(&request).await;
    response(answer, &request.request_id)
}

/// The access key that a request says it is signed with.
fn claimed_access_key(head: &http::request::Parts) -> Option<&str> {
    let header = head.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    header.split_once("Credential=")?.1.split_once('/').map(|(id, _)| id)
}

/// The body; `None` when it is too long, also for who asks, or breaks off.
async fn read_body(body: Incoming, large: Option<&Semaphore>) -> Option<Vec<u8>> {
    let small = body.size_hint().upper().is_some_and(|most| most <= LARGE_BODY as u64);
    let _turn = if small { None } else { Some(large?.acquire().await.ok()?) };
    let body = Limited::new(body, MOST_BODY).collect().await.ok()?;
    Some(body.to_bytes().to_vec())
}

fn plain(status: u16, text: &str, request_id: &str) -> hyper::Response<Full<Bytes>> {
    let body = format!("{text}\n").into_bytes();
    response(Answer { status, content_type: "text/plain", body }, request_id)
}

fn response(answer: Answer, request_id: &str) -> hyper::Response<Full<Bytes>> {
    hyper::Response::builder()
        .status(answer.status)
        .header(CONTENT_TYPE, answer.content_type)
        .header("x-amzn-requestid", request_id)
        .header(CACHE_CONTROL, "no-cache, no-store, must-revalidate, private")
        .body(Full::new(Bytes::from(answer.body)))
        .unwrap_or_else(|_| {
            let mut broken = hyper::Response::new(Full::new(Bytes::new()));
            *broken.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            broken
        })
}
