//! One control group per cluster: frozen, watched and killed as a whole.
//!
//! The freezer is cgroup v2's, wherever mountinfo says it is mounted (a hybrid host has it beside
//! the v1 controllers). Memory is counted per cluster by the controller that the host has: v1 gets
//! a group of its own, v2 the same group. v1's freezer is not used: a task frozen by it does not
//! die of SIGKILL.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why a group cannot be had or moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("no cgroup v2 hierarchy is mounted; mount one (type cgroup2), as on /sys/fs/cgroup")]
    NoV2,
    #[error("{call} {}: {source}", path.display())]
    Io { call: &'static str, path: PathBuf, source: io::Error },
}

fn fault(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { call, path, source }
}

/// Where the hierarchies are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roots {
    v2: PathBuf,
    memory_v1: Option<PathBuf>,
}

impl Roots {
    /// Reads them from /proc/self/mountinfo.
    pub(crate) fn find() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/thread-self/mountinfo");
        let text = fs::read_to_string(path).map_err(fault("read", path))?;
        Self::parse(&text).ok_or(CgroupError::NoV2)
    }

    fn parse(mountinfo: &str) -> Option<Self> {
        let (mut v2, mut memory_v1) = (None, None);
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(target) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            match (right.next(), right.nth(1)) {
                (Some("cgroup2"), _) => v2 = v2.or(Some(PathBuf::from(target))),
                (Some("cgroup"), Some(options)) if options.split(',').any(|o| o == "memory") => {
                    memory_v1 = memory_v1.or(Some(PathBuf::from(target)));
                }
                _ => {}
            }
        }
        Some(Self { v2: v2?, memory_v1 })
    }

    /// Names of the groups under a prefix.
    pub(crate) fn under(&self, prefix: &str) -> Vec<String> {
        let roots = [Some(&self.v2), self.memory_v1.as_ref()];
        let mut names: Vec<String> = roots
            .into_iter()
            .flatten()
            .filter_map(|root| fs::read_dir(root.join(prefix)).ok())
            .flat_map(|entries| entries.flatten())
            .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Takes away the folder of a prefix; one that still has groups stays.
    pub(crate) fn remove_prefix(&self, prefix: &str) {
        for root in [Some(&self.v2), self.memory_v1.as_ref()].into_iter().flatten() {
            let _ = fs::remove_dir(root.join(prefix));
        }
    }

    /// A group that may or may not exist.
    pub(crate) fn group(&self, prefix: &str, name: &str) -> Group {
        Group {
            v2: self.v2.join(prefix).join(name),
            memory_v1: self.memory_v1.as_ref().map(|root| root.join(prefix).join(name)),
        }
    }

    /// Makes a group, thawed.
    pub(crate) fn create(&self, prefix: &str, name: &str) -> Result<Group, CgroupError> {
        let group = self.group(prefix, name);
        let parent = self.v2.join(prefix);
        fs::create_dir_all(&parent).map_err(fault("mkdir", &parent))?;
        if self.memory_v1.is_none() {
            // Best effort: without the controller the group is not counted apart, that is all.
            for folder in [&self.v2, &parent] {
                let _ = fs::write(folder.join("cgroup.subtree_control"), "+memory");
            }
        }
        for folder in [Some(&group.v2), group.memory_v1.as_ref()].into_iter().flatten() {
            fs::create_dir_all(folder).map_err(fault("mkdir", folder))?;
        }
        group.freeze(false)?;
        Ok(group)
    }
}

/// One cluster's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    v2: PathBuf,
    memory_v1: Option<PathBuf>,
}

impl Group {
    fn write(&self, knob: &'static str, value: &str) -> Result<(), CgroupError> {
        let path = self.v2.join(knob);
        fs::write(&path, value).map_err(fault("write", &path))
    }

    /// Asks the freezer; the kernel gets there a little later.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// SIGKILL to every task of the group, frozen or not; not waited for. A group that is not
    /// there has none.
    pub(crate) fn kill(&self) -> Result<(), CgroupError> {
        if self.v2.exists() { self.write("cgroup.kill", "1") } else { Ok(()) }
    }

    /// Some task lives in it. A group that is not there has none.
    pub(crate) fn populated(&self) -> bool {
        fs::read_to_string(self.v2.join("cgroup.events")).is_ok_and(|e| has(&e, "populated 1"))
    }

    /// True once the kernel says `frozen 1`; false at the deadline: some task is in the kernel and
    /// does not come out.
    pub(crate) fn wait_frozen(&self, deadline: Instant) -> bool {
        self.wait_event("frozen 1", deadline)
    }

    /// True once no task is left.
    pub(crate) fn wait_empty(&self, deadline: Instant) -> bool {
        !self.v2.exists() || self.wait_event("populated 0", deadline)
    }

    /// cgroup.events is readable out of band whenever it changed since it was read.
    fn wait_event(&self, wanted: &str, deadline: Instant) -> bool {
        let Ok(mut events) = File::open(self.v2.join("cgroup.events")) else { return false };
        loop {
            let mut text = String::new();
            let read = events.rewind().and_then(|()| events.read_to_string(&mut text));
            if read.is_err() || has(&text, wanted) {
                return read.is_ok();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // In slices: no missed wake-up may cost more than this.
            let slice = left.min(Duration::from_millis(20));
            let slice = Timespec { tv_sec: 0, tv_nsec: slice.as_nanos() as _ };
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&slice));
        }
    }

    /// The files into which a new process writes `0` to enter.
    pub(crate) fn entrances(&self) -> Result<Vec<File>, CgroupError> {
        [Some(&self.v2), self.memory_v1.as_ref()]
            .into_iter()
            .flatten()
            .map(|folder| {
                let path = folder.join("cgroup.procs");
                OpenOptions::new().write(true).open(&path).map_err(fault("open", &path))
            })
            .collect()
    }

    /// Removes the empty group; v1's memory group lets go of its pages first.
    pub(crate) fn remove(&self, deadline: Instant) -> Result<(), CgroupError> {
        if let Some(memory) = &self.memory_v1 {
            let _ = fs::write(memory.join("memory.force_empty"), "0");
        }
        for folder in [Some(&self.v2), self.memory_v1.as_ref()].into_iter().flatten() {
            loop {
                match fs::remove_dir(folder) {
                    Ok(()) => break,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                    // A task that just died is counted for a moment longer.
                    Err(e)
                        if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
                    {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err(e) => return Err(fault("rmdir", folder)(e)),
                }
            }
        }
        Ok(())
    }
}

fn has(events: &str, wanted: &str) -> bool {
    events.lines().any(|line| line == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchies_of_hybrid_unified_and_v1_hosts() {
        let hybrid = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let found = Roots::parse(hybrid).expect("a v2 hierarchy");
        assert_eq!(found.v2, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found.memory_v1.as_deref(), Some(Path::new("/sys/fs/cgroup/memory")));
        let unified = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Roots::parse(unified).expect("a v2 hierarchy");
        assert_eq!(found.v2, Path::new("/sys/fs/cgroup"));
        assert_eq!(found.memory_v1, None);
        let v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(Roots::parse(v1), None);
    }

    #[test]
    fn a_word_of_events_is_a_whole_line() {
        assert!(has("populated 1\nfrozen 0\n", "populated 1"));
        assert!(!has("populated 10\n", "populated 1"));
    }
}
