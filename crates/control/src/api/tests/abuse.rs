//! What a node, an owner or a stranger may try beyond his own.

use super::*;
use crate::board::WATCHES;

#[tokio::test]
async fn a_node_reports_preflights_of_its_own_region_alone() {
    let w = world();
    let token = w.organization("mine").await;
    w.cluster(&token, "one").await;
    let path = "/v1/clusters/one/preflights";
    let body = json!({ "key_arns": [key(1)] });
    assert_eq!(w.call(&token, "POST", path, Some(body.clone())).await.0, 201);
    let asked = w.assignment().await.preflights.pop().expect("the preflight");
    let mut forged = w.status(Vec::new(), vec![whole_report(&asked)]);
    forged.region = "eu-west-1".parse().expect("a Region");
    forged.node = "node-eu-west-1".to_owned();
    let forged = serde_json::to_value(&forged).expect("JSON");
    let (status, said) = w.call(FAR_NODE, "PUT", "/v1/node/status", Some(forged)).await;
    assert_eq!(status, 409, "{said}");
    let (_, view) = w.call(&token, "GET", &format!("{path}/{}", asked.preflight), None).await;
    assert_eq!(view["state"], "pending", "a forged report was believed");
    assert_eq!(w.call(&token, "PUT", "/v1/clusters/one/binding", Some(body)).await.0, 422);
}

#[tokio::test]
async fn an_organization_has_so_many_watches_and_no_more() {
    let w = world();
    let (mine, other) = (w.organization("mine").await, w.organization("other").await);
    for token in [&mine, &other] {
        w.cluster(token, "one").await;
    }
    let owner = w.store.organizations().await.expect("the store");
    let owner = owner.iter().find(|o| o.name == "mine").expect("it").id.clone();
    let open: Vec<_> = (0..WATCHES).map(|_| w.app.board.begin_watch(&owner)).collect();
    assert!(open.iter().all(Option::is_some));
    let path = "/v1/clusters/one/watch?timeout_ms=0";
    assert_eq!(w.call(&mine, "GET", path, None).await.0, 429);
    assert_eq!(w.call(&other, "GET", path, None).await.0, 200, "another's are its own");
    drop(open);
    assert_eq!(w.call(&mine, "GET", path, None).await.0, 200, "ended ones do not count");
}

#[tokio::test]
async fn a_key_of_another_organization_is_refused_without_naming_it() {
    let w = world();
    let (mine, other) = (w.organization("mine").await, w.organization("secret-name").await);
    for token in [&mine, &other] {
        w.cluster(token, "one").await;
        w.passed_preflight(token, "one", &key(1)).await;
    }
    let path = "/v1/clusters/one/binding";
    let body = Some(json!({ "key_arns": [key(1)] }));
    // Both at once: one of them has it, the other is told nothing of whom.
    let (first, second) =
        tokio::join!(w.call(&other, "PUT", path, body.clone()), w.call(&mine, "PUT", path, body));
    let mut both = [first, second];
    both.sort_by_key(|(status, _)| *status);
    assert_eq!((both[0].0, both[1].0), (200, 409));
    let said = both[1].1.to_string();
    assert!(!said.contains("secret-name") && !said.contains("org-"), "{said}");
}

#[tokio::test]
async fn a_preflight_opens_for_ten_minutes() {
    let w = world();
    let token = w.organization("mine").await;
    w.cluster(&token, "one").await;
    w.passed_preflight(&token, "one", &key(1)).await;
    w.clock.advance(10 * 60 * 1000);
    let path = "/v1/clusters/one/binding";
    let body = Some(json!({ "key_arns": [key(1)] }));
    let (status, said) = w.call(&token, "PUT", path, body.clone()).await;
    assert_eq!((status, &said["title"]), (422, &json!("no preflight")));
    w.passed_preflight(&token, "one", &key(1)).await;
    assert_eq!(w.call(&token, "PUT", path, body.clone()).await.0, 200);
    assert_eq!(w.call(&token, "PUT", path, body).await.0, 409, "a second time");
}
