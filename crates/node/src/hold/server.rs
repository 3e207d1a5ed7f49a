//! The socket: who may ask, one thread per connection, one request at a time on each.

use super::cluster::{Cluster, Place};
use super::wire::{self, Answer, Fault, FaultKind, FrameError, Inventory, Reply, Request};
use crate::time::boot;
use keystead_types::{Boot, ClusterId};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A node has a few threads per cluster; a crowd beyond this is a fault.
const CONNECTIONS: usize = 256;
/// The node is taken for dead this long after the moment until which it said it lives.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(10);
/// Until its first word, a node that asked for a volume is taken to live this long.
const FIRST_WORD: Duration = Duration::from_secs(3);

pub(crate) struct Hold {
    pub(crate) place: Arc<Place>,
    incarnation: String,
    clusters: Mutex<BTreeMap<ClusterId, Arc<Cluster>>>,
    alive: Mutex<Option<Boot>>,
    connections: AtomicUsize,
}

impl Hold {
    pub(crate) fn new(place: Arc<Place>) -> Arc<Self> {
        Arc::new(Self {
            place,
            incarnation: uuid::Uuid::now_v7().to_string(),
            clusters: Mutex::default(),
            alive: Mutex::default(),
            connections: AtomicUsize::new(0),
        })
    }

    /// The clusters; those that are over are forgotten on the way.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Arc<Cluster>>> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.retain(|_, cluster| !cluster.lock().over);
        clusters
    }

    pub(crate) fn all(&self) -> Vec<Arc<Cluster>> {
        self.lock().values().cloned().collect()
    }

    fn get(&self, id: &ClusterId) -> Result<Arc<Cluster>, Fault> {
        let missing = || Fault::new(FaultKind::NotFound, format!("hold has nothing of {id}"));
        self.lock().get(id).cloned().ok_or_else(missing)
    }

    /// The cluster, made when missing. One that is being taken off has to be gone first.
    fn get_or_make(&self, id: &ClusterId) -> Result<Arc<Cluster>, Fault> {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.get_or_insert_with(|| boot().plus(FIRST_WORD));
        drop(alive);
        let mut clusters = self.lock();
        if let Some(known) = clusters.get(id) {
            return Ok(known.clone());
        }
        let made = Cluster::new(self.place.clone(), id.clone())?;
        clusters.insert(id.clone(), made.clone());
        Ok(made)
    }

    /// The watchdog's round: true when it froze, or had frozen before.
    pub(crate) fn watch(&self, now: Boot, tripped: bool) -> bool {
        let alive = *self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = alive.is_some_and(|until| now > until.plus(WATCHDOG));
        if silent && !tripped {
            tracing::error!("the node is silent: every workload is frozen until it thaws them");
            for cluster in self.all() {
                cluster.freeze_processes();
            }
        }
        silent
    }

    /// Accepts until the listener fails.
    pub(crate) fn serve(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            if let Err(why) = self.admit(&stream) {
                tracing::warn!(why, "a connection is refused");
                continue;
            }
            let hold = self.clone();
            let thread = std::thread::Builder::new().name("connection".to_owned());
            let served = thread.spawn(move || {
                hold.converse(&stream);
                hold.connections.fetch_sub(1, Ordering::SeqCst);
            });
            if served.is_err() {
                self.connections.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Only our own user, and not without bound. Counts the connection when it is let in.
    fn admit(&self, stream: &UnixStream) -> Result<(), &'static str> {
        let peer = rustix::net::sockopt::socket_peercred(stream)
            .map_err(|_| "the peer's user is not known")?;
        if peer.uid != rustix::process::geteuid() {
            return Err("the peer is another user");
        }
        if self.connections.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
            self.connections.fetch_sub(1, Ordering::SeqCst);
            return Err("too many connections");
        }
        Ok(())
    }

    pub(crate) fn converse(&self, stream: &UnixStream) {
        loop {
            let request = match wire::receive::<Request>(stream) {
                Ok(Some((request, _))) => request,
                Ok(None) | Err(FrameError::Io(_)) => return,
                Err(error) => {
                    tracing::warn!(%error, "a frame is refused");
                    let fault = Fault::new(FaultKind::Protocol, error.to_string());
                    let _ = wire::send(stream, &Reply::Error(fault), None);
                    return;
                }
            };
            let (reply, fd) = match self.answer(request) {
                Ok((answer, fd)) => (Reply::Ok(answer), fd),
                Err(fault) => (Reply::Error(fault), None),
            };
            if wire::send(stream, &reply, fd.as_ref().map(AsFd::as_fd)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: Request) -> Result<(Answer, Option<OwnedFd>), Fault> {
        let ms = Duration::from_millis;
        let plain = match request {
            Request::FuseFd { cluster, volume } => {
                let (fd, takeover) = self.get_or_make(&cluster)?.fuse_fd(&volume)?;
                return Ok((Answer::FuseFd { takeover }, Some(fd)));
            }
            Request::Inventory {} => {
                let clusters = self.all().iter().map(|c| c.held()).collect();
                Answer::Inventory(Inventory { incarnation: self.incarnation.clone(), clusters })
            }
            Request::Attach { cluster, volume, disk } => {
                Answer::Attached(self.get(&cluster)?.attach(&volume, &disk)?)
            }
            Request::Spawn { cluster, spec } => Answer::Pid(self.get(&cluster)?.spawn(&spec)?),
            Request::RunToEnd { cluster, spec, timeout_ms } => {
                Answer::Exit(self.get(&cluster)?.run_to_end(&spec, ms(timeout_ms))?)
            }
            Request::Processes { cluster } => Answer::Processes(self.get(&cluster)?.processes()),
            Request::Freeze { cluster, deadline_ms } => {
                Answer::Freeze(self.get(&cluster)?.freeze(ms(deadline_ms))?)
            }
            Request::Thaw { cluster } => {
                self.get(&cluster)?.thaw()?;
                Answer::Done
            }
            Request::Stop { cluster, deadline_ms } => {
                self.get(&cluster)?.stop(ms(deadline_ms))?;
                Answer::Done
            }
            Request::Evict { cluster } => Answer::Evict(self.evict(&cluster)),
            Request::Detach { cluster, deadline_ms } => {
                // One that hold does not have is detached already.
                match self.get(&cluster) {
                    Ok(known) => known.detach(ms(deadline_ms))?,
                    Err(_) => return Ok((Answer::Done, None)),
                }
                Answer::Done
            }
            Request::Alive { until } => {
                let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
                *alive = Some(alive.map_or(until, |known| known.max(until)));
                Answer::Done
            }
        };
        Ok((plain, None))
    }

    /// A cluster that hold does not have is evicted already.
    fn evict(&self, id: &ClusterId) -> wire::EvictReport {
        let Ok(cluster) = self.get(id) else {
            return wire::EvictReport { took_ms: 0, left: vec![], caches_dropped: false };
        };
        let report = cluster.evict();
        if !report.left.is_empty() {
            tracing::error!(cluster = %id, left = ?report.left, "an eviction left something");
        }
        report
    }

    /// The end of hold: everything detached in order, or evicted.
    pub(crate) fn end(self: &Arc<Self>, deadline: Duration) {
        let threads: Vec<_> = self
            .all()
            .into_iter()
            .map(|cluster| {
                let hold = self.clone();
                std::thread::spawn(move || {
                    if let Err(error) = cluster.detach(deadline) {
                        tracing::warn!(cluster = %cluster.id, %error, "evicted instead");
                        hold.evict(&cluster.id);
                    }
                })
            })
            .collect();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a detaching thread panicked");
            }
        }
    }
}
