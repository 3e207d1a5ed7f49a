//! The volume servers of one cluster, and their gates.

use super::Shared;
use super::keys::{KeyFault, Recorded};
use super::lease::Door;
use crate::cluster::runner::Gates;
use crate::fleet::Desired;
use crate::host::{FaultKind, HostError};
use crate::time::SystemClock;
use keystead_types::{Cause, ClusterId, VolumeId};
use keystead_volumes::{Image, ImageError, VolumeServer};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An engine thread that still uses the key after this long wipes it itself.
const DRAIN: Duration = Duration::from_millis(200);

/// The servers of one cluster.
pub(super) struct Volumes {
    shared: Arc<Shared>,
    desired: Arc<Desired>,
    door: Arc<Door>,
    /// One at a time starts servers.
    starting: Mutex<()>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    servers: BTreeMap<VolumeId, Arc<VolumeServer>>,
    /// Rises when the servers are dropped: what was begun before counts for nothing.
    generation: u64,
    /// Rises at each close: a key that was asked for before is not let in any more.
    closes: u64,
    /// Closed by the cluster's thread, which alone opens again.
    barred: bool,
}

impl Volumes {
    pub(super) fn new(shared: Arc<Shared>, desired: Arc<Desired>, door: Arc<Door>) -> Self {
        Self { shared, desired, door, starting: Mutex::default(), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which set of servers this is; a step takes it at its start.
    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    pub(super) fn image(&self, volume: &VolumeId) -> PathBuf {
        self.shared.data.join("volumes").join(format!("{volume}.img"))
    }

    /// Serves each volume that is not served yet, with its gate closed. `only`: those that the
    /// holder has, else all.
    pub(super) fn serve(&self, only: Option<&[VolumeId]>, generation: u64) -> Result<(), String> {
        let _one = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.desired.get();
        for volume in &wanted.volumes {
            let id = &volume.volume;
            if only.is_some_and(|only| !only.contains(id)) {
                continue;
            }
            let ended = match self.current(generation)?.servers.get(id) {
                Some(server) if !server.has_ended() => continue,
                Some(_) => true,
                None => false,
            };
            if ended {
                // Its connection is gone; the image is locked until its threads are.
                let old = self.lock().servers.remove(id);
                drop(old);
            }
            let (fd, takeover) = self
                .shared
                .holder
                .fuse_fd(&wanted.cluster, id)
                .map_err(|e| self.overtaken(&wanted.cluster, &e))
                .map_err(|e| format!("{id}: {e}"))?;
            let server = Image::open(&self.image(id))
                .map_err(|e| said(&e))
                .and_then(|image| {
                    let (clock, gate) = (Arc::new(SystemClock), self.door.gate.clone());
                    VolumeServer::start(fd, image, takeover, clock, gate).map_err(|e| e.to_string())
                })
                .map_err(|e| format!("{id}: {e}"))?;
            tracing::info!(volume = %id, takeover, "served, the gate is closed");
            self.current(generation)?.servers.insert(id.clone(), Arc::new(server));
        }
        Ok(())
    }

    /// An eviction that left something is asked for again: until it is whole, the holder takes
    /// nothing more of the cluster.
    fn overtaken(&self, cluster: &ClusterId, error: &HostError) -> String {
        if error.kind() == Some(FaultKind::Overtaken)
            && let Err(error) = self.shared.holder.evict(cluster)
        {
            tracing::warn!(%cluster, %error, "the eviction is not whole yet");
        }
        error.to_string()
    }

    fn current(&self, generation: u64) -> Result<MutexGuard<'_, Inner>, String> {
        let inner = self.lock();
        if inner.generation == generation {
            Ok(inner)
        } else {
            Err("the cluster was evicted meanwhile".to_owned())
        }
    }

    /// Every gate is open: what is written now reaches the image while the lease lives.
    pub(super) fn all_open(&self) -> bool {
        self.lock().servers.values().all(|s| s.is_open())
    }

    /// Which disk under an image does not take writes. They wait, and go on when it does.
    pub(super) fn disk_fault(&self) -> Option<String> {
        let inner = self.lock();
        inner.servers.iter().find_map(|(id, server)| {
            let why = server.disk_fault()?;
            Some(format!("the disk under {id} takes no writes ({why}): they wait until it does"))
        })
    }

    /// A step's way to open: refused once the cluster's thread has closed the gates.
    pub(super) fn open_in_step(&self, generation: u64) -> Result<(), String> {
        let closes = {
            let inner = self.current(generation)?;
            if inner.barred {
                return Err("the gates were closed meanwhile".to_owned());
            }
            inner.closes
        };
        self.open_all(generation, closes)
    }

    /// All closed gates, in parallel.
    fn open_all(&self, generation: u64, closes: u64) -> Result<(), String> {
        let wanted = self.desired.get();
        let closed: Vec<_> = {
            let inner = self.current(generation)?;
            let mut closed = Vec::new();
            for volume in &wanted.volumes {
                match inner.servers.get(&volume.volume) {
                    Some(server) if server.is_open() => {}
                    Some(server) => closed.push((volume, server.clone())),
                    None => return Err(format!("{} is not served", volume.volume)),
                }
            }
            closed
        };
        let opened: Vec<Result<(), String>> = std::thread::scope(|scope| {
            let threads: Vec<_> = closed
                .iter()
                .map(|(volume, server)| {
                    let wanted = &wanted;
                    scope.spawn(move || {
                        let recorded = Recorded::of(wanted, volume, &self.shared.grants)?;
                        let path = self.image(&volume.volume);
                        recorded.open(&*self.shared.keys, &path, |key| {
                            let inner = self.current(generation)?;
                            if inner.closes != closes {
                                return Err("the gates were closed meanwhile".to_owned());
                            }
                            server.open_gate(key).map_err(|e| e.to_string())
                        })
                    })
                })
                .collect();
            let volumes = closed.iter().map(|(volume, _)| &volume.volume);
            threads
                .into_iter()
                .zip(volumes)
                .map(|(thread, id)| match thread.join() {
                    Ok(done) => self.told(id, done),
                    Err(_) => Err(format!("{id}: opening it panicked")),
                })
                .collect()
        });
        opened.into_iter().collect()
    }

    /// Puts a mismatch on the board, or takes it off.
    pub(super) fn told<T>(
        &self,
        id: &VolumeId,
        done: Result<Result<T, String>, KeyFault>,
    ) -> Result<T, String> {
        match done {
            Ok(done) => {
                self.shared.board.image_fine(id);
                done.map_err(|e| format!("{id}: {e}"))
            }
            Err(fault) => {
                if let KeyFault::Mismatch(detail) = &fault {
                    let said = (Cause::WrappedKeyMismatch, detail.clone());
                    self.shared.board.image_denied(id, said);
                }
                Err(format!("{id}: {fault}"))
            }
        }
    }
}

/// With what to do about a file system that is dead; the steps go on by themselves after it.
fn said(error: &ImageError) -> String {
    const DEAD: [Errno; 2] = [Errno::ROFS, Errno::IO];
    match error {
        ImageError::Io { source, .. }
            if Errno::from_io_error(source).is_some_and(|e| DEAD.contains(&e)) =>
        {
            format!("{error}; unmount it, check it (fsck) and mount it again: it goes on by itself")
        }
        _ => error.to_string(),
    }
}

impl Gates for Volumes {
    fn lost(&self) -> Option<String> {
        let inner = self.lock();
        inner.servers.iter().find_map(|(id, server)| Some(format!("{id}: {}", server.lost()?)))
    }

    fn open(&self) -> Result<(), String> {
        let (generation, closes) = {
            let mut inner = self.lock();
            inner.barred = false;
            (inner.generation, inner.closes)
        };
        self.serve(None, generation)?;
        self.open_all(generation, closes)
    }

    fn close(&self) {
        let servers: Vec<_> = {
            let mut inner = self.lock();
            (inner.closes, inner.barred) = (inner.closes + 1, true);
            inner.servers.iter().map(|(id, s)| (id.clone(), s.clone())).collect()
        };
        std::thread::scope(|scope| {
            for (id, server) in &servers {
                scope.spawn(move || {
                    let closed = server.close_gate(DRAIN);
                    if !closed.drained {
                        tracing::warn!(volume = %id, "a thread still works; it wipes its key itself");
                    }
                });
            }
        });
    }

    fn drop_servers(&self) {
        let servers = {
            let mut inner = self.lock();
            (inner.generation, inner.barred) = (inner.generation + 1, false);
            std::mem::take(&mut inner.servers)
        };
        // Each ends when the last that uses it is done.
        drop(servers);
    }
}
