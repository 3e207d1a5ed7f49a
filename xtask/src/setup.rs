//! What demo and test need of the machine: checked in the first second, before anything is
//! built; packages and the stock AWS clients are installed where they are missing.

use crate::proc;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CREATE_CLUSTER: &str = "/etc/postgresql-common/createcluster.conf";

/// The oldest kernel whose FUSE lets a new node take over what the old one left.
const KERNEL: (u32, u32) = (6, 9);

/// What must be there, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 16] = [
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
    ("/usr/lib/postgresql/15/bin/pgbench", "postgresql-15"),
    ("/usr/sbin/mkfs.ext4", "e2fsprogs"),
    ("/usr/sbin/losetup", "util-linux"),
    ("/usr/sbin/cryptsetup", "cryptsetup-bin"),
    ("/usr/bin/fio", "fio"),
    // For xtask/vm/boot-vm.sh: what this machine's kernel lacks is shown in another's.
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/bin/busybox", "busybox-static"),
    ("/usr/bin/cpio", "cpio"),
    ("/sbin/depmod", "kmod"),
    ("/usr/bin/curl", "curl"),
    ("/usr/bin/jq", "jq"),
    // Stock clients of the S3 gateway.
    ("/usr/bin/restic", "restic"),
    ("/usr/bin/rclone", "rclone"),
    ("/usr/bin/java", "default-jdk-headless"),
    ("/usr/bin/mvn", "maven"),
];

/// The stock clients.
#[derive(Clone)]
pub(crate) struct Tools {
    /// A Python with boto3.
    pub(crate) python: PathBuf,
    /// The `aws` command.
    pub(crate) aws: PathBuf,
    /// The folder of the AWS SDK for Java.
    java_libraries: PathBuf,
}

impl Tools {
    /// As tests find them.
    pub(crate) fn export(&self, command: &mut Command) {
        command
            .env("KEYSTEAD_PYTHON", &self.python)
            .env("KEYSTEAD_AWS", &self.aws)
            .env("KEYSTEAD_JAVA_LIBRARIES", &self.java_libraries);
    }
}

/// Checks and installs.
pub(crate) fn run() -> Result<Tools> {
    machine()?;
    packages()?;
    let (python, aws) = venv()?;
    Ok(Tools { python, aws, java_libraries: java()? })
}

fn machine() -> Result<()> {
    // The effective uid, read from /proc: it needs no libc call.
    let uid = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let root =
        uid.lines().any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0"));
    let mut missing = Vec::new();
    if !root {
        missing.push("root: volumes mount, freeze and make loop devices; run as root".to_owned());
    }
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if kernel_version(&kernel).is_some_and(|have| have < KERNEL) {
        missing.push(format!(
            "Linux 6.9 or later (FUSE's RESEND): {} runs; run `apt-get install linux-image-6.12-amd64` and reboot",
            kernel.trim()
        ));
    }
    if !Path::new("/dev/fuse").exists() {
        missing.push("/dev/fuse: run `modprobe fuse`".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        missing.push("/dev/loop-control: run `modprobe loop`".to_owned());
    }
    if !fs::read_to_string("/proc/self/mountinfo").is_ok_and(|m| m.contains(" - cgroup2 ")) {
        missing.push("cgroup v2: mount -t cgroup2 none /sys/fs/cgroup/unified".to_owned());
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    for line in swaps.lines().skip(1) {
        let device = line.split_whitespace().next().unwrap_or_default();
        missing.push(format!("swap off: {device} is on; run `swapoff {device}`"));
    }
    if !missing.is_empty() {
        bail!("this machine cannot run Keystead's volumes:\n  - {}", missing.join("\n  - "));
    }
    Ok(())
}

/// Major and minor of what `uname -r` prints.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn packages() -> Result<()> {
    let mut wanted: Vec<&str> =
        PROGRAMS.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, p)| *p).collect();
    if !has_ensurepip() {
        wanted.push("python3-venv");
    }
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(());
    }
    println!("installing {}", wanted.join(" "));
    // Written first: else Debian's package starts a PostgreSQL of its own on port 5432.
    if wanted.contains(&"postgresql-15") && !Path::new(CREATE_CLUSTER).exists() {
        fs::create_dir_all("/etc/postgresql-common")?;
        fs::write(CREATE_CLUSTER, "create_main_cluster = false\n")?;
    }
    let apt = |args: &[&str]| {
        proc::output(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"))
            .map(drop)
    };
    apt(&["update", "-q"])?;
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
    args.extend(&wanted);
    apt(&args)
}

fn has_ensurepip() -> bool {
    Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .output()
        .is_ok_and(|o| o.status.success())
}

/// Beside the target folder, so that a fresh clone finds it again.
pub(crate) fn beside_target(name: &str) -> PathBuf {
    let target = proc::target();
    target.parent().unwrap_or(&target).join(name)
}

/// Python and `aws`; made anew when the pins change.
fn venv() -> Result<(PathBuf, PathBuf)> {
    let folder = beside_target("keystead-venv");
    let pins = proc::root().join("compat/requirements.txt");
    let stamp = folder.join("requirements.txt");
    let wanted = fs::read_to_string(&pins).with_context(|| format!("read {}", pins.display()))?;
    let (python, aws) = (folder.join("bin/python"), folder.join("bin/aws"));
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) && aws.exists() {
        return Ok((python, aws));
    }
    println!("installing the stock AWS CLI into {}", folder.display());
    proc::output(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    proc::output(
        Command::new(&python)
            .args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "-r"])
            .arg(&pins),
    )?;
    fs::write(&stamp, wanted)?;
    Ok((python, aws))
}

/// The libraries of the AWS SDK for Java; made anew when the pins change.
fn java() -> Result<PathBuf> {
    let folder = beside_target("keystead-java");
    let (libraries, repository, stamp) =
        (folder.join("lib"), folder.join("repository"), folder.join("pom.xml"));
    let pins = proc::root().join("compat/s3_java/pom.xml");
    let wanted = fs::read_to_string(&pins).with_context(|| format!("read {}", pins.display()))?;
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(libraries);
    }
    println!("installing the AWS SDK for Java into {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("delete {}", folder.display()))?;
    }
    let option = |name: &str, folder: &Path| format!("-D{name}={}", folder.display());
    proc::output(
        Command::new("mvn")
            .args(["--batch-mode", "--quiet", "--file"])
            .arg(&pins)
            .arg("dependency:copy-dependencies")
            .arg(option("outputDirectory", &libraries))
            .arg(option("maven.repo.local", &repository)),
    )?;
    // Maven's own plugins are of no use to a test.
    fs::remove_dir_all(&repository).with_context(|| format!("delete {}", repository.display()))?;
    fs::write(&stamp, wanted)?;
    Ok(libraries)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_kernels_version_is_read() {
        assert_eq!(kernel_version("6.1.0-41-cloud-amd64\n"), Some((6, 1)));
        assert!(kernel_version("6.18.5").is_some_and(|have| have >= KERNEL));
        assert!(kernel_version("6.1.0-41").is_some_and(|have| have < KERNEL));
        assert_eq!(kernel_version("odd"), None);
    }
}
