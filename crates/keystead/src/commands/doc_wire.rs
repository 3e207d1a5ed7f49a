//! A document's bytes between this machine and a node's S3, by presigned URL. A piece at a time: what
//! is in memory does not grow with the document. What was sent and what came is checked by S3's own
//! checksum.

use super::progress::Progress;
use crate::failure::Failure;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use keystead_control::wire::LinkView;
use keystead_objects::checksum::{Algorithm, Checksum, Hasher};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

const PIECE: usize = 256 << 10;
/// A node that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// What S3 makes of a body when the client does not say.
const CHECKSUM: Algorithm = Algorithm::Crc64Nvme;
const CHECKSUM_HEADER: &str = "x-amz-checksum-crc64nvme";

/// A client of nodes.
pub(crate) fn client() -> Result<reqwest::Client> {
    let builder = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(5));
    Ok(builder.read_timeout(SILENCE).build()?)
}

fn request(http: &reqwest::Client, link: &LinkView) -> Result<RequestBuilder> {
    let method: Method = link.method.parse().context("read the link")?;
    let mut request = http.request(method, &link.url);
    for (name, value) in &link.headers {
        request = request.header(name, value);
    }
    Ok(request)
}

/// A file on its way out.
struct Outgoing {
    file: File,
    left: u64,
    whole: u64,
    seen: Arc<Mutex<Seen>>,
}

/// What was read of it.
struct Seen {
    hasher: Option<Hasher>,
    progress: Progress,
    /// Why reading ended early; the client's own error would hide it.
    fault: Option<String>,
}

impl Outgoing {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let most = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        if most == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; most];
        let n = self.file.read(&mut piece)?;
        if n == 0 {
            let had = self.whole - self.left;
            let text = format!("it shrank from {} to {had} bytes while it was read", self.whole);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        piece.truncate(n);
        self.left -= n as u64;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hasher) = &mut seen.hasher {
            hasher.update(&piece);
        }
        seen.progress.bytes(self.whole - self.left, self.whole);
        Ok(Some(Bytes::from(piece)))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let next = this.next();
        if let Err(error) = &next {
            let mut seen = this.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.fault = Some(error.to_string());
        }
        Poll::Ready(next.transpose().map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Puts a file.
pub(crate) async fn put(
    http: &reqwest::Client,
    link: &LinkView,
    file: File,
    size: u64,
) -> Result<()> {
    let hasher = Some(Hasher::new(CHECKSUM));
    let seen = Arc::new(Mutex::new(Seen { hasher, progress: Progress::start(), fault: None }));
    let body = Outgoing { file, left: size, whole: size, seen: seen.clone() };
    let sent = request(http, link)?.body(reqwest::Body::wrap(body)).send().await;
    let (fault, hasher) = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.fault.take(), seen.hasher.take())
    };
    if let Some(fault) = fault {
        return Err(Failure::new("the file cannot be read to its end; nothing was put")
            .why(fault)
            .fix("put it again when nobody writes to it")
            .into());
    }
    let answer = refused(sent.map_err(silent)?).await?;
    let stored = checksum(answer.headers());
    let sent = hasher.map(Hasher::finish);
    if stored.is_some() && stored != sent {
        return Err(Failure::new("the node stored other bytes than were sent")
            .why("its checksum is another one")
            .fix("remove the document and put it again")
            .into());
    }
    Ok(())
}

fn checksum(headers: &HeaderMap) -> Option<Checksum> {
    let text = headers.get(CHECKSUM_HEADER)?.to_str().ok()?;
    Checksum::from_base64(CHECKSUM, text)
}

/// A document on its way in.
pub(crate) struct Incoming {
    answer: Response,
    size: u64,
}

/// Asks for a document.
pub(crate) async fn get(http: &reqwest::Client, link: &LinkView) -> Result<Incoming> {
    let answer = refused(request(http, link)?.send().await.map_err(silent)?).await?;
    let size = answer.content_length().context("the node does not say how long it is")?;
    Ok(Incoming { answer, size })
}

/// Asks for a document's headers.
pub(crate) async fn head(http: &reqwest::Client, link: &LinkView) -> Result<Option<HeaderMap>> {
    let answer = request(http, link)?.send().await.map_err(silent)?;
    // Removed, or ended, since it was listed.
    if answer.status().as_u16() == 404 {
        return Ok(None);
    }
    Ok(Some(refused(answer).await?.headers().clone()))
}

impl Incoming {
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    /// Writes it; answers how many bytes, all of them checked.
    pub(crate) async fn write_to(mut self, out: &mut impl Write) -> Result<u64> {
        let mut progress = Progress::start();
        let wanted = checksum(self.answer.headers());
        let (mut hasher, mut done) = (Hasher::new(CHECKSUM), 0);
        let broken = |error: &dyn std::error::Error| {
            Failure::new("the document broke off; nothing of it is kept")
                .why(super::innermost(error))
                .fix("try again; if the key is refused by now, `keystead why CLUSTER` says so")
        };
        while let Some(piece) = self.answer.chunk().await.map_err(|e| broken(&e))? {
            hasher.update(&piece);
            out.write_all(&piece).map_err(unwritten)?;
            done += piece.len() as u64;
            progress.bytes(done, self.size);
        }
        out.flush().map_err(unwritten)?;
        let wrong = wanted.is_some_and(|wanted| wanted != hasher.finish());
        if wrong || done != self.size {
            return Err(Failure::new("the document came otherwise than it is stored")
                .why(if wrong {
                    "its checksum is another one"
                } else {
                    "its length is another one"
                })
                .fix("try again")
                .into());
        }
        Ok(done)
    }
}

fn unwritten(error: io::Error) -> Failure {
    Failure::new("the document cannot be written; nothing of it is kept")
        .why(error.to_string())
        .fix("if the disk is full, free some of it or say another place with --output FILE")
}

fn silent(error: reqwest::Error) -> anyhow::Error {
    Failure::new("the node's S3 does not answer")
        .why(super::innermost(&error))
        .fix("see `keystead why CLUSTER`; links lead to where the node says that it serves S3")
        .into()
}

/// S3's word as an error of ours.
async fn refused(mut answer: Response) -> Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let mut text = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        text.extend_from_slice(&piece);
        if text.len() > 64 << 10 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&text);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    let code = element("Code").unwrap_or_else(|| status.to_string());
    let said = element("Message").unwrap_or_default();
    let (what, fix) = match code.as_str() {
        code if code.starts_with("KMS.") => {
            ("the cluster's key says no", "see `keystead why CLUSTER`; then try again")
        }
        "NoSuchKey" => ("there is no such document", "`keystead doc list CLUSTER` shows them"),
        "AccessDenied" => ("the node refused it", "see `keystead why CLUSTER`; then try again"),
        _ => ("the node's S3 refused it", "see `keystead why CLUSTER` and the node's log"),
    };
    Err(Failure::new(what).why(format!("{code}: {said}")).fix(fix).into())
}
