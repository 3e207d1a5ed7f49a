//! A killed hold that does not end. Threads of it that wait in the kernel for a volume's answer
//! (FIFREEZE with the gate closed, say) cannot be killed, and with them its descriptors stay open:
//! its folder's lock, its socket and the FUSE connections themselves, whose end is what those
//! threads wait for. Its successor breaks the ring by aborting the connections.

use super::cluster::fusectl;
use keystead_volumes::sys::{self, MountLine};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

const SIGKILL_BIT: u64 = 1 << (libc::SIGKILL - 1);

/// True for a process that was killed and is still there: its first thread has ended or is about
/// to, or SIGKILL waits to be heard.
pub fn is_dying(pid: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let ended = field("State:").is_some_and(|s| s.starts_with(['Z', 'X']));
    let killed = ["SigPnd:", "ShdPnd:"].iter().any(|name| {
        let pending = field(name).and_then(|p| u64::from_str_radix(p, 16).ok());
        pending.is_some_and(|p| p & SIGKILL_BIT != 0)
    });
    ended || killed || is_exiting(pid)
}

/// The kernel's flag for a thread on its way out: field 9 of `stat`, counted after the name.
fn is_exiting(pid: i32) -> bool {
    const PF_EXITING: u32 = 0x4;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let flags = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(6)?.parse().ok());
    flags.is_some_and(|flags: u32| flags & PF_EXITING != 0)
}

/// Aborts the connections below our folder that a dying process still has mounted, each once. Its
/// own mount namespace names them, read anew before each: none is another's by then.
pub(crate) fn release(pid: i32, data: &Path, aborted: &mut HashSet<u32>) {
    let folder = data.join("fuse");
    while let Some(mount) = mounted(pid, &folder).into_iter().find(|m| !aborted.contains(&m.minor))
    {
        let done = sys::abort_fuse(mount.minor, &fusectl(data));
        tracing::warn!(
            pid,
            mount = %mount.target.display(),
            done = done.is_ok(),
            "a predecessor hangs in the kernel: its connection is aborted"
        );
        aborted.insert(mount.minor);
    }
}

/// A thread that has ended has no namespace any more; any other shows the same.
fn mounted(pid: i32, folder: &Path) -> Vec<MountLine> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return vec![] };
    let mut mounts = threads
        .flatten()
        .filter_map(|thread| sys::mounts_in(&thread.path().join("mountinfo")).ok())
        .find(|mounts| !mounts.is_empty())
        .unwrap_or_default();
    mounts.retain(|m| m.target.starts_with(folder));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_living_from_the_dying_and_the_gone() {
        assert!(!is_dying(std::process::id().cast_signed()));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        let pid = child.id().cast_signed();
        assert!(!is_dying(pid));
        child.kill().expect("killed");
        while !is_dying(pid) {
            std::thread::yield_now();
        }
        child.wait().expect("reaped");
        assert!(!is_dying(pid));
    }
}
