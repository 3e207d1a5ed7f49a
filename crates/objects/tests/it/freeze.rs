//! The gate closes: nothing opens, nothing that was opened leaves, nothing is half there.

use crate::world::*;
use bytes::Bytes;
use keystead_objects::*;
use keystead_types::Cause;

fn refused<T>(result: Result<T, StoreError>, cause: Cause) {
    match result {
        Err(StoreError::Refused(refused)) => assert_eq!(refused.cause, cause),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn a_get_ends_with_the_cause_and_no_byte_more() {
    let world = World::new().await;
    let data = text(4 << 20);
    world.put("one", "k", &data).await;
    let mut body = world.store.get("one", "k", GetOptions::default()).await.expect("open").body;
    body.next().await.expect("more").expect("plaintext");
    // Frames that are decrypted already wait in the body.
    world.vault.close(Cause::KeyDisabled);
    refused(body.next().await.expect("an answer"), Cause::KeyDisabled);
    assert!(body.next().await.is_none());
    refused(world.get("one", "k").await, Cause::KeyDisabled);
    refused(world.store.head("one", "k", GetOptions::default()).await, Cause::KeyDisabled);
    // Neither names nor deletion need a key.
    let page = world.store.list("one", ListQuery { max_keys: 9, ..ListQuery::default() }).await;
    assert_eq!(page.expect("listed").entries.len(), 1);
    assert!(matches!(world.get("one", "absent").await, Err(StoreError::NoSuchKey)));
    world.vault.open("one", ring(1, "one"));
    assert_eq!(world.get("one", "k").await.expect("thawed"), data);
    assert_eq!(world.store.stats().corrupt, 0);
}

#[tokio::test]
async fn a_lease_that_lapses_closes_by_itself() {
    let world = World::new().await;
    world.put("one", "k", &text(4 << 20)).await;
    let mut body = world.store.get("one", "k", GetOptions::default()).await.expect("open").body;
    let mut put = world.store.put("one", "new", PutOptions::default()).await.expect("begun");
    put.write(Bytes::from(text(2 << 20))).await.expect("taken");
    world.clock.pass(1000);
    refused(body.next().await.expect("an answer"), Cause::KmsUnreachable);
    refused(put.write(Bytes::from_static(b"x")).await, Cause::KmsUnreachable);
    refused(world.get("one", "k").await, Cause::KmsUnreachable);
    drop(put);
    world.wait_for_files(2);
    let begun = world.store.put("one", "new", PutOptions::default()).await;
    refused(begun.map(drop), Cause::KmsUnreachable);
}

/// A process that was stopped in the middle of its work wakes to a closed gate.
#[tokio::test]
async fn work_that_the_lease_did_not_outlast_is_not_given_out() {
    let world = World::new().await;
    assert_eq!(world.vault.lend("one", |_| 7), Ok(7));
    let made = world.vault.lend("one", |_| world.clock.pass(1000));
    assert_eq!(made, Err(Refused { cause: Cause::KmsUnreachable }));
    assert_eq!(world.vault.check("three"), Err(Refused { cause: Cause::KmsUnreachable }));
}

#[tokio::test]
async fn a_put_is_refused_in_the_middle_and_at_its_commit() {
    let world = World::new().await;
    world.put("one", "k", b"old").await;
    for written in [100, 3 << 20] {
        let mut put = world.store.put("one", "k", PutOptions::default()).await.expect("begun");
        put.write(Bytes::from(text(written))).await.expect("taken");
        world.vault.close(Cause::PolicyDenies);
        refused(put.commit(None).await, Cause::PolicyDenies);
        world.vault.open("one", ring(1, "one"));
        assert_eq!(world.get("one", "k").await.expect("read"), b"old");
    }
    world.wait_for_files(2);
    let upload = world.store.create_upload("one", "m", UploadOptions::default()).await;
    let id = upload.expect("begun").upload_id;
    let parts = world.parts("one", "m", &id, &[(1, b"part")]).await;
    let mut part =
        world.store.put_part("one", "m", &id, 2, PartOptions::default()).await.expect("begun");
    part.write(Bytes::from(text(3 << 20))).await.expect("taken");
    world.vault.close_bucket("one", Cause::KeyPendingDeletion);
    refused(part.commit(None).await, Cause::KeyPendingDeletion);
    let done =
        world.store.complete_upload("one", "m", &id, parts.clone(), CompleteOptions::default());
    refused(done.await, Cause::KeyPendingDeletion);
    // The other bucket has a key of its own.
    world.vault.open("two", ring(2, "two"));
    world.put("two", "k", b"text").await;
    world.vault.open("one", ring(1, "one"));
    let done = world.store.complete_upload("one", "m", &id, parts, CompleteOptions::default());
    done.await.expect("completed after the thaw");
    assert_eq!(world.get("one", "m").await.expect("read"), b"part");
    world.wait_for_files(6);
}

/// Closing waits for work that holds a key, and no work begins behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freezes_under_load_lose_nothing_that_was_acknowledged() {
    let world = std::sync::Arc::new(World::new().await);
    let data = text(1_500_000);
    world.put("one", "there", &data).await;
    for round in 0..20u32 {
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..4u32 {
            let (world, data) = (world.clone(), data.clone());
            tasks.spawn(async move {
                let key = format!("{round}/{i}");
                let stored = world.try_put("one", &key, &data, PutOptions::default()).await;
                stored.is_ok().then_some(key)
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(u64::from(round)));
        world.vault.close(Cause::KeyDisabled);
        refused(world.get("one", "there").await, Cause::KeyDisabled);
        let stored: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
        world.vault.open("one", ring(1, "one"));
        for key in stored {
            assert_eq!(world.get("one", &key).await.expect("acknowledged"), data);
        }
    }
    let totals = world.store.scrub(|one| assert_eq!(one.verdict, Verdict::Whole)).await;
    let objects = totals.expect("scrubbed").whole as usize;
    world.wait_for_files(2 * objects);
}
