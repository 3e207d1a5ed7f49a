//! A volume on the kernel, torn down in the one safe order; and how a test gets its own process.

use keystead_envelope::lease::LeaseGate;
use keystead_envelope::memory::DataKey;
use keystead_envelope::xts::XtsKey;
use keystead_types::{Boot, Clock};
use keystead_volumes::sys::{self, LoopDevice};
use keystead_volumes::{Image, VolumeServer};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const INSIDE: &str = "KEYSTEAD_TEST_INSIDE";

/// CLOCK_BOOTTIME.
pub(crate) struct Real;

impl Clock for Real {
    fn boot(&self) -> Boot {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Boot::since_boot(Duration::new(t.tv_sec as u64, t.tv_nsec as u32))
    }
    fn wall_ms(&self) -> i64 {
        0
    }
}

pub(crate) fn key() -> XtsKey {
    let mut bytes: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(5) ^ 0x5a).collect();
    XtsKey::new(DataKey::from_slice_zeroizing(&mut bytes).expect("arena")).expect("two halves")
}

/// A lease that holds for an hour.
pub(crate) fn lease() -> Arc<LeaseGate> {
    let lease = LeaseGate::new();
    lease.publish(Some(Real.boot().plus(Duration::from_secs(3600))));
    Arc::new(lease)
}

/// True inside the test's own process; outside, runs that process to its end and checks it.
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    assert!(rustix::process::geteuid().is_root(), "the kernel tests of volumes need root");
    let lock = File::create("/tmp/keystead-kernel-test.lock").expect("the lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("the kernel lock");
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().expect("own path"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .spawn()
        .expect("unshare");
    let marker = format!("kst-{}-", child.id());
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break Some(status);
        }
        if Instant::now() > deadline {
            // Abort first: a thread that waits in D would keep the descriptors open for ever.
            abort_connections(child.id(), &marker);
            child.kill().expect("kill");
            child.wait().expect("reaped");
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let left = left_devices(&marker);
    for device in &left {
        let _ = sys::lift_dirty(device);
        let _ = sys::detach_loop(device);
    }
    assert!(status.is_some_and(|s| s.success()), "{test} failed in its own process: {status:?}");
    assert!(left.is_empty(), "{test} left loop devices behind: {left:?}");
    false
}

/// Loop devices that a killed test process noted and did not give back. From outside its mount
/// namespace the kernel shows every backing file of them as `/`, so the note is the only trace.
fn left_devices(marker: &str) -> Vec<LoopDevice> {
    let attached = sys::loops().expect("loops");
    let mut left = Vec::new();
    for entry in std::fs::read_dir(std::env::temp_dir()).expect("reads").flatten() {
        if entry.file_name().to_string_lossy().starts_with(marker) {
            let noted = std::fs::read_to_string(entry.path().join("loop")).unwrap_or_default();
            let device = attached.iter().find(|(d, _)| d.path == Path::new(&noted));
            left.extend(device.map(|(d, _)| d.clone()));
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    left
}

/// Aborts the connections that a hung test process has mounted, seen from outside.
fn abort_connections(pid: u32, marker: &str) {
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    for line in mounts.lines().filter(|l| l.contains(marker) && l.contains(" - fuse ")) {
        let device = line.split(' ').nth(2).unwrap_or_default();
        let minor = device.split(':').nth(1).unwrap_or_default();
        let script = format!(
            "mount -t fusectl none /sys/fs/fuse/connections; \
             echo 1 > /sys/fs/fuse/connections/{minor}/abort"
        );
        let _ = Command::new("unshare").args(["--mount", "sh", "-c", &script]).status();
    }
}

pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) fuse: OwnedFd,
    pub(crate) image: PathBuf,
    /// The mounted file: the volume's plaintext.
    pub(crate) file: PathBuf,
    pub(crate) mount: PathBuf,
    pub(crate) device: Option<LoopDevice>,
    pub(crate) mounted: bool,
    pub(crate) server: Option<VolumeServer>,
    pub(crate) lease: Arc<LeaseGate>,
    /// None after the orderly end: the number may by then be another connection's.
    connection: Option<u32>,
}

impl Rig {
    /// Image and mount, INIT answered, no server yet.
    pub(crate) fn new(size: u64) -> Self {
        let prefix = format!("kst-{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a folder");
        let image = dir.path().join("image");
        Image::create(&image, size, b"no header in this test").expect("an image");
        let file = dir.path().join("volume");
        File::create(&file).expect("the mount point");
        let mount = dir.path().join("fs");
        std::fs::create_dir(&mount).expect("a folder");
        let fuse = keystead_volumes::open_device().expect("/dev/fuse");
        keystead_volumes::mount_over_file(&file, &fuse).expect("mounts");
        let init = keystead_volumes::answer_init(&fuse).expect("INIT");
        assert_eq!(init.minor, 40);
        let connection = Some(sys::fuse_connection(&file).expect("in mountinfo"));
        let (device, mounted, server) = (None, false, None);
        let lease = lease();
        Self { dir, fuse, image, file, mount, device, mounted, server, lease, connection }
    }

    /// A server in this process, gate open.
    pub(crate) fn serve(&mut self) -> &VolumeServer {
        self.start(false).open_gate(key()).expect("opens");
        self.server()
    }

    /// A server in this process, gate closed.
    pub(crate) fn start(&mut self, takeover: bool) -> &VolumeServer {
        let fd = self.fuse.try_clone().expect("dup");
        let image = Image::open(&self.image).expect("opens");
        let lease = Arc::clone(&self.lease);
        let server =
            VolumeServer::start(fd, image, takeover, Arc::new(Real), lease).expect("starts");
        self.server.insert(server)
    }

    pub(crate) fn attach(&mut self) -> &LoopDevice {
        let device = sys::attach_loop(&self.file).expect("a loop device");
        let note = self.dir.path().join("loop");
        std::fs::write(note, device.path.as_os_str().as_encoded_bytes()).expect("notes it");
        self.device.insert(device)
    }

    pub(crate) fn make_fs(&mut self) {
        let device = self.device.as_ref().expect("attached");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&device.path));
        sys::mount_ext4(&device.path, &self.mount, "discard").expect("mounts");
        self.mounted = true;
    }

    pub(crate) fn server(&self) -> &VolumeServer {
        self.server.as_ref().expect("served")
    }

    /// The orderly end; everything must go.
    pub(crate) fn finish(mut self) {
        if std::mem::take(&mut self.mounted) {
            sys::unmount(&self.mount).expect("unmounts");
        }
        if let Some(device) = self.device.take() {
            sys::lift_dirty(&device).expect("limits put back");
            sys::detach_loop(&device).expect("detaches");
            wait_until("the loop device lets go", || {
                !sys::loops().expect("loops").iter().any(|(d, _)| *d == device)
            });
            let _ = std::fs::remove_file(self.dir.path().join("loop"));
        }
        sys::unmount(&self.file).expect("unmounts the volume");
        self.connection = None;
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

impl Drop for Rig {
    /// After a panic: abort before everything else, as eviction does. After `finish`: nothing.
    fn drop(&mut self) {
        if let Some(connection) = self.connection {
            let _ = sys::abort_fuse(connection, &self.dir.path().join("fusectl"));
        }
        if self.mounted {
            let _ = sys::thaw_fs(&self.mount);
            let _ = sys::unmount(&self.mount);
        }
        if let Some(device) = &self.device {
            let _ = sys::lift_dirty(device);
            let _ = sys::detach_loop(device);
        }
        let _ = sys::unmount(&self.file);
        let _ = sys::unmount(&self.dir.path().join("fusectl"));
    }
}

pub(crate) fn run(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().expect("starts");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {}\n{text}\n{errors}", out.status);
    text
}

/// Polls a condition of the kernel's, which tells nobody; at most ten seconds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Nowhere in the file does `needle` occur.
pub(crate) fn absent(path: &Path, needle: &[u8]) -> bool {
    let mut bytes = Vec::new();
    File::open(path).expect("opens").read_to_end(&mut bytes).expect("reads");
    !bytes
        .chunks(4096)
        .filter(|page| page.iter().any(|b| *b != 0))
        .any(|page| page.windows(needle.len()).any(|w| w[0] == needle[0] && w == needle))
}

/// A page-aligned buffer for O_DIRECT.
pub(crate) struct Aligned(Vec<u8>, usize, usize);

impl Aligned {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0; len + 4096];
        let skip = bytes.as_ptr().align_offset(4096);
        Self(bytes, skip, len)
    }
    pub(crate) fn get(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= self.2);
        &mut self.0[self.1..self.1 + len]
    }
}

pub(crate) fn stdin_as_fuse() -> OwnedFd {
    std::io::stdin().as_fd().try_clone_to_owned().expect("the descriptor from the holder")
}
