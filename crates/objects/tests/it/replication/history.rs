//! Folders that are restored from an older copy, or lost: the Regions must come together again, and
//! nothing that is written afterwards may be taken for what was there before.

use super::proxy::Fault;
use super::rig::Two;
use crate::world::text;
use std::path::Path;
use tempfile::TempDir;

/// A copy of a folder.
fn copy(folder: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a folder");
    put_back(folder, &to.path().join("copy"));
    to
}

/// Has a folder be what the copy is.
fn put_back(copy: &Path, folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
    let whole = std::process::Command::new("cp").arg("-a").args([copy, folder]).status();
    assert!(whole.expect("cp").success());
}

/// Objects in both Regions, and a copy of each folder from before the last changes.
async fn aged() -> (Two, [TempDir; 2]) {
    let mut two = Two::new().await;
    for n in 0..5 {
        two.put("one", &format!("k{n}"), b"old").await;
    }
    two.settled().await;
    let mut copies = Vec::new();
    two.restart_primary_after(|folder| copies.push(copy(folder))).await;
    two.restart_backup_after(|folder| copies.push(copy(folder))).await;
    two.put("one", "k0", b"newer").await;
    two.delete("one", "k1").await;
    for n in 0..10 {
        two.put("one", &format!("later{n}"), &text(n * 1000)).await;
    }
    two.settled().await;
    two.same().await;
    let copies = copies.try_into().expect("two copies");
    (two, copies)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_primary_is_never_taken_for_what_was_there() {
    let (mut two, [before, _]) = aged().await;
    two.restart_primary_after(|folder| put_back(&before.path().join("copy"), folder)).await;
    two.put("one", "k2", b"after").await;
    two.delete("one", "k3").await;
    two.put("one", "later0", b"after").await;
    two.settled().await;
    for (key, wanted) in [
        ("k0", Some(&b"old"[..])),
        ("k1", Some(b"old")),
        ("k2", Some(b"after")),
        ("k3", None),
        ("later0", Some(b"after")),
    ] {
        assert_eq!(two.get("one", key).await.as_deref(), wanted, "{key}");
    }
    // What the backup alone has stays.
    assert_eq!(two.get("one", "later3").await, Some(text(3000)));
    // And it goes on as ever.
    two.put("one", "k0", b"again").await;
    two.restart_primary().await;
    two.settled().await;
    assert_eq!(two.get("one", "k0").await.as_deref(), Some(&b"again"[..]));
}

/// The copy has gone beyond the backup's number, over a restart, before the backup heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_has_overtaken_the_backup_is_found_out() {
    let (mut two, [before, _]) = aged().await;
    two.proxy.set(Fault::Refuse);
    two.restart_primary_after(|folder| put_back(&before.path().join("copy"), folder)).await;
    for n in 0..30 {
        two.put("one", &format!("k{}", n % 7), &text(n)).await;
    }
    two.restart_primary().await;
    two.proxy.set(Fault::None);
    two.settled().await;
    for n in 23..30 {
        assert_eq!(two.get("one", &format!("k{}", n % 7)).await, Some(text(n)), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_lost_its_folder_writes_into_the_backup_and_takes_nothing_away() {
    let (mut two, _copies) = aged().await;
    two.restart_primary_after(|folder| std::fs::remove_dir_all(folder).expect("removed")).await;
    for bucket in ["one", "two"] {
        two.primary.cluster.bucket(bucket).await;
    }
    two.put("one", "k0", b"after").await;
    two.settled().await;
    assert_eq!(two.get("one", "k0").await.as_deref(), Some(&b"after"[..]));
    assert_eq!(two.get("one", "k4").await.as_deref(), Some(&b"old"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_went_back_or_lost_its_folder_gets_everything_anew() {
    let (mut two, [_, before]) = aged().await;
    two.restart_backup_after(|folder| put_back(&before.path().join("copy"), folder)).await;
    two.put("one", "k2", b"after").await;
    two.settled().await;
    assert_eq!(two.get("one", "later9").await, Some(text(9000)));
    assert_eq!(two.get("one", "k2").await.as_deref(), Some(&b"after"[..]));

    two.restart_backup_after(|folder| std::fs::remove_dir_all(folder).expect("removed")).await;
    for bucket in ["one", "two"] {
        two.backup.cluster.bucket(bucket).await;
    }
    two.put("one", "k2", b"and again").await;
    two.settled().await;
    two.same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_send_nothing_anew() {
    let mut two = Two::new().await;
    two.put("one", "big", &text(900_000)).await;
    two.settled().await;
    let before = two.proxy.passed();
    for n in 0..40 {
        two.restart_primary().await;
        if n % 10 == 0 {
            two.restart_backup().await;
            two.put("one", "small", &text(n)).await;
            two.settled().await;
        }
    }
    two.put("one", "small", b"last").await;
    two.settled().await;
    two.same().await;
    assert!(two.proxy.passed() - before < 200_000, "{}", two.proxy.passed() - before);
}
