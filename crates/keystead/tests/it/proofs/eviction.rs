//! Eviction: everything of the cluster is gone, and comes back when the key does.

use super::count;
use crate::joint::figures::{Figures, Series};
use crate::joint::load::Load;
use crate::joint::stage::{Cluster, Stage};
use crate::world::{World, WorldOptions};
use serde_json::json;
use std::time::{Duration, Instant};

/// Processes of user postgres under this cluster's disks, and the mounts of hold's namespace.
fn left(stage: &Stage, cluster: &Cluster) -> Vec<String> {
    let id = stage.view(&cluster.name)["id"].as_str().expect("an id").to_owned();
    let mut left = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&format!("keystead-disks/{id}")) {
            left.push(format!("process {}", entry.file_name().to_string_lossy()));
        }
    }
    let holder = stage.world.pid("hold");
    let mounts = std::fs::read_to_string(format!("/proc/{holder}/mountinfo")).unwrap_or_default();
    left.extend(mounts.lines().filter(|l| l.contains(&id)).map(|l| format!("mount {l}")));
    left.extend(
        mounts.lines().filter(|l| l.contains("/dev/loop")).map(|l| format!("loop mounted: {l}")),
    );
    left
}

#[test]
fn an_eviction_takes_everything_and_the_key_brings_it_back() {
    const AFTER: Duration = Duration::from_secs(5);
    let options = WorldOptions { evict_after: Some("5s".to_owned()), ..WorldOptions::default() };
    let stage = Stage::new(World::start(options));
    let cluster = stage.cluster("evicted");
    let mut figures = Figures::default();
    let mut gone =
        Series::new("eviction: everything gone after it was due".into(), Duration::from_secs(2));
    let mut back = Series::new(
        "eviction: running again after the key came back".into(),
        Duration::from_secs(10),
    );
    for _ in 0..count(1, 5) {
        let load = Load::start(&cluster.postgres, 2);
        let disabled = stage.owner.call("DisableKey", json!({"KeyId": cluster.key_arn})).at;
        stage.wait(&cluster.name, "Frozen", Some("key-disabled"), Duration::from_secs(3));
        std::thread::sleep((AFTER - Duration::from_millis(500)).saturating_sub(disabled.elapsed()));
        assert!(!left(&stage, &cluster).is_empty(), "evicted before its time");
        let due = disabled + AFTER;
        loop {
            let left = left(&stage, &cluster);
            if left.is_empty() {
                break;
            }
            let late = Instant::now().saturating_duration_since(due);
            assert!(
                late < Duration::from_secs(10),
                "still there: {left:#?}\n{}",
                stage.world.log_tails()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        gone.push(Instant::now().saturating_duration_since(due));
        // Its clients lost their server, which was taken out of memory; their rows are not lost.
        let acked = load.abandon();
        let enabled = stage.owner.call("EnableKey", json!({"KeyId": cluster.key_arn})).at;
        stage.wait(&cluster.name, "Ready", None, Duration::from_secs(20));
        back.push(enabled.elapsed());
        acked.assert_present();
    }
    figures.take(gone);
    figures.take(back);
    figures.assert_within_bars();
    stage.world.stop();
}

#[test]
fn a_thaw_takes_no_longer_for_a_long_outage() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("outages");
    let load = Load::start(&cluster.postgres, 2);
    let mut figures = Figures::default();
    let seconds: &[u64] = if count(0, 1) == 1 { &[5, 60, 180] } else { &[5] };
    for outage in seconds {
        let name = format!("outage of {outage} s: first row after the key came back");
        let mut thaw = Series::new(name, Duration::from_secs(2));
        stage.owner.call("DisableKey", json!({"KeyId": cluster.key_arn}));
        std::thread::sleep(Duration::from_secs(*outage));
        let enabled = stage.owner.call("EnableKey", json!({"KeyId": cluster.key_arn})).at;
        let first = load.first_commit_after(enabled, Duration::from_secs(20));
        thaw.push(first.expect("it goes on") - enabled);
        figures.take(thaw);
    }
    load.finish().assert_whole();
    figures.assert_within_bars();
    stage.world.stop();
}
