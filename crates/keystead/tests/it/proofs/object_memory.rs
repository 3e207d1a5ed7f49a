//! After a freeze no process of either Region holds a data key of the cluster's buckets, nor the key
//! of any of their objects, whichever of the two keys was refused.

use super::object_keys::DataKeys;
use super::{count, keys};
use crate::joint::stage::REGION;
use crate::objects::client::S3;
use crate::objects::text;
use crate::regions::{Keys, Pair, SECOND};
use crate::world::{Alone, WorldOptions};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const NODES: [&str; 2] = ["node", "node-eu-west-1"];
const OTHERS: [&str; 4] = ["kms", "control", "hold", "hold-eu-west-1"];
const BUCKETS: [&str; 2] = ["documents", "backups"];
/// Objects that the load overwrites again and again.
const OBJECTS: u64 = 12;

/// Writes here and reads in both Regions, through freezes too, until it is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Traffic {
    fn start([here, there]: [S3; 2]) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, counts) = (stop.clone(), answered.clone());
        let thread = std::thread::spawn(move || {
            let body = text(150_000);
            for n in 0_u64.. {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let bucket = BUCKETS[(n % 2) as usize];
                let path = format!("/{bucket}/{}", n % OBJECTS);
                for (user, method, sent) in [
                    (&here, "PUT", &body[..]),
                    (&here, "GET", &body[..0]),
                    (&there, "GET", &body[..0]),
                ] {
                    let reply = user.call(method, &path, "", sent);
                    counts.fetch_add(
                        u64::from(reply.is_ok_and(|r| r.status == 200)),
                        Ordering::Relaxed,
                    );
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { stop, answered, thread: Some(thread) }
    }

    /// Waits until so many more requests were served.
    fn goes_on(&self, pair: &Pair, more: u64) {
        let before = self.answered.load(Ordering::Relaxed);
        pair.until("objects are put and got", Duration::from_secs(20), || {
            (self.answered.load(Ordering::Relaxed) >= before + more).then_some(())
        });
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_freeze_leaves_no_key_of_an_object_in_either_region() {
    let options = WorldOptions { arena: Some("mlock".to_owned()), ..WorldOptions::default() };
    let pair = Pair::start_with(Alone::take(), options, "emptied", Keys::Separate, "any");
    let (stage, cluster) = (&pair.stage, &pair.cluster);
    let volumes = keys::of_cluster(stage, cluster);
    let traffic = Traffic::start(pair.users("writer"));
    let folder = |region: &str| stage.world.data().join(format!("node/{region}/objects"));
    let folders = [folder(REGION), folder(SECOND)];
    let mut known = DataKeys::default();
    let cycles = count(2, 100);
    let (mut read, mut messages) = (0, 0);
    for cycle in 0..cycles {
        traffic.goes_on(&pair, 60);
        known.learn(stage, cluster, &folders[0]);
        let live = known.wanted();
        for node in NODES {
            let found = live.scan(stage.world.pid(node));
            assert!(!found.hits.is_empty(), "the search finds no key in {node} while it is live");
        }
        for role in OTHERS {
            let found = live.scan(stage.world.pid(role));
            assert!(found.hits.is_empty(), "{role} holds a key while live: {:?}", found.hits);
        }

        // In turn: the word of either Region's key.
        let refused = cycle % 2;
        let (owner, key) = pair.owner_of(refused);
        owner.call("DisableKey", json!({ "KeyId": key }));
        pair.until("both Regions frozen", Duration::from_secs(5), || {
            let view = pair.view();
            let regions = view["regions"].as_array()?;
            let cause = |at: usize| regions[at]["cause"].as_str();
            let (own, other) = (cause(refused), cause(1 - refused));
            (view["phase"] == "Frozen"
                && own == Some("key-disabled")
                && other == Some("second-key-unusable"))
            .then_some(())
        });
        let mut wanted = known.wanted();
        for folder in &folders {
            messages += known.derive(&mut wanted, cluster, folder);
        }
        for role in NODES.iter().chain(&OTHERS) {
            for keys in [&wanted, &volumes] {
                let scan = keys.scan(stage.world.pid(role));
                assert!(scan.hits.is_empty(), "cycle {cycle}: {role} still holds {:?}", scan.hits);
                assert!(scan.unread < 64 << 20, "{role}: {} bytes not searched", scan.unread);
                read += scan.read;
            }
        }
        owner.call("EnableKey", json!({ "KeyId": key }));
        stage.wait(&cluster.name, "Ready", None, Duration::from_secs(10));
    }
    assert!(known.len() >= BUCKETS.len() && messages >= cycles * 2 * BUCKETS.len());
    traffic.goes_on(&pair, 10);
    drop(traffic);
    eprintln!(
        "FIGURE memory: {cycles} freezes of two Regions, {} MiB searched after them for {} data keys of \
         buckets and {messages} keys of messages, none found",
        read >> 20,
        known.len()
    );
    pair.stage.world.stop();
}
