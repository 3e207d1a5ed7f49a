//! The server dies by SIGKILL under load; its successor takes the descriptor over. Nobody notices.

#![allow(clippy::print_stdout)] // the server process talks to its holder by stdout

use crate::rig::{Aligned, Real, Rig, inside, key, lease, stdin_as_fuse};
use keystead_volumes::{Image, VolumeServer};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const IMAGE: &str = "KEYSTEAD_TEST_IMAGE";
const TAKEOVER: &str = "KEYSTEAD_TEST_TAKEOVER";
const MIB: u64 = 1 << 20;
const PART: u64 = 8 * MIB;
const BLOCK: usize = 4096;

/// Not a test of its own: the server process that `the_server_dies…` starts and kills.
#[test]
fn server_process() {
    let Some(image) = std::env::var_os(IMAGE) else { return };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .expect("dies with the holder");
    let takeover = std::env::var_os(TAKEOVER).is_some();
    let image = Image::open(Path::new(&image)).expect("the predecessor is gone");
    let server = VolumeServer::start(stdin_as_fuse(), image, takeover, Arc::new(Real), lease())
        .expect("starts");
    server.open_gate(key()).expect("opens");
    println!("\nserving");
    let started = Instant::now();
    while !server.has_ended() && started.elapsed() < Duration::from_secs(600) {
        std::thread::sleep(Duration::from_millis(5));
        // Read by the holder just before it kills.
        println!("resent {}", server.stats().resent);
    }
}

struct Server {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Server {
    fn start(rig: &Rig, takeover: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        command.args(["handover::server_process", "--exact", "--nocapture"]);
        command.env(IMAGE, &rig.image);
        if takeover {
            command.env(TAKEOVER, "1");
        }
        let fuse = rig.fuse.try_clone().expect("dup");
        let mut child = command.stdin(fuse).stdout(Stdio::piped()).spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        for line in &mut lines {
            if line.expect("text") == "serving" {
                return Self { child, lines };
            }
        }
        panic!("the server process ended: {:?}", child.wait());
    }

    /// SIGKILL at a moment of its own choosing; how many requests it had got a second time.
    fn kill(mut self) -> u64 {
        self.child.kill().expect("kill");
        self.child.wait().expect("reaped");
        self.lines
            .map_while(Result::ok)
            .filter_map(|l| l.strip_prefix("resent ").and_then(|n| n.parse().ok()))
            .last()
            .unwrap_or(0)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Every 8 bytes of a block tell its place and version.
fn fill(block: &mut [u8], number: u64, version: u64) {
    for (i, word) in block.chunks_exact_mut(8).enumerate() {
        let value = (number << 40 | version << 10 | i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// Writes and reads 4 KiB to 512 KiB in its own part and checks each block; ends on `stop`.
fn load(file: &File, part: u64, stop: &AtomicBool, checked: &AtomicU64) {
    let mut random = Random(0x1234_5678 + part);
    let mut buffer = Aligned::new(512 << 10);
    let mut expected = Aligned::new(BLOCK);
    let blocks = PART / BLOCK as u64;
    let mut versions = vec![0u64; blocks as usize];
    let mut version = 0;
    while !stop.load(Ordering::Relaxed) {
        let count = 1 + random.below(128);
        let first = random.below(blocks - count + 1);
        let bytes = buffer.get(count as usize * BLOCK);
        let at = part * PART + first * BLOCK as u64;
        if random.below(2) == 0 {
            version += 1;
            for (i, block) in bytes.chunks_mut(BLOCK).enumerate() {
                fill(block, part << 12 | (first + i as u64), version);
                versions[first as usize + i] = version;
            }
            file.write_all_at(bytes, at).expect("a write failed");
        } else {
            file.read_exact_at(bytes, at).expect("a read failed");
            for (i, block) in bytes.chunks(BLOCK).enumerate() {
                let number = first + i as u64;
                let want = expected.get(BLOCK);
                match versions[number as usize] {
                    0 => want.fill(0),
                    v => fill(want, part << 12 | number, v),
                }
                assert!(block == want, "block {number} of part {part} is wrong");
            }
            checked.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[test]
fn the_server_dies_under_load_and_nobody_sees_an_error() {
    if !inside("handover::the_server_dies_under_load_and_nobody_sees_an_error") {
        return;
    }
    let wanted = if std::env::var_os("KEYSTEAD_SOAK").is_some() { 20 } else { 5 };
    let mut kills = 0;
    let mut rig = Rig::new(6 * PART);
    let first = Server::start(&rig, false);
    let device = rig.attach().path.clone();
    let stop = AtomicBool::new(false);
    let checked = AtomicU64::new(0);
    let mut resent = 0;
    let server = std::thread::scope(|scope| {
        struct StopAll<'a>(&'a AtomicBool);
        impl Drop for StopAll<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop_all = StopAll(&stop);
        for part in 0..6 {
            // Half through loop (asynchronous requests), half on the volume itself.
            let path = if part < 3 { &device } else { &rig.file };
            let flags = if part < 3 { libc::O_DIRECT } else { 0 };
            let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
            let file = file.expect("opens");
            let (stop, checked) = (&stop, &checked);
            scope.spawn(move || load(&file, part, stop, checked));
        }
        let mut server = first;
        let mut random = Random(std::process::id().into());
        // Whether a kill meets a request that was read and not yet answered is chance: go on until
        // one did.
        while kills < wanted || (resent == 0 && kills < 100) {
            kills += 1;
            let before = checked.load(Ordering::Relaxed);
            crate::rig::wait_until("the load goes on", || {
                checked.load(Ordering::Relaxed) > before + 500 + random.below(500)
            });
            resent += server.kill();
            server = Server::start(&rig, true);
        }
        let before = checked.load(Ordering::Relaxed);
        crate::rig::wait_until("the load goes on", || {
            checked.load(Ordering::Relaxed) > before + 500
        });

        server
    });
    println!("{kills} kills, {} blocks checked, {resent} requests resent", checked.into_inner());
    assert!(resent > 0, "no kill met a request in flight: the test proves nothing");
    // The last server still serves the detach.
    rig.finish();
    server.kill();
}
