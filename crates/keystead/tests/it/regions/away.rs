//! The backup Region's node is away while the primary goes on, and its absence is shown.

use super::load::{Load, settled};
use super::{Keys, Pair, count};
use std::time::Duration;

#[test]
fn objects_wait_while_the_backup_regions_node_is_away() {
    let pair = Pair::start("away", Keys::Replicas, "any");
    let users = pair.users("writer");
    pair.documents(&users);
    let load = Load::start(&users);
    std::thread::sleep(Duration::from_secs(1));
    let down = pair.stage.world.hold_down("node-eu-west-1");
    let away = Duration::from_secs(count(5, 120) as u64);
    users[0].ok("PUT", "/documents/still", "", b"while it is away");
    std::thread::sleep(away);
    let told = pair.replication();
    let lag = told["lag_ms"].as_u64().expect("a number");
    assert!(
        told["pending"].as_u64().is_some_and(|n| n > 0) && told["oldest"].is_string(),
        "{told}"
    );
    // `still` was acknowledged first and is not written over.
    assert!(lag + 1_500 >= away.as_millis() as u64, "{told}");
    let message = told["message"].as_str().unwrap_or_default();
    assert!(message.contains("the other Region is not reached"), "{told}");
    let status = |wanted: &str| {
        let head = users[0].ok("HEAD", "/documents/still", "", b"");
        head.header("x-amz-replication-status").as_deref() == Some(wanted)
    };
    assert!(status("PENDING"));
    drop(down);
    let (acknowledged, _, known) = load.finish();
    let (took, files) = settled(&pair, &users, &known);
    assert!(status("COMPLETED"));
    eprintln!(
        "FIGURE regions: the backup's node away for {} s under load: {acknowledged} changes \
         acknowledged, {} waited, lag {lag} ms; 0 waited {} ms after its return, {files} files equal",
        away.as_secs(),
        told["pending"],
        took.as_millis()
    );
    pair.stage.world.stop();
}
