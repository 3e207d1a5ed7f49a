//! Buckets and S3 access keys, with a node that answers.

use super::*;
use crate::testing::serving;
use std::time::Duration;

const BOUND: &str = "/v1/clusters/one";

/// A bound cluster whose lease lives, and what its node says.
async fn live(w: &World) -> (String, ClusterStatus) {
    let token = w.organization("mine").await;
    w.cluster(&token, "one").await;
    w.passed_preflight(&token, "one", &key(1)).await;
    let body = Some(json!({ "key_arns": [key(1)] }));
    assert_eq!(w.call(&token, "PUT", &format!("{BOUND}/binding"), body).await.0, 200);
    let wanted = w.assignment().await.clusters.remove(0);
    let record = w.store.cluster(&wanted.cluster).await.expect("the store").expect("it");
    let seen = serving(&record);
    assert_eq!(w.put(&w.status(vec![seen.clone()], vec![])).await.0, 204);
    (token, seen)
}

fn store_key(ordinal: u32, context: EncryptionContext, text: &str) -> StoreKey {
    let wrapped = WrappedKey { key: key(1), ciphertext: text.to_owned(), context };
    StoreKey { ordinal, wrapped: vec![wrapped], created_ms: 3 }
}

/// Answers the next S3 access key that the assignment names without a secret.
async fn seal_next(w: &World, seen: &ClusterStatus, secret: &str) -> String {
    loop {
        let wanted = w.assignment().await.clusters.remove(0);
        let Some(asked) = wanted.s3_keys.iter().find(|k| k.sealed.is_none()) else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let access_key_id = asked.access_key_id.clone();
        let (sealed, secret) = ("AA==".to_owned(), secret.to_owned());
        let made = MadeS3Key { access_key_id: access_key_id.clone(), sealed, secret };
        let mut said = seen.clone();
        said.made.s3_keys = vec![made];
        // Told until it is on record.
        for _ in 0..2 {
            assert_eq!(w.put(&w.status(vec![said.clone()], vec![])).await.0, 204);
        }
        return access_key_id;
    }
}

#[tokio::test]
async fn the_secret_is_answered_once_and_kept_nowhere() {
    let w = world();
    let (token, seen) = live(&w).await;
    let path = format!("{BOUND}/s3-keys");
    let body = json!({ "role": "writer", "description": "restic" });
    let (id, (status, view)) =
        tokio::join!(seal_next(&w, &seen, "s3cr3t"), w.call(&token, "POST", &path, Some(body)));
    assert_eq!((status, &view["secret_access_key"]), (201, &json!("s3cr3t")), "{view}");
    assert_eq!((&view["access_key_id"], &view["role"]), (&json!(id), &json!("writer")));
    assert_eq!(view["endpoint"], "http://127.0.0.1:7490");
    let (_, listed) = w.call(&token, "GET", &path, None).await;
    assert_eq!((listed[0]["access_key_id"].as_str(), listed[1].is_null()), (Some(&*id), true));
    assert!(!listed.to_string().contains("s3cr3t"));
    let wanted = w.assignment().await.clusters.remove(0);
    assert_eq!(wanted.s3_keys[0].sealed.as_deref(), Some("AA=="));

    // Rotated: a successor of the same role; the old one ends after the overlap.
    let rotate = format!("{path}/{id}/rotate");
    for (overlap, status) in [("soon", 422), ("1000h", 422)] {
        let said = w.call(&token, "POST", &rotate, Some(json!({ "overlap": overlap }))).await;
        assert_eq!(said.0, status);
    }
    let body = Some(json!({ "overlap": "1h" }));
    let (next, (status, view)) =
        tokio::join!(seal_next(&w, &seen, "n3xt"), w.call(&token, "POST", &rotate, body));
    assert_eq!((status, &view["secret_access_key"]), (201, &json!("n3xt")), "{view}");
    assert_eq!((&view["role"], &view["description"]), (&json!("writer"), &json!("restic")));
    let wanted = w.assignment().await.clusters.remove(0);
    let ends: Vec<_> = wanted.s3_keys.iter().map(|k| k.expires_ms).collect();
    assert_eq!(ends, [Some(1_800_000_000_000 + 3_600_000), None]);

    assert_eq!(w.call(&token, "DELETE", &format!("{path}/{next}"), None).await.0, 204);
    assert_eq!(w.call(&token, "DELETE", &format!("{path}/{next}"), None).await.0, 404);
    assert_eq!(w.assignment().await.clusters[0].s3_keys.len(), 1);
}

#[tokio::test]
async fn a_key_that_cannot_be_sealed_is_refused_with_the_cause_and_leaves_nothing() {
    let w = world();
    let token = w.organization("early").await;
    w.cluster(&token, "one").await;
    let path = format!("{BOUND}/s3-keys");
    let body = || Some(json!({ "role": "reader" }));
    assert_eq!(w.call(&token, "POST", &path, body()).await.0, 409, "not bound");
    let (_, bad) = w.call(&token, "POST", &path, Some(json!({ "role": "admin" }))).await;
    assert_eq!(bad["status"], 422);

    let w = world();
    let (token, mut seen) = live(&w).await;
    seen.lease.state = LeaseWord::Frozen;
    seen.lease.cause = Some(Cause::KeyDisabled);
    assert_eq!(w.put(&w.status(vec![seen], vec![])).await.0, 204);
    let (status, said) = w.call(&token, "POST", &path, body()).await;
    assert_eq!((status, &said["cause"]), (503, &json!("key-disabled")), "{said}");
    assert!(said["fix"].as_str().expect("a fix").contains("keystead why one"));
    assert!(w.assignment().await.clusters[0].s3_keys.is_empty());
}

#[tokio::test]
async fn data_keys_are_recorded_once_under_the_bound_key_and_their_own_context() {
    let w = world();
    let (token, seen) = live(&w).await;
    let wanted = w.assignment().await.clusters.remove(0);
    let names: Vec<_> = wanted.buckets.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["documents", "backups"]);
    let (first, second) = (wanted.buckets[0].bucket.clone(), wanted.buckets[1].bucket.clone());
    let context = EncryptionContext::bucket(&wanted.cluster, &first);
    let other = EncryptionContext::bucket(&wanted.cluster, &second);
    let say = async |bucket: &BucketId, key: StoreKey| {
        let mut said = seen.clone();
        said.made.buckets = vec![MadeBucketKey { bucket: bucket.clone(), key }];
        w.put(&w.status(vec![said], vec![])).await.0
    };
    let mut foreign = store_key(0, context.clone(), "AA==");
    foreign.wrapped[0].key = key(2);
    let mut two = store_key(0, context.clone(), "AA==");
    two.wrapped.push(two.wrapped[0].clone());
    for (key, status) in [
        (store_key(0, other, "AA=="), 409),
        (foreign, 409),
        (two, 409),
        (store_key(1, context.clone(), "AA=="), 409),
        (store_key(0, context.clone(), "AA=="), 204),
        (store_key(0, context.clone(), "AA=="), 204),
        (store_key(0, context.clone(), "BB=="), 409),
        (store_key(1, context.clone(), "BB=="), 204),
    ] {
        assert_eq!(say(&first, key).await, status);
    }
    let stranger = BucketId::from_uuid(uuid::Uuid::now_v7());
    let of = EncryptionContext::bucket(&wanted.cluster, &stranger);
    assert_eq!(say(&stranger, store_key(0, of, "AA==")).await, 409);
    let back = w.assignment().await.clusters.remove(0);
    let texts: Vec<_> = back.buckets[0].keys.iter().map(|k| &*k.wrapped[0].ciphertext).collect();
    assert_eq!((texts, back.buckets[1].keys.len()), (vec!["AA==", "BB=="], 0));
    let (_, shown) = w.call(&token, "GET", &format!("{BOUND}/buckets"), None).await;
    assert_eq!((&shown[0]["name"], &shown[0]["data_keys"]), (&json!("documents"), &json!(2)));
}

#[tokio::test]
async fn wishes_of_s3_users_become_records() {
    let w = world();
    let (_, seen) = live(&w).await;
    let wish = async |wishes: Vec<BucketWish>| {
        let said = ClusterStatus { wishes, ..seen.clone() };
        let status = w.put(&w.status(vec![said], vec![])).await.0;
        (status, w.assignment().await.clusters.remove(0).buckets)
    };
    let before = w.assignment().await.clusters.remove(0).buckets;
    let create = |name: &str| BucketWish::Create(name.to_owned());
    assert_eq!(wish(vec![create("../up")]).await, (409, before.clone()));
    for _ in 0..2 {
        let (status, now) = wish(vec![create("more")]).await;
        assert_eq!((status, now.len(), now[2].name.as_str()), (204, 3, "more"));
    }
    let gone = BucketWish::Remove(before[0].bucket.clone());
    for _ in 0..2 {
        let (status, now) = wish(vec![gone.clone()]).await;
        assert_eq!((status, now.len()), (204, 2));
    }
}
