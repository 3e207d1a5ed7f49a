//! Attach a disk, run processes on it: all that brings a cluster's workload up.

use super::cluster::{Cluster, Inner, Spawned, Volume, kernel, mount_point, overtaken};
use super::collect::{Collector, Keep};
use super::disk;
use super::spawn::{Child, Plan, User, c_string, null, program, signal_named};
use super::sweep;
use super::wire::{Attach, Attached, Ended, ExitReport, Fault, FaultKind, ProcessSpec};
use keystead_types::VolumeId;
use keystead_volumes::sys;
use rustix::process::Signal;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A name that becomes part of a path.
fn checked(what: &str, name: &str) -> Result<(), Fault> {
    let fits = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    if fits { Ok(()) } else { Err(refused(format!("`{name}` is no name of a {what}"))) }
}

fn refused(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Refused, message)
}

/// The workload's user; root is none.
fn user(name: &str) -> Result<User, Fault> {
    let user = User::named(name)
        .map_err(|e| kernel("look the user up", e))?
        .ok_or_else(|| refused(format!("there is no system user `{name}`")))?;
    if user.uid == 0 {
        return Err(refused("a workload does not run as root"));
    }
    Ok(user)
}

impl Cluster {
    /// Loop device, file system when asked for and there is none, mount, dirty limit.
    pub(crate) fn attach(&self, volume: &VolumeId, wanted: &Attach) -> Result<Attached, Fault> {
        checked("disk", &wanted.disk)?;
        let owner = user(&wanted.owner)?;
        {
            // Two attaches of one volume: the second waits for the first.
            let mut inner =
                self.wait_while(None, |i| !i.gone && i.volumes.get(volume).is_some_and(|v| v.busy));
            if inner.gone {
                return Err(overtaken());
            }
            let other = |(id, v): (&VolumeId, &Volume)| {
                id != volume && v.disk.as_deref() == Some(&wanted.disk)
            };
            if inner.volumes.iter().any(other) {
                return Err(refused(format!("disk `{}` is another volume's", wanted.disk)));
            }
            let known = inner.volumes.get_mut(volume).ok_or_else(|| {
                Fault::new(FaultKind::NotFound, "the volume has no FUSE mount; ask for its fd")
            })?;
            if known.disk.as_ref().is_some_and(|d| d != &wanted.disk) {
                return Err(refused("the volume is attached under another disk's name"));
            }
            if let Some(mount) = &known.mounted {
                let mount = mount.clone();
                return Ok(Attached { mount, formatted: false, dirty_limit: known.limit });
            }
            (known.busy, known.disk) = (true, Some(wanted.disk.clone()));
        }
        let result = self.bring_up(volume, wanted, &owner);
        let mut inner = self.lock();
        let frozen = inner.frozen;
        if let Some(known) = inner.volumes.get_mut(volume) {
            known.busy = false;
            match (&result, &known.device) {
                // A freeze that came while ext4 was being mounted knew nothing of it.
                (Ok(attached), Some(device)) if frozen => {
                    let _ = sys::lift_dirty(device);
                    known.fs.begin_freeze(&attached.mount);
                }
                (Ok(_), _) => {}
                (Err(_), _) => known.disk = None,
            }
        }
        self.wake();
        result
    }

    fn bring_up(
        &self,
        volume: &VolumeId,
        wanted: &Attach,
        owner: &User,
    ) -> Result<Attached, Fault> {
        let (target, device) = {
            let inner = self.alive()?;
            let known = inner.volumes.get(volume).ok_or_else(overtaken)?;
            (known.target.clone(), known.device.clone())
        };
        let device = match device {
            Some(device) => device,
            None => {
                let device = sys::attach_loop(&target).map_err(|e| kernel("attach loop", e))?;
                if let Err(error) = sweep::note(&self.place, &device) {
                    tracing::warn!(%error, "a successor would not know the loop device");
                }
                // Recorded before anything else may fail: whoever takes the cluster off finds it.
                let mut inner = self.lock();
                let known = inner.volumes.get_mut(volume).ok_or_else(overtaken)?;
                known.device = Some(device.clone());
                if inner.gone {
                    return Err(overtaken());
                }
                device
            }
        };
        // What a stranger left on this loop node would throttle mkfs.
        sys::lift_dirty(&device).map_err(|e| kernel("dirty limit", e))?;
        let formatted = self.file_system(&device.path, wanted.format)?;
        drop(self.alive()?);
        let mount = mount_point(&self.id, &wanted.disk);
        std::fs::create_dir_all(&mount).map_err(|e| kernel("make the mount point", e))?;
        sys::mount_ext4(&device.path, &mount, "discard,errors=remount-ro")
            .map_err(|e| kernel("mount", e))?;
        let settled = disk::make_homely(&mount, owner)
            .map_err(|e| kernel("make the workload's folders", e))
            .and_then(|()| disk::dirty_limit(&mount).map_err(|e| kernel("measure the disk", e)))
            .and_then(|limit| {
                let limit = limit.max(sys::DIRTY_FLOOR);
                sys::limit_dirty(&device, limit).map_err(|e| kernel("dirty limit", e))?;
                Ok(limit)
            });
        let mut inner = self.lock();
        let gone = inner.gone;
        let known = inner.volumes.get_mut(volume).ok_or_else(overtaken)?;
        // Even when something failed after the mount: it is there and has to be taken off.
        known.mounted = Some(mount.clone());
        match settled {
            _ if gone => Err(overtaken()),
            Ok(limit) => {
                known.limit = limit;
                Ok(Attached { mount, formatted, dirty_limit: limit })
            }
            Err(fault) => {
                drop(inner);
                if sys::unmount(&mount).is_ok()
                    && let Some(known) = self.lock().volumes.get_mut(volume)
                {
                    known.mounted = None;
                }
                Err(fault)
            }
        }
    }

    /// True when it was made. Decided by blkid, which knows every signature, never by a byte that
    /// happens to be zero.
    fn file_system(&self, device: &Path, format: bool) -> Result<bool, Fault> {
        let path = device.display().to_string();
        let found = self.helper(&["blkid", "-p", "-o", "value", "-s", "TYPE", &path])?;
        let kind = found.stdout.trim();
        match found.status {
            Ended::Exit(0) if kind == "ext4" => Ok(false),
            // 2: nothing at all.
            Ended::Exit(2) if format => {
                let made = self.helper(&["mkfs.ext4", "-q", "-m", "0", &path])?;
                if made.status.good() {
                    Ok(true)
                } else {
                    Err(kernel("mkfs.ext4", made.stderr.trim()))
                }
            }
            Ended::Exit(2) => {
                let message = "the volume carries no file system and none was to be made";
                Err(Fault::new(FaultKind::NoFileSystem, message))
            }
            Ended::Exit(0) => {
                let message = format!("the volume carries `{kind}`, not ext4; it is left alone");
                Err(Fault::new(FaultKind::NoFileSystem, message))
            }
            status => Err(kernel("blkid", format!("{status:?} {}", found.stderr.trim()))),
        }
    }

    /// A tool of the system, as root in the cluster's group: frozen, killed and counted with it.
    fn helper(&self, command: &[&str]) -> Result<ExitReport, Fault> {
        let command: Vec<String> = command.iter().map(|&c| c.to_owned()).collect();
        let (stdout, stderr) = (Collector::start(Keep::Head)?, Collector::start(Keep::Tail)?);
        let environment = vec![format!("PATH={DEFAULT_PATH}")];
        let plan = self.plan(
            &command,
            DEFAULT_PATH,
            environment,
            (Path::new("/"), User::root()),
            stdout.end()?,
            stderr.end()?,
        )?;
        let child = self.start(self.alive()?, &command[0], plan)?;
        self.await_end(&child, None, stdout, stderr)
    }

    fn plan(
        &self,
        command: &[String],
        path: &str,
        environment: Vec<String>,
        (folder, user): (&Path, User),
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Plan, Fault> {
        let strings = |all: &[String]| {
            all.iter().map(|s| c_string(s.as_bytes())).collect::<Result<Vec<_>, _>>()
        };
        let first = command.first().ok_or_else(|| refused("an empty command"))?;
        let text = |e: std::io::Error| refused(e.to_string());
        Ok(Plan {
            program: program(first, path).map_err(text)?,
            arguments: strings(command).map_err(text)?,
            environment: strings(&environment).map_err(text)?,
            folder: c_string(folder.as_os_str().as_encoded_bytes()).map_err(text)?,
            user,
            entrances: self.group.entrances().map_err(|e| kernel("open the cgroup", e))?,
            stdin: null().map_err(|e| kernel("open /dev/null", e))?,
            stdout,
            stderr,
        })
    }

    /// The plan of a workload's process: environment as given, PATH and TMPDIR besides.
    fn workload_plan(
        &self,
        spec: &ProcessSpec,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> Result<Plan, Fault> {
        let process = &spec.process;
        checked("process", &process.name)?;
        checked("disk", &spec.disk)?;
        let user = user(&process.user)?;
        let mount = self.mount_of(&spec.disk)?;
        let mut environment = process.environment.clone();
        let inherited = || std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
        let path = environment.entry("PATH".to_owned()).or_insert_with(inherited).clone();
        let tmp = || mount.join("tmp").display().to_string();
        environment.entry("TMPDIR".to_owned()).or_insert_with(tmp);
        if environment.keys().any(|k| k.is_empty() || k.contains('=')) {
            return Err(refused("a name in the environment is empty or has an equals sign"));
        }
        let log =
            || disk::open_log(&mount, &process.name, &user).map_err(|e| kernel("open the log", e));
        let stdout = stdout.map_or_else(log, Ok)?;
        let stderr = stderr.map_or_else(log, Ok)?;
        let environment = environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
        self.plan(&process.command, &path, environment, (&mount, user), stdout, stderr)
    }

    fn mount_of(&self, disk: &str) -> Result<PathBuf, Fault> {
        let inner = self.alive()?;
        let mount = inner
            .volumes
            .values()
            .find(|v| v.disk.as_deref() == Some(disk))
            .filter(|v| !v.busy)
            .and_then(|v| v.mounted.clone());
        mount.ok_or_else(|| {
            Fault::new(FaultKind::NotAttached, format!("disk `{disk}` is not mounted"))
        })
    }

    /// Waits until the cluster is not frozen.
    fn wait_thawed(&self) -> Result<(), Fault> {
        if self.wait_while(None, |i| i.frozen && !i.gone).gone { Err(overtaken()) } else { Ok(()) }
    }

    /// Starts a process of the workload; one of the same name that runs is left alone.
    pub(crate) fn spawn(&self, spec: &ProcessSpec) -> Result<i32, Fault> {
        self.wait_thawed()?;
        let process = &spec.process;
        let stop = match process.stop_signal.as_deref() {
            None => Signal::TERM,
            Some(name) => {
                signal_named(name).ok_or_else(|| refused(format!("`{name}` is no stop signal")))?
            }
        };
        let runs = |i: &Inner| {
            let same = |p: &&Spawned| p.name == process.name && p.child.ended().is_none();
            i.processes.iter().find(same).map(|p| p.child.pid())
        };
        if let Some(pid) = runs(&*self.alive()?) {
            return Ok(pid);
        }
        let plan = self.workload_plan(spec, None, None)?;
        let inner = self.alive()?;
        if let Some(pid) = runs(&inner) {
            return Ok(pid);
        }
        let child = self.start(inner, &process.name, plan)?;
        let mut inner = self.lock();
        inner.processes.retain(|p| p.name != process.name);
        inner.processes.push(Spawned::new(&process.name, child.clone(), stop));
        Ok(child.pid())
    }

    /// Runs a process to its end.
    pub(crate) fn run_to_end(
        &self,
        spec: &ProcessSpec,
        timeout: Duration,
    ) -> Result<ExitReport, Fault> {
        self.wait_thawed()?;
        let (stdout, stderr) = (Collector::start(Keep::Head)?, Collector::start(Keep::Tail)?);
        let plan = self.workload_plan(spec, Some(stdout.end()?), Some(stderr.end()?))?;
        let child = self.start(self.alive()?, &spec.process.name, plan)?;
        self.await_end(&child, Some(timeout), stdout, stderr)
    }

    /// Forks under the lock, so that an eviction either forbids it or finds the child; waits for
    /// the exec without it.
    fn start(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        name: &str,
        plan: Plan,
    ) -> Result<Arc<Child>, Fault> {
        let failed = |e| refused(format!("start `{name}`: {e}"));
        let (child, report) = self.place.nursery.fork(plan).map_err(failed)?;
        inner.children.retain(|c| c.ended().is_none());
        inner.children.push(child.clone());
        drop(inner);
        report.executed().map_err(failed)?;
        Ok(child)
    }

    /// Time in the freezer does not count.
    fn await_end(
        &self,
        child: &Arc<Child>,
        timeout: Option<Duration>,
        stdout: Collector,
        stderr: Collector,
    ) -> Result<ExitReport, Fault> {
        let (mut used, mut killed) = (Duration::ZERO, false);
        let status = loop {
            let before = Instant::now();
            if let Some(ended) = child.wait(Duration::from_millis(50)) {
                break if killed { Ended::TimedOut } else { ended };
            }
            if !self.lock().frozen {
                used += before.elapsed();
            }
            if !killed && timeout.is_some_and(|t| used >= t) {
                killed = true;
                self.place.nursery.signal(child, Signal::KILL, true);
            }
        };
        if self.lock().gone {
            return Err(overtaken());
        }
        let (stdout, stderr) = (stdout.text(), stderr.text());
        Ok(ExitReport { status, stdout, stderr })
    }
}
