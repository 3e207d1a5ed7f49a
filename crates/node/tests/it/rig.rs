//! A hold process of its own for each test, with plain volumes, and the proof that nothing is left
//! of it.

use crate::plain::{Disk, Plain};
use keystead_node::hold::HoldConfig;
use keystead_node::host::{Attach, Attached, ExitReport, Holder, HostError, ProcessSpec};
use keystead_types::{Boot, ClusterId, Process, VolumeId};
use keystead_volumes::sys::LoopDevice;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const FOLDER: &str = "KEYSTEAD_TEST_HOLD_FOLDER";
pub(crate) const MIB: usize = 1 << 20;
pub(crate) const DEADLINE: Duration = Duration::from_millis(400);

/// Not a test of its own: the hold process of the others.
#[test]
fn hold_process() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).expect("dies with it");
    keystead_node::hold::serve(config(&folder)).expect("serves and ends in order");
}

fn config(folder: &Path) -> HoldConfig {
    let name = folder.file_name().and_then(|n| n.to_str()).expect("a name");
    HoldConfig {
        socket: folder.join("sock"),
        data: folder.join("hold"),
        cgroup_prefix: name.to_owned(),
    }
}

pub(crate) fn boot() -> Boot {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Boot::since_boot(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
}

/// Polls a condition of the kernel's, which tells nobody; at most ten seconds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) struct Rig {
    pub(crate) holder: Holder,
    pub(crate) cluster: ClusterId,
    hold: Option<Child>,
    folder: tempfile::TempDir,
    /// Devices of somebody killed before us: not ours to count.
    before: Vec<(LoopDevice, PathBuf)>,
    _lock: File,
}

impl Rig {
    pub(crate) fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "the kernel tests of hold need root");
        let lock = File::create("/tmp/keystead-kernel-test.lock").expect("the lock file");
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("the kernel lock");
        let prefix = format!("kst-{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a folder");
        let before = loops();
        let (hold, holder) = start(folder.path());
        let cluster = ClusterId::from_uuid(uuid::Uuid::now_v7());
        Self { holder, cluster, hold: Some(hold), folder, before, _lock: lock }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn hold_pid(&self) -> u32 {
        self.hold.as_ref().expect("it runs").id()
    }

    /// SIGKILL to hold, and a successor on the same folder.
    pub(crate) fn restart_hold(&mut self) {
        let mut hold = self.hold.take().expect("it runs");
        hold.kill().expect("kill");
        hold.wait().expect("reaped");
        let (hold, holder) = start(self.folder.path());
        (self.hold, self.holder) = (Some(hold), holder);
    }

    /// SIGTERM to hold; how it ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let mut hold = self.hold.take().expect("it runs");
        let pid = Pid::from_child(&hold);
        rustix::process::kill_process(pid, Signal::TERM).expect("signalled");
        ended(&mut hold, Duration::from_secs(30)).expect("hold ends within thirty seconds")
    }

    pub(crate) fn serve(&self, volume: &VolumeId, disk: &Disk) -> (Plain, bool) {
        let (fd, takeover) = self.holder.fuse_fd(&self.cluster, volume).expect("a descriptor");
        (Plain::start(fd, disk.clone(), takeover), takeover)
    }

    pub(crate) fn attach(&self, volume: &VolumeId, name: &str) -> Result<Attached, HostError> {
        self.holder.attach(&self.cluster, volume, on(name, true))
    }

    /// A served and attached volume.
    pub(crate) fn volume(&self, name: &str, disk: &Disk) -> (VolumeId, Plain, Attached) {
        let volume = VolumeId::from_uuid(uuid::Uuid::now_v7());
        let (plain, takeover) = self.serve(&volume, disk);
        assert!(!takeover);
        let attached = self.attach(&volume, name).expect("attaches");
        (volume, plain, attached)
    }

    pub(crate) fn shell(&self, script: &str) -> ExitReport {
        let report = self.holder.run_to_end(&self.cluster, shell("sh", script), DEADLINE * 25);
        report.expect("runs")
    }

    /// What the workload sees in a file.
    pub(crate) fn read(&self, file: &str) -> String {
        self.shell(&format!("cat {file}")).stdout
    }

    /// Nothing of this hold is left in the kernel.
    pub(crate) fn assert_nothing_left(&self, but_the_hold: bool) {
        let left = self.left();
        assert!(left.is_empty(), "left: {left:?}");
        if but_the_hold {
            let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.hold_pid()));
            let mounts = mounts.expect("its mounts");
            let ours = |l: &&str| l.contains(self.marker()) || l.contains(self.cluster.as_str());
            // Its own private fusectl may stay.
            let ours: Vec<_> =
                mounts.lines().filter(ours).filter(|l| !l.contains("- fusectl")).collect();
            assert!(ours.is_empty(), "mounts left: {ours:?}");
        }
    }

    fn marker(&self) -> &str {
        self.folder.path().file_name().and_then(|n| n.to_str()).expect("a name")
    }

    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (device, file) in loops().into_iter().filter(|l| !self.before.contains(l)) {
            if file.starts_with(self.folder.path()) || file == Path::new("/") {
                left.push(format!("{} on {}", device.path.display(), file.display()));
            }
        }
        for root in ["/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/memory"] {
            let group = Path::new(root).join(self.marker()).join(self.cluster.as_str());
            if group.exists() {
                left.push(group.display().to_string());
            }
        }
        left
    }
}

impl Drop for Rig {
    /// Whatever state the test left: evict, end hold, and sweep by a successor if need be.
    fn drop(&mut self) {
        if let Some(mut hold) = self.hold.take() {
            let _ = self.holder.evict(&self.cluster);
            let _ = rustix::process::kill_process(Pid::from_child(&hold), Signal::TERM);
            if ended(&mut hold, Duration::from_secs(10)).is_none() {
                let _ = hold.kill();
                let _ = hold.wait();
            }
        }
        if !self.left().is_empty() {
            let (mut hold, _) = start(self.folder.path());
            let _ = rustix::process::kill_process(Pid::from_child(&hold), Signal::TERM);
            if ended(&mut hold, Duration::from_secs(10)).is_none() {
                let _ = hold.kill();
                let _ = hold.wait();
            }
        }
    }
}

fn loops() -> Vec<(LoopDevice, PathBuf)> {
    keystead_volumes::sys::loops().expect("loops")
}

fn start(folder: &Path) -> (Child, Holder) {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.args(["rig::hold_process", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).stdin(Stdio::null()).stdout(Stdio::null());
    let mut hold = command.spawn().expect("starts");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match Holder::connect(&folder.join("sock")) {
            Ok(holder) => return (hold, holder),
            Err(error) => {
                let status = hold.try_wait().expect("wait");
                assert!(status.is_none(), "hold ended: {status:?}");
                assert!(Instant::now() < deadline, "hold does not answer: {error}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn ended(child: &mut Child, at_most: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + at_most;
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn on(name: &str, format: bool) -> Attach {
    Attach { disk: name.to_owned(), format, owner: "nobody".to_owned() }
}

pub(crate) fn process(name: &str, command: &[&str]) -> ProcessSpec {
    let process = Process {
        name: name.to_owned(),
        command: command.iter().map(|&c| c.to_owned()).collect(),
        user: "nobody".to_owned(),
        environment: BTreeMap::new(),
        stop_signal: None,
    };
    ProcessSpec { process, disk: "data".to_owned() }
}

pub(crate) fn shell(name: &str, script: &str) -> ProcessSpec {
    process(name, &["sh", "-c", script])
}

/// Appends a line for ever; each tenth is synced and counted in `acked`.
pub(crate) fn writer() -> ProcessSpec {
    let script = "i=0; while :; do i=$((i+1)); echo $i >> lines; \
        [ $((i % 10)) = 0 ] && { sync lines; echo $i > acked.new; mv acked.new acked; }; done";
    shell("writer", script)
}
