//! Small helpers around child processes and the workspace's folders.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map(Path::to_path_buf).unwrap_or(manifest)
}

/// Where cargo builds: outside the clone unless the caller says otherwise.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || {
            PathBuf::from(std::env::var_os("HOME").unwrap_or_default())
                .join(".cache/keystead-target")
        },
        PathBuf::from,
    )
}

/// `cargo` in the workspace, with the target folder set.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root()).env("CARGO_TARGET_DIR", target());
    // What `cargo run` sets for xtask must not reach the builds that xtask starts.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME"] {
        command.env_remove(name);
    }
    command
}

/// `keystead dev` over a folder, on free ports; it writes its exports to `env` once it is up.
pub(crate) fn dev(data: &Path, env: &Path) -> Command {
    let mut command = Command::new(target().join("ci/keystead"));
    command.arg("dev");
    for role in ["control", "kms", "s3", "second-s3"] {
        command.args([&format!("--{role}-listen"), "127.0.0.1:0"]);
    }
    command.arg("--data").arg(data).arg("--env").arg(env).stdin(Stdio::null());
    command
}

/// Runs with output passed through; not zero is an error.
pub(crate) fn status(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Runs and answers stdout; not zero is an error that shows both outputs.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("start {command:?}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        bail!(
            "{command:?} ended with {}\n{text}{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
    }
    Ok(text)
}
