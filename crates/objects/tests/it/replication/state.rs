//! What comes over, and what a backup is to its users.

use super::proxy::Fault;
use super::rig::{REPLICATOR, Two};
use crate::gateway::rig::{READER, REGION, WRITER};
use crate::gateway::strangers::Client;
use crate::world::text;
use keystead_objects::*;
use keystead_types::Cause;

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_comes_over_byte_for_byte() {
    let two = Two::new().await;
    for (key, size) in [("empty", 0), ("small", 10), ("some/é%.", 70_000), ("big", 3_000_000)] {
        two.put("one", key, &text(size)).await;
    }
    two.multipart("one", "parts", 100_000).await;
    two.settled().await;
    two.same().await;
    assert_eq!(two.get("one", "big").await, Some(text(3_000_000)));

    two.put("one", "small", b"another").await;
    two.tag("one", "big", "a").await;
    two.tag("one", "parts", "b").await;
    two.delete("one", "empty").await;
    let source = CopySource { bucket: "one".into(), key: "big".into(), ..CopySource::default() };
    two.store().copy(source, "two", "copy", CopyOptions::default()).await.expect("copied");
    two.settled().await;
    two.same().await;
    assert_eq!(two.get("one", "small").await.as_deref(), Some(&b"another"[..]));
    assert_eq!(two.get("one", "empty").await, None);
    for (key, tag) in [("big", "a"), ("parts", "b")] {
        assert_eq!(two.replica().tags("one", key).await.expect("tags")["t"], tag);
    }
    let status = two.store().replication().expect("a queue");
    assert!(status.confirmed_ms.is_some() && status.oldest_ms.is_none(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_tags_does_not_send_the_object_again() {
    let two = Two::new().await;
    two.put("one", "big", &text(4_000_000)).await;
    two.settled().await;
    let before = two.proxy.passed();
    two.tag("one", "big", "x").await;
    two.settled().await;
    assert!(two.proxy.passed() - before < 10_000, "{}", two.proxy.passed() - before);
    two.same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_tell_how_far_an_object_is() {
    let mut two = Two::quiet().await;
    two.put("one", "k", b"data").await;
    let status = two.store().replication().expect("a queue");
    assert!(status.pending == 1 && status.oldest_ms.is_some(), "{status:?}");
    let primary = Client::new(two.primary.at, WRITER);
    let word = async |client: &Client, method| {
        client.call(method, "/one/k", b"").await.header("x-amz-replication-status")
    };
    assert_eq!(word(&primary, "HEAD").await.as_deref(), Some("PENDING"));
    two.send();
    two.settled().await;
    for method in ["HEAD", "GET"] {
        assert_eq!(word(&primary, method).await.as_deref(), Some("COMPLETED"));
        assert_eq!(word(&two.client(WRITER), method).await.as_deref(), Some("REPLICA"));
    }
    let heads = [primary.call("HEAD", "/one/k", b"").await, {
        two.client(READER).call("HEAD", "/one/k", b"").await
    }];
    for name in ["etag", "last-modified", "content-length", "content-type"] {
        assert!(heads[0].header(name).is_some(), "{name}");
        assert_eq!(heads[0].header(name), heads[1].header(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_only_read_and_says_where_to_write() {
    let two = Two::new().await;
    two.put("one", "k", b"data").await;
    two.settled().await;
    let client = two.client(WRITER);
    for (method, target) in [
        ("PUT", "/one/k"),
        ("DELETE", "/one/k"),
        ("PUT", "/one/k?tagging"),
        ("POST", "/one/k?uploads"),
        ("POST", "/one?delete"),
        ("PUT", "/three"),
        ("DELETE", "/two"),
    ] {
        let body = match target {
            "/one/k?tagging" => "<Tagging><TagSet></TagSet></Tagging>",
            "/one?delete" => "<Delete><Object><Key>k</Key></Object></Delete>",
            _ => "",
        };
        let answer = client.call(method, target, body.as_bytes()).await;
        assert_eq!(answer.status, 403, "{method} {target}: {}", answer.text());
        assert!(answer.text().contains("<Code>AccessDenied</Code>"), "{}", answer.text());
        assert!(answer.text().contains(REGION), "{}", answer.text());
    }
    assert_eq!(client.call("GET", "/one/k", b"").await.body, b"data");
    assert_eq!(client.call("GET", "/one?list-type=2", b"").await.status, 200);
    let put = two.replica().delete("one", "k", WriteCondition::default()).await;
    assert!(matches!(put, Err(StoreError::ReadOnly)), "{put:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_is_for_the_replicators_key_and_the_key_for_the_route() {
    let two = Two::quiet().await;
    let body = b"\0\0\0\x02{}";
    for key in [WRITER, READER, ("KSNOBODY000000000001", "x"), (REPLICATOR.0, "wrong")] {
        let answer = two.client(key).chunked("/.replica", body, None, |_| {}).await;
        assert_eq!(answer.status, 403, "{key:?}: {}", answer.text());
    }
    let replicator = two.client(REPLICATOR);
    for (method, target) in
        [("GET", "/one/k"), ("GET", "/"), ("PUT", "/one/k"), ("GET", "/.replica")]
    {
        let answer = replicator.call(method, target, b"").await;
        assert_eq!(answer.status, 403, "{method} {target}: {}", answer.text());
    }
    // Unsigned, its body could be anybody's.
    assert_eq!(replicator.call("PUT", "/.replica", body).await.status, 403);
    // And a primary takes nothing.
    let primary = Client::new(two.primary.at, REPLICATOR);
    assert_eq!(primary.chunked("/.replica", body, None, |_| {}).await.status, 403);
    let answer = replicator.chunked("/.replica", body, None, |_| {}).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_removed_and_made_anew_leaves_nothing_of_the_old_one() {
    let two = Two::new().await;
    two.put("two", "k", b"old").await;
    two.put("two", "other", b"old").await;
    two.settled().await;
    two.proxy.set(Fault::Refuse);
    for key in ["k", "other"] {
        two.delete("two", key).await;
    }
    two.store().remove_bucket("two").await.expect("removed");
    // One entry stands for all that waited.
    assert_eq!(two.store().replication().expect("a queue").pending, 1);
    two.primary.cluster.bucket("two").await;
    two.put("two", "k", b"new").await;
    two.proxy.set(Fault::None);
    two.settled().await;
    assert_eq!(two.get("two", "k").await.as_deref(), Some(&b"new"[..]));
    assert_eq!(two.get("two", "other").await, None);
    two.same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_the_backup_has_not_yet_waits_and_keeps_no_other_waiting() {
    let two = Two::new().await;
    two.primary.cluster.bucket("three").await;
    two.put("three", "k", b"early").await;
    two.put("one", "k", b"data").await;
    super::rig::wait(|| two.store().replication().expect("a queue").pending == 1).await;
    assert_eq!(two.get("one", "k").await.as_deref(), Some(&b"data"[..]));
    let trouble = two.sender.as_ref().expect("a sender").trouble().expect("a reason");
    assert!(trouble.contains("three"), "{trouble}");
    two.backup.cluster.bucket("three").await;
    two.settled().await;
    two.same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_cluster_neither_sends_nor_takes() {
    let two = Two::new().await;
    two.put("one", "before", b"data").await;
    two.settled().await;
    two.backup.cluster.freeze(Cause::SecondKeyUnusable);
    two.put("one", "k", b"data").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(two.store().replication().expect("a queue").pending, 1);
    let trouble = two.sender.as_ref().expect("a sender").trouble().expect("a reason");
    assert!(trouble.contains("second-key-unusable"), "{trouble}");
    // Now the primary, too; then the backup alone is open.
    two.primary.cluster.freeze(Cause::KeyDisabled);
    two.backup.cluster.thaw().await;
    let before = two.proxy.passed();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!((two.proxy.passed(), two.get("one", "k").await), (before, None));
    two.primary.cluster.thaw().await;
    two.settled().await;
    two.same().await;
}
