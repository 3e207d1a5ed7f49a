//! Documents, with a node that answers.

use super::*;
use crate::testing::serving;
use std::time::Duration;

const PATH: &str = "/v1/clusters/one/documents";

async fn live(w: &World) -> (String, ClusterStatus) {
    let token = w.organization("mine").await;
    w.cluster(&token, "one").await;
    w.passed_preflight(&token, "one", &key(1)).await;
    let body = Some(json!({ "key_arns": [key(1)] }));
    assert_eq!(w.call(&token, "PUT", "/v1/clusters/one/binding", body).await.0, 200);
    let wanted = w.assignment().await.clusters.remove(0);
    let record = w.store.cluster(&wanted.cluster).await.expect("the store").expect("it");
    let seen = serving(&record);
    assert_eq!(w.put(&w.status(vec![seen.clone()], vec![])).await.0, 204);
    (token, seen)
}

fn link(method: &str, headers: &[(String, String)]) -> Link {
    Link {
        method: method.to_owned(),
        url: "http://127.0.0.1:7490/documents/x?X-Amz-Signature=aa".to_owned(),
        headers: headers.to_vec(),
        expires_ms: 1_800_000_000_000,
    }
}

/// Answers the next ask as a node would; gives back what was asked.
async fn answer(
    w: &World,
    seen: &ClusterStatus,
    said: impl Fn(&DocumentWish) -> DocumentSaid,
) -> DocumentWish {
    loop {
        let asked = w.assignment().await.documents.asks.pop();
        let Some(asked) = asked else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let mut status = w.status(vec![seen.clone()], vec![]);
        let said = said(&asked.wish);
        status.documents = vec![DocumentAnswer { ask: asked.ask, cluster: asked.cluster, said }];
        // Told until the assignment no longer names it.
        for _ in 0..2 {
            assert_eq!(w.put(&status).await.0, 204);
        }
        return asked.wish;
    }
}

#[tokio::test]
async fn a_new_document_is_a_link_over_headers_that_were_checked() {
    let w = world();
    let (token, seen) = live(&w).await;
    let body = json!({
        "file_name": "Größe.pdf", "content_type": "application/pdf", "size": 7,
        "metadata": { "n": "a b" }, "expires_in": "1h"
    });
    let upload = |wish: &DocumentWish| match wish {
        DocumentWish::Upload { headers, .. } => DocumentSaid::Upload(link("PUT", headers)),
        other => panic!("{other:?}"),
    };
    let (wish, (status, made)) =
        tokio::join!(answer(&w, &seen, upload), w.call(&token, "POST", PATH, Some(body)));
    assert_eq!(status, 201, "{made}");
    let DocumentWish::Upload { document, headers, expires_s } = wish else { panic!("{wish:?}") };
    assert_eq!((made["document"].as_str(), expires_s), (Some(document.as_str()), 900));
    assert_eq!(document.expires_ms(), Some(1_800_003_600_000));
    assert_eq!(made["expires"], "2027-01-15T09:00:00Z");
    let has = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(has("content-length"), Some("7"));
    assert_eq!(has("if-none-match"), Some("*"));
    assert_eq!(has("x-amz-meta-keystead-name"), Some("Gr%C3%B6%C3%9Fe.pdf"));
    assert_eq!(has("x-amz-meta-n"), Some("a%20b"));
    assert_eq!(made["upload"]["headers"]["x-amz-meta-n"], "a%20b");
    // Neither the links nor the names stay: not in the report, nor in what the node is to do.
    let report = w.app.board.report(&REGION.parse().expect("a Region")).expect("it");
    assert!(report.status.documents.is_empty());
    assert!(w.assignment().await.documents.asks.is_empty());
    // The key of links was made once, and the assignment carries it.
    let keys = w.assignment().await.clusters.remove(0).s3_keys;
    assert_eq!(keys.iter().map(|k| k.role).collect::<Vec<_>>(), [S3Role::Links]);
    let id = &keys[0].access_key_id;
    let rotate = format!("/v1/clusters/one/s3-keys/{id}/rotate");
    assert_eq!(w.call(&token, "POST", &rotate, Some(json!({}))).await.0, 422);
    let role = Some(json!({ "role": "links" }));
    assert_eq!(w.call(&token, "POST", "/v1/clusters/one/s3-keys", role).await.0, 422);
}

#[tokio::test]
async fn what_the_node_says_becomes_the_answer() {
    let w = world();
    let (token, seen) = live(&w).await;
    let id = DocumentId::new(1, Some(1_800_000_100_000), [1; 16]);
    let over = DocumentId::new(1, Some(1_800_000_000_000), [1; 16]);
    let one = format!("{PATH}/{id}");
    let entry = DocumentEntry {
        document: id.clone(),
        size: 7,
        modified_ms: 1_800_000_000_000,
        head: link("HEAD", &[]),
    };
    let shown = DocumentSaid::Shown { entry: entry.clone(), download: link("GET", &[]) };
    let page = DocumentSaid::Page { entries: vec![entry], next: Some(id.clone()) };
    let refused = DocumentSaid::Refused(Cause::GrantRevoked);
    let failed = DocumentSaid::Failed("disk".to_owned());
    let links = format!("{one}/links");
    for (method, path, said, status) in [
        ("GET", &one, &shown, 200),
        ("POST", &links, &shown, 201),
        ("GET", &PATH.to_owned(), &page, 200),
        ("DELETE", &one, &DocumentSaid::Removed, 204),
        ("DELETE", &one, &DocumentSaid::NoDocument, 404),
        ("GET", &one, &DocumentSaid::NoDocument, 404),
        ("GET", &one, &DocumentSaid::NoBucket, 409),
        ("GET", &one, &refused, 503),
        ("GET", &one, &failed, 503),
        ("GET", &one, &page, 502),
    ] {
        let body = (method == "POST").then(|| json!({ "expires_in": "168h" }));
        let (wish, (found, view)) =
            tokio::join!(answer(&w, &seen, |_| said.clone()), w.call(&token, method, path, body));
        assert_eq!(found, status, "{method} {path} {view}");
        if found >= 400 {
            assert!(view["fix"].is_string(), "{view}");
        }
        match (&wish, status) {
            // No link outlives its document.
            (DocumentWish::Show { expires_s, .. }, _) => assert_eq!(*expires_s, 100),
            (DocumentWish::Page { expires_s, .. }, _) => {
                assert_eq!((*expires_s, &view["next"]), (900, &json!(id)));
                assert!(view["documents"][0]["head"]["url"].is_string(), "{view}");
            }
            _ => {}
        }
        if *said == refused {
            assert_eq!(view["cause"], "grant-revoked");
        }
    }
    // Nobody is asked for what is over, or is no id.
    for path in [format!("{PATH}/{over}"), format!("{PATH}/contract.pdf")] {
        assert_eq!(w.call(&token, "GET", &path, None).await.0, 404);
    }
    assert_eq!(w.call(&token, "GET", &format!("{PATH}?after=x"), None).await.0, 422);
}

#[tokio::test]
async fn without_a_living_lease_nothing_is_asked() {
    let w = world();
    let token = w.organization("early").await;
    w.cluster(&token, "one").await;
    assert_eq!(w.call(&token, "GET", PATH, None).await.0, 409, "not bound");
    let w = world();
    let (token, mut seen) = live(&w).await;
    seen.lease.state = LeaseWord::Frozen;
    seen.lease.cause = Some(Cause::KeyDisabled);
    assert_eq!(w.put(&w.status(vec![seen], vec![])).await.0, 204);
    let (status, said) = w.call(&token, "GET", PATH, None).await;
    assert_eq!((status, &said["cause"]), (503, &json!("key-disabled")), "{said}");
    assert!(said["fix"].as_str().expect("a fix").contains("keystead why one"));
    let wanted = w.assignment().await;
    assert!(wanted.documents.asks.is_empty() && wanted.clusters[0].s3_keys.is_empty());
}

#[tokio::test]
async fn a_poll_ends_when_something_is_asked_and_again_when_it_is_answered() {
    let w = world();
    let (token, _) = live(&w).await;
    let first = w.assignment().await;
    let poll = |generation: u64, serial: u64, wait: u64| {
        format!(
            "/v1/node/assignment?region={REGION}&after={generation}&documents={serial}&wait_ms={wait}"
        )
    };
    let idle = poll(first.generation, first.documents.serial, 0);
    assert_eq!(w.call(NODE, "GET", &idle, None).await.0, 204);
    let region = REGION.parse().expect("a Region");
    let cluster = first.clusters[0].cluster.clone();
    let wish = DocumentWish::Page { after: None, expires_s: 1 };
    let (id, _waits) = w.app.board.desk.ask(&region, &cluster, wish).expect("room");
    let (status, said) = w.call(NODE, "GET", &idle, None).await;
    assert_eq!(status, 200);
    let next: Assignment = serde_json::from_value(said).expect("an assignment");
    assert_eq!((next.generation, next.documents.asks.len()), (first.generation, 1));
    let idle = poll(next.generation, next.documents.serial, 0);
    assert_eq!(w.call(NODE, "GET", &idle, None).await.0, 204);
    assert!(w.app.board.desk.forget(&region, &id));
    assert_eq!(w.call(NODE, "GET", &idle, None).await.0, 200);
    // A caller who goes away takes the question along.
    let asks = async { w.call(&token, "GET", PATH, None).await };
    assert!(tokio::time::timeout(Duration::from_millis(20), asks).await.is_err());
    assert!(w.assignment().await.documents.asks.is_empty());
}
