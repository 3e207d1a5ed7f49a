//! The API over the store's twin, without a network.

mod abuse;
mod documents;
mod s3;
mod sweep;
mod two;
mod walk;

use super::*;
use crate::board::Report;
use crate::store::{MemoryStore, Recorded};
use crate::testing::{REGION, key};
use crate::time::TestClock;
use axum::body::Body;
use axum::http::Request;
use keystead_types::*;
use serde_json::{Value, json};
use tower::ServiceExt;

const PLATFORM: &str = "ks_platform";
const NODE: &str = "ks_node";
/// Of another Region's node.
const FAR_NODE: &str = "ks_far_node";

/// An API, its store and its clock.
struct World {
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    app: App,
    router: Router,
}

fn world() -> World {
    let store = Arc::new(MemoryStore::default());
    let clock = Arc::new(TestClock::at(1_800_000_000_000));
    let node = NodeEntry {
        region: REGION.parse().expect("a Region"),
        name: "node-eu-central-1".to_owned(),
        user_arn: "arn:aws:iam::444455556666:user/keystead-node".parse().expect("a user"),
        token_file: "/unused".into(),
    };
    let far = NodeEntry {
        region: "eu-west-1".parse().expect("a Region"),
        name: "node-eu-west-1".to_owned(),
        ..node.clone()
    };
    let app = App(Arc::new(Shared {
        store: store.clone(),
        board: Arc::new(Board::default()),
        clock: clock.clone(),
        templates: Templates::load().expect("templates"),
        provider: "444455556666".parse().expect("an account"),
        evict_after_ms: 900_000,
        platform: token_hash(PLATFORM),
        nodes: vec![(node, token_hash(NODE)), (far, token_hash(FAR_NODE))],
    }));
    World { store, clock, router: router(app.clone()), app }
}

impl World {
    async fn call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Some(value) => {
                request = request.header("content-type", "application/json");
                Body::from(value.to_string())
            }
            None => Body::empty(),
        };
        let request = request.body(body).expect("a request");
        let answer = self.router.clone().oneshot(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").cloned();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 22).await.expect("a body");
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status >= 400 {
            let problem = kind.expect("a content type");
            assert_eq!(problem, "application/problem+json", "{method} {path}");
            assert_eq!(value["status"], status, "{method} {path}");
            assert!(!value["detail"].as_str().unwrap_or_default().is_empty());
        }
        (status, value)
    }

    async fn organization(&self, name: &str) -> String {
        let body = Some(json!({ "name": name }));
        let (status, made) = self.call(PLATFORM, "POST", "/v1/organizations", body).await;
        assert_eq!(status, 201);
        made["token"].as_str().expect("a token").to_owned()
    }

    /// A cluster whose tenant role is made.
    async fn cluster(&self, token: &str, name: &str) -> Value {
        let body = json!({ "name": name, "region": REGION, "encryption": "external" });
        let (status, made) = self.call(token, "POST", "/v1/clusters", Some(body)).await;
        assert_eq!((status, &made["phase"]), (201, &json!("Creating")), "{made}");
        let id: ClusterId = made["id"].as_str().expect("an id").parse().expect("an id");
        let role = crate::plan::tenant_role(&self.app.provider, &id).expect("a role");
        let done = self.store.record_role(&id, &role).await.expect("the store");
        assert_eq!(done, Recorded::New);
        self.call(token, "GET", &format!("/v1/clusters/{name}"), None).await.1
    }

    async fn assignment(&self) -> Assignment {
        self.assignment_of(NODE, REGION).await
    }

    async fn assignment_of(&self, token: &str, region: &str) -> Assignment {
        let path = format!("/v1/node/assignment?region={region}");
        let (status, value) = self.call(token, "GET", &path, None).await;
        assert_eq!(status, 200);
        serde_json::from_value(value).expect("an assignment")
    }

    async fn put(&self, status: &NodeStatus) -> (u16, Value) {
        let body = serde_json::to_value(status).expect("JSON");
        self.call(NODE, "PUT", "/v1/node/status", Some(body)).await
    }

    fn status(&self, clusters: Vec<ClusterStatus>, preflights: Vec<PreflightReport>) -> NodeStatus {
        let Report { status, .. } = crate::testing::report(clusters, 0);
        NodeStatus { preflights, ..status }
    }

    /// Runs a preflight whose checks all hold, as the node would.
    async fn passed_preflight(&self, token: &str, name: &str, key: &KeyArn) {
        let path = format!("/v1/clusters/{name}/preflights");
        let (status, view) =
            self.call(token, "POST", &path, Some(json!({ "key_arns": [key] }))).await;
        assert_eq!((status, &view["state"]), (201, &json!("pending")), "{view}");
        let asked = self.assignment().await.preflights.pop().expect("the preflight");
        let report = whole_report(&asked);
        assert_eq!(self.put(&self.status(Vec::new(), vec![report])).await.0, 204);
        let path = format!("{path}/{}", asked.preflight);
        let (_, view) = self.call(token, "GET", &path, None).await;
        assert_eq!(view["state"], "passed", "{view}");
        assert!(self.assignment().await.preflights.is_empty());
    }
}

fn whole_report(asked: &PreflightRequest) -> PreflightReport {
    let checks = crate::preflight::NEEDED.map(|name| PreflightCheck {
        check: name.to_owned(),
        ok: true,
        cause: None,
        detail: None,
        request_id: Some("r".to_owned()),
    });
    PreflightReport {
        preflight: asked.preflight.clone(),
        key: asked.key.clone(),
        checks: checks.to_vec(),
        finished_ms: 1,
    }
}
