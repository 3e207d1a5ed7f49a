//! After a freeze no process of ours holds a key of the frozen cluster.

use super::scan::{Scan, Wanted};
use super::{count, keys};
use crate::joint::load::Load;
use crate::joint::stage::Stage;
use crate::world::{World, WorldOptions};
use serde_json::json;
use std::time::Duration;

const ROLES: [&str; 4] = ["kms", "control", "node", "hold"];

#[test]
fn a_freeze_leaves_no_key_in_any_process() {
    let options = WorldOptions { arena: Some("mlock".to_owned()), ..WorldOptions::default() };
    let stage = Stage::new(World::start(options));
    let cluster = stage.cluster("wiped");
    let wanted = keys::of_cluster(&stage, &cluster);
    let load = Load::start(&cluster.postgres, 4);
    // The cluster's keys are older material's; the proofs of the running leases go on.
    for _ in 0..2 {
        let rotated = stage.owner.call("RotateKeyOnDemand", json!({"KeyId": cluster.key_arn}));
        assert_eq!(rotated.status, 200, "{}", rotated.body);
    }
    let mut material = Wanted::default();
    let materials = keys::materials(&stage, &cluster);
    assert_eq!(materials.len(), 3);
    for (number, bytes) in materials.iter().enumerate() {
        material.secret(&format!("material {number} of the key"), bytes);
    }
    let mut read = 0;
    for cycle in 0..count(3, 100) {
        let live = wanted.scan(stage.world.pid("node"));
        assert!(!live.hits.is_empty(), "the search finds no key while the cluster is live");
        for role in ["kms", "control", "hold"] {
            let found = wanted.scan(stage.world.pid(role));
            assert!(found.hits.is_empty(), "{role} holds a key while live: {:?}", found.hits);
        }
        let disabled = stage.owner.call("DisableKey", json!({"KeyId": cluster.key_arn}));
        assert_eq!(disabled.status, 200);
        stage.wait(&cluster.name, "Frozen", Some("key-disabled"), Duration::from_secs(5));
        for role in ROLES {
            let Scan { hits, read: bytes, unread } = wanted.scan(stage.world.pid(role));
            assert!(hits.is_empty(), "cycle {cycle}: {role} still holds {hits:?}");
            assert!(unread < 64 << 20, "{role}: {unread} bytes could not be searched");
            read += bytes;
        }
        let found = material.scan(stage.world.pid("kms"));
        assert!(found.hits.is_empty(), "cycle {cycle}: kms still holds {:?}", found.hits);
        let enabled = stage.owner.call("EnableKey", json!({"KeyId": cluster.key_arn})).at;
        load.first_commit_after(enabled, Duration::from_secs(20)).expect("it goes on");
        stage.wait(&cluster.name, "Ready", None, Duration::from_secs(5));
    }
    eprintln!(
        "FIGURE memory: {} freezes, {} MiB searched after them, no key found",
        count(3, 100),
        read >> 20
    );
    load.finish().assert_whole();
    stage.world.stop();
}

#[test]
fn swap_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let swaps = folder.path().join("swaps");
    std::fs::write(&swaps, "Filename Type Size Used Priority\n/dev/kst partition 1 0 -2\n")
        .expect("written");
    let script = "mount --bind \"$1\" /proc/swaps && exec \"$2\" dev --data \"$3\"";
    let out = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(&swaps)
        .arg(env!("CARGO_BIN_EXE_keystead"))
        .arg(folder.path().join("data"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    assert!(said.contains("swap is on (/dev/kst)") && said.contains("swapoff /dev/kst"), "{said}");
    assert!(!folder.path().join("data").exists(), "it began all the same");
}

#[test]
fn no_role_dumps_core() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    for role in ["kms", "node"] {
        let pid = stage.world.pid(role);
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("the limits");
        let core = limits.lines().find(|l| l.starts_with("Max core file size")).expect("a line");
        let words: Vec<&str> = core.split_whitespace().collect();
        assert_eq!((words[4], words[5]), ("0", "0"), "{role}: {core}");
        // A process that cannot be dumped belongs to root in /proc whoever runs it; as root the
        // proof is that its memory file is not the user's: see PR_SET_DUMPABLE in its status.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the status");
        assert!(!status.contains("CoreDumping:\t1"), "{role}: {status}");
    }
    stage.world.stop();
}
