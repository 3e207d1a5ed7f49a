//! What this machine lacks, each with its repair.

use crate::cli::DoctorArgs;
use crate::out::say;
use anyhow::Result;
use keystead_envelope::memory::parse_swaps;
use serde::Serialize;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// One check. One that holds and has a `why` is a note: it works, with a limit to know of.
#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// Prints every check; fails when one does.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let data = args.folder.data.clone().unwrap_or_else(crate::dev::default_folder);
    let checks = [
        root(),
        fuse(),
        loops(),
        cgroup(),
        swap(),
        kernel(),
        freed_memory(),
        programs(),
        folder(&data),
        space(&data),
        port("control", args.control_port),
        port("kms", args.kms_port),
        clock(),
    ];
    let healthy = checks.iter().all(|c| c.ok);
    if args.format.json {
        crate::commands::json(&serde_json::json!({ "ok": healthy, "checks": checks }))?;
    } else {
        for Check { name, ok, why, fix } in &checks {
            match (why, fix) {
                (Some(why), Some(fix)) => {
                    let word = if *ok { "note" } else { "FAIL" };
                    say!("{word}  {name}: {why}\n      fix: {fix}");
                }
                _ => say!("ok    {name}"),
            }
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn good(name: impl Into<String>) -> Check {
    Check { name: name.into(), ok: true, why: None, fix: None }
}

fn check(name: impl Into<String>, ok: bool, why: impl Into<String>, fix: &str) -> Check {
    let name = name.into();
    if ok {
        return good(name);
    }
    Check { name, ok, why: Some(why.into()), fix: Some(fix.to_owned()) }
}

fn root() -> Check {
    let ok = rustix::process::geteuid().is_root();
    check("root", ok, "volumes mount, freeze and make loop devices", "run as root")
}

/// The device may be there without the right to open it, as in a container.
fn device(name: &str, path: &str, fix: &str) -> Check {
    match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => good(name),
        Err(e) => check(name, false, format!("{path}: {e}"), fix),
    }
}

fn fuse() -> Check {
    device("fuse", "/dev/fuse", "modprobe fuse; in a container, pass /dev/fuse in")
}

fn loops() -> Check {
    device("loop", "/dev/loop-control", "modprobe loop; in a container, run it privileged")
}

/// Where cgroup v2 is mounted, and whether groups there have a freezer. The root has none, so a
/// group of our own is made for the look.
fn cgroup() -> Check {
    let name = "cgroup v2 freezer";
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(mount) = cgroup2(&mounts) else {
        let fix = "mount -t cgroup2 none /sys/fs/cgroup/unified";
        return check(name, false, "cgroup v2 is not mounted", fix);
    };
    let probe = mount.join(format!("keystead-doctor-{}", std::process::id()));
    if let Err(e) = fs::create_dir(&probe) {
        let why = format!("no group can be made below {}: {e}", mount.display());
        return check(name, false, why, "run as root, with the cgroup hierarchy mounted writable");
    }
    let missing: Vec<&str> =
        ["cgroup.freeze", "cgroup.kill"].into_iter().filter(|f| !probe.join(f).exists()).collect();
    let _ = fs::remove_dir(&probe);
    let why = format!("{} missing", missing.join(", "));
    check(name, missing.is_empty(), why, "use Linux 6.9 or later")
}

fn cgroup2(mountinfo: &str) -> Option<PathBuf> {
    let line = mountinfo.lines().find(|l| l.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

/// KMS and node refuse any swap: whether it is encrypted cannot be told from here.
fn swap() -> Check {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let on = parse_swaps(&text).into_iter().next();
    let why =
        on.as_ref().map(|d| format!("{d} is on, key material may reach it")).unwrap_or_default();
    check("swap", on.is_none(), why, "swapoff -a; or `--insecure-swap` when it is encrypted")
}

/// A node hands a volume on to its successor by FUSE's RESEND, which came with Linux 6.9.
fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let why = format!("Linux {}: its FUSE has no RESEND, no volume can be mounted", release.trim());
    let fix = "use Linux 6.9 or later; on Debian 12: apt-get install linux-image-6.12-amd64";
    check("kernel", at_least(&release, (6, 9)), why, fix)
}

fn at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) >= wanted
}

/// Whether the kernel clears pages when they are freed: what an eviction leaves rests on it.
fn freed_memory() -> Check {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let state = init_on_free(&line).or_else(|| config_default(&kernel_config()?));
    let mut found = good("freed memory (init_on_free)");
    let word = match state {
        Some(true) => return found,
        Some(false) => "is off",
        None => "is not known: neither /proc/cmdline nor the kernel's configuration says",
    };
    found.why = Some(format!(
        "{word}; after an eviction the workload's plaintext stays in freed pages until they are used again, for root to read"
    ));
    found.fix = Some("boot with init_on_free=1 on the kernel's command line".to_owned());
    found
}

/// The last one counts, as for the kernel.
fn init_on_free(cmdline: &str) -> Option<bool> {
    let words = cmdline.split_whitespace().take_while(|w| *w != "--");
    let value = words.filter_map(|w| w.strip_prefix("init_on_free=")).last()?;
    Some(matches!(value, "1" | "y" | "Y" | "t" | "T" | "on" | "ON" | "On"))
}

fn kernel_config() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    fs::read_to_string(format!("/boot/config-{}", release.trim())).ok().or_else(|| {
        let out = Command::new("gzip").args(["-dc", "/proc/config.gz"]).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
    })
}

fn config_default(config: &str) -> Option<bool> {
    const NAME: &str = "CONFIG_INIT_ON_FREE_DEFAULT_ON";
    let line = config.lines().find(|l| l.contains(NAME))?;
    Some(line == format!("{NAME}=y"))
}

fn programs() -> Check {
    let wanted = [
        ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
        ("/usr/sbin/mkfs.ext4", "e2fsprogs"),
        ("/usr/sbin/losetup", "mount"),
        ("/usr/sbin/blkid", "util-linux"),
    ];
    let missing: Vec<_> = wanted.into_iter().filter(|(p, _)| !Path::new(p).exists()).collect();
    let join = |part: fn(&(&str, &str)) -> String, by: &str| -> String {
        missing.iter().map(part).collect::<Vec<_>>().join(by)
    };
    let why = format!("{} missing", join(|m| m.0.to_owned(), ", "));
    let fix = format!("apt-get install -y {}", join(|m| m.1.to_owned(), " "));
    check("packages", missing.is_empty(), why, &fix)
}

/// The folder itself, or the nearest that is there.
fn nearest(data: &Path) -> PathBuf {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    data.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// A file is really written: a read-only file system refuses root as well.
fn folder(data: &Path) -> Check {
    let name = format!("folder {}", data.display());
    let place = nearest(data);
    let probe = place.join(format!(".keystead-doctor-{}", std::process::id()));
    let written = fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    let written = written.and_then(|mut f| f.write_all(&[0; 4096]).and_then(|()| f.sync_all()));
    let _ = fs::remove_file(&probe);
    let why = written.as_ref().err().map(|e| format!("{}: {e}", place.display()));
    check(name, written.is_ok(), why.unwrap_or_default(), "choose another by --data DIR")
}

fn space(data: &Path) -> Check {
    const WANTED: u64 = 4 << 30;
    let free =
        rustix::fs::statvfs(nearest(data)).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize));
    let why = format!("{} MiB are free, a cluster of two disks may need 4096", free >> 20);
    check("space", free >= WANTED, why, "free some, or choose another folder by --data DIR")
}

fn port(role: &str, port: u16) -> Check {
    let name = format!("port {port} ({role})");
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => good(name),
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            let whose = listener(port).unwrap_or_else(|| "another process".to_owned());
            if whose.starts_with("keystead ") {
                return good(format!("{name}: {whose} serves there"));
            }
            let fix = format!("stop it, or choose another by --{role}-listen 127.0.0.1:0");
            check(name, false, format!("{whose} listens there"), &fix)
        }
        Err(e) => check(name, false, e.to_string(), "choose another port"),
    }
}

/// Names who listens, when `ss` can tell.
fn listener(port: u16) -> Option<String> {
    let out = Command::new("ss").args(["-Hltnp", &format!("sport = :{port}")]).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let users = text.split("users:((\"").nth(1)?;
    let name = users.split('"').next()?;
    let pid = users.split("pid=").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(format!("{name} (process {pid})"))
}

/// SigV4 refuses what is five minutes off; a clock before this year's releases is surely wrong.
fn clock() -> Check {
    let good = crate::clock::wall_ms() > 1_750_000_000_000;
    check("clock", good, "it stands before June 2025", "set the time, or start an NTP client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_and_swaps_are_read() {
        let mounts =
            "30 23 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2("30 23 0:26 / /sys rw - sysfs sysfs rw\n"), None);
        let head = "Filename Type Size Used Priority\n";
        assert!(parse_swaps(head).is_empty());
        let on = format!("{head}/dev/dm-1 partition 1 0 -2\n");
        assert_eq!(parse_swaps(&on), ["/dev/dm-1"]);
    }

    #[test]
    fn the_kernel_and_its_clearing_of_freed_pages_are_read() {
        assert!(at_least("6.9.0-rc1\n", (6, 9)) && at_least("6.12.117+deb12-cloud-amd64", (6, 9)));
        assert!(!at_least("6.1.0-56-amd64", (6, 9)) && !at_least("", (6, 9)));
        assert_eq!(init_on_free("quiet init_on_free=0 init_on_free=1\n"), Some(true));
        assert_eq!(init_on_free("init_on_free=off -- init_on_free=1"), Some(false));
        assert_eq!(init_on_free("quiet init_on_alloc=1"), None);
        let on = "CONFIG_A=y\nCONFIG_INIT_ON_FREE_DEFAULT_ON=y\n";
        assert_eq!(config_default(on), Some(true));
        let off = "# CONFIG_INIT_ON_FREE_DEFAULT_ON is not set\n";
        assert_eq!((config_default(off), config_default("")), (Some(false), None));
    }

    #[test]
    fn a_taken_port_and_a_missing_folder_are_told() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let number = taken.local_addr().expect("an address").port();
        let found = port("kms", number);
        assert!(!found.ok && found.why.expect("why").ends_with("listens there"));
        drop(taken);
        assert!(port("kms", number).ok);
        let dir = tempfile::tempdir().expect("a folder");
        assert!(folder(&dir.path().join("a/b")).ok);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0, "nothing is left");
        assert!(!folder(Path::new("/proc/none")).ok);
    }
}
