use super::*;
use crate::fuse_dev::Buffers;
use keystead_envelope::lease::LeaseGate;
use keystead_envelope::memory::DataKey;
use keystead_envelope::xts::XtsKey;
use keystead_types::{Boot, Clock};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SECTORS: u64 = 40;
const SIZE: u64 = SECTORS * S;

/// A clock that a test sets, in seconds since boot.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn boot(&self) -> Boot {
        Boot::since_boot(Duration::from_secs(self.0.load(Ordering::SeqCst)))
    }
    fn wall_ms(&self) -> i64 {
        0
    }
}

fn key() -> XtsKey {
    let mut bytes = [0u8; 64];
    for (i, b) in bytes.iter_mut().enumerate() {
        *b = i as u8 * 3 + 1;
    }
    XtsKey::new(DataKey::from_slice_zeroizing(&mut bytes).expect("arena")).expect("two halves")
}

fn lease_until(seconds: u64) -> Arc<LeaseGate> {
    let lease = LeaseGate::new();
    lease.publish(Some(Boot::since_boot(Duration::from_secs(seconds))));
    Arc::new(lease)
}

struct Rig {
    engine: Engine,
    clock: Arc<Hand>,
    buffers: Buffers,
    _dir: tempfile::TempDir,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("image");
    Image::create(&path, SIZE, b"no header").expect("an image");
    let image = Image::open(&path).expect("opens");
    let clock = Arc::new(Hand::default());
    let gate = Gate::new(2, Arc::clone(&clock) as Arc<dyn Clock>, lease_until(100));
    Rig {
        engine: Engine::new(image, gate),
        clock,
        buffers: Buffers::new().expect("buffers"),
        _dir: dir,
    }
}

impl Rig {
    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, Failed> {
        let (_, area) = self.buffers.areas();
        self.engine.read(0, offset, len, area).map(|plain| plain.to_vec())
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failed> {
        let (payload, area) = self.buffers.areas();
        payload[..bytes.len()].copy_from_slice(bytes);
        self.engine.write(0, offset, &mut payload[..bytes.len()], area)
    }
    fn punch(&mut self, offset: u64, len: u64) -> Result<(), Failed> {
        let (_, area) = self.buffers.areas();
        self.engine.punch(0, offset, len, area)
    }
    fn stored(&self) -> Vec<u8> {
        let bytes = std::fs::read(self.engine.image.path()).expect("the image");
        bytes[crate::PAYLOAD_OFFSET as usize..].to_vec()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Read(u64, u64),
    Write(u64, u64, u8),
    Punch(u64, u64),
    Reopen,
}

/// A range inside the volume: half of them on sector bounds.
fn range() -> impl Strategy<Value = (u64, u64)> {
    let any = (0..SIZE, 1..5 * S).prop_map(|(o, l)| (o, l.min(SIZE - o)));
    let whole = (0..SECTORS, 1u64..5).prop_map(|(o, l)| (o * S, (l * S).min(SIZE - o * S)));
    prop_oneof![any, whole]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => range().prop_map(|(o, l)| Step::Read(o, l)),
        4 => (range(), 1u8..).prop_map(|((o, l), b)| Step::Write(o, l, b)),
        2 => range().prop_map(|(o, l)| Step::Punch(o, l)),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn agrees_with_plain_memory(steps in proptest::collection::vec(step(), 1..40)) {
        let mut rig = rig();
        let mut oracle = vec![0u8; SIZE as usize];
        rig.engine.gate.open(key()).expect("opens");
        for step in steps {
            match step {
                Step::Read(o, l) => {
                    let got = rig.read(o, l as usize).expect("reads");
                    prop_assert_eq!(&got[..], &oracle[o as usize..(o + l) as usize]);
                }
                Step::Write(o, l, b) => {
                    let bytes: Vec<u8> = (0..l).map(|i| b.wrapping_add((i / 7) as u8)).collect();
                    rig.write(o, &bytes).expect("writes");
                    oracle[o as usize..(o + l) as usize].copy_from_slice(&bytes);
                }
                Step::Punch(o, l) => {
                    rig.punch(o, l).expect("punches");
                    oracle[o as usize..(o + l) as usize].fill(0);
                }
                Step::Reopen => {
                    prop_assert!(rig.engine.gate.close(Duration::ZERO));
                    prop_assert_eq!(rig.read(0, 1), Err(Failed::NotAdmitted));
                    rig.engine.gate.open(key()).expect("opens");
                }
            }
        }
        rig.engine.flush().expect("flushes");
        prop_assert_eq!(rig.read(0, SIZE as usize).expect("reads"), oracle);
    }
}

#[test]
fn the_image_holds_no_plaintext_and_unwritten_sectors_stay_holes() {
    let mut rig = rig();
    rig.engine.gate.open(key()).expect("opens");
    rig.write(3 * S + 100, &[b'P'; 5000]).expect("writes");
    let stored = rig.stored();
    assert!(!stored.windows(16).any(|w| w == [b'P'; 16]), "plaintext on disk");
    let written: Vec<u64> =
        (0..SECTORS).filter(|s| !is_hole(&stored[(s * S) as usize..][..SECTOR])).collect();
    assert_eq!(written, [3, 4]);
}

#[test]
fn a_closed_gate_stops_read_and_write_and_lets_flush_and_whole_trims_pass() {
    let mut rig = rig();
    rig.engine.gate.open(key()).expect("opens");
    rig.write(0, &[b'P'; 3 * SECTOR]).expect("writes");
    assert!(rig.engine.gate.close(Duration::ZERO));
    let before = rig.stored();
    assert_eq!(rig.read(0, SECTOR), Err(Failed::NotAdmitted));
    assert_eq!(rig.write(0, &[b'Q'; SECTOR]), Err(Failed::NotAdmitted));
    assert_eq!(rig.write(10, &[b'Q'; 10]), Err(Failed::NotAdmitted));
    assert_eq!(rig.punch(10, 10), Err(Failed::NotAdmitted), "an edge needs the key");
    assert_eq!(rig.stored(), before);
    assert_eq!(rig.engine.flush(), Ok(()));
    assert_eq!(rig.punch(S, S), Ok(()));
    assert!(is_hole(&rig.stored()[SECTOR..2 * SECTOR]));
}

#[test]
fn an_expired_lease_stops_the_use_of_the_key_and_holds_answers_back() {
    let mut rig = rig();
    rig.engine.gate.open(key()).expect("opens");
    rig.write(0, &[b'P'; SECTOR]).expect("writes");
    assert_eq!(rig.engine.gate.let_out(0, || 7), Ok(7));
    rig.clock.0.store(100, Ordering::SeqCst);
    assert!(rig.engine.gate.is_open(), "nobody closed it");
    assert_eq!(rig.read(0, SECTOR), Err(Failed::NotAdmitted));
    assert_eq!(rig.write(0, &[b'Q'; SECTOR]), Err(Failed::NotAdmitted));
    let mut sent = false;
    assert_eq!(rig.engine.gate.let_out(0, || sent = true), Err(NotAdmitted));
    assert!(!sent, "an answer left after the lease");
    assert_eq!(rig.engine.gate.lend(0, |_| ()), Err(NotAdmitted));
}

#[test]
fn a_close_waits_for_the_thread_that_uses_the_key_and_never_longer_than_told() {
    let rig = rig();
    let gate = &rig.engine.gate;
    gate.open(key()).expect("opens");
    let (entered, inside) = std::sync::mpsc::sync_channel(0);
    let (leave, wait) = std::sync::mpsc::sync_channel::<()>(0);
    std::thread::scope(|scope| {
        let user = scope.spawn(move || {
            gate.lend(1, |_| {
                entered.send(()).expect("the test waits");
                wait.recv().expect("the test tells");
            })
        });
        inside.recv().expect("in use");
        assert!(!gate.close(Duration::from_millis(5)), "it is still in use");
        leave.send(()).expect("the user waits");
        user.join().expect("no panic").expect("it was admitted when it began");
        assert!(gate.close(Duration::ZERO));
        assert_eq!(gate.lend(1, |_| ()), Err(NotAdmitted));
    });
}

#[test]
fn a_disk_that_fails_is_answered_with_its_own_error() {
    let mut rig = rig();
    rig.engine.gate.open(key()).expect("opens");
    let file = std::fs::OpenOptions::new().write(true).open(rig.engine.image.path());
    file.expect("opens").set_len(crate::PAYLOAD_OFFSET + S).expect("cut short");
    assert_eq!(rig.read(2 * S, SECTOR), Err(Failed::Errno(Errno::IO)));
    assert_eq!(rig.write(SIZE, &[1; 10]), Err(Failed::Errno(Errno::NOSPC)));
}

#[test]
fn writers_of_one_sector_lose_nothing() {
    let rig = rig();
    rig.engine.gate.open(key()).expect("opens");
    let engine = &rig.engine;
    std::thread::scope(|scope| {
        for thread in 0..2usize {
            scope.spawn(move || {
                let mut buffers = Buffers::new().expect("buffers");
                let (payload, area) = buffers.areas();
                for i in (0..2048u64).filter(|i| i % 2 == thread as u64) {
                    payload[0] = 1 + (i % 200) as u8;
                    engine.write(thread, i * 2, &mut payload[..1], area).expect("writes");
                }
            });
        }
    });
    let mut buffers = Buffers::new().expect("buffers");
    let got = engine.read(0, 0, SECTOR, buffers.areas().1).expect("reads");
    assert!((0..2048usize).all(|i| got[2 * i] == 1 + (i % 200) as u8 && got[2 * i + 1] == 0));
}
