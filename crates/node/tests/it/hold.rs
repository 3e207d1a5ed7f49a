//! `hold` on the kernel: a volume is attached, written to by an unprivileged user, frozen, thawed
//! and evicted, and nothing is left. `hold` runs as a process of its own, as in earnest.

use keystead_envelope::lease::LeaseGate;
use keystead_envelope::memory::DataKey;
use keystead_envelope::xts::XtsKey;
use keystead_node::hold::HoldConfig;
use keystead_node::host::{Attach, Ended, Holder, ProcessSpec};
use keystead_types::{Boot, Clock, ClusterId, Process, VolumeId};
use keystead_volumes::{Image, VolumeServer, sys};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Set in the process that is to be `hold`: the folder of the test.
const HOLD: &str = "KEYSTEAD_TEST_HOLD";
const DEADLINE: Duration = Duration::from_millis(400);

struct Real;

impl Clock for Real {
    fn boot(&self) -> Boot {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Boot::since_boot(Duration::new(t.tv_sec as u64, t.tv_nsec as u32))
    }
    fn wall_ms(&self) -> i64 {
        0
    }
}

fn key() -> XtsKey {
    let mut bytes: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(7) ^ 0x3c).collect();
    XtsKey::new(DataKey::from_slice_zeroizing(&mut bytes).expect("arena")).expect("two halves")
}

/// Not a test of its own: the process that the test below starts.
#[test]
fn serves_when_asked_by_the_test_below() {
    if let Some(folder) = std::env::var_os(HOLD) {
        let folder = Path::new(&folder);
        let cgroup_prefix = format!("kst-{}", std::process::id());
        let (socket, data) = (folder.join("hold.sock"), folder.join("hold"));
        let config = HoldConfig { socket, data, cgroup_prefix };
        keystead_node::hold::serve(config).expect("serves");
    }
}

/// `hold`, one cluster and its one volume. Dropped, also by a panic: evicted first, whatever state
/// it is in, then `hold` is ended, by its own process id.
struct Rig {
    dir: tempfile::TempDir,
    hold: Child,
    holder: Holder,
    cluster: ClusterId,
    volume: VolumeId,
    lease: Arc<LeaseGate>,
    server: Option<VolumeServer>,
}

impl Rig {
    fn new() -> Self {
        let prefix = format!("kst-{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a folder");
        let socket = dir.path().join("hold.sock");
        let mut hold = Command::new(std::env::current_exe().expect("own path"))
            .args(["hold::serves_when_asked_by_the_test_below", "--exact", "--nocapture"])
            .env(HOLD, dir.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        let holder = connect(&socket, &mut hold);
        let cluster = ClusterId::from_uuid(uuid::Uuid::now_v7());
        let volume = VolumeId::from_uuid(uuid::Uuid::now_v7());
        let lease = LeaseGate::new();
        lease.publish(Some(Real.boot().plus(Duration::from_secs(3600))));
        Self { dir, hold, holder, cluster, volume, lease: Arc::new(lease), server: None }
    }

    fn image(&self) -> std::path::PathBuf {
        self.dir.path().join("image")
    }

    fn start(&mut self) -> bool {
        let (fd, takeover) = self.holder.fuse_fd(&self.cluster, &self.volume).expect("a fd");
        let image = Image::open(&self.image()).expect("opens");
        let server =
            VolumeServer::start(fd, image, takeover, Arc::new(Real), Arc::clone(&self.lease))
                .expect("starts");
        server.open_gate(key()).expect("opens");
        self.server = Some(server);
        takeover
    }

    fn server(&self) -> &VolumeServer {
        self.server.as_ref().expect("served")
    }

    fn spec(&self, name: &str, script: &str) -> ProcessSpec {
        let process = Process {
            name: name.to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            user: "nobody".to_owned(),
            environment: BTreeMap::new(),
            stop_signal: None,
        };
        ProcessSpec { process, disk: "data".to_owned() }
    }

    fn sh(&self, script: &str) -> String {
        let spec = self.spec("check", script);
        let report = self.holder.run_to_end(&self.cluster, spec, Duration::from_secs(10));
        let report = report.expect("runs");
        assert_eq!(report.status, Ended::Exit(0), "{script}: {}", report.stderr);
        report.stdout.trim().to_owned()
    }

    fn attach(&self, format: bool) -> bool {
        let disk = Attach { disk: "data".to_owned(), format, owner: "nobody".to_owned() };
        self.holder.attach(&self.cluster, &self.volume, disk).expect("attaches").formatted
    }

    fn freeze(&self) {
        let start = Instant::now();
        let report = self.holder.freeze(&self.cluster, DEADLINE).expect("freezes");
        assert!(start.elapsed() < DEADLINE + Duration::from_millis(200), "{:?}", start.elapsed());
        assert!(report.frozen_ms.is_some() && !report.late(), "{report:?}");
    }

    fn loop_devices(&self) -> Vec<std::path::PathBuf> {
        let held = self.holder.inventory().expect("answers");
        held.clusters.into_iter().flat_map(|c| c.volumes).filter_map(|v| v.device).collect()
    }
}

fn connect(socket: &Path, hold: &mut Child) -> Holder {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Holder::connect(socket) {
            Ok(holder) => return holder,
            Err(e) => {
                let ended = hold.try_wait().expect("wait");
                assert!(ended.is_none() && Instant::now() < deadline, "{e}; hold: {ended:?}");
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.holder.evict(&self.cluster);
        // In order, so that its folder of groups goes too.
        let pid = rustix::process::Pid::from_child(&self.hold);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.hold.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.hold.kill();
        let _ = self.hold.wait();
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn freezes_a_writer_thaws_it_and_evicts_without_a_trace() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let lock = File::create("/tmp/keystead-kernel-test.lock").expect("the lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("the kernel lock");

    let mut rig = Rig::new();
    Image::create(&rig.image(), 64 << 20, b"no header in this test").expect("an image");
    assert!(!rig.start(), "nobody had the descriptor before");
    assert!(rig.attach(true), "an empty volume is formatted");
    assert!(!rig.attach(true), "a file system that is there is never formatted again");
    assert_eq!(rig.sh("id -un; pwd >/dev/null; echo kept > kept"), "nobody");

    let writer = "i=0; while :; do i=$((i+1)); echo $i > n.new; mv n.new n; done";
    let pid = rig.holder.spawn(&rig.cluster, rig.spec("writer", writer)).expect("starts");
    let again = rig.holder.spawn(&rig.cluster, rig.spec("writer", writer)).expect("answers");
    assert_eq!(pid, again, "a process that runs is not started twice");
    until("the writer writes", || rig.sh("[ -s n ] && cat n || echo 0") != "0");

    rig.freeze();
    let closed = rig.server().close_gate(Duration::from_millis(200));
    assert!(closed.drained, "{closed:?}");
    // Again, by a node that forgot: the same answer, gate closed or not.
    rig.freeze();
    rig.server().open_gate(key()).expect("opens");
    rig.holder.thaw(&rig.cluster).expect("thaws");
    rig.holder.thaw(&rig.cluster).expect("thawing what is thawed is fine");
    let then = rig.sh("cat n");
    until("the writer goes on", || rig.sh("cat n") != then);

    // A server that is replaced finds the connection as it was.
    rig.server.take().expect("served").stop();
    assert!(rig.start(), "the connection outlives its server");
    assert_eq!(rig.sh("cat kept"), "kept");
    rig.sh("sync kept");

    rig.freeze();
    rig.server().close_gate(Duration::from_millis(200));
    let devices = rig.loop_devices();
    assert_eq!(devices.len(), 1);
    let start = Instant::now();
    let report = rig.holder.evict(&rig.cluster).expect("evicts");
    assert!(report.left.is_empty(), "{report:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{report:?}");
    assert!(rig.holder.inventory().expect("answers").clusters.is_empty());
    let in_use = sys::loops().expect("loops");
    assert!(!in_use.iter().any(|(d, _)| devices.contains(&d.path)), "{in_use:?}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the writer is gone");
    until("the server notices", || rig.server().has_ended());
    rig.server.take().expect("served").stop();

    // And it comes back with what was synced.
    rig.start();
    assert!(!rig.attach(false));
    assert_eq!(rig.sh("cat kept"), "kept");
    rig.holder.detach(&rig.cluster, Duration::from_secs(5)).expect("detaches in order");
    assert!(rig.holder.inventory().expect("answers").clusters.iter().all(|c| c.volumes.is_empty()));
}
