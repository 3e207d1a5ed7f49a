//! kill -9 of either Region's node in the midst of a mixed load.

use super::load::{Load, settled};
use super::{Keys, Pair, count};
use crate::objects::{back, text};
use std::time::{Duration, Instant};

#[test]
fn killed_nodes_of_two_regions_lose_no_objects_and_catch_up() {
    let pair = Pair::start("killed", Keys::Replicas, "any");
    let users = pair.users("writer");
    pair.documents(&users);
    users[0].ok("PUT", "/documents/still", "", &text(1000));
    pair.until("the replica", Duration::from_secs(20), || {
        let reply = users[1].call("GET", "/documents/still", "", b"").ok()?;
        (reply.status == 200).then_some(())
    });
    let load = Load::start(&users);
    let kills = count(2, 20);
    let mut longest = Duration::ZERO;
    for _ in 0..kills {
        for (role, user) in ["node", "node-eu-west-1"].into_iter().zip(&users) {
            std::thread::sleep(Duration::from_millis(500 + load.below(700)));
            let pid = pair.stage.world.pid(role);
            pair.stage.world.kill(role);
            let at = Instant::now();
            pair.stage.world.wait_for_new(role, pid, Duration::from_secs(10));
            longest = longest.max(back(user, "/documents/still", at));
        }
    }
    let (acknowledged, replicas, known) = load.finish();
    let (took, files) = settled(&pair, &users, &known);
    eprintln!(
        "FIGURE regions: {kills} kills of each node under load: {acknowledged} changes acknowledged, \
         0 lost, {replicas} replicas read, none half; served again <= {} ms, caught up {} ms after \
         the last, {files} files equal",
        longest.as_millis(),
        took.as_millis()
    );
    assert!(acknowledged > 0 && replicas > 0);
    pair.stage.world.stop();
}
