//! One object at a time: sizes, ranges, metadata, checksums, overwriting, copying, tags.

use crate::world::*;
use bytes::Bytes;
use keystead_objects::checksum::{Algorithm, Checksum, Hasher, Md5};
use keystead_objects::*;
use std::collections::BTreeMap;

const SIZES: [usize; 8] = [0, 1, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 3_300_000];

#[tokio::test]
async fn every_size_comes_back_whole_and_in_ranges() {
    let world = World::new().await;
    for size in SIZES {
        let (key, data) = (format!("of/{size}"), text(size));
        let done = world.put("one", &key, &data).await;
        assert_eq!(done.size, size as u64);
        assert_eq!(world.get("one", &key).await.expect("read"), data);
        for (first, last) in [(0, 0), (65_535, 65_536), (1, 2_000_000), (1_048_575, 1_048_577)] {
            let got = world.range("one", &key, Range::Inclusive(first, last)).await;
            match data.get(first as usize..(last as usize + 1).min(size)) {
                Some(want) if first < size as u64 => assert_eq!(got.expect("read"), want),
                _ => assert!(matches!(got, Err(StoreError::InvalidRange { .. }))),
            }
        }
        let last = world.range("one", &key, Range::Last(70_000)).await;
        match size {
            0 => assert!(matches!(last, Err(StoreError::InvalidRange { size: 0 }))),
            _ => assert_eq!(last.expect("read"), data[size.saturating_sub(70_000)..]),
        }
    }
    let totals = world.store.scrub(|one| assert_eq!(one.verdict, Verdict::Whole)).await;
    let totals = totals.expect("scrubbed");
    assert_eq!((totals.whole, totals.corrupt, totals.strays), (SIZES.len() as u64, 0, 0));
    assert_eq!(totals.bytes, SIZES.iter().sum::<usize>() as u64);
}

#[tokio::test]
async fn what_is_said_of_an_object_comes_back_also_after_a_restart() {
    let mut world = World::new().await;
    let options = PutOptions {
        system: SystemMetadata {
            content_type: Some("text/plain".into()),
            cache_control: Some("no-store".into()),
            ..SystemMetadata::default()
        },
        user: BTreeMap::from([("author".to_owned(), "Ä".to_owned())]),
        tags: Tags::from([("kind".to_owned(), "letter".to_owned())]),
        algorithm: Some(Algorithm::Sha256),
        ..PutOptions::default()
    };
    let done = world.try_put("one", "../a letter", b"text", options.clone()).await.expect("stored");
    world.reopen();
    let (info, range) =
        world.store.head("one", "../a letter", GetOptions::default()).await.expect("there");
    assert_eq!((info.size, range), (4, 0..4));
    assert_eq!(
        (&info.system, &info.user, &info.tags),
        (&options.system, &options.user, &options.tags)
    );
    assert_eq!(
        (info.etag.as_str(), info.version.as_str()),
        (done.etag.as_str(), done.version.as_str())
    );
    assert_eq!(info.checksum, Some(done.checksum.clone()));
    assert_eq!(done.checksum.text(), "mC2ePrmW9VnmM/TRlN7zdh2Qn1o7ZH0ahR/q1nwyydE=");
    assert_eq!(world.store.tags("one", "../a letter").await.expect("tags"), options.tags);
    assert!(info.parts.is_empty());
    assert_eq!(world.store.list_buckets().await.expect("buckets").len(), 2);
}

#[tokio::test]
async fn a_digest_that_does_not_fit_stores_nothing() {
    let world = World::new().await;
    for algorithm in Algorithm::ALL {
        let right = {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"right");
            hasher.finish()
        };
        for (data, good) in [(&b"right"[..], true), (b"wrong", false)] {
            let options = PutOptions { algorithm: Some(algorithm), ..PutOptions::default() };
            let mut put = world.store.put("one", "checked", options).await.expect("begun");
            put.write(Bytes::from_static(data)).await.expect("taken");
            let done = put.commit(Some(right.clone())).await;
            match good {
                true => assert_eq!(done.expect("stored").checksum.checksum, right),
                false => assert!(matches!(
                    done,
                    Err(StoreError::BadDigest(Digest::Checksum(one))) if one == algorithm
                )),
            }
        }
        assert_eq!(world.get("one", "checked").await.expect("the right one"), b"right");
    }
    let other = Checksum::from_base64(Algorithm::Crc32, "AAAAAA==").expect("a checksum");
    let put = world.store.put("one", "unasked", PutOptions::default()).await.expect("begun");
    assert!(matches!(put.commit(Some(other)).await, Err(StoreError::InvalidChecksum(_))));
    let mut md5 = Md5::new();
    md5.update(b"right");
    let options = PutOptions { content_md5: Some(md5.finish()), ..PutOptions::default() };
    world.try_put("one", "md5", b"right", options.clone()).await.expect("stored");
    let wrong = world.try_put("one", "md5-2", b"wrong", options).await;
    assert!(matches!(wrong, Err(StoreError::BadDigest(Digest::Md5))));
    let short = PutOptions { size: Some(6), ..PutOptions::default() };
    let short = world.try_put("one", "short", b"right", short).await;
    assert!(matches!(short, Err(StoreError::IncompleteBody { announced: 6, got: 5 })));
    assert!(matches!(world.get("one", "short").await, Err(StoreError::NoSuchKey)));
    world.wait_for_files(4);
}

#[tokio::test]
async fn a_get_that_has_begun_survives_overwriting_and_deleting() {
    let world = World::new().await;
    let (old, new) = (text(3 << 20), vec![7; 100]);
    world.put("one", "k", &old).await;
    let begun = || world.store.get("one", "k", GetOptions::default());
    let (first, second) = (begun().await.expect("open"), begun().await.expect("open"));
    world.put("one", "k", &new).await;
    let third = begun().await.expect("open");
    assert!(world.store.delete("one", "k", WriteCondition::default()).await.expect("deleted"));
    assert!(!world.store.delete("one", "k", WriteCondition::default()).await.expect("gone"));
    assert!(matches!(world.get("one", "k").await, Err(StoreError::NoSuchKey)));
    assert_eq!(read(first.body).await.expect("old"), old);
    // The small one was read at once and holds nothing.
    world.wait_for_files(2);
    assert_eq!(read(second.body).await.expect("old"), old);
    assert_eq!(read(third.body).await.expect("new"), new);
    world.wait_for_files(0);
    // The key's folder goes with its last version.
    wait(|| std::fs::read_dir(world.folder.join("buckets/one")).expect("there").count() == 0);
}

#[tokio::test]
async fn what_is_broken_off_leaves_nothing() {
    let world = World::new().await;
    let mut put = world.store.put("one", "half", PutOptions::default()).await.expect("begun");
    put.write(Bytes::from(text(3 << 20))).await.expect("taken");
    assert_eq!(world.files().len(), 1);
    drop(put);
    world.wait_for_files(0);
    // A caller that goes away in the middle of a write spoils the handle.
    let mut put = world.store.put("one", "half", PutOptions::default()).await.expect("begun");
    {
        let mut write = std::pin::pin!(put.write(Bytes::from(text(3 << 20))));
        let once = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx)));
        assert!(once.await.is_pending());
    }
    assert!(matches!(put.commit(None).await, Err(StoreError::Interrupted)));
    world.wait_for_files(0);
    assert!(matches!(world.get("one", "half").await, Err(StoreError::NoSuchKey)));
}

#[tokio::test]
async fn a_copy_is_sealed_anew_under_the_targets_key() {
    let world = World::new().await;
    let data = text(2_500_000);
    let options = PutOptions {
        user: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        algorithm: Some(Algorithm::Crc32c),
        tags: Tags::from([("t".to_owned(), "1".to_owned())]),
        ..PutOptions::default()
    };
    world.try_put("one", "from", &data, options).await.expect("stored");
    let source = CopySource { bucket: "one".into(), key: "from".into(), ..CopySource::default() };
    let copied = world.store.copy(source.clone(), "two", "to", CopyOptions::default()).await;
    let copied = copied.expect("copied");
    assert_eq!(world.get("two", "to").await.expect("read"), data);
    let (info, _) = world.store.head("two", "to", GetOptions::default()).await.expect("there");
    assert_eq!((info.user.len(), info.tags.len()), (1, 1));
    assert_eq!(copied.checksum.checksum.algorithm(), Algorithm::Crc32c);
    let replaced = CopyOptions {
        metadata: Some(Default::default()),
        tags: Some(Tags::new()),
        algorithm: Some(Algorithm::Sha1),
        ..CopyOptions::default()
    };
    world.store.copy(source, "one", "from", replaced).await.expect("onto itself");
    let (info, _) = world.store.head("one", "from", GetOptions::default()).await.expect("there");
    assert_eq!((info.user.len(), info.tags.len(), info.size), (0, 0, 2_500_000));
    assert_eq!(world.get("one", "from").await.expect("read"), data);
    world.wait_for_files(4);
}

#[tokio::test]
async fn tags_change_and_the_object_stays() {
    let mut world = World::new().await;
    let done = world.put("one", "k", b"text").await;
    let tags = |n: usize| (0..n).map(|i| (format!("k{i}"), format!("v {i}"))).collect::<Tags>();
    for n in [3, 10, 0, 1] {
        world.store.set_tags("one", "k", tags(n)).await.expect("set");
        assert_eq!(world.store.tags("one", "k").await.expect("tags"), tags(n));
        world.wait_for_files(2);
    }
    for bad in [tags(11), Tags::from([("aws:x".into(), String::new())])] {
        let refused = world.store.set_tags("one", "k", bad).await;
        assert!(matches!(refused, Err(StoreError::InvalidTag(_))));
    }
    world.reopen();
    let (info, _) = world.store.head("one", "k", GetOptions::default()).await.expect("there");
    assert_eq!((info.etag, info.tags), (done.etag, tags(1)));
    let totals = world.store.scrub(|_| ()).await.expect("scrubbed");
    assert_eq!((totals.whole, totals.strays), (1, 0));
}

#[tokio::test]
async fn buckets_come_and_go_when_they_are_empty() {
    let mut world = World::new().await;
    let settings = BucketSettings { key_arn: "arn".into(), ..BucketSettings::default() };
    let again = world.store.add_bucket("one", settings.clone()).await;
    assert!(matches!(again, Err(StoreError::BucketExists(_))));
    world.store.set_bucket("one", settings.clone()).await.expect("set");
    world.put("one", "k", b"").await;
    world.store.create_upload("two", "u", UploadOptions::default()).await.expect("begun");
    let full = world.store.remove_bucket("one").await;
    assert!(matches!(full, Err(StoreError::BucketNotEmpty(_))));
    world.store.remove_bucket("two").await.expect("removed");
    assert!(matches!(world.get("two", "k").await, Err(StoreError::NoSuchBucket(_))));
    let gone = world.try_put("two", "k", b"", PutOptions::default()).await;
    assert!(matches!(gone, Err(StoreError::NoSuchBucket(_))));
    world.reopen();
    assert_eq!(world.store.bucket("one").await.expect("there").settings, settings);
    assert!(world.store.bucket("two").await.is_err());
    assert!(world.store.add_bucket("No_Name", settings).await.is_err());
}

#[tokio::test]
async fn old_keys_of_a_ring_still_open_what_they_sealed() {
    let world = World::new().await;
    let data = text(1_200_000);
    world.put("one", "old", &data).await;
    let mut across = world.store.put("one", "across", PutOptions::default()).await.expect("begun");
    across.write(Bytes::from(data.clone())).await.expect("taken");
    world.vault.open("one", ring_of(&[1, 9], "one"));
    across.write(Bytes::from(data.clone())).await.expect("taken");
    across.commit(None).await.expect("finished under the key it was begun with");
    world.put("one", "new", &data).await;
    for (key, size) in [("old", 1), ("across", 2), ("new", 1)] {
        assert_eq!(world.get("one", key).await.expect("read"), data.repeat(size), "{key}");
    }
    world.vault.open("one", ring(9, "one"));
    assert!(matches!(world.get("one", "old").await, Err(StoreError::Corrupt(_))));
    assert_eq!(world.get("one", "new").await.expect("read"), data);
}

/// Many writers share a commit, and nobody's object is another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_share_commits() {
    let world = std::sync::Arc::new(World::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200u32 {
        let world = world.clone();
        tasks.spawn(async move {
            world.put("one", &format!("k{}", i % 150), &i.to_be_bytes()).await;
        });
    }
    tasks.join_all().await;
    let page = world.store.list("one", ListQuery { max_keys: 1000, ..ListQuery::default() }).await;
    let page = page.expect("listed");
    assert_eq!((page.entries.len(), page.next), (150, None));
    for i in 50..150u32 {
        assert_eq!(world.get("one", &format!("k{i}")).await.expect("read"), i.to_be_bytes());
    }
    let stats = world.store.stats();
    assert_eq!((stats.changes, stats.corrupt), (202, 0));
    assert!(stats.commits < stats.changes, "{stats:?}");
    world.wait_for_files(300);
}
