//! What the supervisor promises by itself.

use crate::world::{World, WorldOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("the signal is sent");
}

#[test]
fn a_killed_supervisor_leaves_the_holder_and_the_next_one_adopts_it() {
    let mut world = World::start(WorldOptions::default());
    let (holder, node, api) =
        (world.pid("hold"), world.pid("node"), world.env("KEYSTEAD_API").to_owned());
    let token = world.env("KEYSTEAD_TOKEN").to_owned();
    world.kill_supervisor();
    assert_eq!(world.pid("hold"), holder, "the holder was started anew");
    world.wait_for_new("node", node, Duration::from_secs(5));
    assert_eq!(world.env("KEYSTEAD_API"), api, "the port was not kept");
    assert_eq!(world.env("KEYSTEAD_TOKEN"), token, "the owner's token was not kept");
    world.stop();
}

#[test]
fn a_killed_role_is_started_again_and_the_log_says_so() {
    let world = World::start(WorldOptions::default());
    let log = world.data().join("log/dev.log");
    for role in ["kms", "control", "node", "hold"] {
        let old = world.pid(role);
        send(old, Signal::KILL);
        let new = world.wait_for_new(role, old, Duration::from_secs(5));
        let again = format!(" {role} started again (process {new})\n");
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(&log).expect("the supervisor's log");
            if text.contains(&format!(" {role} ended (signal: 9 (SIGKILL)); again in 200 ms"))
                && text.contains(&again)
            {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "{role}: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    world.stop();
}

#[test]
fn an_orderly_stop_ends_in_time_though_roles_hang() {
    let world = World::start(WorldOptions::default());
    for role in ["node", "control", "kms"] {
        send(world.pid(role), Signal::STOP);
    }
    let begun = Instant::now();
    world.stop();
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
}

#[test]
fn audit_tail_asks_the_wire_as_the_key_owner() {
    let world = World::start(WorldOptions::default());
    world.cli_ok(&["audit", "tail"]);
    let found = world.cli_json(&["audit", "tail", "--name", "LookupEvents", "-n", "1", "--json"]);
    let who = &found[0]["userIdentity"]["arn"];
    assert_eq!(who, "arn:aws:iam::111122223333:user/administrator", "{found}");
    let trail = world.data().join("kms/trail").display().to_string();
    let folder = world.cli_json(&["audit", "tail", "--dir", &trail, "--json"]);
    assert!(folder.as_array().is_some_and(|all| !all.is_empty()), "{folder}");
    assert!(folder[0]["sequence"].is_u64(), "the folder's records carry their place: {folder}");
    world.stop();
}
