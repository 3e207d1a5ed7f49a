//! One cluster as hold has it: its group, volumes and processes.
//!
//! `inner` is locked for moments only and never across a call that may wait in the kernel, so that
//! inventory, watchdog and eviction always get at it. `turn` is held by freeze, thaw, detach and
//! the second half of evict, one at a time; eviction kills and aborts before it takes its turn,
//! which is what ends whatever holds it. Once `gone`, nothing is added any more.

use super::fifreeze::{FsState, Kernel};
use super::spawn::{Child, Nursery};
use super::wire::{ClusterHeld, Fault, FaultKind, FreezeReport, FsWord, ProcessState, VolumeHeld};
use crate::cgroup::{Group, Roots};
use crate::time::boot;
use keystead_types::{Boot, ClusterId, VolumeId};
use keystead_volumes::sys::{self, LoopDevice};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Folder of hold's mount namespace where disks are mounted: a tmpfs of its own there, because the
/// workload's user may not be able to enter the folder that hold keeps its files in.
pub(crate) const DISKS: &str = "/run/keystead-disks";
/// `frozen 1` is awaited this long before FIFREEZE starts all the same.
const FREEZER_WAIT: Duration = Duration::from_millis(100);
/// A thaw waits this long for each of FIFREEZE and FITHAW.
const THAW_WAIT: Duration = Duration::from_millis(1_500);

/// What all clusters share.
pub(crate) struct Place {
    pub(crate) data: PathBuf,
    pub(crate) prefix: String,
    pub(crate) roots: Roots,
    pub(crate) nursery: Nursery,
}

impl Place {
    pub(crate) fn fuse_folder(&self) -> PathBuf {
        self.data.join("fuse")
    }
    pub(crate) fn fusectl(&self) -> PathBuf {
        fusectl(&self.data)
    }
}

/// Where fusectl is mounted when the machine has none.
pub(crate) fn fusectl(data: &Path) -> PathBuf {
    data.join("fusectl")
}

/// Where a disk is mounted, in the mount namespace of hold and its workloads.
pub fn mount_point(cluster: &ClusterId, disk: &str) -> PathBuf {
    Path::new(DISKS).join(cluster.as_str()).join(disk)
}

pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) place: Arc<Place>,
    pub(crate) group: Group,
    pub(crate) turn: Mutex<()>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) frozen: bool,
    pub(crate) gone: bool,
    /// Nothing is left of it.
    pub(crate) over: bool,
    pub(crate) volumes: BTreeMap<VolumeId, Volume>,
    pub(crate) processes: Vec<Spawned>,
    /// Everything that was forked into the group and may still live, helpers too: a child enters
    /// its group only after the fork, so an eviction has to know it.
    pub(crate) children: Vec<Arc<Child>>,
}

/// A volume: its FUSE mount always, the rest as far as attach came.
pub(crate) struct Volume {
    pub(crate) target: PathBuf,
    pub(crate) fuse: Option<OwnedFd>,
    /// Number of the FUSE connection, for its abort; none once it is unmounted.
    pub(crate) connection: Option<u32>,
    pub(crate) handed: bool,
    pub(crate) disk: Option<String>,
    pub(crate) device: Option<LoopDevice>,
    pub(crate) mounted: Option<PathBuf>,
    pub(crate) limit: u64,
    pub(crate) busy: bool,
    pub(crate) fs: Arc<FsState>,
}

/// A process of the workload.
pub(crate) struct Spawned {
    pub(crate) name: String,
    pub(crate) child: Arc<Child>,
    pub(crate) started: Boot,
    pub(crate) stop: Signal,
}

/// A volume whose ext4 is mounted, as freeze and thaw need it.
pub(crate) struct Mounted {
    pub(crate) volume: VolumeId,
    pub(crate) device: LoopDevice,
    pub(crate) mount: PathBuf,
    pub(crate) limit: u64,
    pub(crate) fs: Arc<FsState>,
}

pub(crate) fn kernel(what: &str, error: impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Kernel, format!("{what}: {error}"))
}

pub(crate) fn overtaken() -> Fault {
    Fault::new(FaultKind::Overtaken, "the cluster was evicted or detached meanwhile")
}

fn frozen() -> Fault {
    Fault::new(FaultKind::Frozen, "the cluster is frozen; thaw it, or evict it")
}

impl Cluster {
    pub(crate) fn new(place: Arc<Place>, id: ClusterId) -> Result<Arc<Self>, Fault> {
        let group = place
            .roots
            .create(&place.prefix, id.as_str())
            .map_err(|e| kernel("make the cluster's cgroup", e))?;
        let (turn, inner, changed) = (Mutex::new(()), Mutex::default(), Condvar::new());
        Ok(Arc::new(Self { id, place, group, turn, inner, changed }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }

    pub(crate) fn wait_while(
        &self,
        at_most: Option<Duration>,
        condition: impl FnMut(&mut Inner) -> bool,
    ) -> MutexGuard<'_, Inner> {
        let inner = self.lock();
        match at_most {
            Some(span) => {
                let waited = self.changed.wait_timeout_while(inner, span, condition);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.changed.wait_while(inner, condition);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        }
    }

    /// Fails once the cluster is gone.
    pub(crate) fn alive(&self) -> Result<MutexGuard<'_, Inner>, Fault> {
        let inner = self.lock();
        if inner.gone { Err(overtaken()) } else { Ok(inner) }
    }

    pub(crate) fn refuse_frozen(&self) -> Result<(), Fault> {
        if self.alive()?.frozen { Err(frozen()) } else { Ok(()) }
    }

    /// The volume's descriptor; the first call mounts it and answers the kernel's INIT.
    pub(crate) fn fuse_fd(&self, volume: &VolumeId) -> Result<(OwnedFd, bool), Fault> {
        let dup = |fd: &OwnedFd| fd.try_clone().map_err(|e| kernel("dup", e));
        let _turn = self.take_turn();
        if let Some(known) = self.alive()?.volumes.get_mut(volume) {
            let fd = known.fuse.as_ref().ok_or_else(overtaken)?;
            return Ok((dup(fd)?, std::mem::replace(&mut known.handed, true)));
        }
        let made = self.mount_fuse(volume)?;
        let fd = dup(made.fuse.as_ref().ok_or_else(overtaken)?)?;
        let mut inner = self.lock();
        inner.volumes.insert(volume.clone(), made);
        // An eviction that came meanwhile waits for the turn and finds the volume.
        if inner.gone { Err(overtaken()) } else { Ok((fd, false)) }
    }

    fn mount_fuse(&self, volume: &VolumeId) -> Result<Volume, Fault> {
        let target = self.place.fuse_folder().join(volume.as_str());
        std::fs::File::create(&target).map_err(|e| kernel("make the mount point", e))?;
        let fuse = keystead_volumes::open_device().map_err(|e| kernel("open /dev/fuse", e))?;
        keystead_volumes::mount_over_file(&target, &fuse).map_err(|e| kernel("mount FUSE", e))?;
        let ready = keystead_volumes::answer_init(fuse.as_fd())
            .map_err(|e| kernel("answer INIT", e))
            .and_then(|_| {
                sys::fuse_connection(&target).map_err(|e| kernel("find the connection", e))
            });
        let connection = match ready {
            Ok(connection) => connection,
            Err(fault) => {
                drop(fuse);
                let _ = sys::unmount(&target);
                return Err(fault);
            }
        };
        Ok(Volume {
            target,
            fuse: Some(fuse),
            connection: Some(connection),
            handed: true,
            disk: None,
            device: None,
            mounted: None,
            limit: sys::DIRTY_FLOOR,
            busy: false,
            fs: FsState::new(Box::new(Kernel)),
        })
    }

    /// The volumes whose ext4 is mounted.
    pub(crate) fn mounted(&self) -> Vec<Mounted> {
        let inner = self.lock();
        let mounted = |(id, v): (&VolumeId, &Volume)| {
            Some(Mounted {
                volume: id.clone(),
                device: v.device.clone()?,
                mount: v.mounted.clone()?,
                limit: v.limit,
                fs: v.fs.clone(),
            })
        };
        inner.volumes.iter().filter_map(mounted).collect()
    }

    /// Freezes the processes, lifts the dirty limits, freezes the file systems; answers at the
    /// deadline at the latest.
    pub(crate) fn freeze(&self, deadline: Duration) -> Result<FreezeReport, Fault> {
        let start = Instant::now();
        let _turn = self.take_turn();
        self.alive()?.frozen = true;
        let frozen = self.group.freeze(true);
        let mounted = self.mounted();
        for volume in &mounted {
            // A writer inside write(2) that the limit throttles never freezes.
            if let Err(error) = sys::lift_dirty(&volume.device) {
                tracing::warn!(volume = %volume.volume, %error, "the dirty limit stays");
            }
        }
        if let Err(error) = &frozen {
            tracing::error!(cluster = %self.id, %error, "the processes are not frozen");
        }
        let in_time = frozen.is_ok() && self.group.wait_frozen(start + FREEZER_WAIT.min(deadline));
        let frozen_ms = in_time.then(|| millis_since(start));
        for volume in &mounted {
            volume.fs.begin_freeze(&volume.mount);
        }
        let report = |v: &Mounted| {
            v.fs.settle(start + deadline);
            (v.volume.clone(), v.fs.freeze_report())
        };
        let volumes = mounted.iter().map(report).collect();
        Ok(FreezeReport { frozen_ms, volumes })
    }

    /// The watchdog's: processes only, and without waiting for anybody's turn. FIFREEZE would hang
    /// every sync(2) of the machine as long as nobody serves the volumes.
    pub(crate) fn freeze_processes(&self) {
        self.lock().frozen = true;
        if let Err(error) = self.group.freeze(true) {
            tracing::error!(cluster = %self.id, %error, "the watchdog could not freeze");
        }
    }

    /// Thaws the file systems, restores the dirty limits, thaws the processes.
    pub(crate) fn thaw(&self) -> Result<(), Fault> {
        let _turn = self.take_turn();
        drop(self.alive()?);
        let mounted = self.mounted();
        let late = |what: &str| {
            Fault::new(FaultKind::Late, format!("the kernel is still in {what}; ask again"))
        };
        let deadline = Instant::now() + THAW_WAIT;
        if !mounted.iter().all(|v| v.fs.settle(deadline)) {
            return Err(late("FIFREEZE"));
        }
        for volume in &mounted {
            volume.fs.begin_thaw(&volume.mount);
        }
        let deadline = Instant::now() + THAW_WAIT;
        if !mounted.iter().all(|v| v.fs.settle(deadline)) {
            return Err(late("FITHAW"));
        }
        if let Some(volume) = mounted.iter().find(|v| v.fs.word() == FsWord::Frozen) {
            let message = volume.fs.thaw_error().unwrap_or_default();
            return Err(kernel("FITHAW", message));
        }
        for volume in &mounted {
            if let Err(error) = sys::limit_dirty(&volume.device, volume.limit) {
                tracing::warn!(volume = %volume.volume, %error, "the dirty limit is not back");
            }
        }
        self.group.freeze(false).map_err(|e| kernel("thaw the processes", e))?;
        self.lock().frozen = false;
        self.wake();
        Ok(())
    }

    pub(crate) fn processes(&self) -> Vec<ProcessState> {
        self.lock().processes.iter().map(Spawned::state).collect()
    }

    pub(crate) fn held(&self) -> ClusterHeld {
        let inner = self.lock();
        let volume = |(id, v): (&VolumeId, &Volume)| VolumeHeld {
            volume: id.clone(),
            disk: v.disk.clone(),
            device: v.device.as_ref().map(|d| d.path.clone()),
            mount: v.mounted.clone(),
            busy: v.busy,
            fs: v.fs.word(),
        };
        ClusterHeld {
            cluster: self.id.clone(),
            frozen: inner.frozen,
            populated: self.group.populated(),
            volumes: inner.volumes.iter().map(volume).collect(),
            processes: inner.processes.iter().map(Spawned::state).collect(),
        }
    }
}

impl Spawned {
    fn state(&self) -> ProcessState {
        ProcessState {
            name: self.name.clone(),
            pid: self.child.pid(),
            started: self.started,
            ended: self.child.ended(),
        }
    }

    pub(crate) fn new(name: &str, child: Arc<Child>, stop: Signal) -> Self {
        Self { name: name.to_owned(), child, started: boot(), stop }
    }
}

pub(crate) fn millis_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
