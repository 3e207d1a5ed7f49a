//! The body of a request on its way to the store: checked against its signature and, where it came
//! in chunks, stripped of them. Nothing is copied.
//!
//! What goes through here is provisional until the end has said that it is genuine: a store commits
//! nothing of a body whose stream ends in an error. Polling it makes hyper send `100 Continue`, so a
//! request that is refused before that never sends its body.

use crate::Digest;
use crate::checksum::{Checksum, Hasher, Md5};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use keystead_aws::sigv4::{BodyCheck, BodyFault, Trailers};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How long a sender may say nothing in the middle of a body.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a body ended before its time.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Broken {
    /// It is not the one that was signed, or not framed as it must be.
    #[error(transparent)]
    Fault(#[from] BodyFault),
    /// The sender went away.
    #[error("the connection ended in the middle of the body")]
    Gone,
    /// The sender fell silent.
    #[error("nothing of the body came for a minute")]
    Silent,
    /// It has another digest than the head announces.
    #[error("the body does not have the {0} that was sent")]
    Digest(Digest),
}

/// How a body ended; read when the operation that took it has.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    broken: Option<Broken>,
    trailers: Option<Trailers>,
    rest: Option<Incoming>,
    asked: bool,
}

impl Outcome {
    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the body broke, if it did: this is the cause of whatever the store says then.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.with(|inner| inner.broken.clone())
    }

    /// The value of a trailer that came and is as genuine as the body.
    pub(super) fn trailer(&self, name: &str) -> Option<String> {
        self.with(|inner| inner.trailers.as_ref()?.get(name).map(str::to_owned))
    }

    /// Whether anybody asked for the body: then its sender was told to send.
    pub(super) fn asked(&self) -> bool {
        self.with(|inner| inner.asked)
    }

    /// What nobody has read of the body.
    pub(super) fn rest(&self) -> Option<Incoming> {
        self.with(|inner| inner.rest.take())
    }
}

/// The data of a request's body.
pub(super) struct Checked {
    incoming: Option<Incoming>,
    check: Option<BodyCheck>,
    digests: Vec<Expected>,
    ready: VecDeque<Bytes>,
    /// Decoded bytes that are still to come, as the head declares them.
    left: Option<u64>,
    silence: Pin<Box<Sleep>>,
    waiting: bool,
    asked: bool,
    outcome: Outcome,
}

/// A digest that a head announces, and what has come of the body so far.
pub(super) enum Expected {
    /// One of the flexible checksums.
    Checksum(Hasher, Checksum),
    /// Content-MD5.
    Md5(Box<Md5>, [u8; 16]),
}

impl Expected {
    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Checksum(hasher, _) => hasher.update(data),
            Self::Md5(md5, _) => md5.update(data),
        }
    }

    /// Which digest it is, if it is not the announced one.
    fn wrong(self) -> Option<Digest> {
        match self {
            Self::Checksum(hasher, sent) => {
                (hasher.finish() != sent).then_some(Digest::Checksum(sent.algorithm()))
            }
            Self::Md5(md5, sent) => (md5.finish() != sent).then_some(Digest::Md5),
        }
    }
}

impl Checked {
    /// `length` is that of the data, as the head declares it; `digests` are compared at the end.
    pub(super) fn new(
        incoming: Incoming,
        check: BodyCheck,
        length: Option<u64>,
        digests: Vec<Expected>,
        outcome: Outcome,
    ) -> Self {
        Self {
            incoming: Some(incoming),
            check: Some(check),
            digests,
            ready: VecDeque::new(),
            left: length,
            silence: Box::pin(tokio::time::sleep(SILENCE)),
            waiting: false,
            asked: false,
            outcome,
        }
    }

    fn breaks(&mut self, broken: Broken) -> Broken {
        self.check = None;
        self.ready.clear();
        self.outcome.with(|inner| inner.broken = Some(broken.clone()));
        broken
    }

    /// The next frame of the connection, or the end.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        loop {
            let Some(incoming) = self.incoming.as_mut() else { return Poll::Ready(Ok(None)) };
            match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.waiting = false;
                    // HTTP's own trailers are none of S3's.
                    let Ok(data) = frame.into_data() else { continue };
                    return Poll::Ready(Ok(Some(data)));
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Broken::Gone)),
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Pending => {
                    if !std::mem::replace(&mut self.waiting, true) {
                        self.silence.as_mut().reset(Instant::now() + SILENCE);
                    }
                    ready!(self.silence.as_mut().poll(cx));
                    return Poll::Ready(Err(Broken::Silent));
                }
            }
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if !self.asked {
            self.asked = true;
            self.outcome.with(|inner| inner.asked = true);
        }
        loop {
            if let Some(data) = self.ready.pop_front() {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(data.len() as u64);
                }
                return Poll::Ready(Some(Ok(data)));
            }
            if self.check.is_none() {
                return Poll::Ready(None);
            }
            let came = match ready!(self.poll_incoming(cx)) {
                Ok(came) => came,
                Err(broken) => return Poll::Ready(Some(Err(self.breaks(broken)))),
            };
            let Some(check) = self.check.as_mut() else { return Poll::Ready(None) };
            let Some(came) = came else {
                let Some(check) = self.check.take() else { return Poll::Ready(None) };
                match check.finish() {
                    Ok(trailers) => self.outcome.with(|inner| inner.trailers = Some(trailers)),
                    Err(fault) => return Poll::Ready(Some(Err(self.breaks(fault.into())))),
                }
                let wrong = std::mem::take(&mut self.digests).into_iter().find_map(Expected::wrong);
                return Poll::Ready(wrong.map(|what| Err(self.breaks(Broken::Digest(what)))));
            };
            let (ready, digests) = (&mut self.ready, &mut self.digests);
            let mut take = |data: &[u8]| {
                digests.iter_mut().for_each(|digest| digest.update(data));
                ready.push_back(came.slice_ref(data));
            };
            if let Err(fault) = check.push(&came, &mut take) {
                return Poll::Ready(Some(Err(self.breaks(fault.into()))));
            }
        }
    }
}

impl Body for Checked {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let data = ready!(self.get_mut().poll_data(cx));
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    // Never said before `finish` was: who stops at the declared length would skip the proof.
    fn is_end_stream(&self) -> bool {
        self.check.is_none() && self.ready.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) if self.check.is_some() => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.outcome.with(|inner| inner.rest = Some(incoming));
        }
    }
}
