//! kill -9 of the node under a load of puts: nothing acknowledged is lost.

use super::{access_key, back, count, serving};
use crate::joint::stage::Stage;
use crate::world::{World, WorldOptions};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn a_killed_node_loses_no_acknowledged_object() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("killed");
    serving(&stage, &cluster, "documents");
    let s3 = access_key(&stage, &cluster, "writer");
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let clients: Vec<_> = (0..3)
        .map(|client| {
            let (s3, stop, acknowledged) = (s3.clone(), stop.clone(), acknowledged.clone());
            std::thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    n += 1;
                    let path = format!("/documents/{client}-{n}");
                    // Sizes from a line of text to several frames.
                    let body = path.repeat(1 + n * 977 % 20_000);
                    match s3.call("PUT", &path, "", body.as_bytes()) {
                        Ok(reply) if reply.status == 200 => {
                            acknowledged.lock().expect("held").push((path, body));
                        }
                        _ => std::thread::sleep(Duration::from_millis(20)),
                    }
                }
            })
        })
        .collect();
    let kills = count(2, 20);
    let mut longest = Duration::ZERO;
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(700));
        let pid = stage.world.pid("node");
        stage.world.kill("node");
        let at = Instant::now();
        stage.world.wait_for_new("node", pid, Duration::from_secs(10));
        let first = acknowledged.lock().expect("held").first().map(|(path, _)| path.clone());
        longest = longest.max(back(&s3, &first.expect("one was put"), at));
    }
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|c| c.join().expect("a client"));
    let all = acknowledged.lock().expect("held");
    for (path, body) in all.iter() {
        assert!(s3.ok("GET", path, "", b"").body == body.as_bytes(), "{path}");
    }
    eprintln!(
        "FIGURE objects: {kills} kills of the node, {} objects acknowledged, 0 lost; served again <= {} ms",
        all.len(),
        longest.as_millis()
    );
    drop(all);
    stage.world.stop();
}
