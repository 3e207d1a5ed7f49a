//! A machine of its own in QEMU that runs the product, and what its guest says line by line.

use crate::world::signal;
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

const GUESTS: &str = "crates/keystead/tests/it/proofs";
/// Debian 12's later kernel: the FUSE of its 6.1 has no RESEND.
const KERNEL: &str = "6.12-cloud-amd64";
/// An emulated CPU on a loaded machine: no time is judged here.
const SECONDS: &str = "900";
/// What the rig answers when QEMU ended before its guest did.
const CUT: i32 = 137;
/// Of the console of a machine that ended by itself: a panic with its trace.
const LAST_LINES: usize = 80;

/// What differs between machines.
pub(super) struct Boot<'a> {
    /// Shared with the guest, as /vm.
    pub(super) folder: &'a Path,
    /// The guest's script, of the folder of these proofs.
    pub(super) guest: &'a str,
    /// Further lines of the guest's settings.
    pub(super) settings: &'a str,
    /// The disks, as `VM_DISKS` takes them.
    pub(super) disk: String,
    /// Further variables of the rig.
    pub(super) rig: &'a [(&'a str, &'a str)],
}

pub(super) struct Vm {
    rig: Child,
    pid_file: PathBuf,
    console: PathBuf,
    lines: Receiver<String>,
}

impl Vm {
    pub(super) fn boot(boot: &Boot<'_>) -> Self {
        let at = |name: &str| boot.folder.join(name);
        let settings = format!("KEYSTEAD={}\n{}\n", env!("CARGO_BIN_EXE_keystead"), boot.settings);
        std::fs::write(at("settings"), settings).expect("written");
        let guests = crate::repository(GUESTS);
        std::fs::copy(guests.join("guest.sh"), at("guest.sh")).expect("copied");
        let (pid_file, console) = (at("qemu.pid"), at("console"));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = Command::new(crate::boot_vm());
        command
            .arg(boot.folder)
            .arg(guests.join(boot.guest))
            .env("VM_DISKS", &boot.disk)
            .env("VM_PIDFILE", &pid_file)
            .env("VM_LOG", &console)
            .env("VM_FLAVOUR", KERNEL)
            .env("VM_TIMEOUT", SECONDS)
            .envs(boot.rig.iter().copied())
            .stdin(Stdio::null())
            .stdout(writer.try_clone().expect("shared"))
            .stderr(writer);
        let rig = command.spawn().expect("the rig starts");
        // The pipe ends with the rig, not with this writer's last copy.
        drop(command);
        let (tell, lines) = sync_channel(1024);
        std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                let _ = tell.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { rig, pid_file, console, lines }
    }

    /// The next line; none when the machine has ended.
    pub(super) fn line(&self) -> Option<String> {
        self.lines.recv().ok()
    }

    /// The next line of a machine that must not have ended.
    pub(super) fn next(&mut self) -> String {
        match self.lines.recv() {
            Ok(line) => line,
            Err(_) => self.ended_by_itself(),
        }
    }

    fn ended_by_itself(&mut self) -> ! {
        let status = self.rig.wait().expect("the rig ends");
        let console = std::fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        panic!(
            "the machine ended by itself: {status} ({CUT}: QEMU before its guest); its console:\n{last}"
        );
    }

    /// The lines of a span of time, which the machine must outlive.
    pub(super) fn lines_within(&mut self, span: Duration, mut each: impl FnMut(&str)) {
        let end = Instant::now() + span;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => each(&line),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => self.ended_by_itself(),
            }
        }
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> ExitStatus {
        self.rig.wait().expect("the rig ends")
    }

    /// The power goes; answers what the guest had still said.
    pub(super) fn cut(mut self) -> Vec<String> {
        self.kill();
        let said = self.lines.iter().collect();
        let status = self.rig.wait().expect("the rig ends");
        assert_eq!(status.code(), Some(CUT), "the rig tells a power cut");
        said
    }

    fn kill(&self) {
        let pid = std::fs::read_to_string(&self.pid_file).ok();
        if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) {
            signal(pid, Signal::KILL);
        }
    }
}

/// A failing test leaves no machine behind.
impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
        self.lines.iter().for_each(drop);
        let _ = self.rig.wait();
    }
}
