//! Outages of either side, and of the way between them.

use super::proxy::Fault;
use super::rig::{REPLICATOR, Two, files, wait};
use crate::world::text;
use std::time::Duration;

const BIG: usize = 6 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_caught_up() {
    let two = Two::new().await;
    two.put("one", "kept", b"before").await;
    two.settled().await;
    two.proxy.set(Fault::Refuse);
    for n in 0..40 {
        two.put("one", &format!("k{}", n % 25), &text(n * 1000)).await;
    }
    two.tag("one", "k3", "x").await;
    two.delete("one", "kept").await;
    two.multipart("two", "parts", 17).await;
    // A key waits once, however often it changes.
    assert_eq!(two.store().replication().expect("a queue").pending, 27);
    wait(|| two.sender.as_ref().is_some_and(|sender| sender.trouble().is_some())).await;
    assert_eq!(two.get("one", "kept").await.as_deref(), Some(&b"before"[..]));
    two.proxy.set(Fault::None);
    two.settled().await;
    two.same().await;
    wait(|| two.sender.as_ref().is_some_and(|sender| sender.trouble().is_none())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_in_the_middle_leaves_nothing_and_comes_whole() {
    let two = Two::new().await;
    two.put("one", "big", b"before").await;
    two.settled().await;
    for at in [100, 1000, 3000, 300_000, 6_200_000] {
        two.proxy.set(Fault::Cut(at));
        two.put("one", "big", &text(BIG)).await;
        two.put("one", "small", &text(9000)).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        let there = two.get("one", "big").await.expect("an object");
        assert!(there == b"before" || there == text(BIG), "cut at {at}: {}", there.len());
    }
    two.proxy.set(Fault::None);
    two.settled().await;
    two.same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_dies_in_mid_transfer_leaves_nothing() {
    let mut two = Two::new().await;
    two.proxy.set(Fault::Stall(2_000_000));
    two.put("one", "big", &text(BIG)).await;
    let incoming = two.folders[1].join("incoming");
    let staged = || std::fs::read_dir(&incoming).expect("a folder").count();
    wait(|| staged() == 1).await;
    two.sender = None;
    wait(|| staged() == 0).await;
    assert_eq!(two.get("one", "big").await, None);
    two.proxy.set(Fault::None);
    two.restart_primary().await;
    two.settled().await;
    two.same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_dies_in_mid_transfer_leaves_nothing() {
    let mut two = Two::new().await;
    two.proxy.set(Fault::Stall(2_000_000));
    two.put("one", "big", &text(BIG)).await;
    let incoming = two.folders[1].join("incoming");
    let staged = || std::fs::read_dir(&incoming).expect("a folder").count();
    wait(|| staged() == 1).await;
    // A whole node that is killed removes nothing: half a stage lies there at the next start.
    std::fs::create_dir(incoming.join("0123")).expect("a folder");
    std::fs::write(incoming.join("0123/part00001"), b"half").expect("a file");
    two.restart_backup().await;
    assert_eq!((staged(), two.get("one", "big").await), (0, None));
    two.proxy.set(Fault::None);
    two.send();
    two.settled().await;
    two.same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_changes_on_the_way_is_never_stored() {
    let mut two = Two::quiet().await;
    two.put("one", "k", &text(100_000)).await;
    // In the head, the manifest, the record, the part's header, frames, the last chunk.
    for at in [200, 900, 1100, 1300, 1700, 2500, 3500, 50_000, 101_000, 102_000] {
        two.proxy.set(Fault::Flip(at));
        two.send();
        wait(|| two.sender.as_ref().is_some_and(|sender| sender.trouble().is_some())).await;
        assert_eq!(two.store().replication().expect("a queue").pending, 1, "flipped at {at}");
        assert_eq!(two.get("one", "k").await, None, "flipped at {at}");
    }
    two.sender = None;
    two.proxy.set(Fault::None);
    two.send_with((REPLICATOR.0, "another secret"));
    wait(|| two.sender.as_ref().is_some_and(|sender| sender.trouble().is_some())).await;
    assert_eq!(two.get("one", "k").await, None);
    two.send();
    two.settled().await;
    two.same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_is_one_alarm_and_holds_up_no_other() {
    let mut two = Two::quiet().await;
    two.put("one", "lost", b"data").await;
    let folder = two.folders[0].join("buckets/one/lost");
    let record = files(&folder).into_keys().find(|path| path.to_string_lossy().contains("record"));
    std::fs::remove_file(folder.join(record.expect("a record"))).expect("removed");
    two.send();
    for n in 0..20 {
        two.put("one", &format!("k{n}"), b"data").await;
    }
    wait(|| two.store().replication().expect("a queue").pending == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stats = two.store().stats();
    assert_eq!((stats.alarms, stats.corrupt), (1, 1));
    let trouble = two.sender.as_ref().and_then(|sender| sender.trouble());
    assert!(trouble.expect("told").contains("the record is missing"));
    assert_eq!(two.get("one", "k19").await.as_deref(), Some(&b"data"[..]));
    // Written anew it goes at once.
    two.put("one", "lost", b"anew").await;
    two.settled().await;
    two.same().await;
}
