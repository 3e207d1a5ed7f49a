//! What is done on a disk as root: is there a file system, make one, folders of the workload, the
//! drain rate, the log.
//!
//! The root folder belongs to the workload's user, so no path below it is trusted: everything is
//! opened beneath the disk and through no symbolic link.

use super::spawn::User;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A log longer than this is put aside when a process is started; one old log is kept.
const LOG_BYTES: u64 = 16 << 20;
const PROBE_BYTES: usize = 16 << 20;
const PROBE_NAME: &str = ".keystead-drain";
/// FIFREEZE may take this long to write what is dirty.
const DRAIN_TIME: Duration = Duration::from_millis(150);
const LIMIT_CEILING: u64 = 1 << 30;

fn beneath(root: &OwnedFd, path: &str, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode), resolve)
}

fn root_of(mount: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(mount, flags, Mode::empty())?)
}

fn give<Fd: AsFd>(fd: Fd, owner: &User) -> io::Result<()> {
    let uid = rustix::fs::Uid::from_raw(owner.uid);
    let gid = rustix::fs::Gid::from_raw(owner.gid);
    Ok(rustix::fs::fchown(fd, Some(uid), Some(gid))?)
}

/// Makes the disk the owner's: its root folder, and `tmp` and `log` in it.
pub(crate) fn make_homely(mount: &Path, owner: &User) -> io::Result<()> {
    let root = root_of(mount)?;
    if rustix::fs::fstat(&root)?.st_uid != owner.uid {
        give(&root, owner)?;
        rustix::fs::fchmod(&root, Mode::from_raw_mode(0o700))?;
    }
    for name in ["tmp", "log"] {
        match rustix::fs::mkdirat(&root, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        give(beneath(&root, name, OFlags::RDONLY | OFlags::DIRECTORY, 0)?, owner)?;
    }
    Ok(())
}

/// Opens a process's log for appending.
pub(crate) fn open_log(mount: &Path, name: &str, owner: &User) -> io::Result<OwnedFd> {
    let root = root_of(mount)?;
    let log = beneath(&root, "log", OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    let (current, old) = (format!("{name}.log"), format!("{name}.log.old"));
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
    let file = beneath(&log, &current, flags, 0o600)?;
    let length = rustix::fs::fstat(&file)?.st_size;
    let file = if u64::try_from(length).unwrap_or(0) > LOG_BYTES {
        rustix::fs::renameat(&log, &current, &log, &old)?;
        beneath(&log, &current, flags, 0o600)?
    } else {
        file
    };
    // A pipe or device of that name is no log.
    if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file() {
        return Err(io::Error::other(format!("log/{current} is not a file")));
    }
    give(&file, owner)?;
    Ok(file)
}

/// Measures how fast dirty pages reach the disk below, and says how many may be dirty so that
/// FIFREEZE is done in time. The device has no limit yet.
pub(crate) fn dirty_limit(mount: &Path) -> io::Result<u64> {
    let root = root_of(mount)?;
    let _ = rustix::fs::unlinkat(&root, PROBE_NAME, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut file = File::from(beneath(&root, PROBE_NAME, flags, 0o600)?);
    let block = vec![0x5a; 1 << 20];
    let measured = (|| -> io::Result<Duration> {
        for _ in 0..PROBE_BYTES / block.len() {
            file.write_all(&block)?;
        }
        let start = Instant::now();
        file.sync_data()?;
        Ok(start.elapsed())
    })();
    drop(file);
    let _ = rustix::fs::unlinkat(&root, PROBE_NAME, AtFlags::empty());
    match measured {
        Ok(took) => Ok(limit_for(PROBE_BYTES as u64, took)),
        // A full disk still gets a limit: the floor.
        Err(e) if e.kind() == io::ErrorKind::StorageFull => Ok(0),
        Err(e) => Err(e),
    }
}

fn limit_for(bytes: u64, took: Duration) -> u64 {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let drained = bytes.saturating_mul(DRAIN_TIME.as_micros() as u64) / micros;
    drained.clamp(keystead_volumes::sys::DIRTY_FLOOR, LIMIT_CEILING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_drains_in_150_ms_within_bounds() {
        assert_eq!(limit_for(16 << 20, Duration::from_millis(80)), (16 << 20) * 150 / 80);
        assert_eq!(limit_for(16 << 20, Duration::from_secs(9)), 8 << 20);
        assert_eq!(limit_for(16 << 20, Duration::ZERO), LIMIT_CEILING);
    }

    #[test]
    fn a_log_is_never_opened_through_a_link_of_the_workload() {
        let disk = tempfile::tempdir().expect("a folder");
        let me = User::root();
        make_homely(disk.path(), &me).expect("folders");
        let mut log = File::from(open_log(disk.path(), "db", &me).expect("a log"));
        log.write_all(b"line\n").expect("written");
        let again = File::from(open_log(disk.path(), "db", &me).expect("a log"));
        assert_eq!(again.metadata().expect("stat").len(), 5);
        let elsewhere = tempfile::tempdir().expect("a folder");
        let target = elsewhere.path().join("x.log");
        std::os::unix::fs::symlink(&target, disk.path().join("log/x.log")).expect("a link");
        assert!(open_log(disk.path(), "x", &me).is_err());
        std::fs::rename(disk.path().join("log"), disk.path().join("moved")).expect("moved");
        std::os::unix::fs::symlink(elsewhere.path(), disk.path().join("log")).expect("a link");
        assert!(open_log(disk.path(), "db", &me).is_err());
        assert!(std::fs::read_dir(elsewhere.path()).expect("read").next().is_none());
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let disk = tempfile::tempdir().expect("a folder");
        let me = User::root();
        make_homely(disk.path(), &me).expect("folders");
        let log = File::from(open_log(disk.path(), "db", &me).expect("a log"));
        log.set_len(LOG_BYTES + 1).expect("long");
        let new = File::from(open_log(disk.path(), "db", &me).expect("a log"));
        assert_eq!(new.metadata().expect("stat").len(), 0);
        assert!(disk.path().join("log/db.log.old").exists());
    }
}
