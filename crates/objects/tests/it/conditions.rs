//! Conditions on reads and writes.

use crate::world::*;
use keystead_objects::*;
use std::sync::Arc;

fn tags(text: &str) -> Option<Tag> {
    match text {
        "" => None,
        "*" => Some(Tag::Any),
        one => Some(Tag::OneOf(vec!["other".into(), one.into()])),
    }
}

fn on_write(if_match: &str, if_none_match: &str) -> PutOptions {
    let (if_match, if_none_match) = (tags(if_match), tags(if_none_match));
    let condition = WriteCondition { if_match, if_none_match };
    PutOptions { condition, ..PutOptions::default() }
}

#[tokio::test]
async fn writes_happen_only_on_what_they_were_meant_for() {
    let world = World::new().await;
    let put = |key, data, options| world.try_put("one", key, data, options);
    assert!(matches!(put("k", b"1", on_write("*", "")).await, Err(StoreError::NoSuchKey)));
    let first = put("k", b"2", on_write("", "*")).await.expect("was not there");
    let again = put("k", b"3", on_write("", "*")).await;
    assert!(matches!(again, Err(StoreError::PreconditionFailed)));
    let other = put("k", b"4", on_write("no", "")).await;
    assert!(matches!(other, Err(StoreError::PreconditionFailed)));
    assert_eq!(world.get("one", "k").await.expect("read"), b"2");
    let second = put("k", b"5", on_write(&first.etag, "")).await.expect("as it was");
    assert_ne!(first.etag, second.etag);
    let stale = WriteCondition { if_match: tags(&first.etag), if_none_match: None };
    let refused = world.store.delete("one", "k", stale.clone()).await;
    assert!(matches!(refused, Err(StoreError::PreconditionFailed)));
    let fresh = WriteCondition { if_match: tags(&second.etag), if_none_match: None };
    assert!(world.store.delete("one", "k", fresh).await.expect("deleted"));
    assert!(matches!(world.store.delete("one", "k", stale).await, Err(StoreError::NoSuchKey)));
    world.wait_for_files(0);
}

/// Of many that want to be first, one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_creates() {
    let world = Arc::new(World::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..40u8 {
        let world = world.clone();
        tasks.spawn(async move {
            world.try_put("one", "k", &[i], on_write("", "*")).await.ok().map(|_| i)
        });
    }
    let won: Vec<u8> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert_eq!(world.get("one", "k").await.expect("read"), won);
    world.wait_for_files(2);
}

#[tokio::test]
async fn reads_are_conditional_as_http_has_it() {
    let world = World::new().await;
    let done = world.put("one", "k", b"text").await;
    let (at, etag) = (done.modified_ms, done.etag.as_str());
    let cases = [
        // if-match, if-none-match, modified since, unmodified since, outcome
        (etag, "", None, None, 200),
        ("*", "", None, None, 200),
        ("no", "", None, None, 412),
        ("", etag, None, None, 304),
        ("", "no", None, None, 200),
        ("", "", Some(at), None, 304),
        ("", "", Some(at - 1000), None, 200),
        ("", "", None, Some(at), 200),
        ("", "", None, Some(at - 1000), 412),
        (etag, "", None, Some(at - 1000), 200),
        ("", "no", Some(at), None, 200),
    ];
    for (i, (if_match, if_none_match, modified, unmodified, outcome)) in cases.iter().enumerate() {
        let condition = ReadCondition {
            if_match: tags(if_match),
            if_none_match: tags(if_none_match),
            if_modified_since_ms: *modified,
            if_unmodified_since_ms: *unmodified,
        };
        let options = GetOptions { condition: condition.clone(), ..GetOptions::default() };
        let got = match world.get_with("one", "k", options).await {
            Ok(_) => 200,
            Err(StoreError::NotModified(info)) if info.etag == etag => 304,
            Err(StoreError::PreconditionFailed) => 412,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(got, *outcome, "case {i}");
        let source = CopySource { bucket: "one".into(), key: "k".into(), condition };
        let copied = world.store.copy(source, "two", "k", CopyOptions::default()).await;
        assert_eq!(copied.is_ok(), *outcome == 200, "case {i}");
    }
}
