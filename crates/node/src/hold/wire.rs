//! What node and hold say to each other, and how it lies on the socket.
//!
//! A unix stream socket; the client sends a request and waits for the reply, one at a time per
//! connection. Both are frames:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version of this protocol, now 1 |
//! | 1 | 4 | length of the body, little-endian, at most 1 MiB |
//! | 5 | length | the body: one JSON value, a [`Request`] or a [`Reply`] |
//!
//! The version comes first, so that a peer of another version is told so whatever follows. A reply
//! that hands a descriptor over carries it (SCM_RIGHTS) with its first byte. Refused: another
//! version, a longer body, a body that is no request, an operation or field that is not known.
//! After a refused frame the connection is closed: the stream has lost its place.

use keystead_types::{Boot, ClusterId, Process, VolumeId};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Version of the protocol.
pub(crate) const VERSION: u8 = 1;
/// The longest body.
pub(crate) const MAX_BODY: usize = 1 << 20;
const HEAD: usize = 5;

/// What the node asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    Inventory {},
    FuseFd { cluster: ClusterId, volume: VolumeId },
    Attach { cluster: ClusterId, volume: VolumeId, disk: Attach },
    Spawn { cluster: ClusterId, spec: ProcessSpec },
    RunToEnd { cluster: ClusterId, spec: ProcessSpec, timeout_ms: u64 },
    Processes { cluster: ClusterId },
    Freeze { cluster: ClusterId, deadline_ms: u64 },
    Thaw { cluster: ClusterId },
    Stop { cluster: ClusterId, deadline_ms: u64 },
    Evict { cluster: ClusterId },
    Detach { cluster: ClusterId, deadline_ms: u64 },
    Alive { until: Boot },
}

/// What hold answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    Ok(Answer),
    Error(Fault),
}

/// A reply that is no refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Done,
    Inventory(Inventory),
    FuseFd { takeover: bool },
    Attached(Attached),
    Pid(i32),
    Exit(ExitReport),
    Processes(Vec<ProcessState>),
    Freeze(FreezeReport),
    Evict(EvictReport),
}

/// Why hold did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What to do next depends on it.
    pub kind: FaultKind,
    /// For the human.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The frame or the request is not understood: node and hold are of different versions.
    Protocol,
    /// The request breaks a rule (a name, a user, a second disk of one name).
    Refused,
    /// Hold has no such cluster or volume; after its restart it has none at all.
    NotFound,
    /// The disk that this needs is not mounted.
    NotAttached,
    /// The cluster is frozen: thaw it, or evict it.
    Frozen,
    /// The disk carries no file system and formatting was not asked for, or another than ext4.
    NoFileSystem,
    /// The kernel is still at it; nothing was undone. Ask again.
    Late,
    /// An eviction or the end of hold overtook this.
    Overtaken,
    /// The kernel refused.
    Kernel,
}

/// How a disk is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Name of the template's disk: the last part of the mount point.
    pub disk: String,
    /// Make ext4 when the device carries no file system at all. An existing one is never touched.
    pub format: bool,
    /// The system user who owns the root folder of the disk (the workload's).
    pub owner: String,
}

/// A disk that is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    /// Where the workload finds it: a path of hold's mount namespace, the same at every attach.
    pub mount: PathBuf,
    /// It was formatted by this call.
    pub formatted: bool,
    /// Its bound of dirty bytes.
    pub dirty_limit: u64,
}

/// A process to start; placeholders are filled already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// Command, user, environment, stop signal.
    pub process: Process,
    /// The disk on which it works: its folder is the working directory, its `tmp` is TMPDIR, its
    /// `log/NAME.log` takes stdout and stderr.
    pub disk: String,
}

/// How a process that was run to its end ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitReport {
    /// How it ended.
    pub status: Ended,
    /// The first 64 KiB that it wrote to stdout. It may be a password.
    pub stdout: String,
    /// The last 4 KiB that it wrote to stderr.
    pub stderr: String,
}

impl fmt::Debug for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, stdout, stderr } = self;
        write!(f, "ExitReport({status:?}, {} bytes, {stderr:?})", stdout.len())
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// By itself, with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed because its time was over (time in the freezer does not count).
    TimedOut,
}

impl Ended {
    /// It ended by itself with status 0.
    pub fn good(self) -> bool {
        self == Self::Exit(0)
    }
}

/// A process of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessState {
    /// Its name in the template.
    pub name: String,
    /// Its process id.
    pub pid: i32,
    /// When it was started.
    pub started: Boot,
    /// How it ended, if it did.
    pub ended: Option<Ended>,
}

/// What hold has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Random per hold process: another one means that everything before it is gone.
    pub incarnation: String,
    /// One entry a cluster.
    pub clusters: Vec<ClusterHeld>,
}

/// What hold has of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterHeld {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its processes are in the freezer (by `freeze`, or by the watchdog).
    pub frozen: bool,
    /// Some process lives in its cgroup.
    pub populated: bool,
    /// Its volumes.
    pub volumes: Vec<VolumeHeld>,
    /// The processes that were spawned, in order; one that ended stays until its name is started
    /// again.
    pub processes: Vec<ProcessState>,
}

/// What hold has of one volume: its FUSE mount always, the rest as far as attach came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeHeld {
    /// The volume.
    pub volume: VolumeId,
    /// Name of the disk, once an attach named it.
    pub disk: Option<String>,
    /// The loop device.
    pub device: Option<PathBuf>,
    /// Where ext4 is mounted.
    pub mount: Option<PathBuf>,
    /// An attach or detach is under way.
    pub busy: bool,
    /// The file system's freeze.
    pub fs: FsWord,
}

/// A file system's freeze in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FsWord {
    /// Not frozen.
    Thawed,
    /// FIFREEZE is under way.
    Freezing,
    /// FIFREEZE is done.
    Frozen,
    /// FITHAW is under way.
    Thawing,
}

/// What a freeze came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeReport {
    /// When the kernel said `frozen 1`, in milliseconds from the start; absent: not in time.
    pub frozen_ms: Option<u64>,
    /// One entry a mounted volume.
    pub volumes: Vec<(VolumeId, Fifreeze)>,
}

impl FreezeReport {
    /// Some FIFREEZE is not done: every sync(2) of the machine will hang once the gate is closed.
    pub fn late(&self) -> bool {
        self.volumes.iter().any(|(_, f)| matches!(f, Fifreeze::Late))
    }
}

/// What FIFREEZE of one volume came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fifreeze {
    /// Done after so many milliseconds from its own start.
    Done(u64),
    /// Still under way at the deadline; it goes on.
    Late,
    /// Refused (a file system that is broken or read-only).
    Failed(String),
}

/// What an eviction came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvictReport {
    /// How long it took.
    pub took_ms: u64,
    /// What could not be taken away, in words; empty when nothing is left.
    pub left: Vec<String>,
    /// The kernel's clean caches were dropped.
    pub caches_dropped: bool,
}

/// Why a frame cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the peer speaks version {0} of the hold protocol, this is version {VERSION}")]
    Version(u8),
    #[error("a body of {0} bytes is longer than {MAX_BODY}")]
    TooLong(usize),
    #[error("the body is not understood: {0}")]
    Body(#[from] serde_json::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Sends one frame; `fd` goes with its first byte.
pub(crate) fn send<T: Serialize>(
    stream: &UnixStream,
    body: &T,
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), FrameError> {
    let body = serde_json::to_vec(body)?;
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY);
    let len = len.ok_or(FrameError::TooLong(body.len()))?;
    let mut frame = Vec::with_capacity(HEAD + body.len());
    frame.push(VERSION);
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(&body);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for the descriptor").into());
    }
    let sent = sendmsg(stream, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL)
        .map_err(io::Error::from)?;
    let mut stream = stream;
    stream.write_all(frame.get(sent..).unwrap_or_default())?;
    Ok(())
}

/// Reads one frame; `Ok(None)` when the peer closed the connection before it.
pub(crate) fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
) -> Result<Option<(T, Option<OwnedFd>)>, FrameError> {
    let mut head = [0u8; HEAD];
    let (got, fd) = receive_first(stream, &mut head)?;
    if got == 0 {
        return Ok(None);
    }
    if head[0] != VERSION {
        return Err(FrameError::Version(head[0]));
    }
    let mut stream = stream;
    stream.read_exact(&mut head[got..])?;
    let [_, a, b, c, d] = head;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len > MAX_BODY {
        return Err(FrameError::TooLong(len));
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, fd)))
}

/// The first bytes, and the descriptor that may come with them.
fn receive_first(
    stream: &UnixStream,
    head: &mut [u8; HEAD],
) -> Result<(usize, Option<OwnedFd>), FrameError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut into = [IoSliceMut::new(head)];
        match recvmsg(stream.as_fd(), &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.map_err(io::Error::from)?,
        }
    };
    let mut fd = None;
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = ancillary {
            fd = fds.last();
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("more descriptors than are ever sent").into());
    }
    Ok((message.bytes, fd))
}

#[cfg(test)]
mod tests;
