//! The process is killed at any moment: what was acknowledged is there, nothing else is.
#![allow(clippy::print_stdout)] // How the child tells what was acknowledged.

use crate::world::*;
use keystead_objects::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const CHILD: &str = "KEYSTEAD_TEST_CRASH_FOLDER";
const ROUNDS: u64 = 12;

/// What object `n` of a key holds: told by its first bytes.
fn data(n: u64) -> Vec<u8> {
    let size = [10, 70_000, 1_300_000, 200][(n % 4) as usize];
    let mut data = n.to_be_bytes().to_vec();
    data.extend_from_slice(&text(size));
    data
}

/// Not a test of its own: the process that is killed. Prints what it is told is stored.
#[test]
fn child() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
    runtime.expect("a runtime").block_on(async {
        let world = std::sync::Arc::new(World::at(Path::new(&folder)));
        if world.store.bucket("one").await.is_err() {
            world.store.add_bucket("one", BucketSettings::default()).await.expect("added");
        }
        let from = match world
            .store
            .list("one", ListQuery { max_keys: 1000, ..ListQuery::default() })
            .await
        {
            Ok(page) => page.entries.len() as u64 * 1000,
            Err(error) => panic!("{error}"),
        };
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..4u64 {
            let world = world.clone();
            tasks.spawn(async move {
                for i in 0.. {
                    let n = from + i * 4 + writer;
                    let key = format!("w{writer}/k{}", i % 5);
                    match n % 7 {
                        5 => {
                            let delete = world.store.delete("one", &key, WriteCondition::default());
                            delete.await.expect("deleted");
                            println!("gone {key} 0");
                        }
                        6 => upload(&world, &key, n).await,
                        _ => {
                            world.put("one", &key, &data(n)).await;
                            println!("have {key} {n}");
                        }
                    }
                }
            });
        }
        tasks.join_all().await;
    });
}

async fn upload(world: &World, key: &str, n: u64) {
    let begun = world.store.create_upload("one", key, UploadOptions::default()).await;
    let id = begun.expect("begun").upload_id;
    let named = world.parts("one", key, &id, &[(3, &data(n)), (9, b"left")]).await;
    if n.is_multiple_of(2) {
        return world.store.abort_upload("one", key, &id).await.expect("aborted");
    }
    let named = named[..1].to_vec();
    let done = world.store.complete_upload("one", key, &id, named, CompleteOptions::default());
    done.await.expect("completed");
    println!("have {key} {n}");
}

#[tokio::test]
async fn killed_at_any_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    // Key -> what was acknowledged last.
    let mut acknowledged: BTreeMap<String, Option<u64>> = BTreeMap::new();
    let (mut seen, mut swept) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["crash::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut lines = BufReader::new(child.stdout.take().expect("its words")).lines();
        let mut count = 0;
        while let Some(Ok(line)) = lines.next() {
            count += 1;
            note(&mut acknowledged, &line);
            if count > 20 + round * 3 {
                std::thread::sleep(Duration::from_micros(round * 700));
                child.kill().expect("killed");
                break;
            }
        }
        // What it still said before it died is acknowledged too; a torn line is not.
        lines.map_while(Result::ok).for_each(|line| note(&mut acknowledged, &line));
        child.wait().expect("dead");
        let world = World::at(folder.path());
        swept += world.store.stats().swept;
        seen += check(&world, &mut acknowledged).await;
    }
    assert!(seen > ROUNDS, "objects were there to be checked");
    assert!(swept > 0, "a kill left something at least once");
}

fn note(acknowledged: &mut BTreeMap<String, Option<u64>>, line: &str) {
    // The test harness writes its own words on the first line.
    let line = line.rsplit_once("... ").map_or(line, |(_, rest)| rest);
    let words: Vec<&str> = line.split(' ').collect();
    if let [word @ ("have" | "gone"), key, n] = words[..]
        && let Ok(n) = n.parse()
    {
        acknowledged.insert(key.to_owned(), (word == "have").then_some(n));
    }
}

/// Each key holds what was acknowledged last, or what was under way when the process died: that
/// was written later, and is whole.
async fn check(world: &World, acknowledged: &mut BTreeMap<String, Option<u64>>) -> u64 {
    let query = ListQuery { max_keys: 1000, ..ListQuery::default() };
    let page = world.store.list("one", query).await.expect("listed");
    for (key, n) in acknowledged.iter_mut() {
        let got = match world.get("one", key).await {
            Ok(got) => got,
            Err(StoreError::NoSuchKey) => {
                // A deletion may have been under way.
                *n = None;
                continue;
            }
            Err(error) => panic!("{key}: {error}"),
        };
        let found = u64::from_be_bytes(got[..8].try_into().expect("eight bytes"));
        assert!(got == data(found), "{key} is torn");
        if let Some(n) = n {
            assert!(found >= *n, "{key}: {found} is older than {n}, which was acknowledged");
        }
        *n = Some(found);
    }
    // Parts that are not in an object belong to an upload; all else was swept.
    let query = UploadQuery { max_uploads: 1000, ..UploadQuery::default() };
    let uploads = world.store.list_uploads("one", query).await.expect("listed").uploads;
    let mut files = 2 * page.entries.len();
    for upload in uploads {
        let parts = world.store.list_parts("one", &upload.key, &upload.upload_id, 0, 10).await;
        files += parts.expect("listed").parts.len();
    }
    assert_eq!(world.files().len(), files);
    let pending = std::fs::read_dir(world.folder.join("pending")).expect("there").count();
    assert_eq!(pending, 0);
    let totals = world.store.scrub(|one| assert_eq!(one.verdict, Verdict::Whole)).await;
    let totals = totals.expect("scrubbed");
    assert_eq!((totals.whole, totals.strays), (page.entries.len() as u64, 0));
    totals.whole
}
