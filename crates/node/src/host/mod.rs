//! The node's side of hold: a blocking client. It owns connections and nothing else; every state
//! is in hold, so a node process may die at any moment between two calls.
//!
//! Each call takes a connection of its own (idle ones are kept), so that a call which waits in the
//! kernel, as an attach whose gate is closed, holds up no other. To be used from threads that may
//! block.

pub use crate::hold::mount_point;
use crate::hold::wire::{self, Answer, FrameError, Reply, Request};
pub use crate::hold::wire::{
    Attach, Attached, ClusterHeld, Ended, EvictReport, ExitReport, Fault, FaultKind, Fifreeze,
    FreezeReport, FsWord, Inventory, ProcessSpec, ProcessState, VolumeHeld,
};
use keystead_types::{Boot, ClusterId, VolumeId};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What every answer may take beyond the time that the call itself asks for.
const PATIENCE: Duration = Duration::from_secs(2);
const IDLE: usize = 8;

/// Why a call to hold came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Hold says no.
    #[error("hold: {0}")]
    Hold(#[from] Fault),
    /// Hold is not there, or went away during the call: whether it was done is not known.
    #[error("hold at {}: {source}", socket.display())]
    Gone {
        /// Its socket.
        socket: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Hold answers in words that are not understood.
    #[error("hold answers oddly: {0}")]
    Odd(String),
}

impl HostError {
    /// The kind of refusal, when hold did refuse.
    pub fn kind(&self) -> Option<FaultKind> {
        match self {
            Self::Hold(fault) => Some(fault.kind),
            Self::Gone { .. } | Self::Odd(_) => None,
        }
    }
}

/// A client of hold. Shared by reference among threads.
#[derive(Debug)]
pub struct Holder {
    socket: PathBuf,
    idle: Mutex<Vec<UnixStream>>,
}

impl Holder {
    /// Connects once, to know that hold is there and understands us.
    pub fn connect(socket: &Path) -> Result<Self, HostError> {
        let holder = Self { socket: socket.to_owned(), idle: Mutex::default() };
        holder.inventory()?;
        Ok(holder)
    }

    /// Everything that hold has. Never waits for the kernel.
    pub fn inventory(&self) -> Result<Inventory, HostError> {
        match self.ask(&Request::Inventory {}, Some(PATIENCE))? {
            (Answer::Inventory(inventory), _) => Ok(inventory),
            (other, _) => Err(odd(&other)),
        }
    }

    /// The volume's /dev/fuse descriptor, and whether somebody had it before (then the new server
    /// asks the kernel to send again). The first call mounts the volume and makes the cluster.
    pub fn fuse_fd(
        &self,
        cluster: &ClusterId,
        volume: &VolumeId,
    ) -> Result<(OwnedFd, bool), HostError> {
        let request = Request::FuseFd { cluster: cluster.clone(), volume: volume.clone() };
        match self.ask(&request, Some(PATIENCE + Duration::from_secs(6)))? {
            (Answer::FuseFd { takeover }, Some(fd)) => Ok((fd, takeover)),
            (other, _) => Err(odd(&other)),
        }
    }

    /// Loop device, file system when asked for, mount, dirty limit. The volume must be served with
    /// an open gate; while it is not, the call waits. Safe to repeat.
    pub fn attach(
        &self,
        cluster: &ClusterId,
        volume: &VolumeId,
        disk: Attach,
    ) -> Result<Attached, HostError> {
        let request = Request::Attach { cluster: cluster.clone(), volume: volume.clone(), disk };
        match self.ask(&request, None)? {
            (Answer::Attached(attached), _) => Ok(attached),
            (other, _) => Err(odd(&other)),
        }
    }

    /// Starts a process and returns its id. A process of the same name that still runs is left
    /// alone and its id returned. Waits while the cluster is frozen.
    pub fn spawn(&self, cluster: &ClusterId, spec: ProcessSpec) -> Result<i32, HostError> {
        match self.ask(&Request::Spawn { cluster: cluster.clone(), spec }, None)? {
            (Answer::Pid(pid), _) => Ok(pid),
            (other, _) => Err(odd(&other)),
        }
    }

    /// Runs a process to its end; at the timeout it and its session are killed. Time in the
    /// freezer does not count.
    pub fn run_to_end(
        &self,
        cluster: &ClusterId,
        spec: ProcessSpec,
        timeout: Duration,
    ) -> Result<ExitReport, HostError> {
        let timeout_ms = millis(timeout);
        match self.ask(&Request::RunToEnd { cluster: cluster.clone(), spec, timeout_ms }, None)? {
            (Answer::Exit(report), _) => Ok(report),
            (other, _) => Err(odd(&other)),
        }
    }

    /// The processes that were spawned, in order, with how they ended.
    pub fn processes(&self, cluster: &ClusterId) -> Result<Vec<ProcessState>, HostError> {
        match self.ask(&Request::Processes { cluster: cluster.clone() }, Some(PATIENCE))? {
            (Answer::Processes(processes), _) => Ok(processes),
            (other, _) => Err(odd(&other)),
        }
    }

    /// Freezes processes, then file systems; answers at the deadline at the latest, FIFREEZE goes
    /// on. The gates are open meanwhile: FIFREEZE has to write. Safe to repeat.
    pub fn freeze(
        &self,
        cluster: &ClusterId,
        deadline: Duration,
    ) -> Result<FreezeReport, HostError> {
        let deadline_ms = millis(deadline);
        let request = Request::Freeze { cluster: cluster.clone(), deadline_ms };
        match self.ask(&request, Some(deadline + PATIENCE))? {
            (Answer::Freeze(report), _) => Ok(report),
            (other, _) => Err(odd(&other)),
        }
    }

    /// Thaws file systems, then processes. The gates are open already. Kind `Late`: the kernel
    /// needs longer than about three seconds, everything is as before, ask again. Safe to repeat,
    /// harmless when nothing is frozen.
    pub fn thaw(&self, cluster: &ClusterId) -> Result<(), HostError> {
        let request = Request::Thaw { cluster: cluster.clone() };
        self.ask(&request, Some(PATIENCE + Duration::from_secs(6))).map(drop)
    }

    /// Asks the processes to stop, by their stop signals, kills what is left at the deadline. The
    /// volumes stay attached.
    pub fn stop(&self, cluster: &ClusterId, deadline: Duration) -> Result<(), HostError> {
        let request = Request::Stop { cluster: cluster.clone(), deadline_ms: millis(deadline) };
        self.ask(&request, Some(deadline + PATIENCE * 2)).map(drop)
    }

    /// Takes the cluster off the host whatever state it is in: gates open or closed, frozen or
    /// not, attach under way. Nothing is synced. Afterwards hold has nothing of the cluster; an
    /// unknown cluster is fine.
    pub fn evict(&self, cluster: &ClusterId) -> Result<EvictReport, HostError> {
        let request = Request::Evict { cluster: cluster.clone() };
        match self.ask(&request, Some(PATIENCE + Duration::from_secs(8)))? {
            (Answer::Evict(report), _) => Ok(report),
            (other, _) => Err(odd(&other)),
        }
    }

    /// The orderly end: stop, unmount, loop, FUSE. Needs open gates and no freeze (kind `Frozen`).
    /// Kind `Late`: the deadline passed; the rest goes on or waits for another call, or for evict.
    pub fn detach(&self, cluster: &ClusterId, deadline: Duration) -> Result<(), HostError> {
        let request = Request::Detach { cluster: cluster.clone(), deadline_ms: millis(deadline) };
        self.ask(&request, Some(deadline + PATIENCE * 2)).map(drop)
    }

    /// Feeds the watchdog: the node says that it is alive until then. Ten seconds later, without a
    /// newer word, hold freezes all processes.
    pub fn alive(&self, until: Boot) -> Result<(), HostError> {
        self.ask(&Request::Alive { until }, Some(PATIENCE)).map(drop)
    }

    fn ask(
        &self,
        request: &Request,
        patience: Option<Duration>,
    ) -> Result<(Answer, Option<OwnedFd>), HostError> {
        let stream = self.connection()?;
        stream.set_read_timeout(patience).map_err(|e| self.gone(e))?;
        wire::send(&stream, request, None).map_err(|e| self.broken(e))?;
        let (reply, fd) = wire::receive::<Reply>(&stream)
            .map_err(|e| self.broken(e))?
            .ok_or_else(|| self.gone(io::ErrorKind::UnexpectedEof.into()))?;
        match reply {
            Reply::Error(fault) if fault.kind == FaultKind::Protocol => Err(fault.into()),
            reply => {
                self.keep(stream);
                match reply {
                    Reply::Ok(answer) => Ok((answer, fd)),
                    Reply::Error(fault) => Err(fault.into()),
                }
            }
        }
    }

    /// An idle connection that is still open, or a new one. No request is ever sent twice: a
    /// spawn must not be.
    fn connection(&self) -> Result<UnixStream, HostError> {
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match kept {
                Some(stream) if is_open(&stream) => return Ok(stream),
                Some(_) => {}
                None => return UnixStream::connect(&self.socket).map_err(|e| self.gone(e)),
            }
        }
    }

    fn keep(&self, stream: UnixStream) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(stream);
        }
    }

    fn gone(&self, source: io::Error) -> HostError {
        HostError::Gone { socket: self.socket.clone(), source }
    }

    fn broken(&self, error: FrameError) -> HostError {
        match error {
            FrameError::Io(source) => self.gone(source),
            other => HostError::Odd(other.to_string()),
        }
    }
}

/// Nothing is to be read on an idle connection but its end.
fn is_open(stream: &UnixStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut wanted = [PollFd::new(stream, PollFlags::IN | PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut wanted, Some(&now)) == Ok(0)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn odd(answer: &Answer) -> HostError {
    HostError::Odd(format!("{answer:?} is no answer to what was asked"))
}
