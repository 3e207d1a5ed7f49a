//! KMS is not on the path of objects: how many calls a bucket costs, and that each is on record.

use super::{access_key, count, serving};
use crate::joint::stage::Stage;
use crate::world::{World, WorldOptions};

#[test]
fn a_bucket_of_many_objects_costs_kms_a_handful_of_calls() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("calls");
    let s3 = access_key(&stage, &cluster, "writer");
    s3.ok("PUT", "/counted", "", b"");
    let bucket = serving(&stage, &cluster, "counted");
    let id = bucket["bucket"].as_str().expect("an id");
    let objects = count(200, 10_000);
    for n in 0..objects {
        let path = format!("/counted/{n}");
        s3.ok("PUT", &path, "", path.as_bytes());
        assert_eq!(s3.ok("GET", &path, "", b"").body, path.as_bytes());
    }
    // A call across accounts is on record in both. Dry runs prove that the key may still be used; they are no use of it.
    let mut seen = std::collections::BTreeSet::new();
    let used: Vec<_> = stage
        .world
        .trail_records()
        .into_iter()
        .filter(|r| r["requestParameters"]["encryptionContext"]["keystead:store"] == id)
        .filter(|r| {
            r["requestParameters"]["dryRun"] != true && r["errorCode"] != "DryRunOperationException"
        })
        .filter(|r| seen.insert(r["requestID"].to_string()))
        .collect();
    let names: Vec<_> = used.iter().map(|r| r["eventName"].as_str().unwrap_or_default()).collect();
    assert!(names.contains(&"Decrypt"), "{names:?}");
    assert!(names.iter().any(|n| n.starts_with("GenerateDataKey")), "{names:?}");
    assert!(names.len() <= 4, "{names:?}");
    let said = stage.world.log("node");
    for record in &used {
        let request = record["requestID"].as_str().expect("a request id");
        assert!(said.contains(request), "{record} is not matched by the node's own word");
    }
    eprintln!("FIGURE objects: {objects} objects put and got in one bucket, KMS calls: {names:?}");
    stage.world.stop();
}
