//! What needs a clock in the hand, or a server that dies between two steps.

mod bench;
mod families;
mod rotations;
mod states;

use crate::calls::Kms;
use crate::store::records::{Key, KeyState, Material};
use crate::store::state::Change;
use crate::trail::Query;
use crate::{KmsConfig, open, scheduler};
use keystead_aws::policy::StoredPolicy;
use keystead_types::{Boot, Clock, KeyArn};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const DAY: i64 = 86_400_000;

#[derive(Default)]
struct Hand {
    wall: AtomicI64,
    ran: AtomicI64,
}

impl Clock for Hand {
    fn boot(&self) -> Boot {
        let ms = self.ran.load(Ordering::SeqCst);
        Boot::since_boot(Duration::from_millis(ms.unsigned_abs()))
    }
    fn wall_ms(&self) -> i64 {
        1_700_000_000_000 + self.wall.load(Ordering::SeqCst)
    }
}

fn private(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("private");
    path
}

fn config(folder: &Path) -> KmsConfig {
    let private = |name: &str, text: &str| private(folder, name, text);
    KmsConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data: folder.join("kms"),
        principals: private(
            "principals.toml",
            "[[account]]\nid = \"111122223333\"\nname = \"c\"\n",
        ),
        insecure_plain_root_key: private("root-key", &"5a".repeat(32)),
        hosts: vec![],
        regions: vec![],
        arena: crate::Arena::Mlock,
        insecure_swap: false,
        insecure_scheduler_ahead: Some(folder.join("ahead")),
    }
}

async fn kms(folder: &Path, clock: &Arc<Hand>) -> Kms {
    let at = "127.0.0.1:1".parse().expect("an address");
    open(&config(folder), clock.clone(), at).await.expect("it opens")
}

fn nine() -> Query<'static> {
    Query { most: 9, ..Query::default() }
}

fn arn() -> KeyArn {
    "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        .parse()
        .expect("an ARN")
}

fn key(state: KeyState) -> Key {
    let text = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}"#;
    Key {
        arn: arn(),
        spec: crate::store::records::KeySpec::Symmetric,
        description: String::new(),
        created_ms: 0,
        state,
        policy: StoredPolicy { text: text.to_owned(), ids: Default::default() },
        material: Material { id: "00".repeat(32), sealed: String::new(), rotated: None },
        older: vec![],
        schedule: None,
        multi_region: None,
        tags: vec![],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_the_wall_and_for_the_time_that_servers_ran() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(Hand::default());
    let there = |kms: &Kms| kms.store.state().keys.contains_key(&arn());
    {
        let kms = kms(folder.path(), &clock).await;
        let date_ms = clock.wall_ms() + 7 * DAY;
        let due_running_ms = kms.running_ms() + (7 * DAY).unsigned_abs();
        let pending = KeyState::PendingDeletion { date_ms, due_running_ms };
        let writer = kms.store.writer().await;
        writer.commit(vec![Change::PutKey(key(pending))], &[]).expect("made");
        drop(writer);
        // The wall clock is put forward: nothing happens.
        clock.wall.store(30 * DAY, Ordering::SeqCst);
        scheduler::look(&kms).await;
        assert!(there(&kms));
        // Six days of running, noted; then a new server of the same folder.
        clock.ran.store(6 * DAY, Ordering::SeqCst);
        kms.store.note_running(kms.running_ms()).expect("noted");
    }
    clock.ran.store(0, Ordering::SeqCst);
    let kms = kms(folder.path(), &clock).await;
    scheduler::look(&kms).await;
    assert!(there(&kms));
    clock.ran.store(DAY, Ordering::SeqCst);
    clock.wall.store(6 * DAY, Ordering::SeqCst);
    scheduler::look(&kms).await;
    assert!(there(&kms), "the wall has not passed the date");
    clock.wall.store(7 * DAY, Ordering::SeqCst);
    let before = kms.store.sequence();
    scheduler::look(&kms).await;
    assert!(!there(&kms));
    assert_eq!(kms.store.sequence(), before + 1, "watchers hear of it");
    let (records, _) =
        kms.trail.newest(&nine(), |r| r.get("eventName") == Some(&json!("DeleteKey")));
    assert_eq!(records.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_can_be_put_forward_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(Hand::default());
    let kms = kms(folder.path(), &clock).await;
    let pending = KeyState::PendingDeletion {
        date_ms: clock.wall_ms() + 7 * DAY,
        due_running_ms: kms.running_ms() + (7 * DAY).unsigned_abs(),
    };
    let writer = kms.store.writer().await;
    writer.commit(vec![Change::PutKey(key(pending))], &[]).expect("made");
    drop(writer);
    let there = || kms.store.state().keys.contains_key(&arn());
    for (ahead, gone) in
        [("nonsense", false), ("-1", false), ("604799999", false), ("604800000", true)]
    {
        private(folder.path(), "ahead", ahead);
        scheduler::look(&kms).await;
        assert_eq!(!there(), gone, "{ahead}");
    }
    let open = folder.path().join("ahead");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).expect("open");
    std::fs::write(open, (400 * DAY).to_string()).expect("written");
    scheduler::look(&kms).await;
    assert_eq!(kms.ahead.ms(), 7 * DAY, "a file that others may read is not believed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_between_a_change_and_its_record_leaves_the_record_owing() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(Hand::default());
    let record = json!({"eventName": "DisableKey", "eventID": "e-1"});
    let record = record.as_object().expect("an object");
    {
        let kms = kms(folder.path(), &clock).await;
        let writer = kms.store.writer().await;
        let owed = [("e-1".to_owned(), record.clone())];
        writer.commit(vec![Change::PutKey(key(KeyState::Disabled))], &owed).expect("made");
        // Dies here: the trail never heard of it.
    }
    for _ in 0..2 {
        let kms = kms(folder.path(), &clock).await;
        let (found, _) = kms.trail.newest(&nine(), |r| r.get("eventID") == Some(&json!("e-1")));
        assert_eq!(found.len(), 1, "on record, and once");
    }
    // Paid for good with the next change.
    {
        let kms = kms(folder.path(), &clock).await;
        let writer = kms.store.writer().await;
        writer.commit(vec![Change::PutKey(key(KeyState::Enabled))], &[]).expect("made");
    }
    let (_, owed) = crate::store::Store::open(&folder.path().join("kms")).expect("it opens");
    assert!(owed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_another_version_and_a_root_key_for_everybody_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(Hand::default());
    drop(kms(folder.path(), &clock).await);
    let at = "127.0.0.1:1".parse().expect("an address");
    let again = config(folder.path());
    std::fs::set_permissions(
        folder.path().join("root-key"),
        std::fs::Permissions::from_mode(0o644),
    )
    .expect("set");
    let error = open(&again, clock.clone(), at).await.err().expect("refused");
    assert!(error.to_string().contains("chmod 600"), "{error}");
    let again = config(folder.path());
    std::fs::write(folder.path().join("kms/VERSION"), "3\n").expect("written");
    let error = open(&again, clock, at).await.err().expect("refused");
    let why = std::error::Error::source(&error).expect("a source").to_string();
    assert!(error.to_string().contains("/kms") && why.contains("VERSION is 3"), "{error}: {why}");
}
