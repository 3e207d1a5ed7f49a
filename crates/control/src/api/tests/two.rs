//! A cluster of two Regions: two nodes, two keys, one binding.

use super::*;
use crate::testing::{BACKUP, far_key, serving};

const CLUSTER: &str = "/v1/clusters/one";

impl World {
    /// A cluster of two Regions whose tenant role is made.
    async fn two(&self, token: &str, name: &str) -> ClusterId {
        let body = json!({
            "name": name, "region": REGION, "backup_region": BACKUP, "encryption": "external",
        });
        let (status, made) = self.call(token, "POST", "/v1/clusters", Some(body)).await;
        assert_eq!((status, &made["backup_region"]), (201, &json!(BACKUP)), "{made}");
        let id: ClusterId = serde_json::from_value(made["id"].clone()).expect("an id");
        let role = crate::plan::tenant_role(&self.app.provider, &id).expect("a role");
        assert_eq!(self.store.record_role(&id, &role).await.expect("the store"), Recorded::New);
        id
    }

    async fn far_put(&self, status: &NodeStatus) -> (u16, Value) {
        let body = serde_json::to_value(status).expect("JSON");
        self.call(FAR_NODE, "PUT", "/v1/node/status", Some(body)).await
    }

    fn far_status(
        &self,
        clusters: Vec<ClusterStatus>,
        preflights: Vec<PreflightReport>,
    ) -> NodeStatus {
        let Report { status, .. } = crate::testing::far_report(clusters, 0);
        NodeStatus { preflights, ..status }
    }

    async fn asked(&self, token: &str, name: &str, key: &KeyArn) -> (u16, Value) {
        let path = format!("/v1/clusters/{name}/preflights");
        self.call(token, "POST", &path, Some(json!({ "key_arns": [key] }))).await
    }

    /// A preflight of each key, run by the node of its Region.
    async fn both_tried(&self, token: &str, name: &str, here: &KeyArn, there: &KeyArn) {
        self.passed_preflight(token, name, here).await;
        assert_eq!(self.asked(token, name, there).await.0, 201);
        assert!(self.assignment().await.preflights.is_empty(), "it is the other node's");
        let asked = self.assignment_of(FAR_NODE, BACKUP).await.preflights.pop().expect("it");
        let report = whole_report(&asked);
        // Another Region's node has no word on it.
        assert_eq!(self.put(&self.status(vec![], vec![report.clone()])).await.0, 409);
        assert_eq!(self.far_put(&self.far_status(vec![], vec![report])).await.0, 204);
    }

    async fn tie(&self, token: &str, name: &str, body: Value) -> (u16, Value) {
        self.call(token, "PUT", &format!("/v1/clusters/{name}/binding"), Some(body)).await
    }

    /// Bound, with both leases alive.
    async fn bound_two(&self) -> (String, ClusterStatus) {
        let token = self.organization("mine").await;
        let id = self.two(&token, "one").await;
        self.both_tried(&token, "one", &key(1), &far_key(2)).await;
        let body = json!({ "key_arns": [key(1), far_key(2)] });
        let (status, view) = self.tie(&token, "one", body).await;
        assert_eq!(status, 200, "{view}");
        let record = self.store.cluster(&id).await.expect("the store").expect("it");
        (token, serving(&record))
    }
}

#[tokio::test]
async fn a_backup_region_is_another_one_that_a_node_serves() {
    let w = world();
    let token = w.organization("mine").await;
    for (backup, part) in [(REGION, "both"), ("eu-north-1", "no node serves eu-north-1")] {
        let body = json!({
            "name": "a", "region": REGION, "backup_region": backup, "encryption": "external",
        });
        let (status, said) = w.call(&token, "POST", "/v1/clusters", Some(body)).await;
        assert_eq!(status, 422, "{said}");
        assert!(said["detail"].as_str().expect("a detail").contains(part), "{said}");
    }
    w.two(&token, "one").await;
    let of = |a: Assignment| a.clusters.first().map(|c| (c.part, c.volumes.len()));
    assert_eq!(of(w.assignment().await), Some((Part::Primary, 2)));
    assert_eq!(of(w.assignment_of(FAR_NODE, BACKUP).await), Some((Part::Backup, 0)));
}

#[tokio::test]
async fn two_keys_are_refused_by_name_or_bound_at_once() {
    let w = world();
    let (token, other) = (w.organization("mine").await, w.organization("other").await);
    w.two(&token, "one").await;
    w.cluster(&token, "single").await;
    let (here, there) = (key(1), far_key(2));
    let third = here.to_string().replace(REGION, "eu-north-1");
    let providers = there.to_string().replace("111122223333", "444455556666");
    for (arns, kind, part) in [
        (json!([here]), "wrong-number-of-keys", "2 are needed, 1 came"),
        (json!([here, there, there]), "wrong-number-of-keys", "3 came"),
        (json!([here, here]), "equal-keys", "both"),
        (
            json!([there, here]),
            "swapped-keys",
            "the first (--key-arn) is of the cluster's Region eu-central-1",
        ),
        (json!([here, key(2)]), "wrong-region", "the second key lies in eu-central-1"),
        (json!([far_key(3), there]), "wrong-region", "the key lies in eu-west-1"),
        (json!([here, third]), "wrong-region", "the second key lies in eu-north-1"),
        (json!([here, providers]), "providers-account", "provider's own account"),
        (json!([here, "alias/x"]), "alias-instead-of-key", "alias"),
        (json!([here, there]), "no-preflight", "no preflight"),
    ] {
        let (status, said) = w.tie(&token, "one", json!({ "key_arns": arns })).await;
        assert_eq!((status, &said["type"]), (422, &json!(format!("urn:keystead:problem:{kind}"))));
        assert!(said["detail"].as_str().expect("a detail").contains(part), "{said}");
    }
    let (status, said) = w.asked(&token, "one", &third.parse().expect("an ARN")).await;
    assert_eq!((status, &said["cause"]), (422, &json!("wrong-region")), "{said}");
    let body = json!({ "key_arns": [here, there] });
    let (status, _) = w.call(&token, "POST", &format!("{CLUSTER}/preflights"), Some(body)).await;
    assert_eq!(status, 422, "one key a preflight");

    // Each key needs its own.
    w.passed_preflight(&token, "one", &here).await;
    let body = json!({ "key_arns": [here, there] });
    let (status, said) = w.tie(&token, "one", body.clone()).await;
    assert_eq!(status, 422);
    assert!(said["fix"].as_str().expect("a fix").contains("--backup-key-arn"), "{said}");
    w.both_tried(&token, "one", &here, &there).await;
    let mut wrong = body.clone();
    wrong["revocation"] = json!("never");
    assert_eq!(w.tie(&token, "one", wrong).await.0, 422);
    let mut each = body.clone();
    each["revocation"] = json!("each");
    let (status, view) = w.tie(&token, "one", each.clone()).await;
    assert_eq!((status, &view["key_arns"]), (200, &json!([here, there])), "{view}");
    assert_eq!(view["revocation"], "each");
    for again in [each, body.clone()] {
        assert_eq!(w.tie(&token, "one", again).await.0, 409, "written once");
    }

    // One Region, one key, and nothing to choose.
    w.passed_preflight(&token, "single", &key(4)).await;
    let chosen = json!({ "key_arns": [key(4)], "revocation": "any" });
    assert_eq!(w.tie(&token, "single", chosen).await.0, 422);
    let (status, view) = w.tie(&token, "single", json!({ "key_arns": [key(4)] })).await;
    assert_eq!((status, &view["revocation"]), (200, &Value::Null));

    // The second key is as much another organization's as the first.
    w.two(&other, "one").await;
    w.both_tried(&other, "one", &key(5), &there).await;
    let (status, said) = w.tie(&other, "one", json!({ "key_arns": [key(5), there] })).await;
    assert_eq!((status, &said["title"]), (409, &json!("key bound elsewhere")));
    assert!(said["detail"].as_str().expect("a detail").contains(&there.to_string()), "{said}");
    assert!(!said.to_string().contains("mine"), "{said}");
}

#[tokio::test]
async fn each_node_makes_its_canary_and_the_primarys_all_the_rest() {
    let w = world();
    let (_, seen) = w.bound_two().await;
    let wrap = |key: KeyArn, context: &EncryptionContext| WrappedKey {
        key,
        ciphertext: "AA==".to_owned(),
        context: context.clone(),
    };
    let canary = EncryptionContext::canary(&seen.cluster);
    let (own, far) = (wrap(key(1), &canary), wrap(far_key(2), &canary));
    let say = |canary: &WrappedKey| {
        let mut said = seen.clone();
        said.made.canary = Some(canary.clone());
        vec![said]
    };
    assert_eq!(w.put(&w.status(say(&far), vec![])).await.0, 409, "of the other key");
    assert_eq!(w.far_put(&w.far_status(say(&own), vec![])).await.0, 409);
    assert_eq!(w.far_put(&w.far_status(say(&far), vec![])).await.0, 204);
    let second = |a: &ClusterAssignment| a.binding.clone().and_then(|b| b.second);
    let here = w.assignment().await.clusters.remove(0);
    let wanted = SecondKey { key: far_key(2), canary: Some(far.clone()) };
    assert_eq!((&here.canary, second(&here)), (&None, Some(wanted)));
    assert_eq!(w.put(&w.status(say(&own), vec![])).await.0, 204);
    let there = w.assignment_of(FAR_NODE, BACKUP).await.clusters.remove(0);
    let wanted = SecondKey { key: key(1), canary: Some(own.clone()) };
    assert_eq!((&there.canary, second(&there)), (&Some(far), Some(wanted)));

    // A bucket's data key: under both, the primary's first, in its own context.
    let bucket = here.buckets[0].bucket.clone();
    let context = EncryptionContext::bucket(&seen.cluster, &bucket);
    let data_key = |wrapped: Vec<WrappedKey>| {
        let mut said = seen.clone();
        let key = StoreKey { ordinal: 0, wrapped, created_ms: 3 };
        said.made.buckets = vec![MadeBucketKey { bucket: bucket.clone(), key: key.clone() }];
        said
    };
    let (one, two) = (wrap(key(1), &context), wrap(far_key(2), &context));
    for bad in [
        vec![one.clone()],
        vec![two.clone(), one.clone()],
        vec![one.clone(), one.clone()],
        vec![one.clone(), wrap(far_key(2), &canary)],
        vec![one.clone(), wrap(far_key(3), &context)],
        vec![one.clone(), two.clone(), two.clone()],
    ] {
        assert_eq!(w.put(&w.status(vec![data_key(bad)], vec![])).await.0, 409);
    }
    let good = data_key(vec![one, two]);
    let (status, said) = w.far_put(&w.far_status(vec![good.clone()], vec![])).await;
    assert_eq!(status, 409);
    assert!(said["detail"].as_str().expect("a detail").contains("backup Region"), "{said}");
    assert_eq!(w.put(&w.status(vec![good], vec![])).await.0, 204);
    let (here, there) = (w.assignment().await, w.assignment_of(FAR_NODE, BACKUP).await);
    assert_eq!(here.clusters[0].buckets[0].keys.len(), 1);
    assert_eq!(here.clusters[0].buckets, there.clusters[0].buckets);
    // What its users ask for is the primary's to say.
    let wish =
        ClusterStatus { wishes: vec![BucketWish::Create("more".to_owned())], ..seen.clone() };
    assert_eq!(w.far_put(&w.far_status(vec![wish], vec![])).await.0, 409);
    assert_eq!(w.assignment().await.clusters[0].buckets.len(), here.clusters[0].buckets.len());
}

#[tokio::test]
async fn the_key_that_nodes_replicate_with_is_nobodys() {
    let w = world();
    let (token, seen) = w.bound_two().await;
    let keys = w.assignment().await.clusters.remove(0).s3_keys;
    assert_eq!((keys.len(), keys[0].role, &keys[0].sealed), (1, S3Role::Replicator, &None));
    let id = keys[0].access_key_id.clone();
    let mut said = seen.clone();
    let (sealed, secret) = ("AA==".to_owned(), "s".to_owned());
    said.made.s3_keys = vec![MadeS3Key { access_key_id: id.clone(), sealed, secret }];
    assert_eq!(w.far_put(&w.far_status(vec![said.clone()], vec![])).await.0, 409);
    assert_eq!(w.put(&w.status(vec![said], vec![])).await.0, 204);
    let there = w.assignment_of(FAR_NODE, BACKUP).await.clusters.remove(0).s3_keys;
    assert_eq!(there[0].sealed.as_deref(), Some("AA=="));

    let path = format!("{CLUSTER}/s3-keys");
    assert_eq!(w.call(&token, "GET", &path, None).await.1, json!([]));
    assert_eq!(w.call(&token, "DELETE", &format!("{path}/{id}"), None).await.0, 404);
    let rotate = format!("{path}/{id}/rotate");
    assert_eq!(w.call(&token, "POST", &rotate, Some(json!({}))).await.0, 404);
    let wanted = json!({ "role": "replicator" });
    let (status, refused) = w.call(&token, "POST", &path, Some(wanted)).await;
    assert_eq!((status, &refused["title"]), (422, &json!("bad role")));
    let kept = w.assignment().await.clusters.remove(0).s3_keys;
    assert_eq!(kept.len(), 1);
}

#[tokio::test]
async fn a_node_hears_where_the_other_serves_whenever_that_moves() {
    let w = world();
    let (token, seen) = w.bound_two().await;
    let peer = async || {
        let a = w.assignment().await;
        (a.generation, a.clusters[0].peer.clone().and_then(|p| p.s3_endpoint))
    };
    let mut told = w.far_status(vec![seen.clone()], vec![]);
    told.s3_endpoint = None;
    assert_eq!(w.far_put(&told).await.0, 204);
    let (first, unknown) = peer().await;
    let mut before = first;
    for (endpoint, moved) in [("http://a", true), ("http://a", false), ("http://b", true)] {
        told.s3_endpoint = Some(endpoint.to_owned());
        assert_eq!(w.far_put(&told).await.0, 204);
        let (now, known) = peer().await;
        assert_eq!((now > before, known.as_deref()), (moved, Some(endpoint)));
        before = now;
    }
    // Silent, or not serving for a while: the last word stands.
    told.s3_endpoint = None;
    assert_eq!(w.far_put(&told).await.0, 204);
    w.clock.advance(60_000);
    assert_eq!(peer().await, (before, Some("http://b".to_owned())));
    // bound_two's own reports said it first.
    assert_eq!(unknown.as_deref(), Some("http://127.0.0.1:7491"));

    // Shown while it reports.
    told.s3_endpoint = Some("http://b".to_owned());
    assert_eq!(w.far_put(&told).await.0, 204);
    let mut here = seen.clone();
    here.replication = Some(ReplicationStatus {
        pending: 2,
        oldest_ms: Some(1_800_000_060_000 - 1_500),
        confirmed_ms: None,
        message: None,
    });
    assert_eq!(w.put(&w.status(vec![here], vec![])).await.0, 204);
    let (_, view) = w.call(&token, "GET", CLUSTER, None).await;
    let regions = &view["regions"];
    assert_eq!((&regions[0]["part"], &regions[1]["part"]), (&json!("primary"), &json!("backup")));
    assert_eq!((&regions[0]["region"], &regions[1]["region"]), (&json!(REGION), &json!(BACKUP)));
    assert_eq!(regions[0]["key_arn"], json!(key(1)));
    assert_eq!(regions[1]["key_arn"], json!(far_key(2)));
    assert_eq!((&regions[0]["lease"], &regions[1]["lease"]), (&json!("live"), &json!("live")));
    assert_eq!(regions[0]["s3_endpoint"], "http://127.0.0.1:7490");
    assert_eq!(regions[1]["s3_endpoint"], "http://b");
    assert_eq!((&view["revocation"], &view["backup_region"]), (&json!("any"), &json!(BACKUP)));
    let lag = &view["replication"];
    assert_eq!((&lag["pending"], &lag["lag_ms"]), (&json!(2), &json!(1_500)), "{lag}");
}
