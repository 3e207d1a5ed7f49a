//! One role as a child process: started, started again after a fixed 200 ms, stopped.

use super::Place;
use super::folder::{Folder, write_private};
use super::log::{Log, last_line};
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::{self, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// One that ran for so long did start.
const STEADY: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// The whole orderly stop, whatever hangs: 9 + 1 + 13 + 1 + 3 + 1 s at worst.
pub(crate) const STOPS_WITHIN: Duration = Duration::from_secs(28);
/// A killed process that a system call still holds is waited for this long.
const KILLED_WITHIN: Duration = Duration::from_secs(1);
/// Every so often it is looked whether a process was killed and does not end.
const DYING_EVERY: Duration = Duration::from_millis(250);

/// The four; each Region has a node and its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Kms,
    Hold(Place),
    Control,
    Node(Place),
}

impl Role {
    /// None waits for another; the order only keeps the logs of a first start quiet.
    pub(crate) fn start_order(places: &[Place]) -> Vec<Self> {
        let holders = places.iter().map(|p| Self::Hold(*p));
        let nodes = places.iter().map(|p| Self::Node(*p));
        [Self::Kms].into_iter().chain(holders).chain([Self::Control]).chain(nodes).collect()
    }

    /// Its name in logs and of its files. The first Region's are called by the role alone.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Hold(place) | Self::Node(place) => {
                format!("{}{}", self.command(), place.suffix())
            }
            Self::Kms | Self::Control => self.command().to_owned(),
        }
    }

    /// The command that serves it.
    fn command(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Hold(_) => "hold",
            Self::Control => "control",
            Self::Node(_) => "node",
        }
    }

    /// The node detaches volumes and needs the holder; what it leaves, the holder detaches.
    fn stops_within(self) -> Duration {
        Duration::from_secs(match self {
            Self::Node(_) => 9,
            // By itself it detaches for at most 8 s, then it evicts.
            Self::Hold(_) => 13,
            Self::Control | Self::Kms => 3,
        })
    }
}

/// A role that is kept running.
pub(crate) struct Kept {
    role: Role,
    stop: oneshot::Sender<Instant>,
    task: JoinHandle<()>,
}

impl Kept {
    /// Starts it, or adopts the process that an earlier supervisor left.
    pub(crate) fn start(
        role: Role,
        folder: &Folder,
        adopt: Option<Pid>,
        said: &Log,
    ) -> Result<Self> {
        let plan = Plan {
            role,
            said: said.clone(),
            program: std::env::current_exe().context("find this program")?,
            config: folder.config(&format!("{}.toml", role.name())),
            log: folder.log().join(format!("{}.log", role.name())),
            pid: folder.run(&format!("{}.pid", role.name())),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(plan.keep(adopt, stopped));
        Ok(Self { role, stop, task })
    }
}

/// Node, then its holder, then what they talk to; all of it by one deadline.
pub(crate) async fn stop_all(mut roles: Vec<Kept>) {
    let end = Instant::now() + STOPS_WITHIN;
    let all = Place::ALL;
    let (nodes, holders) = (all.map(Role::Node), all.map(Role::Hold));
    for rank in [&nodes[..], &holders[..], &[Role::Control, Role::Kms]] {
        let longest = rank.iter().map(|r| r.stops_within()).max().unwrap_or_default();
        let deadline = end.min(Instant::now() + longest);
        let mut told = Vec::new();
        for role in rank {
            if let Some(at) = roles.iter().position(|r| r.role == *role) {
                let kept = roles.swap_remove(at);
                let _ = kept.stop.send(deadline);
                told.push(kept.task);
            }
        }
        for task in told {
            let _ = task.await;
        }
    }
}

struct Plan {
    role: Role,
    said: Log,
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    pid: PathBuf,
}

enum Process {
    Ours(Child),
    Adopted(Pid, Arc<OwnedFd>),
}

impl Process {
    /// It ended, or was killed and hangs in the kernel: a holder's successor frees it.
    async fn ended(&mut self) -> String {
        let pid = match self {
            Self::Ours(child) => child.id().map(u32::cast_signed),
            Self::Adopted(pid, _) => Some(pid.as_raw_nonzero().get()),
        };
        tokio::select! {
            biased;
            how = self.reaped() => how,
            () = hangs(pid) => "killed, but it hangs in the kernel".to_owned(),
        }
    }

    async fn reaped(&mut self) -> String {
        match self {
            Self::Ours(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(e) => e.to_string(),
            },
            Self::Adopted(_, pidfd) => {
                let pidfd = Arc::clone(pidfd);
                let wait = move || poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None);
                match tokio::task::spawn_blocking(wait).await {
                    Ok(Ok(_)) => "it ended".to_owned(),
                    Ok(Err(e)) => e.to_string(),
                    Err(e) => e.to_string(),
                }
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        match self {
            Self::Ours(child) => {
                // The id is there as long as the child is not reaped, so it is nobody else's.
                if let Some(pid) = child.id().and_then(|p| Pid::from_raw(p.cast_signed())) {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
            Self::Adopted(_, pidfd) => {
                let _ = pidfd_send_signal(&**pidfd, signal);
            }
        }
    }
}

impl Plan {
    async fn keep(self, adopt: Option<Pid>, mut stopped: oneshot::Receiver<Instant>) {
        let name = self.role.name();
        let mut process = adopt.and_then(|pid| adopted(pid).ok());
        let mut faults = 0_u32;
        loop {
            let running = match process.take() {
                Some(running) => {
                    self.said.line(&format!("{name} is adopted"));
                    Ok(running)
                }
                None => self.spawn().map(Process::Ours),
            };
            match running {
                Ok(mut running) => {
                    if let (true, Process::Ours(child)) = (faults.is_power_of_two(), &running) {
                        let pid = child.id().unwrap_or_default();
                        self.said.line(&format!("{name} started again (process {pid})"));
                    }
                    let began = Instant::now();
                    tokio::select! {
                        how = running.ended() => {
                            if began.elapsed() > STEADY {
                                faults = 0;
                            }
                            let why = last_line(&self.log);
                            let why = why.map(|l| format!("\n  its last line: {l}")).unwrap_or_default();
                            // One that cannot start is told at its 1st, 2nd, 4th, 8th ... end.
                            if faults == 0 || faults.is_power_of_two() {
                                self.said
                                    .line(&format!("{name} ended ({how}); again in 200 ms{why}"));
                            }
                        }
                        deadline = &mut stopped => {
                            return self.stop(running, deadline.unwrap_or_else(|_| Instant::now())).await;
                        }
                    }
                }
                Err(e) => self.said.line(&format!("{name} does not start: {e:#}")),
            }
            faults = faults.saturating_add(1);
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                _ = &mut stopped => return,
            }
        }
    }

    async fn stop(&self, mut running: Process, deadline: Instant) {
        let name = self.role.name();
        running.signal(Signal::TERM);
        if tokio::time::timeout_at(deadline, running.ended()).await.is_err() {
            self.said.line(&format!("{name} does not stop; it is killed"));
            running.signal(Signal::KILL);
            if tokio::time::timeout(KILLED_WITHIN, running.reaped()).await.is_err() {
                self.said.line(&format!("{name} hangs in the kernel; it ends when that answers"));
                // Its id stays on file: the next start finds it.
                return;
            }
        }
        let _ = fs::remove_file(&self.pid);
    }

    fn spawn(&self) -> Result<Child> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .with_context(|| format!("open {}", self.log.display()))?;
        let mut command = Command::new(&self.program);
        command.args([self.role.command(), "serve", "--config"]).arg(&self.config);
        if !matches!(self.role, Role::Hold(_)) {
            // Out of the terminal's group: ctrl-c reaches the supervisor alone, which stops them
            // in order. The holder leaves by a session of its own.
            command.arg("--supervised").process_group(0);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let pid = child.id().context("the child ended at once")?;
        write_private(&self.pid, &format!("{pid}\n"))?;
        Ok(child)
    }
}

/// Comes back once a process has been dying for a whole period.
async fn hangs(pid: Option<i32>) {
    let mut before = false;
    loop {
        tokio::time::sleep(DYING_EVERY).await;
        let now = pid.is_some_and(keystead_node::hold::is_dying);
        if now && before {
            return;
        }
        before = now;
    }
}

fn adopted(pid: Pid) -> Result<Process> {
    let fd = pidfd_open(pid, PidfdFlags::empty()).context("open the holder's process")?;
    Ok(Process::Adopted(pid, Arc::new(fd)))
}

/// A holder that outlived its supervisor: the process of the kept id, if it serves this folder.
pub(crate) fn find_holder(folder: &Folder, place: Place) -> Option<Pid> {
    holder_of(&folder.root, place)
}

/// The same without the lock.
pub(crate) fn holder_of(root: &std::path::Path, place: Place) -> Option<Pid> {
    let name = Role::Hold(place).name();
    let text = fs::read_to_string(root.join(format!("run/{name}.pid"))).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    if keystead_node::hold::is_dying(pid) {
        return None;
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).into_owned();
    let config = root.join(format!("config/{name}.toml"));
    let ours = command.contains("\0hold\0serve\0") && command.contains(&*config.to_string_lossy());
    ours.then(|| Pid::from_raw(pid)).flatten()
}
