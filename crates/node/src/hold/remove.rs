//! Takes a cluster off the host: in order while everything works, or in the one order that works
//! in every state.

use super::cluster::{Cluster, Volume, kernel, millis_since, mount_point};
use super::sweep;
use super::wire::{EvictReport, Fault, FaultKind, FsWord};
use keystead_types::VolumeId;
use keystead_volumes::sys::{self, SysError};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// An eviction gives the kernel this long for each of its waits.
const EVICT_WAIT: Duration = Duration::from_secs(2);
/// Dropping caches walks every file system of the machine and may meet a stuck one.
const DROP_WAIT: Duration = Duration::from_millis(500);
const KILL_WAIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// Runs something that may hang in the kernel; `None` at the deadline, the thread goes on.
pub(crate) fn bounded<T: Send + 'static>(
    name: &str,
    at_most: Duration,
    run: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, told) = sync_channel(1);
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || tell.send(run())).ok()?;
    told.recv_timeout(at_most).ok()
}

fn until(deadline: Instant, mut holds: impl FnMut() -> bool) -> bool {
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

impl Cluster {
    /// Asks the processes to stop, the last started first; kills what is left at the deadline.
    pub(crate) fn stop(&self, deadline: Duration) -> Result<(), Fault> {
        self.refuse_frozen()?;
        let deadline = Instant::now() + deadline;
        let wanted: Vec<_> = {
            let inner = self.lock();
            inner.processes.iter().rev().map(|p| (p.child.clone(), p.stop)).collect()
        };
        for (child, signal) in &wanted {
            self.place.nursery.signal(child, *signal, false);
        }
        let mut willing = true;
        for (child, _) in &wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            willing &= child.wait(left).is_some();
        }
        // Background processes that outlived those get what is left of the time.
        if willing && self.group.wait_empty(deadline) {
            return Ok(());
        }
        self.refuse_frozen()?;
        if self.killed(Instant::now() + KILL_WAIT) {
            Ok(())
        } else {
            Err(Fault::new(FaultKind::Late, "processes do not die: they wait in the kernel"))
        }
    }

    /// Kills everything in the group until nothing of it is left and all is reaped. A child that
    /// was forked just before enters the group late, hence more than once.
    fn killed(&self, deadline: Instant) -> bool {
        until(deadline, || {
            let _ = self.group.kill();
            let all = self.lock().children.iter().all(|c| c.ended().is_some());
            all && !self.group.populated()
        })
    }

    /// The orderly end of processes and volumes.
    pub(crate) fn detach(self: &Arc<Self>, deadline: Duration) -> Result<(), Fault> {
        let start = Instant::now();
        self.stop(deadline / 2)?;
        let left = deadline.saturating_sub(start.elapsed());
        let me = self.clone();
        match bounded("detach", left, move || me.take_down(Instant::now() + left)) {
            Some(done) => done,
            None => {
                let message = "unmounting is not done; it goes on, unless the cluster is evicted";
                Err(Fault::new(FaultKind::Late, message))
            }
        }
    }

    fn take_down(&self, deadline: Instant) -> Result<(), Fault> {
        let _turn = self.take_turn();
        self.refuse_frozen()?;
        let idle = until(deadline, || !self.lock().volumes.values().any(|v| v.busy));
        if !idle {
            return Err(Fault::new(FaultKind::Late, "an attach is under way"));
        }
        let mut left = Vec::new();
        self.strip(deadline, &mut left);
        if left.is_empty() {
            // From here on the cluster is not there; who comes makes a new one.
            self.lock().gone = true;
            self.wake();
            self.group.remove(deadline).map_err(|e| kernel("remove the cgroup", e))?;
            self.lock().over = true;
            Ok(())
        } else {
            Err(kernel("detach", left.join("; ")))
        }
    }

    /// The one order for every state: kill (not waited for), abort, wait for processes and
    /// FIFREEZE, FITHAW, close, unmount, loop, FUSE, caches.
    pub(crate) fn evict(&self) -> EvictReport {
        let start = Instant::now();
        let mut left = Vec::new();
        let connections: Vec<u32> = {
            let mut inner = self.lock();
            inner.gone = true;
            inner.volumes.values().filter_map(|v| v.connection).collect()
        };
        self.wake();
        if let Err(error) = self.group.kill() {
            left.push(error.to_string());
        }
        for connection in &connections {
            if let Err(error) = sys::abort_fuse(*connection, &self.place.fusectl()) {
                left.push(error.to_string());
            }
        }
        // Whoever holds the turn, or brings a disk up, now gets errors from the kernel.
        let _turn = self.take_turn();
        let deadline = start + EVICT_WAIT;
        // A volume that was mounted between the look above and the turn.
        let late: Vec<u32> = {
            let inner = self.lock();
            let new = |c: &u32| !connections.contains(c);
            inner.volumes.values().filter_map(|v| v.connection).filter(new).collect()
        };
        for connection in late {
            let _ = sys::abort_fuse(connection, &self.place.fusectl());
        }
        if !self.killed(deadline) {
            left.push("processes that do not die".to_owned());
        }
        if !until(deadline, || !self.lock().volumes.values().any(|v| v.busy)) {
            left.push("an attach that does not end".to_owned());
        }
        for mounted in self.mounted() {
            if !mounted.fs.settle(deadline) {
                left.push(format!("FIFREEZE of {} does not end", mounted.volume));
            } else if mounted.fs.word() == FsWord::Frozen {
                mounted.fs.begin_thaw(&mounted.mount);
                if !mounted.fs.settle(deadline) || mounted.fs.word() != FsWord::Thawed {
                    let why = mounted.fs.thaw_error().unwrap_or_else(|| "no end".to_owned());
                    left.push(format!("FITHAW of {}: {why}", mounted.volume));
                }
            }
        }
        if left.is_empty() {
            self.strip(deadline, &mut left);
        }
        let caches_dropped = drop_caches();
        if left.is_empty()
            && let Err(error) = self.group.remove(start + EVICT_WAIT)
        {
            left.push(error.to_string());
        }
        self.lock().over = left.is_empty();
        EvictReport { took_ms: millis_since(start), left, caches_dropped }
    }

    /// ext4, loop, FUSE of every volume; what cannot be taken away stays recorded and is named.
    fn strip(&self, deadline: Instant, left: &mut Vec<String>) {
        let ids: Vec<VolumeId> = self.lock().volumes.keys().cloned().collect();
        for id in ids {
            let Some(mut volume) = self.lock().volumes.remove(&id) else { continue };
            if let Err(error) = self.strip_one(&mut volume, deadline) {
                left.push(format!("{id}: {error}"));
                self.lock().volumes.insert(id, volume);
            }
        }
        let folder = mount_point(&self.id, "");
        let _ = std::fs::remove_dir(folder);
    }

    fn strip_one(&self, volume: &mut Volume, deadline: Instant) -> Result<(), SysError> {
        if let Some(mount) = &volume.mounted {
            unmount(mount, deadline)?;
            let _ = std::fs::remove_dir(mount);
            volume.mounted = None;
        }
        if let Some(device) = &volume.device {
            if let Err(error) = sys::lift_dirty(device) {
                tracing::warn!(device = %device.path.display(), %error, "its dirty limit stays");
            }
            sys::detach_loop(device)?;
            // The kernel lets go when the last opener (udev, too) closes it.
            let gone = until(deadline, || {
                sys::loops().is_ok_and(|all| !all.iter().any(|(d, _)| d == device))
            });
            if !gone {
                let source = std::io::ErrorKind::ResourceBusy.into();
                return Err(SysError::Call { call: "detach", path: device.path.clone(), source });
            }
            sweep::forget(&self.place, device.minor);
            volume.device = None;
        }
        if volume.connection.is_some() {
            volume.fuse = None;
            unmount(&volume.target, deadline)?;
            volume.connection = None;
        }
        let _ = std::fs::remove_file(&volume.target);
        Ok(())
    }
}

/// EBUSY passes: the kernel is about to close the last file.
fn unmount(target: &Path, deadline: Instant) -> Result<(), SysError> {
    loop {
        match sys::unmount(target) {
            // EINVAL: nothing is mounted there any more.
            Err(e) if e.errno() == Some(libc::EINVAL) => return Ok(()),
            Err(e) if e.errno() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(POLL);
            }
            other => return other,
        }
    }
}

/// Clean pages and names only; it writes nothing to any disk. Another cluster's file system may be
/// stuck in FIFREEZE, and this walks them all: hence not awaited for long.
fn drop_caches() -> bool {
    let drop = || std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    bounded("drop caches", DROP_WAIT, drop).unwrap_or(false)
}
