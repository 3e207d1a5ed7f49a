//! kill -9 of the node while fio writes and verifies: no I/O error, no wrong block.

use super::count;
use crate::joint::figures::Figures;
use crate::joint::outages::signal;
use crate::joint::stage::{Cluster, Stage};
use crate::world::{Random, World, WorldOptions};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One pass: every block of the file written in random order and sizes, then read back and its
/// checksum compared. Direct: what is verified came from the volume.
const PASS: [&str; 14] = [
    "--name=kst",
    "--filename=fio",
    "--size=128M",
    "--rw=randwrite",
    "--bsrange=4k-512k",
    "--direct=1",
    "--ioengine=libaio",
    "--iodepth=16",
    "--verify=crc32c",
    "--verify_fatal=1",
    "--verify_async=1",
    "--do_verify=1",
    "--output-format=terse",
    "--terse-version=3",
];

#[test]
fn no_block_is_lost_or_wrong_when_the_node_dies_under_load() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("blocks");
    let mut random = Random::from_environment();
    let kills = count(3, 50);
    let stop = AtomicBool::new(false);
    let passes = std::thread::scope(|scope| {
        let passes = scope.spawn(|| passes_until(&stop, &stage, &cluster));
        for _ in 0..kills {
            let node = stage.world.pid("node");
            std::thread::sleep(Duration::from_millis(100 + random.below(900)));
            signal(node, libc::SIGKILL);
            stage.world.wait_for_new("node", node, Duration::from_secs(5));
            stage.wait(&cluster.name, "Ready", None, Duration::from_secs(10));
        }
        stop.store(true, Ordering::Relaxed);
        passes.join().expect("fio runs")
    });
    let wrong: Vec<&Pass> = passes.iter().filter(|p| !p.good()).collect();
    Figures::default().say(format!(
        "kill -9 of node under fio 4 KiB to 512 KiB: {kills} kills, {} passes of 128 MiB written and verified, {} I/O errors or wrong blocks",
        passes.len(),
        wrong.len()
    ));
    assert!(!passes.is_empty());
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", stage.world.log_tails());
    stage.world.stop();
}

#[derive(Debug)]
struct Pass {
    status: std::process::ExitStatus,
    said: String,
}

impl Pass {
    /// fio's own word, and its error field.
    fn good(&self) -> bool {
        let error = self.said.lines().find_map(|l| l.strip_prefix("3;"));
        self.status.success() && error.and_then(|l| l.split(';').nth(3)) == Some("0")
    }
}

/// Runs passes in hold's mount namespace; the last one, too, comes to its end.
fn passes_until(stop: &AtomicBool, stage: &Stage, cluster: &Cluster) -> Vec<Pass> {
    let id = stage.view(&cluster.name)["id"].as_str().expect("an id").to_owned();
    let folder = format!("--directory=/run/keystead-disks/{id}/search");
    let hold = stage.world.pid("hold").to_string();
    let mut passes = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut fio = Command::new("timeout");
        fio.args(["120", "nsenter", "-t", &hold, "-m", "fio", &folder]).args(PASS);
        let out = fio.output().expect("fio runs");
        let said = [out.stdout, out.stderr].concat();
        passes.push(Pass { status: out.status, said: String::from_utf8_lossy(&said).into() });
    }
    passes
}
