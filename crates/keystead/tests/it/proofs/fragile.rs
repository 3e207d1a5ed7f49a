//! A disk that breaks as real ones do: the kernel meets an error in its file system, from when on
//! nothing can be written, also through files that are open. It is good again once the operator has
//! unmounted it, had it checked and mounted it again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How it breaks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// As with `errors=remount-ro`: reads go on, writes answer EROFS.
    ReadOnly,
    /// The journal's own disk is gone: all answers EIO, and what was not flushed is lost.
    Shutdown,
}

/// An ext4 on a loop device, mounted below a folder whose unmounts reach the holder's namespace,
/// as on every system that systemd started.
pub(crate) struct Disk {
    shared: tempfile::TempDir,
    device: String,
}

pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect("it runs");
    let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {}\n{text}\n{errors}", out.status);
    text
}

impl Disk {
    pub(crate) fn new() -> Self {
        let prefix = format!("kst-{}-", std::process::id());
        let shared = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a folder");
        let image = shared.path().join("image");
        File::create(&image).and_then(|f| f.set_len(2 << 30)).expect("an image");
        let device = run("losetup", &["--find", "--show", text(&image)]);
        let disk = Self { shared, device };
        run("mkfs.ext4", &["-q", &disk.device]);
        let folder = text(disk.shared.path());
        run("mount", &["--bind", folder, folder]);
        run("mount", &["--make-shared", folder]);
        std::fs::create_dir(disk.mount_point()).expect("a folder");
        disk.mount("rw");
        disk
    }

    fn mount_point(&self) -> PathBuf {
        self.shared.path().join("disk")
    }

    /// A folder on it.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = self.mount_point().join("folder");
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    pub(crate) fn mount(&self, how: &str) {
        let options = format!("{how},errors=remount-ro");
        run("mount", &["-o", &options, &self.device, text(&self.mount_point())]);
    }

    /// Breaks it; a write of our own must see it.
    pub(crate) fn shatter(&self, way: Way) {
        let mount = self.mount_point();
        match way {
            Way::ReadOnly => {
                let name = self.device.trim_start_matches("/dev/");
                let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
                std::fs::write(trigger, "an error of the test").expect("the kernel takes it");
            }
            Way::Shutdown => {
                // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH.
                let call = "import fcntl,os,struct,sys\n\
                    fcntl.ioctl(os.open(sys.argv[1],0),0x8004587d,struct.pack('I',2))";
                run("python3", &["-c", call, text(&mount)]);
            }
        }
        let refused = File::create(mount.join("control")).expect_err("the disk is broken");
        let wanted = match way {
            Way::ReadOnly => rustix::io::Errno::ROFS,
            Way::Shutdown => rustix::io::Errno::IO,
        };
        assert_eq!(refused.raw_os_error(), Some(wanted.raw_os_error()));
    }

    /// As the operator: unmount, which needs everybody to have let go of it.
    pub(crate) fn unmount(&self, within: Duration) {
        let begun = Instant::now();
        loop {
            let tried = Command::new("umount").arg(self.mount_point()).output().expect("it runs");
            // A mount that another namespace keeps would keep the file system as well.
            let name = self.device.trim_start_matches("/dev/");
            let alive = Path::new("/sys/fs/ext4").join(name).exists();
            if !alive {
                return;
            }
            let said = String::from_utf8_lossy(&tried.stderr).into_owned();
            assert!(begun.elapsed() < within, "{said} still in use after {within:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The whole repair.
    pub(crate) fn mend(&self) {
        self.unmount(Duration::from_secs(20));
        // 1: there were errors, and they are mended.
        let checked = Command::new("fsck.ext4").args(["-f", "-p", &self.device]).output();
        let checked = checked.expect("it runs");
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        self.mount("rw");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", text(&self.mount_point())]).status();
        let _ = Command::new("umount").args(["-l", text(self.shared.path())]).status();
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}
