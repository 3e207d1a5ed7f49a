//! One change carried to the other Region: the files as they lie, framed and signed a chunk at a
//! time, over a connection that is kept for the next.

use super::sender::Target;
use super::{HIGHEST, Kind, Manifest, PATH, Word};
use crate::error::StoreError;
use crate::store::Store;
use crate::store::outgoing::Parcel;
use bytes::Bytes;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use keystead_aws::sigv4::{ChunkSigner, Payload, Signer};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Bytes of a chunk, and so of what is read at a time.
pub(crate) const CHUNK: usize = 256 << 10;
/// Chunks that wait for the connection.
const AHEAD: usize = 2;
/// An object of more bytes is offered first.
const OFFER: u64 = 1 << 20;
const CONNECT: Duration = Duration::from_secs(5);
/// A peer that takes nothing for so long, or answers nothing, is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a change was not carried.
#[derive(Debug)]
pub(super) enum Fault {
    /// It need not be: it is gone from the queue, or changed meanwhile.
    Moot,
    /// The lease does not live.
    Fenced,
    /// This object cannot be read here; others can.
    Unreadable(String),
    /// The other Region's word.
    Said(Word, String),
    /// The other Region has taken other changes than those of this run, up to that number.
    OtherHistory { run: u64, highest: u64, why: String },
    /// Nothing can be carried now.
    Down(String),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchKey | StoreError::NoSuchBucket(_) => Self::Moot,
            StoreError::Refused(_) => Self::Fenced,
            StoreError::Unavailable | StoreError::Interrupted => Self::Down(error.to_string()),
            other => Self::Unreadable(other.to_string()),
        }
    }
}

fn down(what: &str, error: impl std::fmt::Display) -> Fault {
    Fault::Down(format!("{what}: {error}"))
}

/// The way to the other Region, and connections that wait for work.
pub(super) struct Road {
    pub(super) target: Target,
    idle: Mutex<Vec<SendRequest<Outgoing>>>,
}

impl Road {
    pub(super) fn new(target: Target) -> Self {
        Self { target, idle: Mutex::default() }
    }

    async fn connection(&self) -> Result<SendRequest<Outgoing>, Fault> {
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut kept) = kept else { break };
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let address = &self.target.address;
        let stream = timeout(CONNECT, TcpStream::connect(address)).await;
        let stream = stream.map_err(|late| down("no connection", late))?;
        let stream = stream.map_err(|error| down("no connection", error))?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| down("no connection", error))?;
        // Ends with its sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Carries the change of a place as it stands now; answers what was carried.
    pub(super) async fn carry(
        &self,
        store: &Arc<Store>,
        place: u64,
    ) -> Result<crate::index::queue::Queued, Fault> {
        let parcel = store.parcel(place).await?.ok_or(Fault::Moot)?;
        let offer = match parcel.manifest.kind {
            Kind::Record => true,
            Kind::Object => parcel.manifest.parts.iter().sum::<u64>() > OFFER,
            Kind::Delete | Kind::Emptied => false,
        };
        let parcel = Arc::new(parcel);
        if offer {
            match self.send(store, &parcel, false).await {
                Err(Fault::Said(Word::PartsNeeded, _)) => {}
                Err(fault) => return Err(fault),
                Ok(()) => return Ok(parcel.queued.clone()),
            }
        }
        self.send(store, &parcel, true).await.map(|()| parcel.queued.clone())
    }

    async fn send(
        &self,
        store: &Arc<Store>,
        parcel: &Arc<Parcel>,
        whole: bool,
    ) -> Result<(), Fault> {
        let mut manifest = parcel.manifest.clone();
        if !whole {
            manifest.parts.clear();
        }
        let front = front(&manifest, &parcel.record);
        let length = front.len() as u64 + manifest.parts.iter().sum::<u64>();
        let now_ms = store.clock().wall_ms();
        let Target { host, region, access_key_id, secret, .. } = &self.target;
        let signer = Signer { access_key_id, secret, session_token: None, region, service: "s3" };
        let headers = [
            ("host".to_owned(), host.clone()),
            ("x-amz-decoded-content-length".to_owned(), length.to_string()),
        ];
        let signed = signer.sign_s3("PUT", PATH, "", &headers, Payload::SignedChunks, now_ms);
        let seed = signed.iter().find(|(name, _)| name == "authorization");
        let chunks = seed.and_then(|(_, seed)| signer.chunks(seed, now_ms));
        let chunks = chunks.ok_or_else(|| Fault::Down("a request without a signature".into()))?;
        let mut request = Request::builder().method(Method::PUT).uri(PATH);
        for (name, value) in headers.iter().chain(&signed) {
            request = request.header(name, value);
        }
        let (feed, body) = mpsc::channel(AHEAD);
        let request = request.body(Outgoing(body)).map_err(|error| down("a request", error))?;
        let mut connection = self.connection().await?;
        let answer = connection.send_request(request);
        let fed = feed_all(store, parcel, whole, front, chunks, feed);
        tokio::pin!(answer, fed);
        // A refusal may come before all is sent; then the connection is of no more use.
        let (answer, all) = tokio::select! {
            answer = &mut answer => (answer, false),
            fed = &mut fed => {
                fed?;
                let answer = timeout(SILENCE, answer).await;
                (answer.map_err(|late| down("no answer", late))?, true)
            }
        };
        let answer = answer.map_err(|error| down("the connection broke", error))?;
        let word = Word::of(answer.status().as_u16());
        let status = answer.status();
        let highest = answer.headers().get(HIGHEST).and_then(|value| value.to_str().ok());
        // The answer is not signed: what no primary ever counted to is not believed.
        let highest = highest.and_then(|value| value.parse().ok()).filter(|n| *n <= 1 << 62);
        let text = timeout(SILENCE, answer.into_body().collect()).await;
        let text = text.map_err(|late| down("half an answer", late))?;
        let text = text.map_err(|error| down("half an answer", error))?.to_bytes();
        if all {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        match (word, highest) {
            (Word::Taken, _) => Ok(()),
            (Word::BucketClosed, Some(highest)) => {
                let run = parcel.manifest.history.present();
                Err(Fault::OtherHistory { run, highest, why: message_of(&text) })
            }
            (other, _) => Err(Fault::Said(other, format!("{status}: {}", message_of(&text)))),
        }
    }
}

/// What stands before the parts.
fn front(manifest: &Manifest, record: &[u8]) -> Vec<u8> {
    let json = serde_json::to_vec(manifest).expect("a manifest is plain text and numbers");
    let mut front = Vec::with_capacity(4 + json.len() + record.len());
    front.extend_from_slice(&(json.len() as u32).to_be_bytes());
    front.extend_from_slice(&json);
    front.extend_from_slice(record);
    front
}

/// The message of an error's XML.
fn message_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let inner = text.split_once("<Message>").and_then(|(_, rest)| rest.split_once("</Message>"));
    inner.map_or("no reason given", |(message, _)| message).chars().take(300).collect()
}

type Chunk = io::Result<Bytes>;

/// Frames, signs and hands over everything, in order.
async fn feed_all(
    store: &Arc<Store>,
    parcel: &Arc<Parcel>,
    whole: bool,
    front: Vec<u8>,
    mut chunks: ChunkSigner,
    feed: mpsc::Sender<Chunk>,
) -> Result<(), Fault> {
    let front = Bytes::from(front);
    let mut at = 0;
    while at < front.len() {
        let end = front.len().min(at + CHUNK);
        hand(&feed, framed(&mut chunks, &front[at..end])).await?;
        at = end;
    }
    let parts = if whole { parcel.manifest.parts.len() } else { 0 };
    for part in 0..parts {
        let mut offset = 0;
        while offset < parcel.manifest.parts[part] {
            // What is sealed may leave only while the lease lives.
            store.vault().check(&parcel.manifest.bucket).map_err(StoreError::from)?;
            let piece = store.read_part(parcel, part, offset).await?;
            offset += piece.len() as u64;
            hand(&feed, framed(&mut chunks, &piece)).await?;
        }
    }
    let mut last = chunks.head(b"").into_bytes();
    last.extend_from_slice(b"\r\n");
    hand(&feed, Bytes::from(last)).await
}

fn framed(chunks: &mut ChunkSigner, data: &[u8]) -> Bytes {
    let mut framed = chunks.head(data).into_bytes();
    framed.reserve_exact(data.len() + 2);
    framed.extend_from_slice(data);
    framed.extend_from_slice(b"\r\n");
    Bytes::from(framed)
}

async fn hand(feed: &mpsc::Sender<Chunk>, chunk: Bytes) -> Result<(), Fault> {
    match timeout(SILENCE, feed.send(Ok(chunk))).await {
        Ok(Ok(())) => Ok(()),
        // hyper has dropped the body: the answer, or the error, is on its way.
        Ok(Err(_)) => std::future::pending().await,
        Err(late) => Err(down("the other Region takes nothing", late)),
    }
}

/// The body of a request. One that is broken off must not look like one that ended: the channel's
/// end is the body's only after the last chunk, whose signature says that it is.
pub(super) struct Outgoing(mpsc::Receiver<Chunk>);

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|item| item.map(|item| item.map(Frame::data)))
    }
}
