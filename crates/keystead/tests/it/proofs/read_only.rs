//! A file system that becomes read-only, or answers errors alone, under each role: what cannot be
//! made durable is refused in clear words, what was acknowledged stays, and everything goes on by
//! itself once the operator has mended the disk.

use super::count;
use super::fragile::{Disk, Way};
use crate::joint::load::Load;
use crate::joint::stage::Stage;
use crate::world::{Alone, World, WorldOptions};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A World of which one part lies on a disk of its own.
fn world_with(part: &'static str) -> (Disk, World) {
    // Before the disk: other Worlds would take its loop device for theirs.
    let alone = Alone::take();
    let disk = Disk::new();
    let options =
        WorldOptions { elsewhere: vec![(part, disk.folder())], ..WorldOptions::default() };
    let world = World::start_alone(alone, options, |_| {});
    (disk, world)
}

/// Asks until the answer is the one that is waited for.
fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<(), String>) -> Duration {
    let begun = Instant::now();
    while let Err(not) = holds() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}: {not}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

/// A role that starts on such a disk ends with words that name the folder and what to do.
fn refuses_to_start(world: &World, role: &str, folder: &Path) {
    let config = world.data().join(format!("config/{role}.toml"));
    let ended = Command::new(env!("CARGO_BIN_EXE_keystead"))
        .args([role, "serve", "--config"])
        .arg(config)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success(), "{role} started: {said}");
    let names = said.contains(&*folder.to_string_lossy());
    let why = said.contains("Read-only file system") && said.contains("fix: look in `dmesg`");
    assert!(names && why, "{role}: {said}");
}

#[test]
fn kms_on_a_read_only_disk_refuses_and_goes_on_when_it_is_mended() {
    let (disk, world) = world_with("kms");
    let mut stage = Stage::new(world);
    let cluster = stage.cluster("unkeyed");
    let load = Load::start(&cluster.postgres, 2);
    let key = json!({"KeyId": cluster.key_arn});
    let keys = |stage: &Stage| {
        let listed = stage.owner.call("ListKeys", json!({})).body;
        listed["Keys"].as_array().expect("keys").len()
    };
    for way in [Way::ReadOnly, Way::Shutdown].into_iter().cycle().take(count(2, 6)) {
        let (pid, made) = (stage.world.pid("kms"), keys(&stage));
        disk.shatter(way);
        for (operation, input) in [("CreateKey", json!({})), ("DescribeKey", key.clone())] {
            let answer = stage.owner.try_call(operation, &input).expect("it answers");
            let body = answer.body.to_string();
            assert_eq!(answer.status, 500, "{operation}: {body}");
            assert!(
                body.contains("cannot be recorded") || body.contains("cannot be written"),
                "{body}"
            );
        }
        disk.mend();
        let answered = until("kms answers", Duration::from_secs(10), || {
            let answer =
                stage.owner.try_call("CreateKey", &json!({})).map_err(|e| e.to_string())?;
            if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
        });
        eprintln!("FIGURE kms, {way:?}: goes on {} ms after the mount", answered.as_millis());
        assert_eq!(stage.world.pid("kms"), pid, "it had to be started anew");
        assert_eq!(keys(&stage), made + 1, "a refused CreateKey was half done");
    }
    // Nobody's data had to wait for it.
    load.finish().assert_whole();
    let verified = stage.world.audit_verify();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));

    let made = keys(&stage);
    stage.world.down();
    disk.unmount(Duration::from_secs(5));
    disk.mount("ro");
    refuses_to_start(&stage.world, "kms", Path::new("/kms"));
    disk.mend();
    stage.world.start_again();
    let mut stage = Stage::new(stage.world);
    stage.wait("unkeyed", "Ready", None, Duration::from_secs(30));
    assert_eq!(keys(&stage), made);
    stage.world.down();
}

#[test]
fn control_on_a_read_only_disk_refuses_and_goes_on_when_it_is_mended() {
    let (disk, world) = world_with("control");
    let mut stage = Stage::new(world);
    let cluster = stage.cluster("uncontrolled");
    let load = Load::start(&cluster.postgres, 2);
    let create = |stage: &Stage, name: &str| {
        let wanted = json!({"name": name, "region": "eu-central-1", "encryption": "external"});
        stage.api("POST", "/v1/clusters", wanted)
    };
    let mut made = 0;
    for way in [Way::ReadOnly, Way::Shutdown].into_iter().cycle().take(count(2, 6)) {
        let pid = stage.world.pid("control");
        disk.shatter(way);
        for _ in 0..2 {
            let (status, body) = create(&stage, "refused");
            assert_eq!((status, &body["fix"].is_string()), (503, &true), "{body}");
            let kind = body["type"].as_str().unwrap_or_default();
            match way {
                Way::ReadOnly => assert!(kind.ends_with("disk-read-only"), "{body}"),
                Way::Shutdown => assert!(kind.ends_with("store-unavailable"), "{body}"),
            }
        }
        let why = stage.world.cli(&["why", &cluster.name]);
        let said = String::from_utf8_lossy(&why.stderr).into_owned();
        assert!(!why.status.success() && said.contains("fix: the platform team"), "{said}");
        disk.mend();
        let name = format!("made-{made}");
        let answered = until("control answers", Duration::from_secs(10), || {
            let (status, body) = create(&stage, &name);
            if status == 201 { Ok(()) } else { Err(body.to_string()) }
        });
        made += 1;
        eprintln!("FIGURE control, {way:?}: goes on {} ms after the mount", answered.as_millis());
        assert_eq!(stage.world.pid("control"), pid, "it had to be started anew");
        let (_, all) = stage.api("GET", "/v1/clusters", Value::Null);
        assert!(!all.to_string().contains("\"refused\""), "half done: {all}");
        stage.wait(&name, "AwaitingKey", None, Duration::from_secs(10));
        stage.wait(&cluster.name, "Ready", None, Duration::from_secs(10));
    }
    load.finish().assert_whole();

    stage.world.down();
    disk.unmount(Duration::from_secs(5));
    disk.mount("ro");
    refuses_to_start(&stage.world, "control", Path::new("/control"));
    disk.mend();
    stage.world.start_again();
    let mut stage = Stage::new(stage.world);
    stage.wait("uncontrolled", "Ready", None, Duration::from_secs(30));
    for name in 0..made {
        stage.wait(&format!("made-{name}"), "AwaitingKey", None, Duration::from_secs(5));
    }
    stage.world.down();
}

#[test]
fn a_volume_on_a_read_only_disk_comes_back_as_after_a_power_cut() {
    let (disk, world) = world_with("node/eu-central-1/volumes");
    let stage = Stage::new(world);
    let cluster = stage.cluster("shattered");
    for way in [Way::ReadOnly, Way::Shutdown].into_iter().cycle().take(count(2, 6)) {
        let load = Load::start(&cluster.postgres, 2);
        std::thread::sleep(Duration::from_millis(500));
        disk.shatter(way);
        let wanted = match way {
            Way::ReadOnly => "Read-only file system (os error 30); unmount it, check it (fsck)",
            Way::Shutdown => "Input/output error",
        };
        let told = until("it says why", Duration::from_secs(20), || {
            let view = stage.view(&cluster.name);
            let clear = view["phase"] != "Ready" && view.to_string().contains(wanted);
            if clear { Ok(()) } else { Err(format!("{view:#}")) }
        });
        // It is taken off the host: a disk that is dead for good would keep it waiting for ever.
        until("its clients are let go", Duration::from_secs(20), || {
            let view = stage.view(&cluster.name);
            let mut volumes = view["conditions"].as_array().into_iter().flatten();
            let off = volumes.any(|c| c["type"] == "VolumesAttached" && c["status"] == "False");
            if off { Ok(()) } else { Err(format!("{view:#}")) }
        });
        let why = stage.world.cli_ok(&["why", &cluster.name]);
        eprintln!("{way:?}: told after {} ms:\n{why}", told.as_millis());
        let acked = load.abandon();
        disk.mend();
        let mended = Instant::now();
        stage.wait(&cluster.name, "Ready", None, Duration::from_secs(60));
        eprintln!(
            "FIGURE volume, {way:?}: Ready {} ms after the mount",
            mended.elapsed().as_millis()
        );
        acked.assert_present();
    }
    Load::start(&cluster.postgres, 2).finish().assert_whole();

    // Started on a disk that cannot be written.
    let mut stage = stage;
    stage.world.down();
    disk.unmount(Duration::from_secs(5));
    disk.mount("ro");
    stage.world.start_again();
    let stage = Stage::new(stage.world);
    until("it says why", Duration::from_secs(20), || {
        let view = stage.view(&cluster.name);
        if view.to_string().contains("Read-only file system (os error 30)") {
            Ok(())
        } else {
            Err(format!("{view:#}"))
        }
    });
    disk.mend();
    stage.wait(&cluster.name, "Ready", None, Duration::from_secs(60));
    let mut stage = stage;
    stage.world.down();
}
