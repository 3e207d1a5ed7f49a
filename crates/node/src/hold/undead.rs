//! A killed hold that does not end. Threads of it that wait in the kernel for a volume's answer
//! (FIFREEZE with the gate closed, say) cannot be killed, and with them its descriptors stay open:
//! its folder's lock, its socket and the FUSE connections themselves, whose end is what those
//! threads wait for. Its successor breaks the ring by aborting the connections.

use super::cluster::fusectl;
use keystead_volumes::sys;
use std::fs;
use std::path::Path;

const SIGKILL_BIT: u64 = 1 << (libc::SIGKILL - 1);

/// True for a process that was killed and is still there: its first thread has ended, or SIGKILL
/// waits to be heard.
pub fn is_dying(pid: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let ended = field("State:").is_some_and(|s| s.starts_with(['Z', 'X']));
    let killed = ["SigPnd:", "ShdPnd:"].iter().any(|name| {
        let pending = field(name).and_then(|p| u64::from_str_radix(p, 16).ok());
        pending.is_some_and(|p| p & SIGKILL_BIT != 0)
    });
    ended || killed
}

/// Aborts the connections below our folder that a dying process still has mounted. They are named
/// by its own mount namespace, so none can be another's by now.
pub(crate) fn release(pid: i32, data: &Path) {
    let folder = data.join("fuse");
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
    for thread in threads.flatten() {
        // A thread that has ended has no namespace any more.
        let Ok(mounts) = sys::mounts_in(&thread.path().join("mountinfo")) else { continue };
        for mount in mounts.iter().filter(|m| m.target.starts_with(&folder)) {
            let done = sys::abort_fuse(mount.minor, &fusectl(data));
            tracing::warn!(
                pid,
                mount = %mount.target.display(),
                done = done.is_ok(),
                "a predecessor hangs in the kernel: its connection is aborted"
            );
        }
    }
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
