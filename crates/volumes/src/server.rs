//! The server of one volume: reader threads on /dev/fuse, the engine, and the parked requests.
//!
//! A reader thread waits in epoll for the descriptor or for the stop event, never in read(2): a
//! stop reaches it at once. A request that the gate does not admit is copied to the parked queue
//! and the thread reads on, so FLUSH and its like pass while the gate is closed. Everything that a
//! successor needs is in the kernel; this value can be dropped, or killed, at any moment.

use crate::engine::{Engine, Failed};
use crate::fuse_dev::{self, Buffers, Ended, FuseError, MAX_BACKGROUND, Op, Request};
use crate::gate::Gate;
use crate::image::Image;
use crate::parked::{Parked, ParkedQueue, Work};
use keystead_envelope::lease::LeaseGate;
use keystead_envelope::xts::{XtsError, XtsKey};
use keystead_types::Clock;
use rustix::event::{EventfdFlags, epoll};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Reader threads of a volume unless said otherwise.
pub const READERS: usize = 4;

/// A write that the disk under the image does not take (full, read-only, failing) waits and is
/// tried again this often: no error reaches the workload, and it goes on when there is room.
const DISK_AGAIN: Duration = Duration::from_millis(200);
/// A disk that answers EIO is asked this often whether it still flushes.
const FLUSH_AGAIN: Duration = Duration::from_secs(1);

/// Why a volume cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The descriptor or the buffers.
    #[error(transparent)]
    Fuse(#[from] FuseError),
    /// The cipher refused the key.
    #[error("the volume key: {0}")]
    Key(#[from] XtsError),
    /// A system call.
    #[error("{call}: {source}")]
    Call {
        /// What was asked.
        call: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

fn fault(call: &'static str) -> impl FnOnce(Errno) -> ServerError {
    move |e| ServerError::Call { call, source: e.into() }
}

/// What closing the gate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// No thread was still using the key at the deadline. Otherwise that thread wipes its context
    /// itself the moment it is done, and answers nothing.
    pub drained: bool,
    /// Requests that wait.
    pub parked: usize,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// READ requests answered.
    pub reads: u64,
    /// Bytes of them.
    pub read_bytes: u64,
    /// WRITE requests answered.
    pub writes: u64,
    /// Bytes of them.
    pub written_bytes: u64,
    /// FLUSH and FSYNC requests.
    pub flushes: u64,
    /// Trims and write-zeroes.
    pub punches: u64,
    /// Requests that came again after a takeover.
    pub resent: u64,
    /// Requests answered with the disk's error.
    pub io_errors: u64,
    /// Requests that wait for the gate now.
    pub parked: usize,
    /// The most that ever waited.
    pub parked_most: usize,
}

#[derive(Default)]
struct Counters {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    flushes: AtomicU64,
    punches: AtomicU64,
    resent: AtomicU64,
    io_errors: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

struct Shared {
    fuse: OwnedFd,
    stop_event: OwnedFd,
    stopping: AtomicBool,
    ended: AtomicBool,
    engine: Engine,
    parked: ParkedQueue,
    counters: Counters,
    /// Errno of the last write if the disk did not take it, else 0.
    disk: AtomicI32,
    /// Errno that tells that the image is lost to this server, else 0.
    lost: AtomicI32,
    /// When a failing disk was last asked for a flush.
    asked: Mutex<Option<Instant>>,
}

/// One served volume. Dropping it stops it; the mount stays and its requests wait in the kernel
/// for a successor.
pub struct VolumeServer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl VolumeServer {
    /// Starts serving with the gate **closed** and [`READERS`] threads. `takeover`: another server
    /// had this descriptor before; its exit has been waited for (opening the image does), and what
    /// it left unanswered is asked for again before any reader starts.
    pub fn start(
        fuse_fd: OwnedFd,
        image: Image,
        takeover: bool,
        clock: Arc<dyn Clock>,
        lease: Arc<LeaseGate>,
    ) -> Result<Self, ServerError> {
        Self::start_with(fuse_fd, image, takeover, clock, lease, READERS)
    }

    /// [`Self::start`] with that many reader threads (at least one).
    pub fn start_with(
        fuse_fd: OwnedFd,
        image: Image,
        takeover: bool,
        clock: Arc<dyn Clock>,
        lease: Arc<LeaseGate>,
        readers: usize,
    ) -> Result<Self, ServerError> {
        let readers = readers.max(1);
        // The holder made it so; said again here since a blocking read(2) could not be stopped.
        rustix::io::ioctl_fionbio(&fuse_fd, true).map_err(fault("O_NONBLOCK on /dev/fuse"))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let stop_event = rustix::event::eventfd(0, flags).map_err(fault("eventfd"))?;
        let shared = Arc::new(Shared {
            fuse: fuse_fd,
            stop_event,
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            engine: Engine::new(image, Gate::new(readers + 1, clock, lease)),
            parked: ParkedQueue::new(usize::from(MAX_BACKGROUND)),
            counters: Counters::default(),
            disk: AtomicI32::new(0),
            lost: AtomicI32::new(0),
            asked: Mutex::default(),
        });
        // Everything that may fail comes first: no reader starts before the RESEND.
        let mut parts = Vec::new();
        for _ in 0..readers {
            parts.push((Buffers::new()?, shared.waiter()?));
        }
        let buffers = Buffers::new()?;
        if takeover {
            fuse_dev::ask_resend(shared.fuse.as_fd())?;
        }
        let mut server = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for (thread, (buffers, waiter)) in parts.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            server.spawn(format!("vol-read-{thread}"), move || {
                shared.read_requests(thread, buffers, waiter.as_fd());
            })?;
        }
        server.spawn("vol-parked".to_owned(), move || shared.retry_parked(readers, buffers))?;
        Ok(server)
    }

    fn spawn(
        &mut self,
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), ServerError> {
        let made = std::thread::Builder::new().name(name).spawn(work);
        self.threads.push(made.map_err(|source| ServerError::Call { call: "spawn", source })?);
        Ok(())
    }

    /// Opens the gate: each thread gets a context of its own, the key is wiped. Parked requests
    /// are tried at once.
    pub fn open_gate(&self, key: XtsKey) -> Result<(), ServerError> {
        self.shared.engine.gate.open(key)?;
        self.shared.parked.nudge();
        Ok(())
    }

    /// Closes the gate and wipes the key in every thread. When it returns no plaintext leaves and
    /// no key is used (but see [`Closed::drained`]); READ and WRITE wait, the rest passes.
    pub fn close_gate(&self, deadline: Duration) -> Closed {
        let drained = self.shared.engine.gate.close(deadline);
        Closed { drained, parked: self.shared.parked.len().0 }
    }

    /// The gate is open (the lease may still not admit).
    pub fn is_open(&self) -> bool {
        self.shared.engine.gate.is_open()
    }

    /// The connection was unmounted or aborted: nothing comes any more.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::SeqCst)
    }

    /// Why writes wait for the disk under the image; `None` while it takes them.
    pub fn disk_fault(&self) -> Option<std::io::Error> {
        match self.shared.disk.load(Ordering::SeqCst) {
            0 => None,
            errno => Some(std::io::Error::from_raw_os_error(errno)),
        }
    }

    /// Why the image is lost to this server, as a disk is to a machine whose power went: what was
    /// written since the last flush may be gone, so it must not be served on. What was flushed is
    /// there for whoever attaches the volume anew.
    ///
    /// That is so when a flush failed, for no later one can vouch for what it was to make durable;
    /// and when the file system below became read-only under the open image: it was made so by an
    /// error, and comes back by an unmount and a mount alone, which this open file forbids.
    pub fn lost(&self) -> Option<std::io::Error> {
        match self.shared.lost.load(Ordering::SeqCst) {
            0 => None,
            errno => Some(std::io::Error::from_raw_os_error(errno)),
        }
    }

    /// Size of the volume in bytes.
    pub fn size(&self) -> u64 {
        self.shared.engine.size()
    }

    /// Path of the image.
    pub fn image_path(&self) -> PathBuf {
        self.shared.engine.image.path().to_owned()
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let c = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (parked, parked_most) = self.shared.parked.len();
        Stats {
            reads: get(&c.reads),
            read_bytes: get(&c.read_bytes),
            writes: get(&c.writes),
            written_bytes: get(&c.written_bytes),
            flushes: get(&c.flushes),
            punches: get(&c.punches),
            resent: get(&c.resent),
            io_errors: get(&c.io_errors),
            parked,
            parked_most,
        }
    }

    /// Ends the threads after the requests they are at, wipes keys and buffers, closes descriptor
    /// and image. Unanswered requests stay in the kernel.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for VolumeServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.parked.stop();
        // An eventfd takes 2^64 - 2 such writes; it stays readable for every thread.
        let _ = rustix::io::write(&self.shared.stop_event, &1u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an engine thread had panicked");
            }
        }
        self.shared.engine.gate.close(Duration::from_secs(1));
    }
}

impl Shared {
    /// One thread's epoll: the descriptor, exclusively (a request wakes one thread), and the stop.
    fn waiter(&self) -> Result<OwnedFd, ServerError> {
        let waiter = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(fault("epoll"))?;
        let exclusive = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        epoll::add(&waiter, &self.fuse, epoll::EventData::new_u64(0), exclusive)
            .and_then(|()| {
                let data = epoll::EventData::new_u64(1);
                epoll::add(&waiter, &self.stop_event, data, epoll::EventFlags::IN)
            })
            .map_err(fault("epoll add"))?;
        Ok(waiter)
    }

    fn read_requests(&self, thread: usize, mut buffers: Buffers, waiter: BorrowedFd<'_>) {
        let empty =
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        while !self.stopping.load(Ordering::SeqCst) {
            match buffers.next(self.fuse.as_fd()) {
                Ok(Some(request)) => self.serve(thread, &mut buffers, request),
                Ok(None) => {
                    let mut events = [empty; 2];
                    if let Err(e) = epoll::wait(waiter, &mut events[..], None)
                        && e != Errno::INTR
                    {
                        tracing::error!(error = %e, "a volume's reader cannot wait for requests");
                        return;
                    }
                }
                Err(Ended(e)) => {
                    if !self.ended.swap(true, Ordering::SeqCst) {
                        tracing::info!(reason = %e, "the volume's connection has ended");
                    }
                    return;
                }
            }
        }
    }

    fn retry_parked(&self, thread: usize, mut buffers: Buffers) {
        let gate = &self.engine.gate;
        while let Some(mut parked) = self.parked.next(|| gate.is_open(), || gate.admits()) {
            // The copy stays whole: an attempt encrypts in place and may have to be repeated.
            buffers.areas().0[..parked.payload.len()].copy_from_slice(&parked.payload);
            if let Some(rest) = self.attempt(thread, &mut buffers, parked.unique, parked.work) {
                if let Work::Sealed { len, .. } = rest {
                    parked.payload.copy_from_slice(&buffers.areas().0[..len]);
                }
                parked.work = rest;
                parked.not_before = self.not_before();
                self.parked.put_back(parked);
            } else if parked.not_before.is_some() && !self.parked.waits_for_disk() {
                // The last of them: others may have found room before.
                self.disk_said(Ok(()));
            }
        }
    }

    fn reply(&self, unique: u64, result: Result<&[u8], Errno>) {
        if let Err(e) = result
            && e == Errno::IO
        {
            count(&self.counters.io_errors, 1);
        }
        fuse_dev::answer(self.fuse.as_fd(), unique, result);
    }

    fn serve(&self, thread: usize, buffers: &mut Buffers, request: Request) {
        let Request { unique, op } = request;
        if unique >> 63 == 1 {
            count(&self.counters.resent, 1);
        }
        let size = self.engine.size();
        match op {
            Op::Read { offset, len } => {
                self.serve_data(thread, buffers, unique, Work::Read { offset, len });
            }
            Op::Write { offset, len } => {
                self.serve_data(thread, buffers, unique, Work::Write { offset, len });
            }
            Op::Fallocate { offset, len, mode } => match allocation(size, offset, len, mode) {
                Ok(Some(work)) => self.serve_data(thread, buffers, unique, work),
                Ok(None) => self.reply(unique, Ok(&[])),
                Err(e) => self.reply(unique, Err(e)),
            },
            Op::Flush | Op::Fsync => {
                count(&self.counters.flushes, 1);
                let flushed = self.engine.flush();
                if let Err(error) = flushed {
                    self.lose(error);
                }
                self.reply(unique, flushed.map(|()| &[][..]));
            }
            Op::GetAttr | Op::SetAttr { size: None } => {
                self.reply(unique, Ok(&fuse_dev::attributes(size)));
            }
            Op::SetAttr { size: Some(wanted) } if wanted == size => {
                self.reply(unique, Ok(&fuse_dev::attributes(size)));
            }
            Op::SetAttr { size: Some(_) } => self.reply(unique, Err(Errno::PERM)),
            Op::Open => self.reply(unique, Ok(&fuse_dev::opened())),
            Op::StatFs => self.reply(unique, Ok(&fuse_dev::statistics(size))),
            Op::Release => self.reply(unique, Ok(&[])),
            // The holder answers INIT; a mount without one gets the same answer here.
            Op::Init { minor, flags } => match fuse_dev::init_answer(minor, flags) {
                Ok((bytes, _)) => self.reply(unique, Ok(&bytes)),
                Err(_) => self.reply(unique, Err(Errno::PROTO)),
            },
            Op::Silent => {}
            Op::Unknown => self.reply(unique, Err(Errno::NOSYS)),
            Op::Malformed => self.reply(unique, Err(Errno::INVAL)),
        }
    }

    fn serve_data(&self, thread: usize, buffers: &mut Buffers, unique: u64, work: Work) {
        if let Some(rest) = self.attempt(thread, buffers, unique, work) {
            let payload = match rest {
                Work::Write { len, .. } | Work::Sealed { len, .. } => {
                    buffers.areas().0[..len].to_vec()
                }
                _ => Vec::new(),
            };
            let not_before = self.not_before();
            self.parked.push(Parked { unique, work: rest, payload, not_before });
        }
    }

    /// When what has to wait is tried again: by the gate alone, unless the disk is in the way.
    fn not_before(&self) -> Option<Instant> {
        (self.disk.load(Ordering::SeqCst) != 0).then(|| Instant::now() + DISK_AGAIN)
    }

    /// Takes note of whether the disk took a write.
    fn disk_said(&self, taken: Result<(), Errno>) {
        let now = taken.map_or_else(Errno::raw_os_error, |()| 0);
        let before = self.disk.swap(now, Ordering::SeqCst);
        match taken {
            Err(Errno::ROFS) => self.lose(Errno::ROFS),
            Err(Errno::IO) => self.ask_flush(),
            _ => {}
        }
        let image = self.engine.image.path().display();
        match taken {
            Err(error) if before != now => {
                tracing::error!(%image, %error, "the disk does not take a write; it waits");
            }
            Ok(()) if before != 0 => tracing::info!(%image, "the disk takes writes again"),
            _ => {}
        }
    }

    /// Is it some blocks that fail, or all of the file system? The workload's own flush waits for
    /// its writes, and so would never find out.
    fn ask_flush(&self) {
        let now = Instant::now();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some_and(|at| now < at + FLUSH_AGAIN) {
            return;
        }
        *asked = Some(now);
        drop(asked);
        if let Err(error) = self.engine.flush() {
            self.lose(error);
        }
    }

    /// Takes note that the image is lost to this server.
    fn lose(&self, error: Errno) {
        if self.lost.swap(error.raw_os_error(), Ordering::SeqCst) == 0 {
            let image = self.engine.image.path().display();
            tracing::error!(%image, %error, "the image is lost until it is attached anew");
        }
    }

    /// Tries a request whose payload is in the buffers. `Some`: what of it has to wait.
    fn attempt(
        &self,
        thread: usize,
        buffers: &mut Buffers,
        unique: u64,
        work: Work,
    ) -> Option<Work> {
        let (payload, area) = buffers.areas();
        match work {
            Work::Read { offset, len } => match self.engine.read(thread, offset, len, area) {
                Ok(plain) => {
                    let sent = self.engine.gate.let_out(thread, || self.reply(unique, Ok(plain)));
                    if sent.is_err() {
                        plain.fill(0);
                        return Some(work);
                    }
                    count(&self.counters.reads, 1);
                    count(&self.counters.read_bytes, plain.len() as u64);
                }
                Err(Failed::NotAdmitted) => return Some(work),
                Err(Failed::Errno(e) | Failed::Disk(e)) => self.reply(unique, Err(e)),
            },
            Work::Write { offset, len } => {
                match self.engine.write(thread, offset, &mut payload[..len], area) {
                    Ok(()) => return self.acknowledge(thread, unique, len),
                    Err(Failed::NotAdmitted) => return Some(work),
                    Err(Failed::Errno(e)) => self.reply(unique, Err(e)),
                    Err(Failed::Disk(e)) if !may_pass(e) => self.reply(unique, Err(e)),
                    Err(Failed::Disk(e)) => {
                        self.disk_said(Err(e));
                        let sealed = Engine::is_whole(offset, len);
                        return Some(if sealed { Work::Sealed { offset, len } } else { work });
                    }
                }
            }
            Work::Sealed { offset, len } => {
                match self.engine.write_sealed(offset, &payload[..len]) {
                    Ok(()) => return self.acknowledge(thread, unique, len),
                    Err(Failed::Disk(e)) if may_pass(e) => self.disk_said(Err(e)),
                    Err(Failed::Errno(e) | Failed::Disk(e)) => {
                        self.reply(unique, Err(e));
                        return None;
                    }
                    Err(Failed::NotAdmitted) => {}
                }
                return Some(work);
            }
            Work::Written { len } => return self.acknowledge(thread, unique, len),
            Work::Punch { offset, len } => match self.engine.punch(thread, offset, len, area) {
                Ok(()) => {
                    count(&self.counters.punches, 1);
                    self.reply(unique, Ok(&[]));
                }
                Err(Failed::NotAdmitted) => return Some(work),
                Err(Failed::Errno(e)) => self.reply(unique, Err(e)),
                Err(Failed::Disk(e)) if !may_pass(e) => self.reply(unique, Err(e)),
                Err(Failed::Disk(e)) => {
                    self.disk_said(Err(e));
                    return Some(work);
                }
            },
        }
        None
    }

    /// Answers a write that is on disk, if an answer may leave.
    fn acknowledge(&self, thread: usize, unique: u64, len: usize) -> Option<Work> {
        let body = fuse_dev::written(len);
        match self.engine.gate.let_out(thread, || self.reply(unique, Ok(&body))) {
            Ok(()) => {
                count(&self.counters.writes, 1);
                count(&self.counters.written_bytes, len as u64);
                None
            }
            Err(_) => Some(Work::Written { len }),
        }
    }
}

/// A disk that is full, over quota, read-only or failing may be mended; anything else is answered.
fn may_pass(error: Errno) -> bool {
    matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO)
}

/// What a FALLOCATE asks for: a hole, or nothing (space is never reserved).
fn allocation(size: u64, offset: u64, len: u64, mode: u32) -> Result<Option<Work>, Errno> {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    const ZERO_RANGE: u32 = 0x10;
    let end = offset.checked_add(len).ok_or(Errno::FBIG)?;
    if mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    if mode & KEEP_SIZE == 0 && end > size {
        return Err(Errno::NOSPC);
    }
    Ok((mode & (PUNCH_HOLE | ZERO_RANGE) != 0).then_some(Work::Punch { offset, len }))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
