//! Eviction: everything of the cluster is gone, and comes back when the key does.

use super::count;
use crate::joint::figures::{Figures, Series};
use crate::joint::load::Load;
use crate::joint::stage::{Cluster, Stage};
use crate::world::{World, WorldOptions};
use serde_json::json;
use std::time::{Duration, Instant};

/// What a cluster has in the kernel.
struct Traces {
    id: String,
    volumes: Vec<String>,
    loops: Vec<String>,
}

impl Traces {
    /// Of one that runs: all of it is there.
    fn of(stage: &Stage, cluster: &Cluster) -> Self {
        let id = stage.view(&cluster.name)["id"].as_str().expect("an id").to_owned();
        let volumes = stage.world.cli_json(&["volume", "list", &cluster.name, "--json"]);
        let volumes = volumes.as_array().expect("a list").iter();
        let mounts = mounts_of_hold(stage);
        let device = |l: &str| Some(l.split("/dev/").nth(1)?.split(' ').next()?.to_owned());
        let traces = Self {
            loops: mounts.lines().filter(|l| l.contains(&id)).filter_map(device).collect(),
            volumes: volumes.map(|v| v["volume"].as_str().expect("an id").to_owned()).collect(),
            id,
        };
        assert_eq!((traces.volumes.len(), traces.loops.len()), (2, 2));
        let left = traces.left(stage);
        for what in ["process", "mount", "loop", "FUSE"] {
            assert!(left.iter().any(|l| l.starts_with(what)), "no {what} in {left:#?}");
        }
        traces
    }

    /// Processes under its disks, mounts in hold's namespace, loop devices, FUSE connections.
    fn left(&self, stage: &Stage) -> Vec<String> {
        let mut left = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(&format!("keystead-disks/{}", self.id)) {
                left.push(format!("process {}", entry.file_name().to_string_lossy()));
            }
        }
        let mounts = mounts_of_hold(stage);
        left.extend(mounts.lines().filter(|l| l.contains(&self.id)).map(|l| format!("mount {l}")));
        let served = |l: &&str| self.volumes.iter().any(|v| l.contains(v));
        left.extend(mounts.lines().filter(served).map(|l| format!("FUSE mount {l}")));
        for device in &self.loops {
            if std::path::Path::new(&format!("/sys/block/{device}/loop")).exists() {
                left.push(format!("loop device {device}"));
            }
        }
        left
    }
}

fn mounts_of_hold(stage: &Stage) -> String {
    let holder = stage.world.pid("hold");
    std::fs::read_to_string(format!("/proc/{holder}/mountinfo")).expect("hold runs")
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
        let traces = Traces::of(&stage, &cluster);
        let load = Load::start(&cluster.postgres, 2);
        let disabled = stage.owner.call("DisableKey", json!({"KeyId": cluster.key_arn})).at;
        stage.wait(&cluster.name, "Frozen", Some("key-disabled"), Duration::from_secs(3));
        std::thread::sleep((AFTER - Duration::from_millis(500)).saturating_sub(disabled.elapsed()));
        assert!(!traces.left(&stage).is_empty(), "evicted before its time");
        let due = disabled + AFTER;
        loop {
            let left = traces.left(&stage);
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
fn a_deleted_key_evicts_at_once_and_the_cluster_is_dead() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("deleted");
    let neighbour = stage.cluster("neighbour");
    let traces = Traces::of(&stage, &cluster);
    let load = Load::start(&cluster.postgres, 2);
    let pending = json!({"KeyId": cluster.key_arn, "PendingWindowInDays": 7});
    stage.owner.call("ScheduleKeyDeletion", pending);
    stage.wait(&cluster.name, "Frozen", Some("key-pending-deletion"), Duration::from_secs(3));
    assert!(!traces.left(&stage).is_empty(), "evicted before its time");
    let data = stage.world.data().display().to_string();
    stage.world.cli_ok(&["dev", "kms-clock", "+6d", "--data", &data]);
    std::thread::sleep(Duration::from_millis(1500));
    stage.wait(&cluster.name, "Frozen", Some("key-pending-deletion"), Duration::ZERO);
    stage.world.cli_ok(&["dev", "kms-clock", "+25h", "--data", &data]);
    let describe = json!({"KeyId": cluster.key_arn});
    let deleted = loop {
        let answer = stage.owner.try_call("DescribeKey", &describe).expect("it answers");
        if answer.body["__type"] == "NotFoundException" {
            break answer.at;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    while !traces.left(&stage).is_empty() {
        assert!(deleted.elapsed() < Duration::from_secs(10), "{:#?}", traces.left(&stage));
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut figures = Figures::default();
    let mut gone =
        Series::new("a deleted key: everything gone after it".into(), Duration::from_secs(2));
    gone.push(deleted.elapsed());
    figures.take(gone);
    figures.assert_within_bars();
    stage.wait(&cluster.name, "Dead", Some("key-deleted"), Duration::from_secs(5));
    let why = stage.world.cli_ok(&["why", &cluster.name]);
    assert!(why.contains("gone for good"), "{why}");
    // What was written down stays as it is: sealed, and its neighbour serves.
    let images = stage.world.data().join("node/eu-central-1/volumes");
    let images = std::fs::read_dir(images).expect("the images").flatten();
    assert_eq!(images.filter(|e| e.path().extension().is_some_and(|x| x == "img")).count(), 4);
    Load::start(&neighbour.postgres, 1).finish().assert_whole();
    load.abandon();
    // A window that is asked for afterwards is as long as it says.
    let later = stage.owner.make_key(&neighbour.role_arn);
    stage.owner.call("ScheduleKeyDeletion", json!({"KeyId": later, "PendingWindowInDays": 7}));
    std::thread::sleep(Duration::from_millis(2500));
    let cancelled = stage.owner.call("CancelKeyDeletion", json!({"KeyId": later}));
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
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
