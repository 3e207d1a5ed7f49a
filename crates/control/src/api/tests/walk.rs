//! A cluster's way from creation to Ready, Frozen and Unknown, and what an association refuses.

use super::*;
use crate::testing::serving;
use std::time::Duration;

async fn bind(w: &World, token: &str, name: &str, arns: Value) -> (u16, Value) {
    let path = format!("/v1/clusters/{name}/binding");
    w.call(token, "PUT", &path, Some(json!({ "key_arns": arns }))).await
}

#[tokio::test]
async fn associate_refuses_what_was_not_proved() {
    let w = world();
    let (mine, other) = (w.organization("mine").await, w.organization("other").await);
    w.cluster(&mine, "one").await;
    w.cluster(&mine, "two").await;
    w.cluster(&other, "theirs").await;
    let k = key(1).to_string();
    for (arns, part) in [
        (json!([]), "1 is needed"),
        (json!([k, k]), "1 is needed"),
        (json!(["alias/mine"]), "alias"),
        (json!([k.replace("key/1234abcd-12ab-34cd-56ef-123456789001", "alias/mine")]), "alias"),
        (json!(["1234abcd-12ab-34cd-56ef-123456789001"]), "not an ARN"),
        (json!([format!("{k} ")]), "blanks"),
        (json!([k.replace("eu-central-1", "eu-west-1")]), "eu-west-1"),
        (json!([k.replace("111122223333", "444455556666")]), "provider"),
        (json!([k]), "no preflight"),
    ] {
        let (status, said) = bind(&w, &mine, "one", arns).await;
        assert_eq!(status, 422, "{said}");
        assert!(said["detail"].as_str().unwrap_or_default().contains(part), "{said}");
    }
    w.passed_preflight(&mine, "one", &key(1)).await;
    assert_eq!(bind(&w, &mine, "one", json!([key(2)])).await.0, 422);
    assert_eq!(bind(&w, &mine, "two", json!([key(1)])).await.0, 422, "another cluster's preflight");
    w.clock.advance(10 * 60 * 1000);
    assert_eq!(bind(&w, &mine, "one", json!([key(1)])).await.0, 422, "too old");
    w.passed_preflight(&mine, "one", &key(1)).await;
    let (status, view) = bind(&w, &mine, "one", json!([key(1)])).await;
    assert_eq!((status, &view["key_arns"]), (200, &json!([key(1)])), "{view}");
    for again in [key(1), key(2)] {
        assert_eq!(bind(&w, &mine, "one", json!([again])).await.0, 409);
    }
    w.passed_preflight(&other, "theirs", &key(1)).await;
    let (status, said) = bind(&w, &other, "theirs", json!([key(1)])).await;
    assert_eq!(status, 409);
    assert!(!said.to_string().contains("mine") && !said.to_string().contains("one\""), "{said}");
}

/// What a node says that has made everything.
fn made(wanted: &ClusterAssignment, ciphertext: &str) -> Made {
    let wrap = |context| WrappedKey { key: key(1), ciphertext: ciphertext.to_owned(), context };
    Made {
        canary: Some(wrap(EncryptionContext::canary(&wanted.cluster))),
        volumes: wanted
            .volumes
            .iter()
            .map(|v| MadeVolume {
                volume: v.volume.clone(),
                wrapped: Some(wrap(EncryptionContext::volume(&wanted.cluster, &v.volume))),
                key_digest: Some("ab".repeat(32)),
            })
            .collect(),
        ..Made::default()
    }
}

#[tokio::test]
async fn a_cluster_walks_to_ready_and_falls_to_unknown() {
    let w = world();
    let token = w.organization("mine").await;
    w.cluster(&token, "one").await;
    w.passed_preflight(&token, "one", &key(1)).await;
    bind(&w, &token, "one", json!([key(1)])).await;
    let path = "/v1/clusters/one";
    let phase = async || w.call(&token, "GET", path, None).await.1["phase"].clone();

    let wanted = w.assignment().await.clusters.remove(0);
    let record = w.store.cluster(&wanted.cluster).await.expect("the store").expect("it");
    let mut seen = serving(&record);
    seen.made = made(&wanted, "AA==");
    assert_eq!(w.put(&w.status(vec![seen.clone()], Vec::new())).await.0, 204);
    assert_eq!(phase().await, "Ready");
    // Repeated until the assignment carries it back; another value is refused and told.
    assert_eq!(w.put(&w.status(vec![seen.clone()], Vec::new())).await.0, 204);
    seen.made = made(&wanted, "BB==");
    assert_eq!(w.put(&w.status(vec![seen.clone()], Vec::new())).await.0, 409);
    let back = w.assignment().await.clusters.remove(0);
    assert_eq!(back.canary.map(|c| c.ciphertext).as_deref(), Some("AA=="));
    assert!(back.volumes.iter().all(|v| v.wrapped.is_some() && v.key_digest.is_some()));
    let (_, view) = w.call(&token, "GET", path, None).await;
    assert!(view["endpoints"]["postgres"].as_str().expect("a URI").starts_with("postgresql://"));

    // A context that is not of our records is never recorded.
    let fresh = w.cluster(&token, "two").await;
    let foreign = serde_json::from_value(fresh["id"].clone()).expect("an id");
    let stranger = ClusterStatus { cluster: foreign, made: made(&wanted, "AA=="), ..seen.clone() };
    assert_eq!(w.put(&w.status(vec![stranger], Vec::new())).await.0, 409);

    seen.made = Made::default();
    seen.lease.state = LeaseWord::Frozen;
    seen.lease.cause = Some(Cause::KeyDisabled);
    assert_eq!(w.put(&w.status(vec![seen], Vec::new())).await.0, 204);
    let (_, view) = w.call(&token, "GET", path, None).await;
    assert_eq!((&view["phase"], &view["cause"]), (&json!("Frozen"), &json!("key-disabled")));
    assert_eq!(view["endpoints"]["postgres"], Value::Null);
    let (_, why) = w.call(&token, "GET", "/v1/clusters/one/why", None).await;
    assert!(why["fix"][0].as_str().expect("a fix").starts_with("aws kms enable-key"), "{why}");
    w.clock.advance(3_000);
    assert_eq!(phase().await, "Unknown");
}

#[tokio::test]
async fn long_polls_wake_for_what_they_wait_for() {
    let w = world();
    let token = w.organization("mine").await;
    w.cluster(&token, "one").await;
    let now = w.assignment().await.generation;
    let idle = format!("/v1/node/assignment?region={REGION}&after={now}&wait_ms=0");
    assert_eq!(w.call(NODE, "GET", &idle, None).await.0, 204);
    let ahead = format!("/v1/node/assignment?region={REGION}&after={}", now + 1);
    assert_eq!(w.call(NODE, "GET", &ahead, None).await.0, 409, "an older store is not obeyed");

    let poll = format!("/v1/node/assignment?region={REGION}&after={now}&wait_ms=60000");
    let watch = "/v1/clusters/one/watch?until=Unknown&timeout_ms=60000";
    let both = async {
        let (polled, watched) =
            tokio::join!(w.call(NODE, "GET", &poll, None), w.call(&token, "GET", watch, None));
        assert_eq!((polled.0, watched.1["phase"].clone()), (200, json!("Unknown")));
    };
    let change = async {
        tokio::task::yield_now().await;
        w.passed_preflight(&token, "one", &key(1)).await;
        assert_eq!(bind(&w, &token, "one", json!([key(1)])).await.0, 200);
        w.clock.advance(3_000);
        w.app.board.records_changed();
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, async { tokio::join!(both, change) }).await.expect("in time");
}

#[tokio::test]
async fn a_regrant_is_asked_for_once_until_the_node_made_it() {
    let w = world();
    let token = w.organization("mine").await;
    let cluster = w.cluster(&token, "one").await;
    let volume = cluster["volumes"][0]["volume"].as_str().expect("a volume");
    let path = format!("/v1/volumes/{volume}/regrant");
    assert_eq!(w.call(&token, "POST", &path, None).await.0, 409, "not bound");
    w.passed_preflight(&token, "one", &key(1)).await;
    bind(&w, &token, "one", json!([key(1)])).await;
    let record = w.assignment().await.clusters.remove(0).cluster;
    let record = w.store.cluster(&record).await.expect("the store").expect("it");
    let seen = serving(&record);
    assert_eq!(w.put(&w.status(vec![seen], Vec::new())).await.0, 204);
    for _ in 0..2 {
        let (status, view) = w.call(&token, "POST", &path, None).await;
        assert_eq!((status, &view["grant_generation"]), (200, &json!(2)), "{view}");
    }
}
