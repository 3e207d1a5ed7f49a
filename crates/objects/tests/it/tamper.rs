//! Whoever can write the disk changes something: a refusal with an alarm, never plaintext.

use crate::world::*;
use keystead_objects::*;
use redb::ReadableTable;
use std::fs;
use std::path::Path;

async fn refused(world: &World, bucket: &str, key: &str) -> &'static str {
    let alarms = world.store.stats().corrupt;
    let what = match world.get(bucket, key).await {
        Err(StoreError::Corrupt(what)) => what,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{bucket}/{key} was given out"),
    };
    assert!(world.store.stats().corrupt > alarms, "an alarm");
    what
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let before = fs::read(path).expect("a file");
    let mut after = before.clone();
    change(&mut after);
    fs::write(path, after).expect("written");
    before
}

#[tokio::test]
async fn parts_that_were_cut_flipped_or_lost() {
    let world = World::new().await;
    world.put("one", "k", &text(200_000)).await;
    let path = world.file("one", "k", "part");
    let length = fs::metadata(&path).expect("there").len() as usize;
    let cuts = [0, 1, 100, length - 1, length - 40, length - 65_568, length + 1];
    for cut in cuts {
        let before = change(&path, |bytes| bytes.resize(cut, 0));
        refused(&world, "one", "k").await;
        fs::write(&path, before).expect("restored");
    }
    for at in (0..length).step_by(length / 40).chain([0, 3, 40, length - 1]) {
        let before = change(&path, |bytes| bytes[at] ^= 4);
        refused(&world, "one", "k").await;
        fs::write(&path, before).expect("restored");
    }
    assert_eq!(world.get("one", "k").await.expect("restored"), text(200_000));
    fs::remove_file(&path).expect("removed");
    assert_eq!(refused(&world, "one", "k").await, "a part is missing");
}

/// Frames before the damage may be given out, that frame and what follows never.
#[tokio::test]
async fn a_damaged_frame_ends_the_stream() {
    let world = World::new().await;
    let data = text(5 << 20);
    world.put("one", "k", &data).await;
    let path = world.file("one", "k", "part");
    change(&path, |bytes| bytes[(3 << 20) + 70_000] ^= 1);
    let mut body = world.store.get("one", "k", GetOptions::default()).await.expect("begun").body;
    let mut got = Vec::new();
    let error = loop {
        match body.next().await.expect("not the end") {
            Ok(piece) => got.extend_from_slice(&piece),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Corrupt(_)));
    assert!(body.next().await.is_none());
    assert!(got.len() <= 3 << 20 && data.starts_with(&got));
    let clean = world.range("one", "k", Range::Inclusive(0, 1 << 20)).await;
    assert_eq!(clean.expect("frames before it"), data[..=1 << 20]);
    let bad = world.range("one", "k", Range::Last(2_000_000)).await;
    assert!(matches!(bad, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn what_belongs_elsewhere_is_not_taken() {
    let world = World::new().await;
    world.put("one", "a", b"text of a").await;
    world.put("one", "b", b"text of b").await;
    world.put("two", "c", b"text of c").await;
    let part = |bucket, key| world.file(bucket, key, "part");
    let (a, b, c) = (part("one", "a"), part("one", "b"), part("two", "c"));
    let a_before = fs::read(&a).expect("a");
    // The files of two objects change places; then a message of another bucket.
    for other in [&b, &c] {
        fs::copy(other, &a).expect("copied");
        assert_eq!(refused(&world, "one", "a").await, "another message than the record names");
    }
    // An older version's files come back in the newer one's place.
    fs::write(&a, &a_before).expect("restored");
    world.put("one", "a", b"newer text").await;
    world.wait_for_files(6);
    fs::write(part("one", "a"), &a_before).expect("put back");
    refused(&world, "one", "a").await;
    assert_eq!(world.get("one", "b").await.expect("untouched"), b"text of b");
}

#[tokio::test]
async fn records_on_disk_are_held_against_the_index() {
    let world = World::new().await;
    for key in ["a", "b"] {
        world.put("one", key, b"text").await;
    }
    let (a, b) = (world.file("one", "a", "record"), world.file("one", "b", "record"));
    let before = fs::read(&a).expect("a");
    let verdict = async || {
        let mut found = Verdict::Whole;
        let each = |one: Scrubbed| {
            if one.key == "a" {
                found = one.verdict;
            } else {
                assert_eq!(one.verdict, Verdict::Whole);
            }
        };
        let totals = world.store.scrub(each).await.expect("scrubbed");
        assert_eq!(totals.whole + totals.corrupt, 2);
        found
    };
    assert_eq!(verdict().await, Verdict::Whole);
    fs::copy(&b, &a).expect("replaced");
    assert_eq!(verdict().await, Verdict::Corrupt("another record than the index names"));
    fs::write(&a, &before[..before.len() - 1]).expect("cut");
    assert!(matches!(verdict().await, Verdict::Corrupt(_)));
    fs::remove_file(&a).expect("removed");
    assert_eq!(verdict().await, Verdict::Corrupt("the record is missing"));
    // The index has it too: a read needs no file but the part's.
    assert_eq!(world.get("one", "a").await.expect("read"), b"text");
    world.vault.close(keystead_types::Cause::KeyDisabled);
    assert_eq!(verdict_of_all(&world).await, (0, 0, 2));
}

async fn verdict_of_all(world: &World) -> (u64, u64, u64) {
    let totals = world.store.scrub(|_| ()).await.expect("scrubbed");
    (totals.whole, totals.corrupt, totals.refused)
}

/// Someone edits the index's file itself: a row of one key under another.
#[tokio::test]
async fn a_row_under_another_name_is_told() {
    let mut world = World::new().await;
    world.put("one", "a", b"text of a").await;
    world.put("one", "b", b"text of b").await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let other =
        Store::open(elsewhere.path(), world.vault.clone(), world.clock.clone()).expect("a store");
    drop(std::mem::replace(&mut world.store, other));
    {
        type Table = redb::TableDefinition<'static, (&'static str, &'static str), &'static [u8]>;
        const OBJECTS: Table = redb::TableDefinition::new("objects");
        let database = redb::Database::open(world.folder.join("index.redb")).expect("the index");
        let txn = database.begin_write().expect("a transaction");
        {
            let mut objects = txn.open_table(OBJECTS).expect("a table");
            let a = objects.get(("one", "a")).expect("read").expect("there").value().to_vec();
            objects.insert(("one", "b"), a.as_slice()).expect("renamed");
            objects.insert(("two", "c"), a.as_slice()).expect("moved");
            objects.insert(("one", "d"), &b"\x01rubbish"[..]).expect("damaged");
        }
        txn.commit().expect("committed");
    }
    let (vault, clock) = (world.vault.clone(), world.clock.clone());
    world.store = Store::open(&world.folder, vault, clock).expect("the store again");
    assert_eq!(refused(&world, "one", "b").await, "a record of another object");
    assert_eq!(refused(&world, "two", "c").await, "a record of another bucket or key");
    refused(&world, "one", "d").await;
    let alarms = world.store.stats().corrupt;
    let page = world.store.list("one", ListQuery { max_keys: 9, ..ListQuery::default() }).await;
    assert!(matches!(page, Err(StoreError::Corrupt(_))));
    let over = world.try_put("one", "d", b"over it", PutOptions::default()).await;
    assert!(matches!(over, Err(StoreError::Corrupt(_))));
    assert_eq!(world.store.stats().corrupt, alarms + 2);
    assert_eq!(world.get("one", "a").await.expect("itself"), b"text of a");
}

#[tokio::test]
async fn strays_are_swept_by_a_scrub() {
    let world = World::new().await;
    let data = text(3 << 20);
    world.put("one", "k", &data).await;
    world.put("one", &"long/".repeat(200), b"long").await;
    // A name that looks like a version, at the end of a name that was cut.
    let tricky = format!("{}{}", "x".repeat(238), "0123456789abcdef0123456789abcdef");
    world.put("one", &tricky, b"tricky").await;
    let mut put = world.store.put("one", "under way", PutOptions::default()).await.expect("begun");
    put.write(bytes::Bytes::from(data.clone())).await.expect("taken");
    let stray = world.folder.join("buckets/one/k/00112233445566778899aabbccddeeff");
    fs::create_dir(&stray).expect("made");
    fs::write(stray.join("part00001"), b"left").expect("made");
    fs::write(world.folder.join("buckets/one/loose"), b"left").expect("made");
    let totals = world.store.scrub(|_| ()).await.expect("scrubbed");
    assert_eq!((totals.whole, totals.strays), (3, 2));
    put.commit(None).await.expect("not taken for a stray");
    assert_eq!(world.get("one", "under way").await.expect("read"), data);
    assert_eq!(world.get("one", &tricky).await.expect("read"), b"tricky");
    assert_eq!(world.files().len(), 8);
}

/// A last frame that holds no byte, and a last part that holds none.
#[tokio::test]
async fn a_scrub_reads_empty_frames_too() {
    let world = World::new().await;
    world.put("one", "frames", &text(2 * 65_536)).await;
    let upload = world.store.create_upload("one", "parts", UploadOptions::default()).await;
    let id = upload.expect("begun").upload_id;
    let data = text(5 << 20);
    let named = world.parts("one", "parts", &id, &[(1, &data), (2, b"")]).await;
    let done = world.store.complete_upload("one", "parts", &id, named, CompleteOptions::default());
    done.await.expect("completed");
    assert_eq!(verdict_of_all(&world).await, (2, 0, 0));
    for (n, path) in [world.file("one", "frames", "part"), world.file("one", "parts", "part00002")]
        .into_iter()
        .enumerate()
    {
        change(&path, |bytes| *bytes.last_mut().expect("some") ^= 1);
        assert_eq!(verdict_of_all(&world).await, (1 - n as u64, 1 + n as u64, 0));
    }
    let slow = world.store.scrub_bucket("one", 1 << 30).await.expect("scrubbed");
    assert_eq!((slow.whole, slow.corrupt, slow.refused), (0, 2, 0));
    // One alarm an object, and another one when it was written anew.
    assert_eq!(world.store.stats().alarms, 2);
    world.put("one", "frames", &text(10)).await;
    change(&world.file("one", "frames", "part"), |bytes| bytes[0] ^= 1);
    refused(&world, "one", "frames").await;
    refused(&world, "one", "frames").await;
    assert_eq!(world.store.stats().alarms, 3);
    world.vault.close(keystead_types::Cause::KeyDisabled);
    assert_eq!(world.store.scrub_bucket("one", 1 << 30).await.expect("ended").refused, 1);
}
