//! Multipart uploads.

use crate::world::*;
use bytes::Bytes;
use keystead_objects::checksum::{Algorithm, Hasher, Kind};
use keystead_objects::*;

const MIB: usize = 1 << 20;

async fn begin(world: &World, key: &str, options: UploadOptions) -> String {
    world.store.create_upload("one", key, options).await.expect("begun").upload_id
}

#[tokio::test]
async fn parts_become_one_object() {
    let mut world = World::new().await;
    let data = text(11 * MIB + 12_345);
    let pieces: Vec<&[u8]> = data.chunks(5 * MIB + 1).collect();
    let id = begin(&world, "big", UploadOptions::default()).await;
    // Out of order, one twice, one that is not named in the end.
    let extra = world.parts("one", "big", &id, &[(40, b"not named"), (5, b"replaced")]).await;
    let mut named =
        world.parts("one", "big", &id, &[(30, pieces[2]), (1, pieces[0]), (5, pieces[1])]).await;
    named.sort_by_key(|part| part.number);
    assert!(matches!(world.get("one", "big").await, Err(StoreError::NoSuchKey)));
    world.reopen();
    let listed = world.store.list_parts("one", "big", &id, 1, 2).await.expect("listed");
    let numbers: Vec<u16> = listed.parts.iter().map(|part| part.number).collect();
    assert_eq!((numbers, listed.next), (vec![5, 30], Some(30)));
    let listed = world.store.list_parts("one", "big", &id, 30, 2).await.expect("listed");
    assert_eq!((listed.parts.len(), listed.next), (1, None));
    let complete =
        |parts| world.store.complete_upload("one", "big", &id, parts, CompleteOptions::default());
    let stale = vec![named[0].clone(), extra[1].clone()];
    assert!(matches!(complete(stale).await, Err(StoreError::InvalidPart(5))));
    let mut swapped = named.clone();
    swapped.swap(0, 1);
    assert!(matches!(complete(swapped).await, Err(StoreError::InvalidPartOrder)));
    let mut unknown = named.clone();
    unknown[2].number = 31;
    assert!(matches!(complete(unknown).await, Err(StoreError::InvalidPart(31))));
    assert!(matches!(complete(Vec::new()).await, Err(StoreError::NoParts)));
    let done = complete(named.clone()).await.expect("completed");
    assert!(done.etag.ends_with("-3"));
    let mut crc = Hasher::new(Algorithm::Crc64Nvme);
    crc.update(&data);
    assert_eq!(
        (done.checksum.checksum.clone(), done.checksum.kind),
        (crc.finish(), Kind::FullObject)
    );
    assert_eq!(complete(named).await.expect("told again"), done);
    world.wait_for_files(4);
    world.reopen();
    assert_eq!(world.get("one", "big").await.expect("read"), data);
    let middle = 5 * MIB as u64;
    for (first, last) in
        [(middle - 10, middle + 10), (middle, 10 * MIB as u64 + 1), (0, 20 * MIB as u64)]
    {
        let got = world.range("one", "big", Range::Inclusive(first, last)).await.expect("read");
        assert_eq!(got, data[first as usize..data.len().min(last as usize + 1)]);
    }
    for (number, piece) in [(1, pieces[0]), (5, pieces[1]), (30, pieces[2])] {
        let options = GetOptions { part_number: Some(number), ..GetOptions::default() };
        assert_eq!(world.get_with("one", "big", options).await.expect("read"), piece);
    }
    let options = GetOptions { part_number: Some(2), ..GetOptions::default() };
    let none = world.get_with("one", "big", options).await;
    assert!(matches!(none, Err(StoreError::InvalidPartNumber(2))));
    let (info, _) = world.store.head("one", "big", GetOptions::default()).await.expect("there");
    assert_eq!((info.parts.len(), info.parts[1].size), (3, pieces[1].len() as u64));
    let source = CopySource { bucket: "one".into(), key: "big".into(), ..CopySource::default() };
    world.store.copy(source, "two", "one part", CopyOptions::default()).await.expect("copied");
    assert_eq!(world.get("two", "one part").await.expect("read"), data);
    let totals = world.store.scrub(|_| ()).await.expect("scrubbed");
    assert_eq!((totals.whole, totals.corrupt, totals.strays), (2, 0, 0));
}

#[tokio::test]
async fn checksums_of_the_whole_are_of_the_kind_asked_for() {
    let world = World::new().await;
    for (algorithm, kind, text_end) in [
        (Algorithm::Sha256, None, "-2"),
        (Algorithm::Crc32, None, "-2"),
        (Algorithm::Crc32, Some(Kind::FullObject), "="),
        (Algorithm::Crc64Nvme, None, "="),
    ] {
        let options =
            UploadOptions { algorithm: Some(algorithm), kind, ..UploadOptions::default() };
        let id = begin(&world, "k", options).await;
        let one = text(5 * MIB);
        let named = world.parts("one", "k", &id, &[(1, &one), (2, b"end")]).await;
        let mut wrong = CompleteOptions { size: Some(7), ..CompleteOptions::default() };
        let bad = world.store.complete_upload("one", "k", &id, named.clone(), wrong.clone()).await;
        assert!(matches!(bad, Err(StoreError::IncompleteBody { announced: 7, .. })));
        let checksum = Hasher::new(algorithm).finish();
        let kind = kind.unwrap_or(algorithm.default_kind());
        wrong.size = None;
        wrong.checksum = Some(ObjectChecksum { checksum, kind, parts: 2 });
        let bad = world.store.complete_upload("one", "k", &id, named.clone(), wrong).await;
        assert!(matches!(bad, Err(StoreError::BadDigest(_))));
        let done =
            world.store.complete_upload("one", "k", &id, named, CompleteOptions::default()).await;
        let done = done.expect("completed");
        assert_eq!((done.checksum.kind, done.checksum.checksum.algorithm()), (kind, algorithm));
        assert!(done.checksum.text().ends_with(text_end), "{}", done.checksum.text());
    }
    let options = UploadOptions {
        algorithm: Some(Algorithm::Sha256),
        kind: Some(Kind::FullObject),
        ..UploadOptions::default()
    };
    let refused = world.store.create_upload("one", "k", options).await;
    assert!(matches!(refused, Err(StoreError::InvalidChecksum(_))));
    let id = begin(&world, "k", UploadOptions::default()).await;
    let options = PartOptions { algorithm: Some(Algorithm::Sha1), ..PartOptions::default() };
    let refused = world.store.put_part("one", "k", &id, 1, options).await;
    assert!(matches!(refused.map(drop), Err(StoreError::InvalidChecksum(_))));
}

#[tokio::test]
async fn small_parts_aborts_and_conditions() {
    let world = World::new().await;
    let id = begin(&world, "k", UploadOptions::default()).await;
    let named = world.parts("one", "k", &id, &[(1, b"small"), (2, b"last")]).await;
    let complete = |parts, options| world.store.complete_upload("one", "k", &id, parts, options);
    let small = complete(named.clone(), CompleteOptions::default()).await;
    assert!(matches!(small, Err(StoreError::EntityTooSmall { part: 1, size: 5 })));
    world.put("one", "k", b"there").await;
    let condition = WriteCondition { if_none_match: Some(Tag::Any), if_match: None };
    let options = CompleteOptions { condition, ..CompleteOptions::default() };
    let there = complete(vec![named[1].clone()], options).await;
    assert!(matches!(there, Err(StoreError::PreconditionFailed)));
    world.wait_for_files(4);
    let mut late =
        world.store.put_part("one", "k", &id, 3, PartOptions::default()).await.expect("begun");
    late.write(Bytes::from_static(b"late")).await.expect("taken");
    world.store.abort_upload("one", "k", &id).await.expect("aborted");
    assert!(matches!(late.commit(None).await, Err(StoreError::NoSuchUpload)));
    assert!(matches!(
        world.store.abort_upload("one", "k", &id).await,
        Err(StoreError::NoSuchUpload)
    ));
    for number in [0, 10_001] {
        let refused = world.store.put_part("one", "k", &id, number, PartOptions::default()).await;
        assert!(matches!(refused.map(drop), Err(StoreError::InvalidPartNumber(_))));
    }
    let none = world.store.list_parts("one", "k", "nonsense", 0, 10).await;
    assert!(matches!(none, Err(StoreError::NoSuchUpload)));
    world.wait_for_files(2);
    assert_eq!(world.get("one", "k").await.expect("read"), b"there");
}

#[tokio::test]
async fn a_part_may_be_a_range_of_an_object() {
    let world = World::new().await;
    let data = text(6 * MIB);
    world.put("two", "source", &data).await;
    let id = begin(&world, "k", UploadOptions::default()).await;
    let source =
        || CopySource { bucket: "two".into(), key: "source".into(), ..CopySource::default() };
    let copy = |range, number| world.store.copy_part(source(), range, "one", "k", &id, number);
    let one = copy(Some((1000, 1000 + 5 * MIB as u64)), 1).await.expect("copied");
    let two = copy(None, 2).await.expect("copied");
    assert!(matches!(
        copy(Some((0, 6 * MIB as u64)), 3).await,
        Err(StoreError::InvalidRange { .. })
    ));
    let named = [(1, one), (2, two)].map(|(number, done)| CompletePart {
        number,
        etag: done.etag,
        checksum: Some(done.checksum.checksum),
    });
    let done =
        world.store.complete_upload("one", "k", &id, named.to_vec(), CompleteOptions::default());
    done.await.expect("completed");
    let want = [&data[1000..=1000 + 5 * MIB], &data[..]].concat();
    assert_eq!(world.get("one", "k").await.expect("read"), want);
}

/// A record that is long, as that of many parts is, lies in its file alone and still opens.
#[tokio::test]
async fn a_long_record_lies_in_its_file() {
    let mut world = World::new().await;
    let id = begin(&world, "many", UploadOptions::default()).await;
    let named = world.parts("one", "many", &id, &[(1, &text(5 * MIB)), (10_000, b"end")]).await;
    let done = world.store.complete_upload("one", "many", &id, named, CompleteOptions::default());
    done.await.expect("completed");
    // Metadata and tags make a long record quicker than parts do.
    let long = "x".repeat(2000);
    let options = PutOptions {
        user: [("long".to_owned(), long)].into(),
        system: SystemMetadata { expires: Some("y".repeat(20_000)), ..SystemMetadata::default() },
        ..PutOptions::default()
    };
    world.try_put("one", "long", b"text", options).await.expect("stored");
    world.reopen();
    let (info, _) = world.store.head("one", "long", GetOptions::default()).await.expect("there");
    assert_eq!(info.user["long"].len(), 2000);
    assert_eq!(world.get("one", "long").await.expect("read"), b"text");
    let record = world.file("one", "long", "record");
    std::fs::copy(world.file("one", "many", "record"), record).expect("replaced");
    assert!(matches!(world.get("one", "long").await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_completion_that_is_repeated_is_answered_as_the_first() {
    let world = World::new().await;
    let begun = world.store.create_upload("one", "k", UploadOptions::default()).await;
    let id = begun.expect("begun").upload_id;
    let named = world.parts("one", "k", &id, &[(1, &text(5 << 20)), (2, b"end")]).await;
    let complete = async |named: Vec<CompletePart>| {
        world.store.complete_upload("one", "k", &id, named, CompleteOptions::default()).await
    };
    let first = complete(named.clone()).await.expect("completed");
    assert_eq!(complete(named.clone()).await.expect("again"), first);
    // Another list of parts, or an object that is another one by now, is not the same call.
    let other = complete(named[..1].to_vec()).await;
    assert!(matches!(other, Err(StoreError::NoSuchUpload)), "{other:?}");
    world.put("one", "k", b"new").await;
    let late = complete(named.clone()).await;
    assert!(matches!(late, Err(StoreError::NoSuchUpload)), "{late:?}");
    world.store.delete("one", "k", WriteCondition::default()).await.expect("deleted");
    let gone = complete(named).await;
    assert!(matches!(gone, Err(StoreError::NoSuchUpload)), "{gone:?}");
}
