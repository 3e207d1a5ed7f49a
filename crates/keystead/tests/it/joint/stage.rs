//! The stage of every joint test: one world, one cluster under the customer's key, ready.

use super::owner::{Owner, http};
use crate::world::World;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) const REGION: &str = "eu-central-1";

pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) key_arn: String,
    pub(crate) role_arn: String,
    pub(crate) postgres: String,
}

pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) owner: Owner,
}

impl Stage {
    pub(crate) fn new(world: World) -> Self {
        let get = |name: &str| world.env(name).to_owned();
        let owner = Owner {
            endpoint: address(&get("KEYSTEAD_AWS_ENDPOINT")),
            account: get("KEYSTEAD_CUSTOMER_ACCOUNT"),
            access_key_id: get("KEYSTEAD_CUSTOMER_AWS_ACCESS_KEY_ID"),
            secret: get("KEYSTEAD_CUSTOMER_AWS_SECRET_ACCESS_KEY"),
            region: REGION.to_owned(),
        };
        Self { world, owner }
    }

    /// Asks control's API.
    pub(crate) fn api(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let to = address(self.world.env("KEYSTEAD_API"));
        let headers = [
            ("host".to_owned(), to.to_string()),
            ("content-type".to_owned(), "application/json".to_owned()),
            ("authorization".to_owned(), format!("Bearer {}", self.world.env("KEYSTEAD_TOKEN"))),
        ];
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        match http(to, method, path, &headers, &body, Duration::from_secs(10)) {
            Ok(answer) => (answer.status, answer.body),
            Err(e) => (0, json!({"transport": e.to_string()})),
        }
    }

    /// The cluster as control shows it.
    pub(crate) fn view(&self, name: &str) -> Value {
        self.api("GET", &format!("/v1/clusters/{name}"), Value::Null).1
    }

    /// Waits until the cluster shows a phase and, if given, a cause; answers how long that took.
    pub(crate) fn wait(
        &self,
        name: &str,
        phase: &str,
        cause: Option<&str>,
        deadline: Duration,
    ) -> Duration {
        let begun = Instant::now();
        loop {
            let view = self.view(name);
            if view["phase"] == phase && cause.is_none_or(|c| view["cause"] == c) {
                return begun.elapsed();
            }
            assert!(
                begun.elapsed() < deadline,
                "{name} is not {phase} {cause:?} within {deadline:?} but {view:#}\n{}",
                self.world.log_tails()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Creates a cluster, makes its key as the owner, associates it and waits until it is ready.
    pub(crate) fn cluster(&self, name: &str) -> Cluster {
        let made = self.world.cli_json(&[
            "cluster",
            "create",
            name,
            "--region",
            REGION,
            "--encryption",
            "external",
            "--json",
        ]);
        assert_eq!(made["name"], name);
        self.wait(name, "AwaitingKey", None, Duration::from_secs(5));
        let role_arn =
            self.view(name)["tenant_role_arn"].as_str().expect("the role is shown").to_owned();
        let key_arn = self.owner.make_key(&role_arn);
        self.world.cli_ok(&["cluster", "associate", name, "--key-arn", &key_arn]);
        self.wait(name, "Ready", None, Duration::from_secs(60));
        let postgres = self.view(name)["endpoints"]["postgres"]
            .as_str()
            .expect("an endpoint is shown")
            .to_owned();
        Cluster { name: name.to_owned(), key_arn, role_arn, postgres }
    }
}

pub(crate) fn address(url: &str) -> SocketAddr {
    let text = url.trim_start_matches("http://").trim_end_matches('/');
    text.parse().unwrap_or_else(|e| panic!("{url} is no loopback address: {e}"))
}
