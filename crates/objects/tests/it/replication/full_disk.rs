//! The backup's disk is full: nothing half there, deletions go on, and the rest follows when there
//! is room.

use super::rig::{Two, wait};
use crate::world::text;
use std::path::Path;
use std::process::Command;

const CHILD: &str = "KEYSTEAD_TEST_FULL_BACKUP";

/// Not a test of its own: runs with a small disk of its own.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let own = tempfile::tempdir().expect("a folder");
    let mut two = Two::at(own, Path::new(&folder)).await;
    two.send();
    for n in 0..12 {
        two.put("one", &format!("k{n:02}"), &text(1_500_000)).await;
    }
    let trouble = || two.sender.as_ref().and_then(|sender| sender.trouble()).unwrap_or_default();
    wait(|| trouble().contains("full")).await;
    // It keeps trying, and stays whole.
    let pending = || two.store().replication().expect("a queue").pending;
    assert!(pending() > 3, "{}", pending());
    assert_eq!(two.replica().stats().corrupt, 0);
    // A deletion is no object: it passes, and makes the room that the rest needs.
    for n in 0..8 {
        two.delete("one", &format!("k{n:02}")).await;
    }
    two.settled().await;
    two.same().await;
    assert_eq!(two.get("one", "k11").await, Some(text(1_500_000)));
}

/// A mount of its own needs a namespace; without the right to one there is nothing to test.
#[test]
fn a_full_backup_loses_nothing_and_catches_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "mount -t tmpfs -o size=14m none \"$1\" || exit 77; shift; exec \"$@\"";
    let exe = std::env::current_exe().expect("this test");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(folder.path()).arg(exe);
    command.args(["replication::full_disk::child", "--exact", "--nocapture"]);
    let ended = command.env(CHILD, folder.path()).output().expect("unshare");
    if matches!(ended.status.code(), Some(77 | 1)) && ended.stdout.is_empty() {
        return;
    }
    let words = String::from_utf8_lossy(&ended.stderr).into_owned();
    let out = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{out}\n{words}");
    assert!(out.contains("1 passed"), "{out}");
}
