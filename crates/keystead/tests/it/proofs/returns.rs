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
    figures.assert_within_bars();
    stage.world.stop();
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
