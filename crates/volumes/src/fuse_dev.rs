//! The /dev/fuse protocol for one file: requests in, answers out, and the mount.
//!
//! The volume *is* the mount's root (node 1, a regular file), so there is no LOOKUP, FORGET or
//! READDIR and no state worth keeping: a successor needs the descriptor and nothing else. The
//! holder mounts and answers INIT; servers come and go behind it.
//!
//! Bytes of a request (native order), as the kernel fills the buffer:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the whole request |
//! | 4 | 4 | opcode |
//! | 8 | 8 | unique; bit 63 says that it is sent again (RESEND) |
//! | 16 | 8 | node id, always 1 |
//! | 24 | 16 | uid, gid, pid, extensions: not used |
//! | 40 | - | arguments; of WRITE 40 bytes: fh, offset (u64), size (u32), flags |
//! | 80 | - | of WRITE: the payload |
//!
//! An answer is length (u32), negated errno (i32), unique (u64), then the arguments. A notification
//! has its code where the errno stands and unique 0.
//!
//! The buffer starts 80 bytes before a page end, so that a WRITE's payload is page aligned and goes
//! to an O_DIRECT file without a copy. It is faulted in and locked: a kill inside read(2) that hits
//! a page not yet faulted makes the kernel answer that request with EIO.
#![allow(unsafe_code)] // anonymous memory is mapped, locked and unmapped here, nothing else.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::mount::MountFlags;
use std::ffi::CString;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

/// Largest READ or WRITE: 256 pages.
pub const MAX_IO: usize = 1 << 20;
/// The kernel sends at most so many background requests at a time (loop's are all background).
pub const MAX_BACKGROUND: u16 = 192;

const PAGE: usize = 4096;
const HEAD: usize = 40;
const WRITE_HEAD: usize = 40;
/// Where in the mapping a request begins: its WRITE payload then begins at the second page.
const START: usize = PAGE - HEAD - WRITE_HEAD;
const REQUEST_BYTES: usize = HEAD + WRITE_HEAD + MAX_IO;
/// Room for [`MAX_IO`] bytes at any offset, widened to whole sectors.
const WORK_BYTES: usize = MAX_IO + 2 * PAGE;

const PROTOCOL_MAJOR: u32 = 7;
/// HAS_RESEND came with 7.40; nothing newer is used.
const PROTOCOL_MINOR: u32 = 40;
const NOTIFY_RESEND: i32 = 7;

/// A failure of the descriptor itself.
#[derive(Debug, thiserror::Error)]
pub enum FuseError {
    /// A system call failed.
    #[error("{call}: {source}")]
    Call {
        /// What was asked.
        call: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The first request was not INIT, or never came.
    #[error("expected the kernel's INIT, got {0}")]
    NoInit(String),
    /// The kernel lacks something.
    #[error("the kernel's FUSE offers no {0}")]
    Lacks(&'static str),
}

fn fault(call: &'static str) -> impl FnOnce(Errno) -> FuseError {
    move |e| FuseError::Call { call, source: e.into() }
}

// ---------------------------------------------------------------------------------------------
// Memory

/// Anonymous memory, faulted in and locked; wiped before it is given back.
pub(crate) struct Locked {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is owned by this value alone; moving it to another thread moves the owner.
unsafe impl Send for Locked {}

impl Locked {
    fn new(len: usize) -> Result<Self, FuseError> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice aliases nothing.
        let at = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, prot, flags) }
            .map_err(fault("mmap"))?;
        let at = NonNull::new(at.cast::<u8>()).ok_or_else(|| fault("mmap")(Errno::NOMEM))?;
        let mapped = Self { at, len };
        // SAFETY: the range is the mapping just made; locking changes no contents.
        unsafe { rustix::mm::mlock(mapped.at.as_ptr().cast(), len) }.map_err(fault("mlock"))?;
        // SAFETY: as above. Left out of core dumps: it carries plaintext.
        let _ = unsafe {
            rustix::mm::madvise(mapped.at.as_ptr().cast(), len, rustix::mm::Advice::LinuxDontDump)
        };
        Ok(mapped)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `len` readable, writable, initialised (zeroed) bytes, owned by
        // this value, and the borrow of self keeps it unique and alive.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned and not borrowed any more; explicit_bzero is not optimised
        // away, and nothing uses the range after munmap.
        unsafe {
            libc::explicit_bzero(self.at.as_ptr().cast(), self.len);
            let _ = rustix::mm::munmap(self.at.as_ptr().cast(), self.len);
        }
    }
}

/// One thread's buffers: the request, and a work area for READ and for unaligned edges.
pub(crate) struct Buffers {
    request: Locked,
    work: Locked,
}

impl Buffers {
    pub(crate) fn new() -> Result<Self, FuseError> {
        Ok(Self { request: Locked::new(PAGE + MAX_IO)?, work: Locked::new(WORK_BYTES)? })
    }

    /// The payload area (page aligned, [`MAX_IO`]) and the work area (page aligned).
    pub(crate) fn areas(&mut self) -> (&mut [u8], &mut [u8]) {
        (&mut self.request.bytes()[PAGE..], self.work.bytes())
    }

    /// Reads one request. `Ok(None)`: nothing there now. `Err`: the connection has ended.
    pub(crate) fn next(&mut self, fd: BorrowedFd<'_>) -> Result<Option<Request>, Ended> {
        let buffer = &mut self.request.bytes()[START..START + REQUEST_BYTES];
        match rustix::io::read(fd, &mut *buffer) {
            Ok(n) => Ok(Request::parse(&buffer[..n])),
            // ENOENT: the request was withdrawn while it was copied.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOENT) => Ok(None),
            Err(e) => Err(Ended(e)),
        }
    }
}

/// The connection is gone (unmounted or aborted).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended(pub(crate) Errno);

// ---------------------------------------------------------------------------------------------
// Requests

/// A request, without its payload (that stays in the buffer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) unique: u64,
    pub(crate) op: Op,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Init {
        minor: u32,
        flags: u64,
    },
    GetAttr,
    SetAttr {
        size: Option<u64>,
    },
    Open,
    Read {
        offset: u64,
        len: usize,
    },
    Write {
        offset: u64,
        len: usize,
    },
    StatFs,
    Release,
    Flush,
    Fsync,
    Fallocate {
        offset: u64,
        len: u64,
        mode: u32,
    },
    /// INTERRUPT, FORGET, BATCH_FORGET: no answer is due.
    Silent,
    /// Everything else, GETXATTR too: ENOSYS, so that the kernel does not ask again.
    Unknown,
    /// An argument does not fit its request.
    Malformed,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes)
}

impl Request {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let opcode = u32_at(bytes, 4)?;
        let unique = u64_at(bytes, 8)?;
        let args = bytes.get(HEAD..)?;
        Some(Self { unique, op: Op::parse(opcode, args).unwrap_or(Op::Malformed) })
    }
}

impl Op {
    fn parse(opcode: u32, args: &[u8]) -> Option<Self> {
        Some(match opcode {
            2 | 36 | 42 => Self::Silent,
            3 => Self::GetAttr,
            // FATTR_SIZE is bit 3 of `valid`.
            4 => Self::SetAttr {
                size: if u32_at(args, 0)? & 8 != 0 { Some(u64_at(args, 16)?) } else { None },
            },
            14 => Self::Open,
            15 => {
                let len = u32_at(args, 16)? as usize;
                Self::Read { offset: u64_at(args, 8)?, len: (len <= MAX_IO).then_some(len)? }
            }
            16 => {
                let len = u32_at(args, 16)? as usize;
                args.get(WRITE_HEAD..WRITE_HEAD + len)?;
                Self::Write { offset: u64_at(args, 8)?, len }
            }
            17 => Self::StatFs,
            18 => Self::Release,
            20 => Self::Fsync,
            25 => Self::Flush,
            26 => {
                let high = u32_at(args, 16).unwrap_or(0);
                let flags = u64::from(u32_at(args, 12)?) | u64::from(high) << 32;
                Self::Init { minor: u32_at(args, 4)?, flags }
            }
            43 => Self::Fallocate {
                offset: u64_at(args, 8)?,
                len: u64_at(args, 16)?,
                mode: u32_at(args, 24)?,
            },
            _ => Self::Unknown,
        })
    }
}

// ---------------------------------------------------------------------------------------------
// Answers

fn out_header(len: usize, error: i32, unique: u64) -> [u8; 16] {
    let mut head = [0; 16];
    head[..4].copy_from_slice(&u32::try_from(16 + len).unwrap_or(u32::MAX).to_ne_bytes());
    head[4..8].copy_from_slice(&error.to_ne_bytes());
    head[8..].copy_from_slice(&unique.to_ne_bytes());
    head
}

/// Answers a request; one that was withdrawn meanwhile (ENOENT) is fine.
pub(crate) fn answer(fd: BorrowedFd<'_>, unique: u64, result: Result<&[u8], Errno>) {
    let (error, body) = match result {
        Ok(body) => (0, body),
        Err(e) => (-e.raw_os_error(), &[][..]),
    };
    let head = out_header(body.len(), error, unique);
    let sent = rustix::io::writev(fd, &[IoSlice::new(&head), IoSlice::new(body)]);
    if let Err(e) = sent
        && !matches!(e, Errno::NOENT | Errno::NODEV | Errno::CONNABORTED)
    {
        tracing::warn!(error = %e, "an answer was not taken by the kernel");
    }
}

/// Asks the kernel to send again what the predecessor read and did not answer. To be called after
/// the predecessor's exit was waited for and before any reader starts, else a request is executed
/// twice.
pub(crate) fn ask_resend(fd: BorrowedFd<'_>) -> Result<(), FuseError> {
    let note = out_header(0, NOTIFY_RESEND, 0);
    rustix::io::write(fd, &note).map(drop).map_err(fault("FUSE_NOTIFY_RESEND"))
}

/// `fuse_attr` of the volume: a regular file, 0600, of that size. `with_valid` puts the head of
/// `fuse_attr_out` before it.
pub(crate) fn attributes(size: u64) -> [u8; 104] {
    let mut out = [0u8; 104];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &3600u64.to_ne_bytes()); // attr_valid, seconds: nothing ever changes
    put(16, &1u64.to_ne_bytes()); // ino
    put(24, &size.to_ne_bytes());
    put(32, &(size / 512).to_ne_bytes());
    put(76, &0o100_600u32.to_ne_bytes()); // mode
    put(80, &1u32.to_ne_bytes()); // nlink
    put(96, &4096u32.to_ne_bytes()); // blksize
    out
}

/// `fuse_open_out`: no handle, direct I/O, writes of one file in parallel, no FLUSH at close. A
/// close must not wait for the server: a process that forks and execs closes its copy of every
/// descriptor, and hung in exec(2) when the server to be started was the one to answer. Nothing is
/// lost: durability is FSYNC's.
pub(crate) fn opened() -> [u8; 16] {
    const DIRECT_IO: u32 = 1;
    const NOFLUSH: u32 = 1 << 5;
    const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
    let mut out = [0; 16];
    out[8..12].copy_from_slice(&(DIRECT_IO | NOFLUSH | PARALLEL_DIRECT_WRITES).to_ne_bytes());
    out
}

/// `fuse_write_out`.
pub(crate) fn written(len: usize) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
    out
}

/// `fuse_statfs_out`: block sizes and name length, nothing else is meaningful for one file.
pub(crate) fn statistics(size: u64) -> [u8; 80] {
    let mut out = [0u8; 80];
    out[..8].copy_from_slice(&(size / 4096).to_ne_bytes());
    out[40..44].copy_from_slice(&4096u32.to_ne_bytes());
    out[44..48].copy_from_slice(&255u32.to_ne_bytes());
    out[48..52].copy_from_slice(&4096u32.to_ne_bytes());
    out
}

/// What was agreed in INIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitReply {
    /// The kernel's protocol minor version.
    pub kernel_minor: u32,
    /// The minor version that is spoken.
    pub minor: u32,
    /// Flags agreed (flags in the low, flags2 in the high half).
    pub flags: u64,
}

const ASYNC_READ: u64 = 1;
const BIG_WRITES: u64 = 1 << 5;
const ASYNC_DIO: u64 = 1 << 15;
const MAX_PAGES: u64 = 1 << 22;
const INIT_EXT: u64 = 1 << 30;
const HAS_RESEND: u64 = 1 << 39;

/// The one fixed answer to INIT, and what it says.
pub(crate) fn init_answer(minor: u32, offered: u64) -> Result<([u8; 64], InitReply), FuseError> {
    if minor < PROTOCOL_MINOR || offered & HAS_RESEND == 0 {
        return Err(FuseError::Lacks("RESEND (protocol 7.40)"));
    }
    let flags = offered & (ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES | INIT_EXT | HAS_RESEND);
    let mut out = [0u8; 64];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &PROTOCOL_MAJOR.to_ne_bytes());
    put(4, &PROTOCOL_MINOR.to_ne_bytes());
    put(8, &(MAX_IO as u32).to_ne_bytes()); // max_readahead
    put(12, &(flags as u32).to_ne_bytes());
    put(16, &MAX_BACKGROUND.to_ne_bytes());
    put(18, &MAX_BACKGROUND.to_ne_bytes()); // congestion_threshold
    put(20, &(MAX_IO as u32).to_ne_bytes()); // max_write
    put(24, &1u32.to_ne_bytes()); // time_gran
    put(28, &((MAX_IO / PAGE) as u16).to_ne_bytes()); // max_pages
    put(32, &((flags >> 32) as u32).to_ne_bytes()); // flags2
    Ok((out, InitReply { kernel_minor: minor, minor: PROTOCOL_MINOR, flags }))
}

// ---------------------------------------------------------------------------------------------
// For the holder

/// Opens /dev/fuse for a volume: non-blocking (two readers may wake for one request, and the flag
/// belongs to the open file that holder and servers share), closed on exec.
pub fn open_device() -> Result<std::os::fd::OwnedFd, FuseError> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open("/dev/fuse", flags, rustix::fs::Mode::empty()).map_err(fault("open /dev/fuse"))
}

/// Mounts the connection over a regular file, which becomes the volume. Returns at once; the
/// kernel's INIT then waits on `fd` for [`answer_init`].
pub fn mount_over_file<Fd: AsFd>(target: &Path, fd: Fd) -> Result<(), FuseError> {
    let options = format!(
        "fd={},rootmode=100000,user_id=0,group_id=0,default_permissions",
        fd.as_fd().as_raw_fd()
    );
    let data = CString::new(options).map_err(|_| fault("mount fuse")(Errno::INVAL))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(c"keystead", target, c"fuse", flags, data.as_c_str())
        .map_err(fault("mount fuse"))
}

/// Answers the kernel's INIT, which it sends once: the holder does, so that no death of a server
/// can lose it. Waits at most five seconds.
pub fn answer_init<Fd: AsFd>(fd: Fd) -> Result<InitReply, FuseError> {
    let fd = fd.as_fd();
    rustix::io::ioctl_fionbio(fd, true).map_err(fault("O_NONBLOCK"))?;
    let mut buffers = Buffers::new()?;
    let wait = Timespec { tv_sec: Duration::from_secs(5).as_secs() as i64, tv_nsec: 0 };
    let mut wanted = [PollFd::new(&fd, PollFlags::IN)];
    if poll(&mut wanted, Some(&wait)).map_err(fault("poll /dev/fuse"))? == 0 {
        return Err(FuseError::NoInit("nothing within five seconds".to_owned()));
    }
    match buffers.next(fd) {
        Ok(Some(Request { unique, op: Op::Init { minor, flags } })) => {
            let agreed = init_answer(minor, flags);
            match &agreed {
                Ok((bytes, _)) => answer(fd, unique, Ok(bytes)),
                Err(_) => answer(fd, unique, Err(Errno::PROTO)),
            }
            agreed.map(|(_, reply)| reply)
        }
        Ok(other) => Err(FuseError::NoInit(format!("{other:?}"))),
        Err(Ended(e)) => Err(fault("read /dev/fuse")(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, unique: u64, args: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEAD];
        bytes[..4].copy_from_slice(&((HEAD + args.len()) as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
        bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
        bytes.extend_from_slice(args);
        bytes
    }

    #[test]
    fn keeps_bit_63_of_a_resent_request_and_refuses_a_short_write() {
        let mut args = vec![0; WRITE_HEAD + 512];
        args[8..16].copy_from_slice(&4096u64.to_ne_bytes());
        args[16..20].copy_from_slice(&512u32.to_ne_bytes());
        let unique = 1 << 63 | 42;
        let got = Request::parse(&request(16, unique, &args)).expect("a request");
        assert_eq!(got, Request { unique, op: Op::Write { offset: 4096, len: 512 } });
        let short = Request::parse(&request(16, 7, &args[..WRITE_HEAD + 511])).expect("a request");
        assert_eq!(short.op, Op::Malformed);
        assert_eq!(out_header(0, 0, unique)[8..], unique.to_ne_bytes());
    }

    #[test]
    fn a_write_payload_is_page_aligned() {
        let mut buffers = Buffers::new().expect("locked memory");
        let (payload, work) = buffers.areas();
        assert_eq!(payload.as_ptr() as usize % PAGE, 0);
        assert_eq!(work.as_ptr() as usize % PAGE, 0);
        assert_eq!((START + HEAD + WRITE_HEAD) % PAGE, 0);
        assert_eq!((payload.len(), work.len()), (MAX_IO, MAX_IO + 2 * PAGE));
    }

    #[test]
    fn refuses_a_kernel_without_resend() {
        assert!(init_answer(45, HAS_RESEND | INIT_EXT).is_ok());
        assert!(init_answer(39, HAS_RESEND).is_err());
        assert!(init_answer(45, INIT_EXT).is_err());
    }
}
