//! One TCP connection, shared between hyper, which reads and writes it, and whoever may cut it.
//!
//! A cut must not wait for the task that owns the connection to be polled: a stalled runtime would
//! let bytes out meanwhile. `connect(AF_UNSPEC)` on the shared descriptor makes the kernel throw
//! away what it still holds for the peer and send RST, at once and from any thread; every later
//! write fails.

use rustix::net::connect_unspec;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// The connection as those see it who may cut it.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    cut: AtomicBool,
    ended: Notify,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Arc<Self> {
        Arc::new(Self { stream, cut: AtomicBool::new(false), ended: Notify::new() })
    }

    /// Aborts the connection: nothing leaves after this returns.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        if let Err(error) = connect_unspec(&self.stream) {
            tracing::debug!(%error, "a connection to cut was gone already");
        }
        self.ended.notify_one();
    }

    /// Comes when the connection was cut: its task ends then.
    pub(super) async fn is_cut(&self) {
        self.ended.notified().await;
    }

    /// Comes when the other side has ended the connection too, so has read what was written; or after
    /// `limit`, and then what it has not read goes.
    pub(super) async fn drained(&self, limit: std::time::Duration) {
        let end = async {
            let mut rest = [0; 4096];
            while self.stream.readable().await.is_ok() {
                match self.stream.try_read(&mut rest) {
                    Ok(0) => return,
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        };
        if tokio::time::timeout(limit, end).await.is_err() {
            self.cut();
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.cut.load(Ordering::SeqCst) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

/// The connection as hyper sees it.
#[derive(Debug)]
pub(super) struct Io(pub(super) Arc<Wire>);

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self(wire) = self.get_mut();
        loop {
            ready!(wire.stream.poll_read_ready(cx))?;
            wire.check()?;
            match wire.stream.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self(wire) = self.get_mut();
        loop {
            ready!(wire.stream.poll_write_ready(cx))?;
            wire.check()?;
            match wire.stream.try_write_vectored(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self(wire) = self.get_mut();
        match rustix::net::shutdown(&wire.stream, rustix::net::Shutdown::Write) {
            // The peer was first.
            Err(rustix::io::Errno::NOTCONN) | Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
