//! What the node and `hold` say to each other: one request, one reply, on a Unix stream socket.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1; a descriptor (SCM_RIGHTS) travels with this byte of a reply |
//! | 1 | 4 | length of the body, big-endian, at most 1 MiB |
//! | 5 | - | body: one JSON value ([`Request`] or [`Reply`]), unknown members refused |
//!
//! No key and no credential crosses it: `hold` never learns one.

use keystead_types::{Boot, ClusterId, Process, VolumeId};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// The version byte.
pub(crate) const VERSION: u8 = 1;
/// Longest body.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// What the node asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    Inventory {},
    FuseFd { cluster: ClusterId, volume: VolumeId, size: u64 },
    Attach { cluster: ClusterId, volume: VolumeId, disk: String, format: bool },
    MountPoint { cluster: ClusterId, disk: String },
    Spawn { cluster: ClusterId, process: Process },
    RunToEnd { cluster: ClusterId, process: Process, timeout_ms: u64 },
    Processes { cluster: ClusterId },
    Freeze { cluster: ClusterId, deadline_ms: u64 },
    Thaw { cluster: ClusterId },
    Evict { cluster: ClusterId },
    Detach { cluster: ClusterId },
    Alive { until: Boot },
}

/// What `hold` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "body", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Reply {
    Done,
    Inventory(Inventory),
    Fuse { takeover: bool },
    MountPoint(PathBuf),
    Pid(u32),
    Exit(ExitReport),
    Processes(Vec<ProcessReport>),
    Freeze(FreezeReport),
    Evict(EvictReport),
    Refused(String),
}

/// Everything `hold` has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Its clusters, in order of their ids.
    pub clusters: Vec<ClusterInventory>,
}

/// One cluster of `hold`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterInventory {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its volumes.
    pub volumes: Vec<VolumeInventory>,
    /// Its processes are frozen, or being frozen.
    pub frozen: bool,
    /// Its processes.
    pub processes: Vec<ProcessReport>,
}

/// One volume of `hold`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeInventory {
    /// The volume.
    pub volume: VolumeId,
    /// The disk of the template that it is; known from the first attach.
    pub disk: Option<String>,
    /// The FUSE connection stands.
    pub fuse: bool,
    /// Its loop device.
    pub loop_device: Option<PathBuf>,
    /// Its file system is mounted.
    pub mounted: bool,
    /// Its file system is frozen, or FIFREEZE is under way.
    pub fs_frozen: bool,
}

/// One workload process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessReport {
    /// Its name in the template.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// It runs.
    pub running: bool,
    /// How it ended, as `exit status: 1` or `signal: 9 (SIGKILL)`.
    pub ended: Option<String>,
}

/// How a process that was run to its end ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitReport {
    /// Exit status; none when a signal ended it (a time-out does).
    pub status: Option<i32>,
    /// It was killed because its time was over.
    pub timed_out: bool,
    /// The last 64 KiB of standard output.
    pub stdout: String,
    /// The last 4 KiB of standard error.
    pub stderr: String,
}

impl ExitReport {
    /// Exit status 0.
    pub fn success(&self) -> bool {
        self.status == Some(0)
    }
}

/// How far a freeze came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeReport {
    /// Every process is frozen.
    pub frozen: bool,
    /// After how long the answer was given.
    pub took_ms: u64,
    /// FIFREEZE of each volume.
    pub volumes: Vec<(VolumeId, Fifreeze)>,
}

impl FreezeReport {
    /// A FIFREEZE missed the deadline: until the thaw, every sync(2) of the machine may hang.
    pub fn late(&self) -> bool {
        self.volumes.iter().any(|(_, f)| matches!(f, Fifreeze::Late))
    }
}

/// FIFREEZE of one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fifreeze {
    /// Clean on its device, after so many milliseconds.
    Done(u64),
    /// Still under way.
    Late,
    /// The kernel refused.
    Failed(String),
    /// No file system of it is mounted.
    NotMounted,
}

/// What an eviction took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvictReport {
    /// How long.
    pub took_ms: u64,
}

/// A message that is not one of this protocol, or a socket that failed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed, or the other side hung up.
    #[error("the socket: {0}")]
    Io(#[from] io::Error),
    /// Another version.
    #[error("version {0} is not spoken here")]
    Version(u8),
    /// Longer than allowed.
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    /// Not JSON of the expected shape.
    #[error("the message is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Sends one message, with a descriptor on its first byte if there is one.
pub(crate) fn send<T: Serialize>(
    socket: &mut UnixStream,
    message: &T,
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), WireError> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|n| *n as usize <= MAX_BODY);
    let length = length.ok_or(WireError::TooLong(body.len()))?;
    match fd {
        None => socket.write_all(&[VERSION])?,
        Some(fd) => {
            let fds = [fd];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(io::Error::other("no room for a descriptor").into());
            }
            let head = [IoSlice::new(&[VERSION])];
            sendmsg(socket.as_fd(), &head, &mut control, SendFlags::NOSIGNAL)
                .map_err(io::Error::from)?;
        }
    }
    let mut rest = length.to_be_bytes().to_vec();
    rest.extend_from_slice(&body);
    socket.write_all(&rest)?;
    Ok(())
}

/// Receives one message and the descriptor that came with it. `Ok(None)`: the other side hung up
/// between two messages.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: &mut UnixStream,
) -> Result<Option<(T, Option<OwnedFd>)>, WireError> {
    let mut version = [0u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut head = [IoSliceMut::new(&mut version)];
        match recvmsg(socket.as_fd(), &mut head, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            other => break other.map_err(io::Error::from)?,
        }
    };
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fd = fds.last();
        }
    }
    if version[0] != VERSION {
        return Err(WireError::Version(version[0]));
    }
    let mut length = [0u8; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_BODY {
        return Err(WireError::TooLong(length));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, fd)))
}
