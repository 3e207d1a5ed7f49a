//! From two keys to an object in both Regions, and out again by stock tools under either key.

use super::{Keys, Pair, SECOND};
use crate::objects::text;
use std::time::{Duration, Instant};

#[test]
fn objects_go_to_the_backup_region_and_open_under_either_key() {
    let pair = Pair::start("both", Keys::Replicas, "any");
    let [here, there] = pair.users("writer");
    let body = text((8 << 20) + 3);
    let put = here.call("PUT", "/documents/contract", "", &body).expect("answered");
    assert_eq!(put.status, 200, "{}", put.text());
    let copied = pair.until("the replica", Duration::from_secs(15), || {
        let reply = there.call("GET", "/documents/contract", "", b"").ok()?;
        (reply.status == 200).then_some(reply)
    });
    assert!(copied.body == body, "other bytes");
    assert_eq!(copied.header("etag"), put.header("etag"));
    assert_eq!(copied.header("x-amz-replication-status").as_deref(), Some("REPLICA"));
    pair.until("COMPLETED", Duration::from_secs(5), || {
        let head = here.call("HEAD", "/documents/contract", "", b"").ok()?;
        (head.header("x-amz-replication-status").as_deref() == Some("COMPLETED")).then_some(())
    });

    // The backup Region is read only, and says where to write.
    for (method, path) in [("PUT", "/documents/x"), ("DELETE", "/documents/contract")] {
        let refused = there.call(method, path, "", b"").expect("answered");
        assert!((400..500).contains(&refused.status), "{method}: {}", refused.status);
        assert!(refused.text().contains(crate::joint::stage::REGION), "{}", refused.text());
    }

    // One command of the owner's freezes both, one thaws both.
    let owner = [
        ("AWS_ACCESS_KEY_ID", pair.there.access_key_id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", pair.there.secret.as_str()),
    ];
    let key = |verb: &str| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_keystead"))
            .args(["key", verb, "--cluster", &pair.cluster.name, "--json"])
            .envs(pair.stage.world.all_env())
            .envs(owner)
            .output()
            .expect("runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let told: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!(told.as_array().map(Vec::len), Some(2), "{told}");
        Instant::now()
    };
    key("disable");
    for user in [&here, &there] {
        pair.until("refused", Duration::from_secs(1), || {
            let reply = user.call("GET", "/documents/contract", "", b"").ok()?;
            (reply.code() == "KMS.DisabledException").then_some(())
        });
    }
    pair.stage.wait("both", "Frozen", Some("key-disabled"), Duration::from_secs(3));
    key("enable");
    for user in [&here, &there] {
        pair.until("served", Duration::from_secs(3), || {
            let reply = user.call("GET", "/documents/contract", "", b"").ok()?;
            (reply.status == 200).then_some(())
        });
    }
    pair.stage.wait("both", "Ready", None, Duration::from_secs(5));

    // What was acknowledged in either's absence arrives: the backup's node down for a while.
    let down = pair.stage.world.hold_down("node-eu-west-1");
    for n in 0..20 {
        let path = format!("/documents/while-down-{n}");
        assert_eq!(here.call("PUT", &path, "", path.as_bytes()).expect("answered").status, 200);
    }
    assert_eq!(here.call("DELETE", "/documents/contract", "", b"").expect("answered").status, 204);
    drop(down);
    pair.until("all of it", Duration::from_secs(30), || {
        let there_all = (0..20).all(|n| {
            let path = format!("/documents/while-down-{n}");
            there.call("GET", &path, "", b"").is_ok_and(|r| r.body == path.as_bytes())
        });
        let gone = there.call("GET", "/documents/contract", "", b"").is_ok_and(|r| r.status == 404);
        (there_all && gone).then_some(())
    });

    // The two folders hold the same sealed bytes.
    let folder = |region: &str| pair.stage.world.data().join(format!("node/{region}/objects"));
    let sealed = |region: &str| {
        let mut found = std::collections::BTreeMap::new();
        files(&folder(region), &mut found);
        found
    };
    let (first, second) = (sealed(crate::joint::stage::REGION), sealed(SECOND));
    assert!(first.len() >= 40, "{} files", first.len());
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    assert!(first == second, "a replica differs from what it is of");
    pair.stage.world.stop();
}

/// Parts and records below a folder, by their path in it.
fn files(folder: &std::path::Path, found: &mut std::collections::BTreeMap<String, Vec<u8>>) {
    fn walk(
        root: &std::path::Path,
        at: &std::path::Path,
        found: &mut std::collections::BTreeMap<String, Vec<u8>>,
    ) {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, found);
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("part") || name.starts_with("record") {
                let below = path.strip_prefix(root).expect("below").display().to_string();
                found.insert(below, std::fs::read(&path).expect("readable"));
            }
        }
    }
    walk(folder, folder, found);
}
