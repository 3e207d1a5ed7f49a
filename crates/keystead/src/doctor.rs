//! What this machine lacks, each with its repair.

use crate::out::say;
use anyhow::Result;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;

/// One check.
struct Check {
    name: &'static str,
    fault: Option<(String, &'static str)>,
}

/// Prints every check; fails when one does.
pub(crate) fn run() -> Result<ExitCode> {
    let checks = [
        root(),
        fuse(),
        loops(),
        cgroup(),
        swap(),
        programs(),
        folder(),
        port(7440),
        port(7480),
        clock(),
    ];
    let mut healthy = true;
    for check in &checks {
        match &check.fault {
            None => say!("ok    {}", check.name),
            Some((why, fix)) => {
                healthy = false;
                say!("FAIL  {}: {why}\n      fix: {fix}", check.name);
            }
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(name: &'static str, good: bool, why: impl Into<String>, fix: &'static str) -> Check {
    Check { name, fault: (!good).then(|| (why.into(), fix)) }
}

fn root() -> Check {
    let good = rustix::process::geteuid().is_root();
    check("root", good, "volumes mount, freeze and make loop devices", "run as root")
}

fn fuse() -> Check {
    check("fuse", Path::new("/dev/fuse").exists(), "/dev/fuse is missing", "modprobe fuse")
}

fn loops() -> Check {
    let good = Path::new("/dev/loop-control").exists();
    check("loop", good, "/dev/loop-control is missing", "modprobe loop")
}

fn cgroup() -> Check {
    let good = fs::read_to_string("/proc/self/mountinfo").is_ok_and(|m| m.contains(" - cgroup2 "));
    check("cgroup v2", good, "not mounted", "mount -t cgroup2 none /sys/fs/cgroup/unified")
}

/// Device-mapper swap is taken for encrypted here; the node looks closer before it serves.
fn swap() -> Check {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let plain = text
        .lines()
        .skip(1)
        .filter_map(|l| l.split_whitespace().next())
        .find(|d| !d.starts_with("/dev/dm-") && !d.starts_with("/dev/mapper/"));
    let why = plain.map(|d| format!("{d} is not encrypted")).unwrap_or_default();
    check("swap", plain.is_none(), why, "swapoff -a")
}

fn programs() -> Check {
    let wanted =
        ["/usr/lib/postgresql/15/bin/postgres", "/usr/sbin/mkfs.ext4", "/usr/sbin/losetup"];
    let missing: Vec<&str> = wanted.into_iter().filter(|p| !Path::new(p).exists()).collect();
    let why = format!("{} missing", missing.join(", "));
    check("programs", missing.is_empty(), why, "cargo xtask setup")
}

fn folder() -> Check {
    let data = crate::dev::default_folder();
    let parent = data.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let good = rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_ok();
    check(
        "folder",
        good,
        format!("{} is not writable", parent.display()),
        "choose one by --data DIR",
    )
}

fn port(port: u16) -> Check {
    let name = if port == 7440 { "port 7440 (control)" } else { "port 7480 (kms)" };
    let good = TcpListener::bind(("127.0.0.1", port)).is_ok();
    check(
        name,
        good,
        "another process listens there",
        "stop it, or choose ports by --control-listen and --kms-listen",
    )
}

/// SigV4 refuses what is five minutes off; a clock before this year's releases is surely wrong.
fn clock() -> Check {
    let good = crate::clock::wall_ms() > 1_750_000_000_000;
    check("clock", good, "it stands before 2025", "set the time, or start an NTP client")
}
