//! Fuzz target: requests one after another, as the kernel would send them, to a server whose
//! /dev/fuse is a file in memory, beside a volume that is plain memory.

use super::*;
use crate::image::SECTOR;
use keystead_envelope::memory::DataKey;
use keystead_types::Boot;
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

const SIZE: usize = 16 * SECTOR;
/// Where in a request its WRITE payload begins.
const PAYLOAD: usize = 80;
/// FORGET, INTERRUPT and BATCH_FORGET get no answer.
const SILENT: [u32; 3] = [2, 36, 42];

struct Still;

impl Clock for Still {
    fn boot(&self) -> Boot {
        Boot::since_boot(Duration::from_secs(1))
    }
    fn wall_ms(&self) -> i64 {
        0
    }
}

struct Rig {
    shared: Shared,
    buffers: Buffers,
    requests: File,
    answers: File,
}

thread_local! {
    static RIG: RefCell<Rig> = RefCell::new(Rig::new());
}

/// Every request but the silent ones is answered once, under its own number, by an answer as long
/// as it says; what is read is what was written; with the gate closed nothing is read or written.
pub fn fuse(data: &[u8]) {
    RIG.with_borrow_mut(|rig| {
        rig.shared.engine.image.punch(0, SIZE as u64).expect("an empty volume");
        rig.shared.engine.gate.open(key()).expect("opens");
        let mut plain = vec![0; SIZE];
        for request in frames(data) {
            rig.step(request, &mut plain);
        }
        rig.shared.engine.gate.close(Duration::ZERO);
        frames(data).take(32).for_each(|request| rig.closed(request));
    });
}

/// Requests as long as their first field says; the last may be cut short.
fn frames(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length: [u8; 4] = data.get(..4)?.try_into().ok()?;
        let length = (u32::from_ne_bytes(length) as usize).clamp(4, data.len());
        let (request, rest) = data.split_at(length);
        data = rest;
        Some(request)
    })
}

fn key() -> XtsKey {
    let mut bytes: [u8; 64] = std::array::from_fn(|i| i as u8);
    XtsKey::new(DataKey::from_slice_zeroizing(&mut bytes).expect("key memory")).expect("two halves")
}

fn memory_file() -> File {
    rustix::fs::memfd_create("keystead-fuzz", rustix::fs::MemfdFlags::CLOEXEC)
        .expect("a file in memory")
        .into()
}

impl Rig {
    fn new() -> Self {
        let this = format!("keystead-fuzz-{}", std::process::id());
        let path = std::path::Path::new("/dev/shm").join(this);
        Image::create(&path, SIZE as u64, b"no header").expect("an image");
        let image = Image::open(&path).expect("opens");
        std::fs::remove_file(&path).expect("its name goes");
        let lease = LeaseGate::new();
        lease.publish(Some(Boot::since_boot(Duration::from_secs(100))));
        let answers = memory_file();
        let shared = Shared {
            fuse: answers.try_clone().expect("a second descriptor").into(),
            stop_event: memory_file().into(),
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            engine: Engine::new(image, Gate::new(1, Arc::new(Still), Arc::new(lease))),
            parked: ParkedQueue::new(usize::from(MAX_BACKGROUND)),
            counters: Counters::default(),
            disk: AtomicI32::new(0),
            lost: AtomicI32::new(0),
            asked: Mutex::default(),
        };
        let buffers = Buffers::new().expect("locked memory");
        Self { shared, buffers, requests: memory_file(), answers }
    }

    /// What the server writes to a request; `None` when it is too short to be one.
    fn ask(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        self.requests.set_len(0).expect("emptied");
        self.requests.write_all_at(request, 0).expect("written");
        rustix::fs::seek(&self.requests, rustix::fs::SeekFrom::Start(0)).expect("at the start");
        let read = self.buffers.next(self.requests.as_fd()).expect("a file is read");
        let parsed = read?;
        if let Op::Read { len, .. } | Op::Write { len, .. } = parsed.op {
            assert!(len <= fuse_dev::MAX_IO, "more than the buffers hold");
        }
        self.answers.set_len(0).expect("emptied");
        rustix::fs::seek(&self.answers, rustix::fs::SeekFrom::Start(0)).expect("at the start");
        self.shared.serve(0, &mut self.buffers, parsed);
        let length = self.answers.metadata().expect("its length").len();
        let mut answer = vec![0; length as usize];
        self.answers.read_exact_at(&mut answer, 0).expect("read");
        Some(answer)
    }

    fn step(&mut self, request: &[u8], plain: &mut [u8]) {
        let Some(answer) = self.ask(request) else {
            assert!(request.len() < 40, "a whole head is a request");
            return;
        };
        assert_eq!(self.shared.parked.len().0, 0, "the gate is open, and a request waits");
        let opcode = number(request, 4);
        if SILENT.contains(&opcode) {
            assert!(answer.is_empty(), "an answer that nobody waits for");
            return;
        }
        let (error, body) = taken_apart(&answer, request);
        if error != 0 {
            assert!(body.is_empty(), "an error with a body");
            return;
        }
        let at = usize::try_from(long(request, 48)).unwrap_or(usize::MAX);
        let length = number(request, 56) as usize;
        match opcode {
            15 => {
                let from = at.min(SIZE);
                assert_eq!(body, &plain[from..SIZE.min(from.saturating_add(length))], "READ");
            }
            16 => {
                assert_eq!((body.len(), number(body, 0) as usize), (8, length));
                plain[at..at + length].copy_from_slice(&request[PAYLOAD..PAYLOAD + length]);
            }
            // FALLOCATE that makes a hole; without such a mode it changes nothing.
            43 if number(request, 64) & 0x12 != 0 => {
                let long = usize::try_from(long(request, 56)).unwrap_or(usize::MAX);
                plain[at.min(SIZE)..SIZE.min(at.saturating_add(long))].fill(0);
            }
            3 | 4 => assert_eq!(body.len(), 104),
            14 => assert_eq!(body.len(), 16),
            17 => assert_eq!(body.len(), 80),
            26 => assert_eq!(body.len(), 64),
            18 | 20 | 25 | 43 => assert!(body.is_empty()),
            other => panic!("nobody knows opcode {other}, and it went well"),
        }
    }

    /// With the gate closed a READ or WRITE waits, or is refused; it never goes well.
    fn closed(&mut self, request: &[u8]) {
        let Some(answer) = self.ask(request) else { return };
        let waits = self.shared.parked.len().0 > 0;
        if waits {
            assert!(answer.is_empty(), "it waits and is answered");
            self.shared.parked.next(|| true, || true).expect("what waits");
        }
        if matches!(number(request, 4), 15 | 16) && !waits {
            let (error, body) = taken_apart(&answer, request);
            let nothing = number(request, 56) == 0 || long(request, 48) >= SIZE as u64;
            assert!(error != 0 || nothing, "{} bytes through a closed gate", body.len());
        }
    }
}

/// Error and body of the one answer to a request.
fn taken_apart<'a>(answer: &'a [u8], request: &[u8]) -> (i32, &'a [u8]) {
    assert!(answer.len() >= 16, "no answer to {request:?}");
    assert_eq!(number(answer, 0) as usize, answer.len(), "one answer, as long as it says");
    assert_eq!(answer[8..16], request[8..16], "another request's number");
    let error = number(answer, 4) as i32;
    assert!((-4095..=0).contains(&error), "{error} is no errno");
    (error, &answer[16..])
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    field.map_or(0, u32::from_ne_bytes)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    field.map_or(0, u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn fuzz_fuse() {
        keystead_fuzzing::run("fuse", super::fuse);
    }
}
