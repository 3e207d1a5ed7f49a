//! `keystead dev stop` and `keystead dev clean`.

use super::Place;
use super::folder;
use super::role::{Role, holder_of};
use crate::failure::Failure;
use crate::out::say;
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// The supervisor's own limit, and a little.
const WITHIN: Duration = Duration::from_secs(super::role::STOPS_WITHIN.as_secs() + 4);

/// Stops the supervisor, which stops everything; without one, the holder that it left.
pub(crate) fn stop(root: &Path) -> Result<()> {
    if root.exists() && !folder::is_ours(root) {
        return Err(folder::foreign(root).fix("name the folder by --data DIR").into());
    }
    if end_all(root)? {
        say!("stopped")
    } else {
        say!("nothing runs over {}", root.display())
    }
    Ok(())
}

/// True when something ran.
fn end_all(root: &Path) -> Result<bool> {
    if !root.join("run").is_dir() {
        return Ok(false);
    }
    let locked = folder::lock(root)?.is_none();
    let supervisor = if locked { supervisor(root)? } else { None };
    if let Some(pid) = supervisor {
        end(root, pid, "the supervisor")?;
    } else if locked {
        return Err(Failure::new(format!("{} is in use", root.display()))
            .why("its supervisor has just started or is just ending")
            .fix("try again in a second")
            .into());
    }
    let mut ran = locked;
    for pid in Place::ALL.into_iter().filter_map(|place| holder_of(root, place)) {
        end(root, pid, "the holder")?;
        ran = true;
    }
    Ok(ran)
}

/// Stops, then deletes the folder with every key, cluster and volume in it.
pub(crate) fn clean(root: &Path) -> Result<()> {
    if !root.exists() {
        say!("{} is not there", root.display());
        return Ok(());
    }
    if !folder::is_ours(root) {
        return Err(folder::foreign(root).fix("delete it by hand if it is meant").into());
    }
    end_all(root)?;
    clear_kernel(root)?;
    fs::remove_dir_all(root).with_context(|| format!("delete {}", root.display()))?;
    say!("deleted {}", root.display());
    Ok(())
}

/// A holder that was killed left loop devices and groups that only its folder's notes can name.
fn clear_kernel(root: &Path) -> Result<()> {
    let mut left = 0;
    for place in Place::ALL {
        let config = root.join(format!("config/{}.toml", Role::Hold(place).name()));
        if config.exists() {
            left += keystead_node::hold::clear(&crate::roles::hold_config(&config)?)
                .context("clear away what the holder left")?;
        }
    }
    if left == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("{left} loop devices or groups of {} stay", root.display()))
        .why("something still has them open: fuser -v /dev/loop* names it")
        .fix("end that process, then run this again")
        .into())
}

/// `None` while the file is not written yet, or no more.
fn supervisor(root: &Path) -> Result<Option<Pid>> {
    let path = root.join("run/dev.pid");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().ok().and_then(Pid::from_raw)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}

fn end(root: &Path, pid: Pid, who: &str) -> Result<()> {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    let id = pid.as_raw_nonzero();
    say!("stopping {who} of {} (process {id}), at most {} s ...", root.display(), WITHIN.as_secs());
    pidfd_send_signal(&process, Signal::TERM).with_context(|| format!("stop {who}"))?;
    let mut waited = [PollFd::new(&process, PollFlags::IN)];
    let limit = Timespec { tv_sec: WITHIN.as_secs().cast_signed(), tv_nsec: 0 };
    if poll(&mut waited, Some(&limit)).with_context(|| format!("wait for {who}"))? == 0 {
        return Err(Failure::new(format!("{who} (process {id}) does not stop"))
            .why(format!("it had {} s", WITHIN.as_secs()))
            .fix(format!("read {}", root.join("log").display()))
            .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_folder_is_refused_and_left_as_it_is() {
        let outer = tempfile::tempdir().expect("a folder");
        fs::create_dir(outer.path().join("run")).expect("made");
        for refused in [stop(outer.path()), clean(outer.path())] {
            assert!(refused.is_err_and(|e| e.to_string().contains("is not Keystead's")));
        }
        assert_eq!(fs::read_dir(outer.path().join("run")).expect("listed").count(), 0);
        stop(&outer.path().join("none")).expect("nothing runs there");
    }

    #[test]
    fn an_idle_folder_has_nothing_to_stop_and_is_deleted() {
        let outer = tempfile::tempdir().expect("a folder");
        let root = outer.path().join("data");
        drop(folder::Folder::open(&root).expect("it opens"));
        assert!(!end_all(&root).expect("asked"), "nothing ran");
        clean(&root).expect("deleted");
        assert!(!root.exists());
    }
}
