//! Every route as nobody, in the wrong scope and as the wrong tenant. The table is held against
//! the OpenAPI document, so that a new route cannot be forgotten here.

use super::*;
use crate::store::{BucketStore, S3Key};
use std::collections::BTreeSet;

/// Method, path of the document, and which scope it answers.
const ROUTES: [(&str, &str, &str); 27] = [
    ("GET", "/v1/whoami", "any"),
    ("GET", "/v1/organizations", "platform"),
    ("POST", "/v1/organizations", "platform"),
    ("GET", "/v1/clusters", "organization"),
    ("POST", "/v1/clusters", "organization"),
    ("GET", "/v1/clusters/{cluster}", "organization"),
    ("GET", "/v1/clusters/{cluster}/watch", "organization"),
    ("GET", "/v1/clusters/{cluster}/why", "organization"),
    ("GET", "/v1/clusters/{cluster}/key-policy", "organization"),
    ("POST", "/v1/clusters/{cluster}/preflights", "organization"),
    ("GET", "/v1/clusters/{cluster}/preflights/{preflight}", "organization"),
    ("PUT", "/v1/clusters/{cluster}/binding", "organization"),
    ("GET", "/v1/clusters/{cluster}/volumes", "organization"),
    ("GET", "/v1/volumes/{volume}", "organization"),
    ("GET", "/v1/clusters/{cluster}/buckets", "organization"),
    ("GET", "/v1/clusters/{cluster}/s3-keys", "organization"),
    ("POST", "/v1/clusters/{cluster}/s3-keys", "organization"),
    ("POST", "/v1/clusters/{cluster}/s3-keys/{access_key_id}/rotate", "organization"),
    ("DELETE", "/v1/clusters/{cluster}/s3-keys/{access_key_id}", "organization"),
    ("GET", "/v1/clusters/{cluster}/documents", "organization"),
    ("POST", "/v1/clusters/{cluster}/documents", "organization"),
    ("GET", "/v1/clusters/{cluster}/documents/{document}", "organization"),
    ("DELETE", "/v1/clusters/{cluster}/documents/{document}", "organization"),
    ("POST", "/v1/clusters/{cluster}/documents/{document}/links", "organization"),
    ("POST", "/v1/volumes/{volume}/regrant", "organization"),
    ("GET", "/v1/node/assignment", "node"),
    ("PUT", "/v1/node/status", "node"),
];

fn body(w: &World, method: &str, path: &str) -> Option<Value> {
    match (method, path) {
        ("POST", "/v1/organizations") => Some(json!({ "name": "sweep" })),
        ("POST", "/v1/clusters") => {
            Some(json!({ "name": "sweep", "region": REGION, "encryption": "external" }))
        }
        ("POST" | "PUT", p) if p.ends_with("preflights") || p.ends_with("binding") => {
            Some(json!({ "key_arns": [key(1)] }))
        }
        ("POST", p) if p.ends_with("s3-keys") => Some(json!({ "role": "reader" })),
        ("POST", p) if p.ends_with("documents") => Some(json!({ "file_name": "a.pdf" })),
        ("POST", p) if p.ends_with("rotate") || p.ends_with("links") => Some(json!({})),
        ("PUT", _) => serde_json::to_value(w.status(Vec::new(), Vec::new())).ok(),
        _ => None,
    }
}

#[tokio::test]
async fn each_route_answers_its_own_scope_and_tenant_alone() {
    let w = world();
    let (mine, other) = (w.organization("mine").await, w.organization("other").await);
    let cluster = w.cluster(&mine, "one").await;
    w.passed_preflight(&mine, "one", &key(1)).await;
    let id: ClusterId = serde_json::from_value(cluster["id"].clone()).expect("an id");
    let preflight = w.store.preflights_of(&id).await.expect("the store").remove(0).id;
    let volume = cluster["volumes"][0]["volume"].as_str().expect("a volume").to_owned();
    let s3_key = S3Key {
        access_key_id: "KSIAONE".to_owned(),
        role: S3Role::Writer,
        description: String::new(),
        created_ms: 1,
        sealed: Some("AA==".to_owned()),
        expires_ms: None,
    };
    w.store.add_s3_key(&id, s3_key.clone()).await.expect("the store");
    for (method, template, scope) in ROUTES {
        let mut path = template
            .replace("{cluster}", id.as_str())
            .replace("{preflight}", preflight.as_str())
            .replace("{access_key_id}", "KSIAONE")
            .replace("{document}", "doc-01900000-0000-7000-8000-000000000000")
            .replace("{volume}", &volume);
        match template {
            "/v1/node/assignment" => path.push_str("?region=eu-central-1"),
            "/v1/clusters/{cluster}/key-policy" => path.push_str("?customer_account=111122223333"),
            "/v1/clusters/{cluster}/watch" => path.push_str("?timeout_ms=0"),
            _ => {}
        }
        let at = format!("{method} {path}");
        for token in ["", "ks_", "ks_wrong"] {
            assert_eq!(
                w.call(token, method, &path, body(&w, method, template)).await.0,
                401,
                "{at}"
            );
        }
        let as_tenant = scope == "organization";
        let wrong: &[&str] = match scope {
            "platform" => &[&mine, NODE],
            "organization" => &[PLATFORM, NODE],
            "node" => &[PLATFORM, &mine],
            _ => &[NODE],
        };
        for token in wrong {
            assert_eq!(
                w.call(token, method, &path, body(&w, method, template)).await.0,
                403,
                "{at}"
            );
        }
        if as_tenant && template.contains('{') {
            let (status, said) = w.call(&other, method, &path, body(&w, method, template)).await;
            assert_eq!(status, 404, "{at}");
            assert!(!said.to_string().contains("mine"), "{said}");
        }
    }
    let (_, empty) = w.call(&other, "GET", "/v1/clusters", None).await;
    assert_eq!(empty, json!([]));
    let kept = w.store.cluster(&id).await.expect("the store").expect("the cluster");
    assert_eq!((kept.binding, kept.volumes[0].grant_generation), (None, 1));
    assert_eq!(kept.s3_keys, [s3_key]);
}

#[tokio::test]
async fn the_table_is_the_document() {
    let w = world();
    let (status, document) = w.call("", "GET", "/v1/openapi.json", None).await;
    assert_eq!(status, 200);
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"));
    let paths = document["paths"].as_object().expect("paths");
    let found: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").keys();
            methods.map(|m| (m.to_uppercase(), path.clone())).collect::<Vec<_>>()
        })
        .collect();
    let table = ROUTES.map(|(m, p, _)| (m.to_owned(), p.to_owned()));
    assert_eq!(found, BTreeSet::from(table));
    assert!(document["components"]["schemas"]["ClusterView"].is_object());
}

#[tokio::test]
async fn what_is_malformed_is_a_problem_too() {
    let w = world();
    let token = w.organization("mine").await;
    w.cluster(&token, "one").await;
    let base = json!({ "name": "a", "region": REGION, "encryption": "external" });
    let with = |name: &str, value: Value| {
        let mut body = base.clone();
        body[name] = value;
        body
    };
    let long = "a".repeat(64);
    for (body, status) in [
        (with("colour", json!("red")), 422),
        (with("region", json!("eu-north-1")), 422),
        (with("encryption", json!("software")), 422),
        (with("template", json!("oracle")), 422),
        (with("evict_after", json!("soon")), 422),
        (with("name", json!("one")), 409),
        (with("name", json!("")), 422),
        (with("name", json!(long)), 422),
        (with("name", json!("-a")), 422),
        (with("name", json!("A")), 422),
        (with("name", json!("cl-01900000-0000-7000-8000-000000000000")), 422),
        (with("name", json!("x".repeat(1 << 20))), 413),
    ] {
        let (found, said) = w.call(&token, "POST", "/v1/clusters", Some(body)).await;
        assert_eq!(found, status, "{said}");
    }
    for (method, path, status) in [
        ("GET", "/v1/clusters/none", 404),
        ("GET", "/v1/clusters/one/watch?forever=1", 400),
        ("GET", "/v1/clusters/one/watch?until=Happy", 400),
        ("GET", "/v1/clusters/one/key-policy?customer_account=12", 422),
        ("GET", "/v1/clusters/%FF", 400),
        ("DELETE", "/v1/clusters/one", 405),
        ("GET", "/v2", 404),
        ("GET", "/v1/volumes/one", 404),
        ("POST", "/v1/clusters", 415),
    ] {
        assert_eq!(w.call(&token, method, path, None).await.0, status, "{method} {path}");
    }
    let wrong = "/v1/node/assignment?region=eu-west-1";
    assert_eq!(w.call(NODE, "GET", wrong, None).await.0, 403);
    let mut foreign = w.status(Vec::new(), Vec::new());
    foreign.node = "other".to_owned();
    assert_eq!(w.put(&foreign).await.0, 403);
}
