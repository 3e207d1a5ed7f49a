//! Hold on the real kernel: attach, spawn, freeze, thaw, evict, detach, hand-over, watchdog, death.

use crate::plain::Disk;
use crate::rig::{DEADLINE, MIB, Rig, boot, on, process, shell, until, writer};
use keystead_node::host::{Ended, FaultKind, Fifreeze, FsWord, Holder};
use keystead_types::VolumeId;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

fn lines(rig: &Rig) -> u64 {
    rig.shell("wc -l < lines").stdout.trim().parse().expect("a number")
}

#[test]
fn a_process_gets_what_it_is_given_and_nothing_else() {
    let rig = Rig::new();
    let disk = Disk::new(64 * MIB);
    let volume = VolumeId::from_uuid(uuid::Uuid::now_v7());
    let (_plain, _) = rig.serve(&volume, &disk);

    // Nothing is formatted unless it is asked for, and never over something.
    let refused = rig.holder.attach(&rig.cluster, &volume, on("data", false)).expect_err("blank");
    assert_eq!(refused.kind(), Some(FaultKind::NoFileSystem), "{refused}");
    let attached = rig.attach(&volume, "data").expect("attaches");
    assert!(attached.formatted);
    assert!(attached.dirty_limit >= 8 << 20, "{attached:?}");
    let again = rig.attach(&volume, "data").expect("again");
    assert!(!again.formatted && again.mount == attached.mount);

    let mut spec =
        shell("show", "id -u; pwd; env | sort; ulimit -c; umask; ls /proc/self/fd | wc -l");
    spec.process.environment.insert("GIVEN".into(), "yes".into());
    let report = rig.holder.run_to_end(&rig.cluster, spec, DEADLINE * 10).expect("runs");
    let mount = attached.mount.display().to_string();
    let path = format!("PATH={}", std::env::var("PATH").expect("a PATH"));
    let tmp = format!("TMPDIR={mount}/tmp");
    let pwd = format!("PWD={mount}");
    // `ls` has its own descriptor of the folder besides the three.
    let wanted = ["65534", &mount, "GIVEN=yes", &path, &pwd, &tmp, "0", "0077", "4"];
    assert_eq!(report.stdout.lines().collect::<Vec<_>>(), wanted, "{report:?}");

    let gone = rig.shell("exit 3").status;
    assert_eq!(gone, Ended::Exit(3));
    let slow = rig.holder.run_to_end(&rig.cluster, shell("slow", "sleep 60"), DEADLINE / 4);
    assert_eq!(slow.expect("runs").status, Ended::TimedOut);
    let missing = rig.holder.spawn(&rig.cluster, process("no", &["/no/such/program"]));
    let missing = missing.expect_err("not there");
    assert!(missing.to_string().contains("/no/such") || missing.to_string().contains("execute"));
    let mut root = shell("root", "true");
    root.process.user = "root".into();
    let refused = rig.holder.spawn(&rig.cluster, root).expect_err("root");
    assert_eq!(refused.kind(), Some(FaultKind::Refused));

    // Output of a spawned process lies on the encrypted disk, as its user's own.
    let pid =
        rig.holder.spawn(&rig.cluster, shell("talk", "echo out; echo err >&2")).expect("runs");
    until("it ends", || {
        let all = rig.holder.processes(&rig.cluster).expect("told");
        all.iter().any(|p| p.pid == pid && p.ended == Some(Ended::Exit(0)))
    });
    assert_eq!(rig.read("log/talk.log"), "out\nerr\n");

    rig.holder.detach(&rig.cluster, DEADLINE * 10).expect("detaches");
    rig.assert_nothing_left(true);
    assert!(rig.holder.inventory().expect("told").clusters.is_empty());
}

#[test]
fn frozen_in_time_nothing_is_written_and_thawed_it_goes_on() {
    let rig = Rig::new();
    let disk = Disk::new(96 * MIB);
    let (volume, plain, _) = rig.volume("data", &disk);
    rig.holder.spawn(&rig.cluster, writer()).expect("starts");
    until("lines are acknowledged", || !rig.read("acked").is_empty());

    let start = Instant::now();
    let report = rig.holder.freeze(&rig.cluster, DEADLINE).expect("freezes");
    assert!(start.elapsed() < DEADLINE + Duration::from_millis(100), "{:?}", start.elapsed());
    assert!(report.frozen_ms.is_some_and(|ms| ms <= 100), "{report:?}");
    assert!(matches!(report.volumes[..], [(_, Fifreeze::Done(_))]), "{report:?}");
    plain.gate(false);
    let written = plain.written();
    // Asked again, and a process asked for meanwhile: it starts at the thaw.
    let again = rig.holder.freeze(&rig.cluster, DEADLINE).expect("freezes");
    assert_eq!(again.volumes, report.volumes);
    let held = rig.holder.inventory().expect("told").clusters.remove(0);
    assert!(held.frozen && held.volumes[0].fs == FsWord::Frozen, "{held:?}");
    let detached = rig.holder.detach(&rig.cluster, DEADLINE).expect_err("frozen");
    assert_eq!(detached.kind(), Some(FaultKind::Frozen));
    std::thread::scope(|scope| {
        let late = scope.spawn(|| rig.shell("echo late"));
        std::thread::sleep(DEADLINE);
        assert!(!late.is_finished(), "a process ran in a frozen cluster");
        assert_eq!((plain.written(), plain.parked()), (written, 0), "somebody wrote");
        plain.gate(true);
        rig.holder.thaw(&rig.cluster).expect("thaws");
        assert_eq!(late.join().expect("runs").stdout, "late\n");
    });
    let before = lines(&rig);
    until("it goes on", || lines(&rig) > before);
    rig.holder.thaw(&rig.cluster).expect("nothing to thaw");
    assert_eq!(rig.holder.inventory().expect("told").clusters[0].volumes[0].volume, volume);

    rig.holder.detach(&rig.cluster, DEADLINE * 10).expect("detaches");
    rig.assert_nothing_left(true);
    until("the server sees the end", || plain.has_ended());
}

/// 100 MB/s below and a writer that never syncs: without the measured limit of dirty pages each
/// FIFREEZE would take seconds.
#[test]
fn a_bulk_writer_over_a_slow_disk_is_frozen_in_time() {
    let rig = Rig::new();
    let disk = Disk::new(512 * MIB);
    let volume = VolumeId::from_uuid(uuid::Uuid::now_v7());
    let (plain, _) = rig.serve(&volume, &disk);
    plain.slow(100_000_000);
    let attached = rig.attach(&volume, "data").expect("attaches");
    let limit = attached.dirty_limit;
    assert!((8 << 20..=20 << 20).contains(&limit), "100 MB/s x 0.15 s is 15 MB, not {limit}");
    let bulk = "while :; do dd if=/dev/zero of=big bs=1M count=384 conv=notrunc 2>/dev/null; done";
    rig.holder.spawn(&rig.cluster, shell("bulk", bulk)).expect("starts");
    for _ in 0..4 {
        let before = plain.written();
        until("it writes", || plain.written() > before + 24 * MIB as u64);
        let report = rig.holder.freeze(&rig.cluster, DEADLINE).expect("freezes");
        assert!(!report.late(), "{report:?}");
        plain.gate(false);
        plain.gate(true);
        rig.holder.thaw(&rig.cluster).expect("thaws");
    }
    let report = rig.holder.evict(&rig.cluster).expect("evicts");
    assert!(report.left.is_empty() && report.took_ms < 2_000, "{report:?}");
}

#[test]
fn evicted_while_frozen_and_attached_again_with_everything_acknowledged() {
    let rig = Rig::new();
    let disk = Disk::new(96 * MIB);
    let (volume, plain, _) = rig.volume("data", &disk);
    let pid = rig.holder.spawn(&rig.cluster, writer()).expect("starts");
    until("lines are acknowledged", || !rig.read("acked").is_empty());
    let acked: u64 = rig.read("acked").trim().parse().expect("a number");
    rig.holder.freeze(&rig.cluster, DEADLINE).expect("freezes");
    plain.gate(false);
    let report = rig.holder.evict(&rig.cluster).expect("evicts");
    assert!(report.left.is_empty() && report.took_ms < 2_000, "{report:?}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the writer lives, or is not reaped");
    rig.assert_nothing_left(true);
    let report = rig.holder.evict(&rig.cluster).expect("nothing to evict");
    assert!(report.left.is_empty());
    drop(plain);

    let (plain, takeover) = rig.serve(&volume, &disk);
    assert!(!takeover, "a new mount");
    let attached = rig.attach(&volume, "data").expect("attaches");
    assert!(!attached.formatted);
    assert!(lines(&rig) >= acked, "{} lines, {acked} acknowledged", lines(&rig));
    drop(rig);
    until("the server sees the end", || plain.has_ended());
}

#[test]
fn evicted_with_the_gate_closed_before_anything_was_frozen() {
    let rig = Rig::new();
    let disk = Disk::new(96 * MIB);
    let (_, plain, _) = rig.volume("data", &disk);
    rig.holder.spawn(&rig.cluster, writer()).expect("starts");
    until("lines are acknowledged", || !rig.read("acked").is_empty());
    plain.gate(false);
    until("requests wait", || plain.parked() > 0);
    let report = rig.holder.freeze(&rig.cluster, DEADLINE).expect("answers in time");
    assert!(report.late(), "FIFREEZE cannot be done: {report:?}");
    let thawed = rig.holder.thaw(&rig.cluster).expect_err("FIFREEZE is under way");
    assert_eq!(thawed.kind(), Some(FaultKind::Late), "{thawed}");
    let report = rig.holder.evict(&rig.cluster).expect("evicts");
    assert!(report.left.is_empty() && report.took_ms < 2_000, "{report:?}");
    rig.assert_nothing_left(true);
}

#[test]
fn a_gate_that_opens_late_lets_freeze_and_thaw_end_well() {
    let rig = Rig::new();
    let disk = Disk::new(96 * MIB);
    let (_, plain, _) = rig.volume("data", &disk);
    rig.holder.spawn(&rig.cluster, writer()).expect("starts");
    until("lines are acknowledged", || !rig.read("acked").is_empty());
    plain.gate(false);
    until("requests wait", || plain.parked() > 0);
    assert!(rig.holder.freeze(&rig.cluster, DEADLINE).expect("answers").late());
    plain.gate(true);
    rig.holder.thaw(&rig.cluster).expect("waits for FIFREEZE and thaws");
    let before = lines(&rig);
    until("it goes on", || lines(&rig) > before);
    rig.holder.detach(&rig.cluster, DEADLINE * 10).expect("detaches");
    rig.assert_nothing_left(true);
}

#[test]
fn an_attach_under_way_is_overtaken_by_an_eviction() {
    let rig = Rig::new();
    let disk = Disk::new(64 * MIB);
    let volume = VolumeId::from_uuid(uuid::Uuid::now_v7());
    let (plain, _) = rig.serve(&volume, &disk);
    plain.gate(false);
    std::thread::scope(|scope| {
        let attach = scope.spawn(|| rig.attach(&volume, "data"));
        until("it waits for the disk", || plain.parked() > 0);
        let report = rig.holder.evict(&rig.cluster).expect("evicts");
        assert!(report.left.is_empty(), "{report:?}");
        assert!(attach.join().expect("answers").is_err());
    });
    rig.assert_nothing_left(true);
}

#[test]
fn the_next_server_takes_over_and_the_workload_notices_nothing() {
    let rig = Rig::new();
    let disk = Disk::new(96 * MIB);
    let (volume, plain, _) = rig.volume("data", &disk);
    rig.holder.spawn(&rig.cluster, writer()).expect("starts");
    until("lines are acknowledged", || !rig.read("acked").is_empty());
    drop(plain);
    let (_plain, takeover) = rig.serve(&volume, &disk);
    assert!(takeover);
    let before = lines(&rig);
    until("it goes on", || lines(&rig) > before);
    assert_eq!(rig.read("log/writer.log"), "", "the writer met an error");
}

#[test]
fn a_silent_node_has_its_processes_frozen_until_it_thaws_them() {
    let rig = Rig::new();
    // Its first word: alive until 9.5 seconds ago.
    rig.holder.alive(boot().minus(Duration::from_millis(9_500))).expect("heard");
    let disk = Disk::new(96 * MIB);
    let (_, _plain, _) = rig.volume("data", &disk);
    let held = || rig.holder.inventory().expect("told").clusters.remove(0);
    until("the watchdog freezes", || held().frozen);
    assert_eq!(held().volumes[0].fs, FsWord::Thawed, "a FIFREEZE would stall every sync");
    rig.holder.alive(boot().plus(Duration::from_secs(60))).expect("heard");
    assert!(held().frozen, "only a thaw thaws");
    rig.holder.thaw(&rig.cluster).expect("thaws");
    assert_eq!(rig.shell("echo alive").stdout, "alive\n");
    assert!(!held().frozen);
}

#[test]
fn a_killed_hold_takes_its_workload_along_and_its_successor_sweeps() {
    for frozen in [false, true] {
        let mut rig = Rig::new();
        let disk = Disk::new(96 * MIB);
        let (_, plain, _) = rig.volume("data", &disk);
        let orphan = shell("orphan", "(while :; do sleep 1; done) & exec sleep 1000");
        let pid = rig.holder.spawn(&rig.cluster, orphan).expect("starts");
        rig.holder.spawn(&rig.cluster, writer()).expect("starts");
        until("lines are acknowledged", || !rig.read("acked").is_empty());
        if frozen {
            let report = rig.holder.freeze(&rig.cluster, DEADLINE).expect("freezes");
            assert!(!report.late(), "{report:?}");
        }
        // The node lives on, gate closed, and has the descriptor; it drops it when it meets
        // another hold.
        plain.gate(!frozen);
        let before = rig.holder.inventory().expect("told").incarnation;
        let start = Instant::now();
        rig.restart_hold();
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        let after = rig.holder.inventory().expect("told");
        drop(plain);
        assert_ne!(after.incarnation, before);
        assert!(after.clusters.is_empty());
        until("the workload is dead", || !Path::new(&format!("/proc/{pid}")).exists());
        until("all is swept", || rig.left().is_empty());
        rig.assert_nothing_left(true);
        assert!(rig.terminate().success());
    }
}

#[test]
fn a_terminated_hold_detaches_in_order() {
    let mut rig = Rig::new();
    let disk = Disk::new(96 * MIB);
    let (_, plain, _) = rig.volume("data", &disk);
    let mut polite = shell("polite", "trap 'echo bye; exit 0' INT; while :; do sleep 0.1; done");
    polite.process.stop_signal = Some("SIGINT".into());
    rig.holder.spawn(&rig.cluster, polite).expect("starts");
    until("it runs", || rig.shell("test -f log/polite.log").status.good());
    // Until the trap is set an INT would end it without a word.
    std::thread::sleep(Duration::from_millis(100));
    assert!(rig.terminate().success());
    rig.assert_nothing_left(false);
    until("the server sees the end", || plain.has_ended());
    assert!(disk.bytes(|b| b.windows(4).any(|w| w == b"bye\n")), "it was not asked politely");
}

#[test]
fn garbage_is_refused_and_hurts_nobody() {
    let rig = Rig::new();
    let socket = rig.folder().join("sock");
    let mode = std::fs::metadata(&socket).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for garbage in [
        &b"\x02"[..],
        b"\x01\xff\xff\xff\xff",
        b"\x01\x02\x00\x00\x00{}",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x0a\x00",
    ] {
        let mut stream = UnixStream::connect(&socket).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream.write_all(garbage).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        if garbage.len() != 3 {
            let text = String::from_utf8_lossy(&answer);
            assert!(text.contains(r#""kind":"protocol""#), "{garbage:?}: {text}");
        }
    }
    let unknown = rig.holder.thaw(&rig.cluster).expect_err("no such cluster");
    assert_eq!(unknown.kind(), Some(FaultKind::NotFound));
    let other = Holder::connect(&socket).expect("still serves");
    assert!(other.inventory().expect("told").clusters.is_empty());
}
