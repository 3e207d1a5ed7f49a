//! The listener: HTTP/1.1 with keep-alive, one task a connection. Who sends no head of a request,
//! or only half of one, is cut off; strangers cannot use up the descriptors that the store needs;
//! and no answer waits for a delayed acknowledgement (TCP_NODELAY: without it small answers take
//! 40 ms).

use super::Gateway;
use super::wire::{Io, Wire};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// For the head of a request, and how long a connection may idle.
const HEAD: Duration = Duration::from_secs(60);
/// Requests under way get so long to end.
const GRACE: Duration = Duration::from_secs(5);
const MOST_CONNECTIONS: u64 = 8192;
/// Descriptors kept back for the index, the listener and the log.
const KEPT_BACK: u64 = 128;
/// A request holds its connection and a part file or two.
const FILES_A_CONNECTION: u64 = 3;
/// What hyper buffers of one connection; a head must fit, so it bounds heads too.
const BUFFER: usize = 64 * 1024;

/// How many connections may be open at once.
fn most_connections() -> usize {
    let wanted = MOST_CONNECTIONS * FILES_A_CONNECTION + KEPT_BACK;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|now| now < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the number of open files is not raised");
        }
    }
    let open = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    let connections = open.saturating_sub(KEPT_BACK) / FILES_A_CONNECTION;
    usize::try_from(connections.clamp(16, MOST_CONNECTIONS)).unwrap_or(16)
}

/// A connection that ended stays within reach for so long, unless the other side ends it.
const LINGER: Duration = Duration::from_secs(5);

/// Serves until [`Gateway::stop`]; requests under way then have [`GRACE`].
pub async fn serve(listener: TcpListener, gateway: Arc<Gateway>) {
    let most = most_connections();
    let room = Arc::new(Semaphore::new(most));
    let mut tasks = JoinSet::new();
    let mut stop = gateway.stopping();
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(permit) = room.clone().try_acquire_owned() else {
                    if !std::mem::replace(&mut full, true) {
                        tracing::warn!("{most} connections are open; further ones are closed");
                    }
                    continue;
                };
                full = false;
                tracing::trace!(%peer, "connected");
                let (gateway, stop) = (gateway.clone(), stop.clone());
                tasks.spawn(async move {
                    connection(stream, gateway, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::warn!("requests under way were cut off");
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(stream: TcpStream, gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
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
