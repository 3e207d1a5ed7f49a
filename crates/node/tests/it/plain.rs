//! A server of one volume without any key: the volume is a piece of memory. It has a gate, as the
//! real one has, that parks READ and WRITE, so that hold is tested against everything that a
//! volume does to it.

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const HEAD: usize = 40;
const WRITE_HEAD: usize = 40;
const MAX_IO: usize = 1 << 20;

/// The volume's bytes; they outlive its server.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<Vec<u8>>>);

impl Disk {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0; bytes])))
    }
    pub(crate) fn bytes<T>(&self, look: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        look(&mut self.0.lock().expect("no panic before"))
    }
}

struct Shared {
    fd: OwnedFd,
    wake: OwnedFd,
    disk: Disk,
    open: AtomicBool,
    stop: AtomicBool,
    ended: AtomicBool,
    written: AtomicU64,
    parked: AtomicU64,
    /// Writes take as long as a disk of so many bytes a second would; 0: no time.
    rate: AtomicU64,
}

pub(crate) struct Plain {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Plain {
    /// Serves, gate open. With `takeover` the kernel is asked to send again first.
    pub(crate) fn start(fd: OwnedFd, disk: Disk, takeover: bool) -> Self {
        if takeover {
            let mut note = [0u8; 16];
            note[..4].copy_from_slice(&16u32.to_ne_bytes());
            note[4..8].copy_from_slice(&7i32.to_ne_bytes()); // FUSE_NOTIFY_RESEND
            rustix::io::write(&fd, &note).expect("resend");
        }
        let shared = Arc::new(Shared {
            fd,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("eventfd"),
            disk,
            open: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            written: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            rate: AtomicU64::new(0),
        });
        let served = shared.clone();
        let thread = Some(std::thread::spawn(move || served.run()));
        Self { shared, thread }
    }

    pub(crate) fn gate(&self, open: bool) {
        self.shared.open.store(open, Ordering::SeqCst);
        self.shared.wake();
    }
    pub(crate) fn slow(&self, bytes_a_second: u64) {
        self.shared.rate.store(bytes_a_second, Ordering::SeqCst);
    }
    pub(crate) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }
    pub(crate) fn parked(&self) -> u64 {
        self.shared.parked.load(Ordering::SeqCst)
    }
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::SeqCst)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server did not panic");
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl Shared {
    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn run(&self) {
        let mut buffer = vec![0u8; HEAD + WRITE_HEAD + MAX_IO];
        let mut parked: Vec<Vec<u8>> = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            if self.open.load(Ordering::SeqCst) {
                for request in parked.drain(..) {
                    self.serve(&request);
                }
                self.parked.store(0, Ordering::SeqCst);
            }
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(n) => {
                    let request = &buffer[..n];
                    let data = matches!(u32_at(request, 4), 15 | 16);
                    if data && !self.open.load(Ordering::SeqCst) {
                        parked.push(request.to_vec());
                        self.parked.fetch_add(1, Ordering::SeqCst);
                    } else {
                        self.serve(request);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => {
                    let mut wanted = [
                        PollFd::new(&self.fd, PollFlags::IN),
                        PollFd::new(&self.wake, PollFlags::IN),
                    ];
                    let _ = poll(&mut wanted, None);
                    let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::NOENT) => {}
                Err(_) => {
                    self.ended.store(true, Ordering::SeqCst);
                    return;
                }
            }
        }
    }

    fn answer(&self, unique: u64, error: i32, body: &[u8]) {
        let mut out = Vec::with_capacity(16 + body.len());
        out.extend_from_slice(&u32::try_from(16 + body.len()).expect("short").to_ne_bytes());
        out.extend_from_slice(&(-error).to_ne_bytes());
        out.extend_from_slice(&unique.to_ne_bytes());
        out.extend_from_slice(body);
        let _ = rustix::io::write(self.fd.as_fd(), &out);
    }

    fn serve(&self, request: &[u8]) {
        let (opcode, unique, args) = (u32_at(request, 4), u64_at(request, 8), &request[HEAD..]);
        let size = self.disk.bytes(|b| b.len());
        match opcode {
            2 | 36 | 42 => {}
            3 | 4 => self.answer(unique, 0, &attributes(size as u64)),
            14 => {
                let mut out = [0u8; 16];
                out[8..12].copy_from_slice(&(1u32 | 1 << 6).to_ne_bytes());
                self.answer(unique, 0, &out);
            }
            15 => {
                let at = (u64_at(args, 8) as usize).min(size);
                let end = (at + u32_at(args, 16) as usize).min(size);
                let bytes = self.disk.bytes(|b| b[at..end].to_vec());
                self.answer(unique, 0, &bytes);
            }
            16 => {
                let (at, len) = (u64_at(args, 8) as usize, u32_at(args, 16) as usize);
                let payload = &args[WRITE_HEAD..WRITE_HEAD + len];
                self.disk.bytes(|b| b[at..at + len].copy_from_slice(payload));
                self.written.fetch_add(len as u64, Ordering::SeqCst);
                let rate = self.rate.load(Ordering::SeqCst);
                if let Some(nanos) = (len as u64 * 1_000_000_000).checked_div(rate) {
                    std::thread::sleep(std::time::Duration::from_nanos(nanos));
                }
                let mut out = [0u8; 8];
                out[..4].copy_from_slice(&u32::try_from(len).expect("short").to_ne_bytes());
                self.answer(unique, 0, &out);
            }
            43 => {
                let (at, len) = (u64_at(args, 8) as usize, u64_at(args, 16) as usize);
                if u32_at(args, 24) & 0x12 != 0 {
                    self.disk.bytes(|b| b[at.min(size)..(at + len).min(size)].fill(0));
                }
                self.answer(unique, 0, &[]);
            }
            17 => self.answer(unique, 0, &[0; 80]),
            18 | 20 | 25 => self.answer(unique, 0, &[]),
            _ => self.answer(unique, libc::ENOSYS, &[]),
        }
    }
}

fn attributes(size: u64) -> [u8; 104] {
    let mut out = [0u8; 104];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &3600u64.to_ne_bytes());
    put(16, &1u64.to_ne_bytes());
    put(24, &size.to_ne_bytes());
    put(32, &(size / 512).to_ne_bytes());
    put(76, &0o100_600u32.to_ne_bytes());
    put(80, &1u32.to_ne_bytes());
    put(96, &4096u32.to_ne_bytes());
    out
}
