//! `keystead dev stop` and `keystead dev clean`.

use super::folder;
use super::role::holder_of;
use crate::failure::Failure;
use crate::out::say;
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::path::Path;

const WITHIN_SECONDS: i64 = 40;

/// Stops the supervisor, which stops everything; without one, the holder that it left.
pub(crate) fn stop(root: &Path) -> Result<()> {
    if !root.join("run").is_dir() {
        say!("nothing runs over {}", root.display());
        return Ok(());
    }
    let supervisor = if folder::lock(root)?.is_none() { supervisor(root)? } else { None };
    if let Some(pid) = supervisor {
        end(pid, "the supervisor")?;
    }
    if let Some(pid) = holder_of(root) {
        end(pid, "the holder")?;
    }
    say!("stopped");
    Ok(())
}

/// Stops, then deletes the folder with every key, cluster and volume in it.
pub(crate) fn clean(root: &Path) -> Result<()> {
    if !root.exists() {
        say!("{} is not there", root.display());
        return Ok(());
    }
    if !folder::is_ours(root) {
        return Err(Failure::new(format!("{} is not Keystead's", root.display()))
            .why("it has no VERSION file of this layout")
            .fix("delete it by hand if it is meant")
            .into());
    }
    stop(root)?;
    fs::remove_dir_all(root).with_context(|| format!("delete {}", root.display()))?;
    say!("deleted {}", root.display());
    Ok(())
}

fn supervisor(root: &Path) -> Result<Option<Pid>> {
    let path = root.join("run/dev.pid");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().parse().ok().and_then(Pid::from_raw))
}

fn end(pid: Pid, who: &str) -> Result<()> {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    pidfd_send_signal(&process, Signal::TERM).with_context(|| format!("stop {who}"))?;
    let mut waited = [PollFd::new(&process, PollFlags::IN)];
    let limit = Timespec { tv_sec: WITHIN_SECONDS, tv_nsec: 0 };
    if poll(&mut waited, Some(&limit)).with_context(|| format!("wait for {who}"))? == 0 {
        return Err(Failure::new(format!(
            "{who} (process {}) does not stop",
            pid.as_raw_nonzero()
        ))
        .why(format!("it had {WITHIN_SECONDS} s"))
        .fix("read the logs in DIR/log")
        .into());
    }
    Ok(())
}
