//! Bringing a cluster's workload up, one step after another; each safe to repeat.

use super::Shared;
use super::keys::Recorded;
use super::volumes::Volumes;
use crate::cluster::machine::Step;
use crate::cluster::runner::{StepFailed, Steps};
use crate::disk;
use crate::fleet::Desired;
use crate::host::{Attach, ExitReport, ProcessSpec, mount_point};
use crate::time::SystemClock;
use crate::workload::{Values, password_process, port};
use keystead_types::{Clock, ClusterAssignment, Process, VolumeId};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// `initdb` on a slow disk; time in the freezer does not count.
const PREPARE: Duration = Duration::from_secs(300);
const READY: Duration = Duration::from_secs(10);
const AFTER_READY: Duration = Duration::from_secs(60);
const PASSWORD: Duration = Duration::from_secs(30);

/// The steps of one cluster.
pub(super) struct Work {
    shared: Arc<Shared>,
    desired: Arc<Desired>,
    volumes: Arc<Volumes>,
    /// One step at a time: one that an eviction overtook may still be ending.
    turn: Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    port: Option<u16>,
    password: Option<Arc<Zeroizing<String>>>,
    settled: bool,
}

fn failed(message: impl Into<String>) -> StepFailed {
    StepFailed { message: message.into(), ended: false }
}

impl Work {
    pub(super) fn new(
        shared: Arc<Shared>,
        desired: Arc<Desired>,
        volumes: Arc<Volumes>,
    ) -> Arc<Self> {
        let (turn, known) = (Mutex::default(), Mutex::default());
        Arc::new(Self { shared, desired, volumes, turn, known })
    }

    fn known<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn format(&self, wanted: &ClusterAssignment) -> Result<(), StepFailed> {
        for volume in &wanted.volumes {
            let id = &volume.volume;
            let made = Recorded::of(wanted, volume, &self.shared.grants).and_then(|recorded| {
                let path = self.volumes.image(id);
                recorded.format(&*self.shared.keys, &path, SystemClock.wall_ms())
            });
            let digest = self.volumes.told(id, made.map(Ok)).map_err(failed)?;
            self.shared.board.digest(id, digest);
        }
        Ok(())
    }

    fn attach(&self, wanted: &ClusterAssignment) -> Result<(), StepFailed> {
        let generation = self.volumes.generation();
        self.volumes
            .serve(None, generation)
            .and_then(|()| self.volumes.open_in_step(generation))
            .map_err(failed)?;
        let owner = owner(wanted);
        std::thread::scope(|scope| {
            let threads: Vec<_> = wanted
                .volumes
                .iter()
                .map(|v| scope.spawn(|| self.attach_one(wanted, v, &owner)))
                .collect();
            let joined = threads
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|_| Err(failed("an attaching thread panicked"))));
            joined.collect::<Vec<_>>().into_iter().collect::<Result<(), _>>()
        })?;
        self.known(|k| k.settled = false);
        self.password(wanted).map(drop)
    }

    fn attach_one(
        &self,
        wanted: &ClusterAssignment,
        volume: &keystead_types::VolumeAssignment,
        owner: &str,
    ) -> Result<(), StepFailed> {
        let id = &volume.volume;
        let format = !self.mark(id).exists();
        let disk = Attach { disk: volume.disk.clone(), format, owner: owner.to_owned() };
        let attached = self
            .shared
            .holder
            .attach(&wanted.cluster, id, disk)
            .map_err(|e| failed(format!("{id}: {e}")))?;
        tracing::info!(volume = %id, formatted = attached.formatted,
            dirty_limit = attached.dirty_limit, "attached");
        self.set_mark(id)
    }

    /// A volume that has once carried a file system is never made anew: a blank one is a loss to
    /// be told, not an empty cluster.
    fn mark(&self, volume: &VolumeId) -> PathBuf {
        self.volumes.image(volume).with_extension("formatted")
    }

    fn set_mark(&self, volume: &VolumeId) -> Result<(), StepFailed> {
        let mark = self.mark(volume);
        if mark.exists() {
            return Ok(());
        }
        disk::replace(&mark, &SystemClock.wall_ms())
            .map_err(|e| failed(format!("{volume}: its mark: {e}")))
    }

    /// Made once on the encrypted disk, read from there after a restart.
    fn password(&self, wanted: &ClusterAssignment) -> Result<Arc<Zeroizing<String>>, StepFailed> {
        if let Some(known) = self.known(|k| k.password.clone()) {
            return Ok(known);
        }
        let empty = || Arc::new(Zeroizing::new(String::new()));
        let Some(first) = wanted.template.disks.first() else { return Ok(empty()) };
        let mount = mount_point(&wanted.cluster, &first.name);
        let Some(process) = password_process(&wanted.template, &mount) else { return Ok(empty()) };
        let report = self.run(wanted, process, PASSWORD)?;
        let said = Zeroizing::new(report.stdout);
        let password = Arc::new(Zeroizing::new(said.trim().to_owned()));
        if !report.status.good() || password.is_empty() {
            return Err(failed(format!("the password: {:?}: {}", report.status, report.stderr)));
        }
        self.known(|k| k.password = Some(password.clone()));
        Ok(password)
    }

    fn port(&self, wanted: &ClusterAssignment) -> Result<u16, StepFailed> {
        if let Some(known) = self.known(|k| k.port) {
            return Ok(known);
        }
        // One file for all clusters.
        let _one = self.shared.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = port(&self.shared.data, &wanted.cluster)
            .map_err(|e| failed(format!("the cluster's port: {e}")))?;
        self.known(|k| k.port = Some(chosen));
        Ok(chosen)
    }

    fn filled(&self, wanted: &ClusterAssignment, process: &Process) -> Result<Process, StepFailed> {
        let (port, password) = (self.port(wanted)?, self.password(wanted)?);
        values(wanted, port, &password).process(process).map_err(|e| failed(e.to_string()))
    }

    /// Runs a process on the first disk to its end.
    fn run(
        &self,
        wanted: &ClusterAssignment,
        process: Process,
        timeout: Duration,
    ) -> Result<ExitReport, StepFailed> {
        let name = process.name.clone();
        let spec = spec(wanted, process);
        let report = self.shared.holder.run_to_end(&wanted.cluster, spec, timeout);
        report.map_err(|e| failed(format!("{name}: {e}")))
    }

    fn run_good(
        &self,
        wanted: &ClusterAssignment,
        process: &Process,
        timeout: Duration,
    ) -> Result<(), StepFailed> {
        let report = self.run(wanted, self.filled(wanted, process)?, timeout)?;
        if report.status.good() {
            return Ok(());
        }
        // The last words of a process may hold what it was given.
        let password = self.password(wanted)?;
        let last = report.stderr.trim().lines().last().unwrap_or_default();
        let last = if password.is_empty() {
            last.to_owned()
        } else {
            last.replace(password.as_str(), "***")
        };
        Err(failed(format!("{}: {:?}: {last}", process.name, report.status)))
    }

    fn spawn(&self, wanted: &ClusterAssignment) -> Result<(), StepFailed> {
        for process in &wanted.template.processes {
            let spec = spec(wanted, self.filled(wanted, process)?);
            let pid = self
                .shared
                .holder
                .spawn(&wanted.cluster, spec)
                .map_err(|e| failed(format!("{}: {e}", process.name)))?;
            tracing::info!(cluster = %wanted.cluster, process = process.name, pid, "runs");
        }
        Ok(())
    }

    fn check(&self, wanted: &ClusterAssignment) -> Result<(), StepFailed> {
        if let Some(why) = self.volumes.disk_fault() {
            return Err(failed(why));
        }
        let running =
            self.shared.holder.processes(&wanted.cluster).map_err(|e| failed(e.to_string()))?;
        for process in &wanted.template.processes {
            let last = running.iter().rev().find(|p| p.name == process.name);
            let what = match last.map(|p| p.ended) {
                Some(None) => continue,
                Some(Some(ended)) => format!("{} ended: {ended:?}", process.name),
                None => format!("{} does not run", process.name),
            };
            return Err(StepFailed { message: what, ended: true });
        }
        if !self.known(|k| k.settled) {
            // An attach may have come to its end after the node that asked for it had died.
            wanted.volumes.iter().try_for_each(|v| self.set_mark(&v.volume))?;
        }
        // An adopted cluster's are not known yet.
        self.port(wanted)?;
        self.password(wanted)?;
        if let Some(ready) = &wanted.template.ready {
            self.run_good(wanted, ready, READY)?;
        }
        if !self.known(|k| k.settled) {
            for process in &wanted.template.after_ready {
                self.run_good(wanted, process, AFTER_READY)?;
            }
            self.known(|k| k.settled = true);
        }
        Ok(())
    }

    /// The filled URI, once port and password are known; asks nobody.
    pub(super) fn endpoint(&self) -> Option<String> {
        let wanted = self.desired.get();
        let (port, password) = self.known(|k| (k.port, k.password.clone()));
        let uri = wanted.template.endpoint.as_ref()?;
        values(&wanted, port?, &password?).fill(uri).ok()
    }
}

/// The workload's user.
fn owner(wanted: &ClusterAssignment) -> String {
    let template = &wanted.template;
    let first = template.processes.iter().chain(&template.prepare).next();
    first.map_or_else(|| "nobody".to_owned(), |p| p.user.clone())
}

fn spec(wanted: &ClusterAssignment, process: Process) -> ProcessSpec {
    let disk = wanted.template.disks.first().map(|d| d.name.clone()).unwrap_or_default();
    ProcessSpec { process, disk }
}

fn values<'a>(wanted: &'a ClusterAssignment, port: u16, password: &'a str) -> Values<'a> {
    let mount =
        |name: &String| -> (String, PathBuf) { (name.clone(), mount_point(&wanted.cluster, name)) };
    let disks = wanted.template.disks.iter().map(|d| mount(&d.name)).collect();
    Values { cluster: &wanted.cluster, disks, port, password }
}

impl Steps for Work {
    fn run(&self, step: Step) -> Result<(), StepFailed> {
        let _one = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.desired.get();
        match step {
            Step::Format => self.format(&wanted),
            Step::Attach => self.attach(&wanted),
            Step::Prepare => {
                let prepare = &wanted.template.prepare;
                prepare.iter().try_for_each(|p| self.run_good(&wanted, p, PREPARE))
            }
            Step::Spawn => self.spawn(&wanted),
            Step::Check => self.check(&wanted),
        }
    }
}
