//! The accept loop of every role's port: a task a connection, no more connections than there are
//! descriptors for, and an end that waits for what is under way, within bounds. What is spoken on a
//! connection is the caller's.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// More are never open at once.
pub const MOST_CONNECTIONS: u64 = 8192;
/// After a failed accept.
const AGAIN: Duration = Duration::from_millis(50);

/// How many connections may be open when each holds `files` descriptors and `kept_back` are for
/// others. The limit of this process is raised to what that takes, as far as the system lets it.
pub fn most_connections(files: u64, kept_back: u64) -> usize {
    let wanted = MOST_CONNECTIONS * files + kept_back;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|now| now < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the number of open files is not raised");
        }
    }
    let open = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    let connections = open.saturating_sub(kept_back) / files;
    usize::try_from(connections.clamp(16, MOST_CONNECTIONS)).unwrap_or(16)
}

/// Accepts until `stop` comes, at most `most` connections at a time; further ones are closed. Those
/// that are open then have `grace` to end.
pub async fn accept<C>(
    listener: TcpListener,
    most: usize,
    stop: impl Future<Output = ()>,
    grace: Duration,
    connection: impl Fn(TcpStream, SocketAddr) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(most));
    let mut tasks = JoinSet::new();
    let mut full = false;
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
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
                // Without it small answers wait 40 ms for a delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                let open = connection(stream, peer);
                tasks.spawn(async move {
                    open.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all).await.is_err() {
        tracing::warn!("calls under way were cut off");
    }
}
