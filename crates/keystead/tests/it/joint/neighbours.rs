//! A freeze of one cluster is not felt by its neighbours: sync(2) of an unrelated process returns,
//! and another cluster goes on committing.

use super::count;
use super::figures::{Figures, Series};
use super::load::{Load, connect};
use super::stage::Stage;
use crate::world::{World, WorldOptions};
use serde_json::json;
use std::process::Command;
use std::time::{Duration, Instant};

const SYNC: Duration = Duration::from_secs(5);
const GAP: Duration = Duration::from_secs(2);

pub(super) fn run() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let (a, b) = (stage.cluster("neighbour-a"), stage.cluster("neighbour-b"));
    let load = Load::start(&b.postgres, 2);
    let mut figures = Figures::default();
    let mut syncs = Series::new("neighbours: sync of an unrelated process".into(), SYNC);
    let mut gaps =
        Series::new("neighbours: longest time without a commit of the other cluster".into(), GAP);
    for _ in 0..count(1, 5) {
        // 256 MiB that nobody fsyncs: an unlogged table, written by COPY into the page cache.
        let mut writer = connect(&a.postgres);
        writer
            .batch_execute(
                "drop table if exists dirty; create unlogged table dirty (x text); alter table dirty alter x set storage external;
                 insert into dirty select repeat('d', 7900) from generate_series(1, 33000)",
            )
            .expect("256 MiB are written");
        let begun = Instant::now();
        stage.owner.call("DisableKey", json!({"KeyId": a.key_arn}));
        stage.wait(&a.name, "Frozen", Some("key-disabled"), Duration::from_secs(5));
        syncs.push(sync_with_deadline(SYNC * 2));
        gaps.push(load.longest_gap(begun, Instant::now()));
        stage.owner.call("EnableKey", json!({"KeyId": a.key_arn}));
        stage.wait(&a.name, "Ready", None, Duration::from_secs(10));
        writer.batch_execute("drop table dirty").expect("the frozen session goes on");
    }
    figures.take(syncs);
    figures.take(gaps);
    load.finish().assert_whole();
    figures.assert_within_bars();
    stage.world.stop();
}

/// Runs `sync` in a child; a child that hangs in the kernel is left behind after the deadline, so
/// that the caller can thaw and free it.
fn sync_with_deadline(deadline: Duration) -> Duration {
    let begun = Instant::now();
    let mut child = Command::new("sync").spawn().expect("sync starts");
    loop {
        if child.try_wait().expect("it can be waited for").is_some() {
            return begun.elapsed();
        }
        if begun.elapsed() > deadline {
            let _ = child.kill();
            return begun.elapsed();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
