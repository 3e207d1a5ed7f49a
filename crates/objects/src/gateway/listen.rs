//! The listener: HTTP/1.1 with keep-alive, one task a connection. Who sends no head of a request,
//! or only half of one, is cut off; strangers cannot use up the descriptors that the store needs;
//! and no answer waits for a delayed acknowledgement (TCP_NODELAY: without it small answers take
//! 40 ms).

use super::Gateway;
use super::wire::{Io, Wire};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use keystead_listen::{accept, most_connections};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// For the head of a request, and how long a connection may idle.
const HEAD: Duration = Duration::from_secs(60);
/// Requests under way get so long to end.
const GRACE: Duration = Duration::from_secs(5);
/// Descriptors kept back for the index, the listener and the log.
const KEPT_BACK: u64 = 128;
/// A request holds its connection and a part file or two.
const FILES_A_CONNECTION: u64 = 3;
/// What hyper buffers of one connection; a head must fit, so it bounds heads too.
const BUFFER: usize = 64 * 1024;

/// A connection that ended stays within reach for so long, unless the other side ends it.
const LINGER: Duration = Duration::from_secs(5);

/// Serves until [`Gateway::stop`]; requests under way then have [`GRACE`].
pub async fn serve(listener: TcpListener, gateway: Arc<Gateway>) {
    let (stop, mut end) = (gateway.stopping(), gateway.stopping());
    let serve = |stream, _| connection(stream, gateway.clone(), stop.clone());
    let most = most_connections(FILES_A_CONNECTION, KEPT_BACK);
    accept(listener, most, stopped(&mut end), GRACE, serve).await;
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(stream: TcpStream, gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    // Peers that vanished are found without their having to say anything.
    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
    let wire = Wire::new(stream);
    let seat = super::space::Seat::new(wire.clone());
    let service = service_fn(|request| {
        let (gateway, seat) = (&gateway, &seat);
        async move { Ok::<_, Infallible>(gateway.answer(request, seat).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Io(wire.clone())), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            match ended {
                // What it was answered may still lie in a buffer: it goes with it.
                Err(error) => {
                    tracing::debug!(%error, "connection");
                    wire.cut();
                }
                // Seated, and so within reach of a cut, until the other side has all of it.
                Ok(()) => tokio::select! {
                    () = wire.drained(LINGER) => {}
                    () = wire.is_cut() => {}
                },
            }
        }
        // Dropped where it stands: the request's future, its body and its answer with it.
        () = wire.is_cut() => {}
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection => {}
                () = wire.is_cut() => {}
            }
        }
    }
}
