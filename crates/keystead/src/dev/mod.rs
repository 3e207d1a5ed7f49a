//! `keystead dev`: the four roles on one machine, supervised.
//!
//! It holds no key and decides nothing: it writes settings and credentials, starts the roles,
//! starts again what ended, and stops all of it in the order that loses nothing. Its own death
//! ends kms, node and control; the holder and the workloads stay and are adopted by the next start.

mod configs;
mod env_file;
mod folder;
mod kms_clock;
mod log;
mod ports;
mod role;
mod secrets;
mod stop;

use crate::cli::{DevArgs, DevCommand, DevFolder, DevRun};
use crate::failure::Failure;
use crate::out::say;
use anyhow::{Context, Result};
use folder::Folder;
use keystead_envelope::memory::parse_swaps;
use role::{Kept, Role};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A Region that dev serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    First,
    Second,
}

impl Place {
    pub(crate) const ALL: [Self; 2] = [Self::First, Self::Second];

    pub(crate) fn region(self) -> &'static str {
        match self {
            Self::First => "eu-central-1",
            Self::Second => "eu-west-1",
        }
    }

    /// Behind the names of what the second Region has of its own.
    fn suffix(self) -> &'static str {
        match self {
            Self::First => "",
            Self::Second => "-eu-west-1",
        }
    }
}

/// The account that the tenant roles are made in.
pub(crate) const PROVIDER: &str = "444455556666";
/// The key owner's account.
pub(crate) const CUSTOMER: &str = "111122223333";

const LONGEST_SOCKET: usize = 107;
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// `${XDG_DATA_HOME:-~/.local/share}/keystead`.
pub(crate) fn default_folder() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".local/share");
    std::env::var_os("XDG_DATA_HOME").map_or_else(home, PathBuf::from).join("keystead")
}

/// Runs dev, or one of its commands.
pub(crate) fn run(args: DevArgs) -> Result<ExitCode> {
    match args.command {
        Some(DevCommand::Stop(folder)) => stop::stop(&path(&folder)?)?,
        Some(DevCommand::Clean(folder)) => stop::clean(&path(&folder)?)?,
        Some(DevCommand::KmsClock { by, folder }) => kms_clock::put_forward(&path(&folder)?, &by)?,
        // Current-thread on purpose: children are told to end with the thread that made them, and
        // this one lives as long as the process.
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("start the runtime")?;
            let outcome = runtime.block_on(supervise(args.run));
            // Its thread that waits for an adopted holder may have to wait for the kernel.
            runtime.shutdown_background();
            outcome?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(folder: &DevFolder) -> Result<PathBuf> {
    let data = folder.data.clone().unwrap_or_else(default_folder);
    std::path::absolute(&data).with_context(|| format!("find {}", data.display()))
}

/// What a role would refuse again and again is refused here, once.
fn check(args: &DevRun, root: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("keystead dev needs root")
            .why("volumes mount, freeze and make loop devices")
            .fix("run it as root; `keystead doctor` checks the rest")
            .into());
    }
    let asked = [
        ("control", args.control_listen),
        ("kms", args.kms_listen),
        ("s3", args.s3_listen),
        ("second-s3", args.second_s3_listen),
    ];
    for (role, address) in asked {
        if !address.ip().is_loopback() {
            return Err(Failure::new(format!("{role} cannot listen on {address}"))
                .why("off loopback every port needs TLS, which dev has not")
                .fix(format!("choose 127.0.0.1:PORT by --{role}-listen"))
                .into());
        }
    }
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    if let (Some(device), false) = (parse_swaps(&swaps).first(), args.insecure_swap) {
        return Err(Failure::new(format!("swap is on ({device})"))
            .why("key material may reach it")
            .fix(format!("swapoff {device}; or --insecure-swap when it is encrypted"))
            .into());
    }
    let span = &args.evict_after;
    let digits = span.strip_suffix(['s', 'm', 'h']).filter(|d| !d.is_empty());
    if !digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit())) {
        return Err(Failure::new(format!("--evict-after `{span}` is no span"))
            .fix("write it as 90s, 15m or 2h, at most 168h")
            .into());
    }
    let socket = root.join("run/hold.sock");
    if socket.as_os_str().len() > LONGEST_SOCKET {
        return Err(Failure::new(format!("{} is too long", root.display()))
            .why(format!("a socket's path has at most {LONGEST_SOCKET} bytes"))
            .fix("choose a shorter folder by --data DIR")
            .into());
    }
    Ok(())
}

async fn supervise(args: DevRun) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let root = path(&args.folder)?;
    check(&args, &root)?;
    let folder = Folder::open(&root)?;
    let said = log::Log::of(&folder);
    said.line(&format!(
        "dev starts over {} (process {})",
        folder.root.display(),
        std::process::id()
    ));
    let secrets = secrets::Secrets::load_or_make(&folder)?;
    let places = if args.single_region { &Place::ALL[..1] } else { &Place::ALL[..] };
    let adopted = Place::ALL.map(|place| (Role::Hold(place), role::find_holder(&folder, place)));
    for (role, left) in &adopted[places.len()..] {
        if left.is_some() {
            return Err(Failure::new(format!("{} runs and is not to be served", role.name()))
                .why("an earlier dev over this folder served two Regions")
                .fix("leave out --single-region, or `keystead dev stop` first")
                .into());
        }
    }
    let asked = ports::Ports {
        control: args.control_listen,
        kms: args.kms_listen,
        s3: args.s3_listen,
        second_s3: (!args.single_region).then_some(args.second_s3_listen),
    };
    let ports = ports::Ports::choose(&folder, asked)?;
    configs::write(&folder, &secrets, &ports, places, &args)?;

    let mut roles = Vec::new();
    for role in Role::start_order(places) {
        let adopt = adopted.iter().find(|(of, _)| *of == role).and_then(|(_, pid)| *pid);
        roles.push(Kept::start(role, &folder, adopt, &said)?);
    }
    let ready = env_file::publish(&folder, &secrets, &ports, places, args.env.as_deref());
    let outcome = tokio::select! {
        ready = tokio::time::timeout(STARTS_WITHIN, ready) => match ready {
            Ok(Ok(())) => {
                say!("control  http://{}\nkms      http://{}", ports.control, ports.kms);
                for (place, s3) in Place::ALL.iter().zip([Some(ports.s3), ports.second_s3]) {
                    if let Some(s3) = s3 {
                        say!("s3       http://{s3}  ({})", place.region());
                    }
                }
                say!("data     {}", folder.root.display());
                say!("up; SIGTERM or ctrl-c stops everything");
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                Ok(())
            }
            Ok(Err(e)) => Err(e),
            Err(_) => Err(Failure::new("the roles do not answer")
                .why(format!("not every port answered within {} s", STARTS_WITHIN.as_secs()))
                .fix(format!("read {}", folder.log().display()))
                .into()),
        },
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    said.line("stopping: node, hold, then control and kms");
    role::stop_all(roles).await;
    said.line("stopped");
    folder.forget_supervisor();
    outcome
}
