//! One role as a child process: started, started again after a fixed 200 ms, stopped.

use super::folder::{Folder, write_private};
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

const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Kms,
    Hold,
    Control,
    Node,
}

impl Role {
    /// None waits for another; the order only keeps the logs of a first start quiet.
    pub(crate) const START_ORDER: [Self; 4] = [Self::Kms, Self::Hold, Self::Control, Self::Node];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Hold => "hold",
            Self::Control => "control",
            Self::Node => "node",
        }
    }

    /// The node detaches volumes and needs the holder; what it leaves, the holder detaches.
    fn stops_within(self) -> Duration {
        Duration::from_secs(match self {
            Self::Node => 12,
            // It takes 20 s at most by itself, and killed it would leave mounts behind.
            Self::Hold => 24,
            Self::Control | Self::Kms => 3,
        })
    }
}

/// A role that is kept running.
pub(crate) struct Kept {
    role: Role,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Kept {
    /// Starts it, or adopts the process that an earlier supervisor left.
    pub(crate) fn start(role: Role, folder: &Folder, adopt: Option<Pid>) -> Result<Self> {
        let plan = Plan {
            role,
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

/// Node, then its holder, then what they talk to.
pub(crate) async fn stop_all(mut roles: Vec<Kept>) {
    for role in [Role::Node, Role::Hold, Role::Control, Role::Kms] {
        if let Some(at) = roles.iter().position(|r| r.role == role) {
            let kept = roles.swap_remove(at);
            let _ = kept.stop.send(());
            let _ = kept.task.await;
        }
    }
}

struct Plan {
    role: Role,
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    pid: PathBuf,
}

enum Process {
    Ours(Child),
    Adopted(Arc<OwnedFd>),
}

impl Process {
    async fn ended(&mut self) -> String {
        match self {
            Self::Ours(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(e) => e.to_string(),
            },
            Self::Adopted(pidfd) => {
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
            Self::Adopted(pidfd) => {
                let _ = pidfd_send_signal(&**pidfd, signal);
            }
        }
    }
}

impl Plan {
    async fn keep(self, adopt: Option<Pid>, mut stopped: oneshot::Receiver<()>) {
        let mut process = adopt.and_then(|pid| adopted(pid).ok());
        loop {
            let running = match process.take() {
                Some(running) => Ok(running),
                None => self.spawn().map(Process::Ours),
            };
            match running {
                Ok(mut running) => tokio::select! {
                    how = running.ended() => {
                        eprintln!("{} ended ({how}); again in 200 ms", self.role.name());
                    }
                    _ = &mut stopped => return self.stop(running).await,
                },
                Err(e) => eprintln!("{} does not start: {e:#}", self.role.name()),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                _ = &mut stopped => return,
            }
        }
    }

    async fn stop(&self, mut running: Process) {
        running.signal(Signal::TERM);
        if tokio::time::timeout(self.role.stops_within(), running.ended()).await.is_err() {
            eprintln!("{} does not stop; it is killed", self.role.name());
            running.signal(Signal::KILL);
            running.ended().await;
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
        command.args([self.role.name(), "serve", "--config"]).arg(&self.config);
        if self.role != Role::Hold {
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

fn adopted(pid: Pid) -> Result<Process> {
    let fd = pidfd_open(pid, PidfdFlags::empty()).context("open the holder's process")?;
    Ok(Process::Adopted(Arc::new(fd)))
}

/// A holder that outlived its supervisor: the process of the kept id, if it serves this folder.
pub(crate) fn find_holder(folder: &Folder) -> Option<Pid> {
    holder_of(&folder.root)
}

/// The same without the lock.
pub(crate) fn holder_of(root: &std::path::Path) -> Option<Pid> {
    let text = fs::read_to_string(root.join("run/hold.pid")).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).into_owned();
    let config = root.join("config/hold.toml");
    let ours = command.contains("\0hold\0serve\0") && command.contains(&*config.to_string_lossy());
    ours.then(|| Pid::from_raw(pid)).flatten()
}
