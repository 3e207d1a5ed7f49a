//! A disk without room: calls are refused, nothing is half done, and all goes on by itself. Needs
//! root, to mount small disks.

use crate::rig::{OWNER, Rig, user};
use crate::trail::lookup;
use keystead_aws::trail::verify_segments;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use std::ffi::CString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A disk of its own in memory.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&at).expect("a folder");
        let size = CString::new(format!("size={size}")).expect("no zero byte");
        mount("tmpfs", &at, "tmpfs", MountFlags::empty(), &*size).expect("mounted");
        Self(at)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves not a byte of room.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).expect("made");
        for size in [65536, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.ballast()).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[allow(clippy::print_stderr)] // says why a test did nothing
fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not run: needs root");
    }
    root
}

async fn state(rig: &Rig, key: &str) -> String {
    let described = rig.good(&user(OWNER), "DescribeKey", json!({"KeyId": key})).await;
    described["KeyMetadata"]["KeyState"].as_str().expect("a state").to_owned()
}

/// Switches the key until that is refused, at most `most` times; answers the state that was
/// acknowledged last.
async fn switch_until_refused(rig: &Rig, key: &str, most: usize, text: &str) -> &'static str {
    let mut acknowledged = "Enabled";
    for number in 0..most {
        let (operation, then) =
            if number % 2 == 0 { ("DisableKey", "Disabled") } else { ("EnableKey", "Enabled") };
        let answer = rig.kms(&user(OWNER), operation, json!({"KeyId": key})).await;
        if answer.status != 200 {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (500, "DependencyTimeoutException")
            );
            assert!(answer.text.contains(text), "{}", answer.text);
            return acknowledged;
        }
        acknowledged = then;
    }
    panic!("never refused");
}

/// Until calls go on, which they do within a second.
async fn goes_on(rig: &Rig, operation: &str, key: &str) {
    for _ in 0..20 {
        if rig.kms(&user(OWNER), operation, json!({"KeyId": key})).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{operation} is still refused");
}

fn trail_holds(folder: &Path) {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("listed").flatten().map(|e| e.path()).collect();
    names.sort();
    let texts: Vec<(String, String)> = names
        .iter()
        .filter_map(|p| {
            let name = p.file_name()?.to_str().filter(|n| n.ends_with(".jsonl"))?.to_owned();
            Some((name, std::fs::read_to_string(p).ok()?))
        })
        .collect();
    let report = verify_segments(texts.iter().map(|(n, t)| (n.as_str(), t.as_str())), None, &[]);
    assert!(report.holds(), "{}", report.summary());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_without_room_refuses_every_call_before_it_does_anything() {
    if !root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(folder.path().join("kms/trail"), "6m");
    let mut rig = Rig::in_folder(folder).await;
    let key = rig.make_key(None).await;
    disk.fill();
    // The room that was kept ahead is used up first: every one of these is on record.
    let acknowledged = switch_until_refused(&rig, &key, 20_000, "cannot be recorded").await;
    let made = rig.kms(&user(OWNER), "CreateKey", json!({})).await;
    assert_eq!(made.code(), "DependencyTimeoutException");
    let canary = json!({"KeyId": key, "Plaintext": "AAAA", "EncryptionContext": {"keystead:purpose": "canary"}});
    assert_eq!(rig.kms(&user(OWNER), "Encrypt", canary).await.status, 500);
    disk.empty();
    goes_on(&rig, "DescribeKey", &key).await;
    assert_eq!(state(&rig, &key).await, acknowledged);
    let listed = rig.good(&user(OWNER), "ListKeys", json!({})).await;
    assert_eq!(listed["Keys"].as_array().map(Vec::len), Some(1), "CreateKey was half done");
    goes_on(&rig, "EnableKey", &key).await;
    rig.restart().await;
    assert_eq!(state(&rig, &key).await, "Enabled");
    trail_holds(&disk.0);
    drop(rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_room_changes_nothing_and_goes_on_by_itself() {
    if !root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(folder.path().join("kms"), "24m");
    let trail = Disk::mount(folder.path().join("kms/trail"), "64m");
    let mut rig = Rig::in_folder(folder).await;
    let key = rig.make_key(None).await;
    disk.fill();
    // A record of a good size, so that pages are needed.
    let mut refused = None;
    for number in 0..400 {
        let text = format!("{number} {}", "x".repeat(8000));
        let answer = rig.kms(&user(OWNER), "CreateKey", json!({"Description": text})).await;
        if answer.status != 200 {
            assert!(answer.text.contains("key store cannot be written"), "{}", answer.text);
            refused = Some(number);
            break;
        }
    }
    let made = refused.expect("never refused");
    // Uses go on: they read nothing from the disk.
    let used = json!({"KeyId": key, "Plaintext": "AAAA"});
    assert_eq!(rig.kms(&user(OWNER), "Encrypt", used).await.status, 200);
    let keys = async |rig: &Rig| {
        let listed = rig.good(&user(OWNER), "ListKeys", json!({"Limit": 1000})).await;
        listed["Keys"].as_array().map(Vec::len)
    };
    assert_eq!(keys(&rig).await, Some(made + 1));
    let events = lookup(&rig, OWNER, "CreateKey").await;
    let failed: Vec<&Value> = events.iter().filter(|e| !e["errorCode"].is_null()).collect();
    assert_eq!(failed.len(), 1, "the refused call is on record");
    disk.empty();
    goes_on(&rig, "DisableKey", &key).await;
    assert_eq!(keys(&rig).await, Some(made + 1));
    rig.restart().await;
    assert_eq!((state(&rig, &key).await.as_str(), keys(&rig).await), ("Disabled", Some(made + 1)));
    trail_holds(&trail.0);
    drop(rig);
}
