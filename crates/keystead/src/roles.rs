//! Starting a role: read its settings, say where logs go, run until SIGTERM.

use crate::cli::ServeArgs;
use anyhow::{Context, Result};
use keystead_node::hold::HoldConfig;
use rustix::process::{Signal, getppid, set_parent_process_death_signal, setsid};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The key-management server.
pub(crate) fn kms(args: &ServeArgs) -> Result<ExitCode> {
    begin(args)?;
    let config = keystead_kms::KmsConfig::load(&args.config)?;
    runtime()?.block_on(keystead_kms::serve(config)).context("serve kms")?;
    Ok(ExitCode::SUCCESS)
}

/// The data plane.
pub(crate) fn node(args: &ServeArgs) -> Result<ExitCode> {
    begin(args)?;
    let config = keystead_node::NodeConfig::load(&args.config)?;
    runtime()?.block_on(keystead_node::serve(config)).context("serve node")?;
    Ok(ExitCode::SUCCESS)
}

/// The API.
pub(crate) fn control(args: &ServeArgs) -> Result<ExitCode> {
    begin(args)?;
    let config = keystead_control::ControlConfig::load(&args.config)?;
    runtime()?.block_on(keystead_control::serve(config)).context("serve control")?;
    Ok(ExitCode::SUCCESS)
}

/// The holder's file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldFile {
    socket: PathBuf,
    data: PathBuf,
    cgroup_prefix: String,
}

/// The holder. It leaves the supervisor's session: terminal signals and the supervisor's death do
/// not reach it, nor the workloads under it.
pub(crate) fn hold(args: &ServeArgs) -> Result<ExitCode> {
    // Refused when it leads a group already, and then it has left.
    let _ = setsid();
    logs();
    keystead_node::hold::serve(hold_config(&args.config)?).context("serve hold")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn hold_config(path: &Path) -> Result<HoldConfig> {
    let read = || format!("read {}", path.display());
    let text = std::fs::read_to_string(path).with_context(read)?;
    let HoldFile { socket, data, cgroup_prefix } = toml::from_str(&text).with_context(read)?;
    Ok(HoldConfig { socket, data, cgroup_prefix })
}

fn begin(args: &ServeArgs) -> Result<()> {
    logs();
    if args.supervised {
        // The supervisor is found again by its data folder, not by its children: whoever
        // outlives it would hold the ports that its next start needs.
        set_parent_process_death_signal(Some(Signal::KILL)).context("follow the supervisor")?;
        if getppid().is_none_or(|p| p.is_init()) {
            anyhow::bail!("the supervisor is gone");
        }
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")
}

/// To stderr, which the supervisor appends to `DIR/log`. `KEYSTEAD_LOG` chooses what.
fn logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KEYSTEAD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,s3s=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
