//! KMS is not on the path of objects: how many calls a bucket of two Regions costs, that each is on
//! record, and that a rotation of the KMS key renews the bucket's.

use super::{Keys, Pair, count};
use crate::objects::serving;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn a_bucket_of_many_objects_costs_kms_a_handful_of_calls() {
    let pair = Pair::start("calls", Keys::Replicas, "any");
    let [here, there] = pair.users("writer");
    here.ok("PUT", "/counted", "", b"");
    let bucket = serving(&pair.stage, &pair.cluster, "counted");
    let id = bucket["bucket"].as_str().expect("an id").to_owned();
    let objects = count(200, 10_000);
    for n in 0..objects {
        let path = format!("/counted/{n}");
        here.ok("PUT", &path, "", path.as_bytes());
        assert_eq!(here.ok("GET", &path, "", b"").body, path.as_bytes());
    }
    let last = format!("/counted/{}", objects - 1);
    let arrived = |path: &str| {
        pair.until(&format!("{path} in the backup Region"), Duration::from_secs(60), || {
            let reply = there.call("GET", path, "", b"").ok()?;
            (reply.status == 200 && reply.body == path.as_bytes()).then_some(())
        });
    };
    arrived(&last);

    let used = uses(&pair, &id);
    let names: Vec<_> = used.iter().map(|r| r["eventName"].as_str().unwrap_or_default()).collect();
    for wanted in ["GenerateDataKey", "Encrypt", "Decrypt"] {
        assert!(names.contains(&wanted), "{wanted}: {names:?}");
    }
    assert!(names.len() <= 4, "{names:?}");
    let world = &pair.stage.world;
    let said = world.log("node") + &world.log("node-eu-west-1");
    for record in &used {
        let request = record["requestID"].as_str().expect("a request id");
        assert!(said.contains(request), "{record} is not matched by a node's own word");
    }
    eprintln!(
        "FIGURE objects: {objects} objects put and got in one bucket of two Regions, KMS calls: {names:?}"
    );

    // Another material: another data key for what is written from now on, in both Regions.
    pair.stage.owner.call("RotateKeyOnDemand", json!({ "KeyId": pair.cluster.key_arn }));
    pair.until("a second data key", Duration::from_secs(10), || {
        let now = serving(&pair.stage, &pair.cluster, "counted");
        (now["data_keys"] == 2).then_some(())
    });
    let after = "/counted/after-the-rotation";
    here.ok("PUT", after, "", after.as_bytes());
    for path in [after, "/counted/0", &last] {
        assert_eq!(here.ok("GET", path, "", b"").body, path.as_bytes());
        arrived(path);
    }
    pair.stage.world.stop();
}

/// Uses of the KMS keys for a bucket. A call across accounts is on record in both. Dry runs prove that
/// a key may still be used; they are no use of it.
fn uses(pair: &Pair, bucket: &str) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let all = pair.stage.world.trail_records().into_iter();
    all.filter(|r| r["requestParameters"]["encryptionContext"]["keystead:store"] == bucket)
        .filter(|r| {
            r["requestParameters"]["dryRun"] != true && r["errorCode"] != "DryRunOperationException"
        })
        .filter(|r| seen.insert(r["requestID"].to_string()))
        .collect()
}
