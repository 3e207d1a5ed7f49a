//! The disk is full: a clear error, nothing torn, and on it goes when there is room again.

use crate::world::*;
use bytes::Bytes;
use keystead_objects::*;
use std::path::Path;
use std::process::Command;

const CHILD: &str = "KEYSTEAD_TEST_FULL_DISK";

/// Not a test of its own: runs with a small disk of its own.
#[tokio::test]
async fn child() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let world = World::at(Path::new(&folder));
    world.store.add_bucket("one", BucketSettings::default()).await.expect("added");
    let big = text(1_500_000);
    let mut stored = Vec::new();
    let mut full = 0;
    // Ever smaller objects, so that part, record and index all meet the end.
    for (size, tries) in [(1_500_000, 40), (70_000, 60), (3000, 100), (1, 300)] {
        for i in 0..tries {
            let key = format!("{size}/{i}");
            match world.try_put("one", &key, &big[..size], PutOptions::default()).await {
                Ok(_) => stored.push((key, size)),
                Err(StoreError::NoSpace) => {
                    full += 1;
                    if full % 10 == 0 {
                        break;
                    }
                }
                Err(error) => panic!("{key}: {error:?}"),
            }
        }
    }
    assert!(full >= 10 && stored.len() > 5, "{full} {}", stored.len());
    let id = world.store.create_upload("one", "up", UploadOptions::default()).await;
    if let Ok(entry) = id {
        let part =
            world.store.put_part("one", "up", &entry.upload_id, 1, PartOptions::default()).await;
        let mut part = part.expect("begun");
        let failed = match part.write(Bytes::from(big.clone())).await {
            Ok(()) => part.commit(None).await.map(drop),
            failed => failed,
        };
        assert!(matches!(failed, Err(StoreError::NoSpace)), "{failed:?}");
    }
    check(&world, &stored, &big).await;
    // Room again: deleting works, for it needs little, and writing after it.
    let mut deleted = 0;
    while deleted < 4_500_000 {
        let (key, size) = stored.remove(0);
        let gone = world.store.delete("one", &key, WriteCondition::default()).await;
        assert!(gone.expect("deleted, though the disk is full"), "{key} was there");
        deleted += size;
    }
    world.wait_for_files(2 * stored.len());
    world.put("one", "again", &big).await;
    stored.push(("again".to_owned(), big.len()));
    check(&world, &stored, &big).await;
}

async fn check(world: &World, stored: &[(String, usize)], big: &[u8]) {
    let query = ListQuery { max_keys: 1000, ..ListQuery::default() };
    let page = world.store.list("one", query).await.expect("listed");
    assert_eq!(page.entries.len(), stored.len(), "nothing half visible");
    for (key, size) in stored {
        assert!(world.get("one", key).await.expect("read") == big[..*size], "{key}");
    }
    world.wait_for_files(2 * stored.len());
    assert_eq!(world.store.stats().corrupt, 0);
}

/// A mount of its own needs a namespace; without the right to one there is nothing to test.
#[test]
fn a_full_disk_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "mount -t tmpfs -o size=12m none \"$1\" || exit 77; shift; exec \"$@\"";
    let exe = std::env::current_exe().expect("this test");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(folder.path()).arg(exe);
    command.args(["full_disk::child", "--exact", "--nocapture"]).env(CHILD, folder.path());
    let ended = command.output().expect("unshare");
    if matches!(ended.status.code(), Some(77 | 1)) && ended.stdout.is_empty() {
        return;
    }
    let words = String::from_utf8_lossy(&ended.stderr).into_owned();
    let out = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{out}\n{words}");
    assert!(out.contains("1 passed"), "{out}");
}
