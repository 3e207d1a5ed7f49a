//! hold dies, or everything is stopped while frozen: all comes back without a human.

use super::count;
use crate::joint::figures::{Figures, Series};
use crate::joint::load::Load;
use crate::joint::outages::signal;
use crate::joint::stage::Stage;
use crate::world::{World, WorldOptions};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn hold_killed_comes_back_with_everything_that_was_committed() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("unheld");
    let mut figures = Figures::default();
    let mut back = Series::new("kill -9 of hold: running again".into(), Duration::from_secs(10));
    for _ in 0..count(1, 3) {
        let load = Load::start(&cluster.postgres, 2);
        std::thread::sleep(Duration::from_millis(700));
        let holder = stage.world.pid("hold");
        let killed = Instant::now();
        signal(holder, libc::SIGKILL);
        stage.world.wait_for_new("hold", holder, Duration::from_secs(5));
        let acked = load.abandon();
        acked.assert_present();
        back.push(killed.elapsed());
        stage.wait(&cluster.name, "Ready", None, Duration::from_secs(10));
    }
    figures.take(back);
    // In the middle of a freeze its threads wait in the kernel for a gate that stays closed: such
    // a process cannot end by itself.
    let mut thawed = Series::new(
        "kill -9 of hold within a freeze: from EnableKey to running again".into(),
        Duration::from_secs(10),
    );
    for delay in [0, 20, 60, 150, 400].into_iter().take(count(3, 5)) {
        let load = Load::start(&cluster.postgres, 2);
        std::thread::sleep(Duration::from_millis(300));
        let holder = stage.world.pid("hold");
        stage.owner.call("DisableKey", json!({"KeyId": cluster.key_arn}));
        std::thread::sleep(Duration::from_millis(delay));
        signal(holder, libc::SIGKILL);
        stage.world.wait_for_new("hold", holder, Duration::from_secs(5));
        stage.wait(&cluster.name, "Frozen", Some("key-disabled"), Duration::from_secs(10));
        let acked = load.abandon();
        let enabled = stage.owner.call("EnableKey", json!({"KeyId": cluster.key_arn})).at;
        acked.assert_present();
        thawed.push(enabled.elapsed());
        stage.wait(&cluster.name, "Ready", None, Duration::from_secs(10));
    }
    figures.take(thawed);
    figures.assert_within_bars();
    stage.world.stop();
}

#[test]
fn everything_killed_at_once_comes_back_or_is_cleaned_away() {
    let mut stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("felled");
    let load = Load::start(&cluster.postgres, 2);
    std::thread::sleep(Duration::from_millis(700));
    stage.world.kill_everything();
    let started = Instant::now();
    // A backend of PostgreSQL's may outlive its postmaster until the next holder ends its group:
    // only then do its clients hear the end.
    stage.world.start_again();
    let acked = load.abandon();
    stage.wait(&cluster.name, "Ready", None, Duration::from_secs(20));
    acked.assert_present();
    let mut figures = Figures::default();
    let mut back = Series::new(
        "kill -9 of all at once: running again after the start".into(),
        Duration::from_secs(20),
    );
    back.push(started.elapsed());
    figures.take(back);
    figures.assert_within_bars();
    stage.owner.call("DisableKey", json!({"KeyId": cluster.key_arn}));
    stage.wait(&cluster.name, "Frozen", Some("key-disabled"), Duration::from_secs(3));
    stage.world.kill_everything();
    stage.world.clean();
}

#[test]
fn a_stop_while_frozen_ends_and_the_next_start_brings_all_back() {
    let mut stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("stopped");
    let load = Load::start(&cluster.postgres, 2);
    stage.owner.call("DisableKey", json!({"KeyId": cluster.key_arn}));
    stage.wait(&cluster.name, "Frozen", Some("key-disabled"), Duration::from_secs(3));
    let stopping = Instant::now();
    stage.world.stop_and_start();
    let took = stopping.elapsed();
    let acked = load.abandon();
    stage.wait(&cluster.name, "Frozen", Some("key-disabled"), Duration::from_secs(20));
    let enabled = stage.owner.call("EnableKey", json!({"KeyId": cluster.key_arn})).at;
    acked.assert_present();
    let mut figures = Figures::default();
    let mut stop = Series::new("stop while frozen, and start".into(), Duration::from_secs(60));
    stop.push(took);
    let mut back = Series::new("after it: running again".into(), Duration::from_secs(10));
    back.push(enabled.elapsed());
    figures.take(stop);
    figures.take(back);
    figures.assert_within_bars();
    stage.world.stop();
}
