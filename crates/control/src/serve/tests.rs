//! The whole server over TCP: the real client, SQLite on disk, and an IAM that checks signatures.

use super::*;
use crate::client::{Client, ClientError};
use crate::config::NodeEntry;
use crate::wire::{CreateCluster, Phase};
use axum::Router;
use axum::extract::{Request, State};
use http::StatusCode;
use keystead_aws::query::{Form, IAM_NAMESPACE, RoleView, create_role, get_role, no_result};
use keystead_aws::sigv4::{HttpRequest, parse, verify};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

const SECRET: &str = "a secret of the user keystead-control";

/// Trust policy, and the role's own once it has one.
type Policies = (String, Option<String>);

/// Roles by name.
#[derive(Clone, Default)]
struct Roles(Arc<Mutex<BTreeMap<String, Policies>>>);

impl Roles {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<String, Policies>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn iam_call(State(roles): State<Roles>, request: Request) -> (StatusCode, String) {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_str().unwrap_or_default().to_owned()))
        .collect();
    let signed =
        HttpRequest { method: "POST", path: "/", query: "", headers: &headers, body: &body };
    let presented = parse(&signed).expect("a signature");
    assert_eq!((presented.service.as_str(), presented.region.as_str()), ("iam", "us-east-1"));
    let host = signed.header("host").expect("a host").to_owned();
    if verify(&presented, &signed, SECRET, SystemClock.wall_ms(), &[host]).is_err() {
        return (StatusCode::FORBIDDEN, error("SignatureDoesNotMatch"));
    }
    let form = Form::parse(&body).expect("a form");
    let get = |name: &str| form.get(name).unwrap_or_default().to_owned();
    let name = get("RoleName");
    let arn = format!("arn:aws:iam::444455556666:role/{name}");
    let view = |trust: &str, answer: fn(&RoleView<'_>, &str) -> String| {
        let role = RoleView {
            path: "/",
            name: &name,
            role_id: "AROAX",
            arn: &arn,
            created_ms: 0,
            trust_policy: trust,
            description: None,
            max_session_duration: 3600,
        };
        (StatusCode::OK, answer(&role, "r"))
    };
    roles.with(|all| match (get("Action").as_str(), all.get_mut(&name)) {
        ("CreateRole", Some(_)) => (StatusCode::CONFLICT, error("EntityAlreadyExists")),
        ("CreateRole", None) => {
            let trust = get("AssumeRolePolicyDocument");
            all.insert(name.clone(), (trust.clone(), None));
            view(&trust, create_role)
        }
        ("GetRole", Some((trust, _))) => view(trust, get_role),
        ("PutRolePolicy", Some((_, own))) => {
            *own = Some(get("PolicyDocument"));
            (StatusCode::OK, no_result("PutRolePolicy", "r"))
        }
        _ => (StatusCode::BAD_REQUEST, error("InvalidAction")),
    })
}

fn error(code: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"{IAM_NAMESPACE}\"><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
    )
}

async fn start_iam(roles: Roles) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().fallback(iam_call).with_state(roles);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("0600");
}

fn config(folder: &Path, iam: SocketAddr, secret: &str) -> ControlConfig {
    let path = |name: &str| folder.join(name);
    private(
        &path("credentials.toml"),
        &format!("access_key_id = \"AKIAX\"\nsecret_access_key = \"{secret}\"\n"),
    );
    private(&path("platform"), "ks_platform\n");
    private(&path("node"), "ks_node\n");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    ControlConfig {
        listen: free.local_addr().expect("an address"),
        data: path("control"),
        provider_account: "444455556666".parse().expect("an account"),
        aws_endpoint: format!("http://{iam}"),
        credentials: path("credentials.toml"),
        platform_token: path("platform"),
        evict_after: Some("1m".to_owned()),
        node: vec![NodeEntry {
            region: crate::testing::REGION.parse().expect("a Region"),
            name: "node-eu-central-1".to_owned(),
            user_arn: "arn:aws:iam::444455556666:user/n".parse().expect("a user"),
            token_file: path("node"),
        }],
    }
}

struct Running {
    client: Client,
    base: String,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), ControlError>>,
}

async fn start(config: ControlConfig) -> Running {
    let base = format!("http://{}", config.listen);
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve_until(config, async {
        let _ = stopped.await;
    }));
    let client = Client::new(&base, "ks_platform").expect("a client");
    for _ in 0..200 {
        if client.whoami().await.is_ok() {
            return Running { client, base, stop, task };
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("control does not serve: {:?}", task.await);
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        let ended = tokio::time::timeout(Duration::from_secs(10), self.task).await;
        ended.expect("in time").expect("no panic").expect("a clean end");
    }
}

fn wanted(name: &str) -> CreateCluster {
    CreateCluster {
        name: name.to_owned(),
        region: crate::testing::REGION.parse().expect("a Region"),
        backup_region: None,
        encryption: "external".to_owned(),
        template: None,
        evict_after: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_gets_its_role_and_outlives_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let roles = Roles::default();
    let iam = start_iam(roles.clone()).await;
    let first = start(config(folder.path(), iam, SECRET)).await;
    let made = first.client.create_organization("mine").await.expect("an organization");
    let token = made.token.expect("a token");
    let owner = Client::new(&first.base, &token).expect("a client");
    let cluster = owner.create_cluster(&wanted("one")).await.expect("a cluster");
    let limit = Duration::from_secs(20);
    let view = owner.watch("one", Some(Phase::AwaitingKey), limit).await.expect("a view");
    assert_eq!(view.phase, Phase::AwaitingKey, "{}", view.message);
    let role = view.tenant_role_arn.expect("a role");
    assert_eq!(role.name(), format!("keystead-{}", cluster.id));
    let own = roles.with(|all| all.get(role.name()).and_then(|(_, own)| own.clone()));
    assert!(own.expect("its own policy").contains("arn:aws:kms:eu-central-1:*:key/*"));
    let refused = owner.create_cluster(&wanted("one")).await.expect_err("the name is taken");
    assert_eq!(refused.problem().map(|p| p.status), Some(409));

    // A long poll under way does not hold the end up.
    let node = Client::new(&first.base, "ks_node").expect("a client");
    let all = node.assignment("eu-central-1", None, limit).await.expect("an answer");
    let all = all.expect("an assignment");
    assert_eq!((all.clusters.len(), all.clusters[0].lease.evict_after_ms), (1, 60_000));
    let after = Some(all.generation);
    let poll = tokio::spawn(async move { node.assignment("eu-central-1", after, limit).await });
    tokio::task::yield_now().await;
    first.stop().await;
    let polled = poll.await.expect("no panic");
    assert!(matches!(polled, Ok(None) | Err(ClientError::Transport(_))), "{polled:?}");

    let second = start(config(folder.path(), iam, SECRET)).await;
    let owner = Client::new(&second.base, &token).expect("a client");
    let again = owner.cluster(cluster.id.as_str()).await.expect("the cluster");
    assert_eq!((again.phase, again.tenant_role_arn), (Phase::AwaitingKey, Some(role)));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_there_is_taken_only_when_it_is_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let roles = Roles::default();
    let iam = start_iam(roles.clone()).await;
    let config = config(folder.path(), iam, SECRET);
    let iam = super::iam(&config, Arc::new(SystemClock)).expect("a client");
    let region: Region = crate::testing::REGION.parse().expect("a Region");
    let ours = "arn:aws:iam::444455556666:role/keystead-ours".parse().expect("a role");
    iam.make(&ours, std::slice::from_ref(&region)).await.expect("made");
    iam.make(&ours, std::slice::from_ref(&region)).await.expect("made again after a crash");
    let foreign = "arn:aws:iam::444455556666:role/keystead-foreign".parse().expect("a role");
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::999999999999:root"},"Action":"sts:AssumeRole"}]}"#;
    roles.with(|all| all.insert("keystead-foreign".to_owned(), (trust.to_owned(), None)));
    assert!(matches!(
        iam.make(&foreign, std::slice::from_ref(&region)).await,
        Err(RoleError::Foreign(_))
    ));
    let own = roles.with(|all| all.get("keystead-foreign").and_then(|(_, own)| own.clone()));
    assert_eq!(own, None, "a foreign role is left alone");
    let nowhere = "eu-west-1".parse().expect("a Region");
    assert!(matches!(
        iam.make(&ours, std::slice::from_ref(&nowhere)).await,
        Err(RoleError::NoNode(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_role_is_not_made_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let iam = start_iam(Roles::default()).await;
    let running = start(config(folder.path(), iam, "another secret")).await;
    let made = running.client.create_organization("mine").await.expect("an organization");
    let owner = Client::new(&running.base, &made.token.expect("a token")).expect("a client");
    owner.create_cluster(&wanted("one")).await.expect("a cluster");
    for _ in 0..200 {
        let view = owner.cluster("one").await.expect("a view");
        assert_eq!(view.phase, Phase::Creating);
        if view.message.contains("SignatureDoesNotMatch") {
            assert!(!view.message.contains("another secret"));
            running.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the fault never showed");
}
