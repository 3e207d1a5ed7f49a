//! Silence instead of refusal: the network cut, the node stopped, KMS down.

use super::count;
use super::figures::{Figures, Series};
use super::load::Load;
use super::proxy::Proxy;
use super::stage::{Stage, address};
use crate::world::{World, WorldOptions};
use serde_json::json;
use std::time::{Duration, Instant};

const SILENCE: Duration = Duration::from_secs(10);

/// A proxy stands between the node and KMS; cutting it is an outage of the network.
pub(super) fn network_cut() {
    let proxy = Proxy::start();
    let options = WorldOptions {
        node_kms_endpoint: Some(format!("http://{}", proxy.address)),
        ..WorldOptions::default()
    };
    let world =
        World::start_with(options, |env| proxy.send_to(address(env("KEYSTEAD_AWS_ENDPOINT"))));
    let stage = Stage::new(world);
    let cluster = stage.cluster("cut");
    let load = Load::start(&cluster.postgres, 4);
    let mut figures = Figures::default();
    // The last good question was sent at most a watch before the cut.
    let mut closes = Series::new("network cut: last row after the cut".into(), SILENCE);
    let mut opens =
        Series::new("network cut: first row after it is back".into(), Duration::from_secs(2));
    for _ in 0..count(1, 5) {
        let cut = Instant::now();
        proxy.cut();
        stage.wait(
            &cluster.name,
            "Frozen",
            Some("kms-unreachable"),
            SILENCE + Duration::from_secs(3),
        );
        std::thread::sleep((SILENCE + Duration::from_millis(700)).saturating_sub(cut.elapsed()));
        let last = load.last_row(cut, Instant::now()).expect("rows came until silence was over");
        closes.push(last - cut);
        assert!(
            last - cut > Duration::from_secs(7),
            "fenced long before silence was over: {:?}",
            last - cut
        );
        std::thread::sleep(Duration::from_secs(count(1, 5) as u64));
        let back = Instant::now();
        proxy.mend();
        let first = load.first_commit_after(back, Duration::from_secs(20)).expect("it goes on");
        opens.push(first - back);
        stage.wait(&cluster.name, "Ready", None, Duration::from_secs(5));
    }
    figures.take(closes);
    figures.take(opens);
    load.finish().assert_whole();
    figures.assert_within_bars();
    stage.world.stop();
}

/// SIGSTOP of the node across a DisableKey.
pub(super) fn node_stopped() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("stopped");
    let mut figures = Figures::default();
    let mut reads_end = Series::new(
        "node stopped: last row (cached read) after the stop".into(),
        SILENCE + Duration::from_secs(11),
    );
    let mut wakes =
        Series::new("node stopped: last row after waking".into(), Duration::from_secs(1));
    for _ in 0..count(1, 3) {
        let load = Load::start(&cluster.postgres, 4);
        let node = stage.world.pid("node");
        let stopped = Instant::now();
        signal(node, libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(200));
        let refused = stage.owner.call("DisableKey", json!({"KeyId": cluster.key_arn})).at;
        std::thread::sleep((SILENCE + Duration::from_secs(12)).saturating_sub(stopped.elapsed()));
        let waking = Instant::now();
        // Commits that were in flight at the stop end at once; none after that.
        let settled = stopped + Duration::from_millis(500);
        assert_eq!(load.last_commit(settled, waking), None, "a commit while the node was stopped");
        if let Some(last) = load.last_row(stopped, waking) {
            reads_end.push(last - stopped);
        } else {
            reads_end.push(Duration::ZERO);
        }
        signal(node, libc::SIGCONT);
        stage.wait(&cluster.name, "Frozen", Some("key-disabled"), Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(
            load.last_commit(refused, Instant::now()),
            None,
            "a commit after the key was disabled"
        );
        wakes.push(load.last_row(waking, Instant::now()).map_or(Duration::ZERO, |at| at - waking));
        let repaired = stage.owner.call("EnableKey", json!({"KeyId": cluster.key_arn})).at;
        load.first_commit_after(repaired, Duration::from_secs(20)).expect("it goes on");
        stage.wait(&cluster.name, "Ready", None, Duration::from_secs(5));
        load.finish().assert_whole();
    }
    figures.take(reads_end);
    figures.take(wakes);
    figures.assert_within_bars();
    stage.world.stop();
}

/// KMS killed: 5 s down freezes nobody, 12 s does.
pub(super) fn kms_down() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("unfenced");
    let load = Load::start(&cluster.postgres, 4);
    let mut figures = Figures::default();
    let mut gaps =
        Series::new("KMS down 5 s: longest time without a commit".into(), Duration::from_secs(2));
    for round in 0..count(1, 20) {
        let begun = Instant::now();
        let down = stage.world.hold_down("kms");
        let live = || {
            let view = stage.view(&cluster.name);
            assert!(
                view["phase"] != "Frozen",
                "round {round}: frozen by an outage of 5 s, {:?} after its begin: {view:#}\n{}",
                begun.elapsed(),
                stage.world.log_tails()
            );
            std::thread::sleep(Duration::from_millis(50));
        };
        while begun.elapsed() < Duration::from_secs(5) {
            live();
        }
        drop(down);
        while begun.elapsed() < Duration::from_secs(if count(1, 20) == 1 { 8 } else { 15 }) {
            live();
        }
        gaps.push(load.longest_gap(begun, Instant::now()));
    }
    figures.take(gaps);
    let begun = Instant::now();
    let down = stage.world.hold_down("kms");
    stage.wait(&cluster.name, "Frozen", Some("kms-unreachable"), Duration::from_secs(13));
    std::thread::sleep(Duration::from_secs(12).saturating_sub(begun.elapsed()));
    let asleep = Instant::now();
    assert_eq!(
        load.last_row(begun + SILENCE + Duration::from_millis(500), asleep),
        None,
        "a row after silence was over"
    );
    drop(down);
    load.first_commit_after(asleep, Duration::from_secs(20)).expect("it goes on");
    load.finish().assert_whole();
    figures.assert_within_bars();
    stage.world.stop();
}

pub(crate) fn signal(pid: i32, signal: i32) {
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    #[allow(unsafe_code)]
    let done = unsafe { libc::kill(pid, signal) };
    assert_eq!(done, 0, "cannot signal {pid}");
}
