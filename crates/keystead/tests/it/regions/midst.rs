//! One of the two keys refused in the midst of reads, writes and transfers between the Regions.

use super::load::{Load, settled};
use super::{Keys, Pair, count};
use crate::objects::{back, text};
use serde_json::json;
use std::time::Duration;

const FENCE: Duration = Duration::from_secs(1);
const THAW: Duration = Duration::from_secs(3);

#[test]
fn either_key_refused_in_mid_replication_loses_no_objects_and_leaves_none_half() {
    let pair = Pair::start("midst", Keys::Separate, "any");
    let users = pair.users("writer");
    pair.documents(&users);
    users[0].ok("PUT", "/documents/still", "", &text(1000));
    pair.until("the replica", Duration::from_secs(20), || {
        let reply = users[1].call("GET", "/documents/still", "", b"").ok()?;
        (reply.status == 200).then_some(())
    });
    let load = Load::start(&users);
    let rounds = count(2, 20);
    let (mut fence, mut thaw, mut waited) = (Duration::ZERO, Duration::ZERO, 0);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(1_200 + load.below(900)));
        let at = load.below(2) as usize;
        let (owner, key) = pair.owner_of(at);
        let said = owner.call("DisableKey", json!({ "KeyId": key })).at;
        std::thread::sleep(Duration::from_millis(1_500));
        fence = fence.max(load.last().saturating_duration_since(said));
        for (region, user) in users.iter().enumerate() {
            let wanted = match region == at {
                true => "KMS.DisabledException",
                false => "KMS.KMSInvalidStateException",
            };
            for (path, query) in [("/documents/still", ""), ("/documents", "list-type=2")] {
                let refused = user.call("GET", path, query, b"").expect("answered");
                assert_eq!((refused.status, refused.code().as_str()), (400, wanted));
            }
        }
        waited += pair.replication()["pending"].as_u64().expect("a number");
        let said = owner.call("EnableKey", json!({ "KeyId": key })).at;
        for user in &users {
            thaw = thaw.max(back(user, "/documents/still", said));
        }
    }
    let (acknowledged, replicas, known) = load.finish();
    let (took, files) = settled(&pair, &users, &known);
    eprintln!(
        "FIGURE regions: {rounds} refusals by one of two keys in mid-replication: last plaintext or \
         acknowledgement of either Region <= {} ms after KMS's answer, both serve <= {} ms after \
         EnableKey; {waited} changes waited for it in all, {acknowledged} acknowledged, 0 lost, \
         {replicas} replicas read, none half; caught up {} ms after the last, {files} files equal",
        fence.as_millis(),
        thaw.as_millis(),
        took.as_millis()
    );
    assert!(acknowledged > 0 && replicas > 0);
    assert!(waited > 0, "no refusal came in the midst of a transfer");
    assert!(fence <= FENCE && thaw <= THAW, "fence {fence:?}, thaw {thaw:?}");
    pair.stage.world.stop();
}
