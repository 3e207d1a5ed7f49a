//! The freeze in the middle of a GET and of a PUT: the connections end at once, nothing comes after,
//! newcomers are told the cause, and the thaw brings everything back.

use super::rig::{WRITER, World};
use super::strangers::{Client, head_of};
use keystead_types::Cause;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BIG: usize = 64 << 20;

async fn world(folder: &tempfile::TempDir) -> (World, Client) {
    let world = World::open(folder.path(), 0).await;
    let client = Client::new(world.at, WRITER);
    assert_eq!(client.call("PUT", "/bkt", b"").await.status, 200);
    (world, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_is_cut_in_the_middle_and_nothing_comes_after() {
    let folder = tempfile::tempdir().expect("a folder");
    let (world, client) = world(&folder).await;
    assert_eq!(client.call("PUT", "/bkt/big", &vec![7; BIG]).await.status, 200);

    let mut stream = client.send("GET", "/bkt/big", b"").await;
    let head = head_of(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut some = vec![0; 1 << 20];
    stream.read_exact(&mut some).await.expect("the first bytes");

    let begun = Instant::now();
    let cut = world.one.freeze(Cause::KeyDisabled);
    let took = begun.elapsed();
    assert_eq!(cut, 1);
    assert!(took < Duration::from_millis(300), "{took:?}");
    // What the peer's kernel had already is all that can come, and then a reset, no clean end.
    let mut rest = 0;
    let error = loop {
        match stream.read(&mut some).await {
            Ok(0) => panic!("a clean end"),
            Ok(n) => rest += n,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(rest + (1 << 20) < BIG, "{rest} bytes more");

    for (method, path, body) in [
        ("GET", "/bkt/big", &b""[..]),
        ("HEAD", "/bkt/big", b""),
        ("PUT", "/bkt/n", b"x"),
        ("GET", "/bkt", b""),
    ] {
        let answer = client.call(method, path, body).await;
        assert_eq!(answer.status, 400, "{method} {path}");
        if method != "HEAD" {
            assert!(
                answer.text().contains("<Code>KMS.DisabledException</Code>"),
                "{}",
                answer.text()
            );
        }
    }
    // Another cluster does not notice.
    let other = Client::new(world.at, super::rig::OTHER);
    assert_eq!(other.call("PUT", "/bkt", b"").await.status, 200);

    world.one.freeze(Cause::PolicyDenies);
    let answer = client.call("GET", "/bkt/big", b"").await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("policy-denies"), "{}", answer.text());
    world.one.freeze(Cause::KmsUnreachable);
    let answer = client.call("GET", "/bkt/big", b"").await;
    assert_eq!((answer.status, answer.header("retry-after").as_deref()), (503, Some("1")));

    world.one.thaw().await;
    let answer = client.call("GET", "/bkt/big", b"").await;
    assert_eq!((answer.status, answer.body.len()), (200, BIG));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_is_cut_in_the_middle_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (world, client) = world(&folder).await;
    assert_eq!(client.call("PUT", "/bkt/k", b"before").await.status, 200);
    let mut stream = client.begin("PUT", "/bkt/k", BIG).await;
    stream.write_all(&vec![1; 3 << 20]).await.expect("the first bytes");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.one.freeze(Cause::KeyPendingDeletion), 1);
    let more = vec![1; 1 << 20];
    let begun = Instant::now();
    while stream.write_all(&more).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it still takes bytes");
    }
    let answer = client.call("PUT", "/bkt/k", &more).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("KMS.KMSInvalidStateException"), "{}", answer.text());

    world.one.thaw().await;
    assert_eq!(client.call("GET", "/bkt/k", b"").await.body, b"before");
    assert_eq!(client.call("PUT", "/bkt/k", b"after").await.status, 200);
    assert_eq!(client.call("GET", "/bkt/k", b"").await.body, b"after");
}
