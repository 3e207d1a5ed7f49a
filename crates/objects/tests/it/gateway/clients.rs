//! Stock clients, unmodified: boto3, the AWS CLI, the AWS SDK for Java, rclone, restic, each with its
//! own verification.

use super::rig::{KEY_ARN, OTHER, READER, REGION, WRITER, World};
use keystead_types::Cause;
use std::path::{Path, PathBuf};
use std::process::Command;

fn tool(variable: &str, name: &str) -> PathBuf {
    installed(variable, &format!("keystead-venv/bin/{name}"))
}

/// What xtask's set-up tells, or where it puts it by default.
fn installed(variable: &str, below: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var("HOME").expect("HOME");
        Path::new(&home).join(".cache").join(below)
    });
    assert!(path.exists(), "{} is missing: `cargo xtask test` installs it", path.display());
    path
}

fn compat(name: &str) -> String {
    format!("{}/../../compat/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command against a gateway of its own; gives what it printed.
async fn run(command: Command) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::open(folder.path(), 0).await;
    let out = run_in(&world, command);
    world.gateway.stop();
    world.served.await.expect("it ends");
    out
}

fn run_in(world: &World, mut command: Command) -> String {
    let work = tempfile::tempdir().expect("a folder");
    command.current_dir(work.path());
    command
        .env("ENDPOINT", format!("http://{}", world.at))
        .env("KEY_ARN", KEY_ARN)
        .env("REGION", REGION)
        .env("WORK", work.path());
    for (name, key) in [("WRITER", WRITER), ("READER", READER), ("OTHER", OTHER)] {
        command.env(format!("{name}_ID"), key.0).env(format!("{name}_SECRET"), key.1);
    }
    let ran = tokio::task::block_in_place(|| command.output()).expect("it runs");
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{out}\n{err}");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_calls_every_operation_and_is_refused_what_aws_refuses() {
    let mut command = Command::new(tool("KEYSTEAD_PYTHON", "python"));
    command.arg(compat("s3_boto3.py"));
    let out = run(command).await;
    assert!(out.contains("operations"), "{out}");
}

/// A step of `compat/s3_tools.sh`.
async fn tools(step: &str) {
    let mut command = Command::new("bash");
    command.arg(compat("s3_tools.sh")).arg(step).env("AWS", tool("KEYSTEAD_AWS", "aws"));
    let out = run(command).await;
    assert!(out.ends_with(&format!("{step} ok\n")), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_moves_files() {
    tools("cli").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rclone_syncs_and_checks() {
    tools("rclone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restic_backs_up_restores_and_checks() {
    tools("restic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_for_java_moves_objects_and_is_told_why_when_the_key_is_disabled() {
    let libraries = installed("KEYSTEAD_JAVA_LIBRARIES", "keystead-java/lib");
    let java = |step: &str| {
        let mut command = Command::new("java");
        command.args(["-XX:TieredStopAtLevel=1", "-cp"]).arg(libraries.join("*"));
        command.arg(compat("s3_java/S3Java.java")).arg(step);
        command
    };
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::open(folder.path(), 0).await;
    assert_eq!(run_in(&world, java("open")), "open ok\n");
    world.one.freeze(Cause::KeyDisabled);
    assert_eq!(run_in(&world, java("frozen")), "frozen ok\n");
    world.one.thaw().await;
    world.gateway.stop();
    world.served.await.expect("it ends");
}
