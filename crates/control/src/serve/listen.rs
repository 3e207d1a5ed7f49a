//! The listener: HTTP/1.1 with keep-alive, one task a connection. Who sends no head of a request,
//! or only half of one, is cut off, and strangers cannot use up the descriptors that the store
//! needs.

use crate::board::Board;
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use keystead_listen::{accept, most_connections};
use std::{sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};

/// Calls under way get so long to end.
const GRACE: Duration = Duration::from_secs(2);
/// Descriptors kept back for the store, IAM and the listener itself.
const KEPT_BACK: u64 = 64;

/// What a stranger may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For the head of a request, and how long a connection may idle.
    head: Duration,
    connections: usize,
}

impl Limits {
    /// Those of this process.
    pub(super) fn find() -> Self {
        Self { head: Duration::from_secs(30), connections: most_connections(1, KEPT_BACK) }
    }
}

/// Serves until the board stops; calls under way then have [`GRACE`].
pub(super) async fn run(listener: TcpListener, router: Router, board: &Arc<Board>, limits: Limits) {
    let serve = |stream, _| {
        let (router, board) = (router.clone(), board.clone());
        async move { connection(stream, router, &board, limits.head).await }
    };
    accept(listener, limits.connections, board.stopped(), GRACE, serve).await;
}

async fn connection(stream: TcpStream, router: Router, board: &Board, head: Duration) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "connection");
            }
        }
        () = board.stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn serve(limits: Limits) -> (SocketAddr, Arc<Board>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let board = Arc::new(Board::default());
        let router = Router::new().route("/", get(async || "here"));
        let bells = board.clone();
        let task = tokio::spawn(async move { run(listener, router, &bells, limits).await });
        (address, board, task)
    }

    /// Everything that comes until the other side closes.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut text));
        let _ = read.await.expect("it is closed in time");
        String::from_utf8_lossy(&text).into_owned()
    }

    async fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let head = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(head).await;
        rest(&mut stream).await
    }

    #[tokio::test]
    async fn idle_and_half_requests_are_cut_off_and_others_served() {
        let limits = Limits { head: Duration::from_millis(300), connections: 4 };
        let (address, board, task) = serve(limits).await;
        let mut idle = Vec::new();
        for _ in 0..3 {
            idle.push(TcpStream::connect(address).await.expect("a connection"));
        }
        for (n, stream) in idle.iter_mut().enumerate().skip(1) {
            stream.write_all(&b"GET / HTTP/1.1\r\nhost: x"[..8 * n]).await.expect("written");
        }
        assert!(ask(address).await.ends_with("here"), "with three that say nothing");
        for stream in &mut idle {
            rest(stream).await;
        }
        // With room for four, a fifth is closed at once.
        let mut four = Vec::new();
        for _ in 0..4 {
            four.push(TcpStream::connect(address).await.expect("a connection"));
        }
        let begun = Instant::now();
        assert_eq!(ask(address).await, "");
        assert!(begun.elapsed() < limits.head, "the fifth had to wait");
        for stream in &mut four {
            rest(stream).await;
        }
        assert!(ask(address).await.ends_with("here"), "after the four");
        board.stop();
        tokio::time::timeout(GRACE * 2, task).await.expect("in time").expect("no panic");
    }

    #[tokio::test]
    async fn an_open_connection_does_not_hold_up_the_end() {
        let limits = Limits { head: Duration::from_secs(60), connections: 4 };
        let (address, board, task) = serve(limits).await;
        let mut half = TcpStream::connect(address).await.expect("a connection");
        half.write_all(b"GET / HTTP/1.1\r\n").await.expect("written");
        assert!(ask(address).await.ends_with("here"));
        board.stop();
        tokio::time::timeout(GRACE * 2, task).await.expect("in time").expect("no panic");
    }
}
