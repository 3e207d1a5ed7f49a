//! From two keys to an object in both Regions, and out again by stock tools under either key.

use super::{Keys, Pair};
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

    assert!(super::sealed::same(&pair) >= 2, "a part and a record");
    pair.stage.world.stop();
}
