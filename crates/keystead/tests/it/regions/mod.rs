//! Clusters of two Regions: each key's word in each Region, and objects that go from one to the
//! other. One KMS serves both here; each Region is dialled through a proxy of its own, so that one
//! of them can fall silent.
//!
//! `cargo xtask test` runs a sample; `cargo xtask soak objects` the full counts.

mod away;
mod calls;
mod exit;
mod kills;
mod load;
mod midst;
mod room;
mod sealed;
mod table;
mod walk;

use crate::joint::owner::Owner;
use crate::joint::proxy::Proxy;
use crate::joint::stage::{Cluster, REGION, Stage, address};
use crate::objects::client::S3;
use crate::objects::{access_key, count};
use crate::world::{Alone, World, WorldOptions};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) const SECOND: &str = "eu-west-1";

/// A cluster of two Regions, its two keys, and the way to each Region's KMS.
pub(crate) struct Pair {
    pub(crate) stage: Stage,
    /// The key owner in the second Region.
    pub(crate) there: Owner,
    pub(crate) cluster: Cluster,
    pub(crate) second_key: String,
    pub(crate) ways: [Proxy; 2],
}

/// One key for both Regions, or one each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Replicas,
    Separate,
}

impl Pair {
    pub(crate) fn start(name: &str, keys: Keys, revocation: &str) -> Self {
        Self::start_with(Alone::take(), WorldOptions::default(), name, keys, revocation)
    }

    /// The same, when the machine is ours already, in a World with options of its own.
    pub(crate) fn start_with(
        alone: Alone,
        options: WorldOptions,
        name: &str,
        keys: Keys,
        revocation: &str,
    ) -> Self {
        let ways = [Proxy::start(), Proxy::start()];
        let url = |way: &Proxy| Some(format!("http://{}", way.address));
        let options = WorldOptions {
            two_regions: true,
            node_kms_endpoint: url(&ways[0]),
            second_kms_endpoint: url(&ways[1]),
            ..options
        };
        let world = World::start_alone(alone, options, |env| {
            ways.iter().for_each(|way| way.send_to(address(env("KEYSTEAD_AWS_ENDPOINT"))));
        });
        let stage = Stage::new(world);
        let there = Owner { region: SECOND.to_owned(), ..stage.owner.clone() };
        let (cluster, second_key) = bound(&stage, &there, name, keys, revocation);
        Self { stage, there, cluster, second_key, ways }
    }

    /// An access key of the cluster, as each Region takes it.
    pub(crate) fn users(&self, role: &str) -> [S3; 2] {
        let here = access_key(&self.stage, &self.cluster, role);
        let to = address(self.stage.world.env("KEYSTEAD_SECOND_S3_ENDPOINT"));
        let there = S3 { to, region: SECOND, ..here.clone() };
        [here, there]
    }

    pub(crate) fn owner_of(&self, region: usize) -> (&Owner, &str) {
        match region {
            0 => (&self.stage.owner, &self.cluster.key_arn),
            _ => (&self.there, &self.second_key),
        }
    }

    /// Waits until the cluster's own bucket serves in both Regions.
    pub(crate) fn documents(&self, users: &[S3; 2]) {
        self.until("the bucket in both Regions", Duration::from_secs(20), || {
            let serves =
                |user: &S3| user.call("HEAD", "/documents", "", b"").is_ok_and(|r| r.status == 200);
            users.iter().all(serves).then_some(())
        });
    }

    /// Where a Region's node keeps the cluster's objects.
    pub(crate) fn folder(&self, region: &str) -> PathBuf {
        let id = self.view()["id"].as_str().expect("an id").to_owned();
        self.stage.world.data().join(format!("node/{region}/objects/{id}"))
    }

    /// How far replication is, as control tells it.
    pub(crate) fn replication(&self) -> Value {
        let shown = ["cluster", "get", &self.cluster.name, "--json"];
        self.stage.world.cli_json(&shown)["replication"].clone()
    }

    pub(crate) fn view(&self) -> Value {
        self.stage.view(&self.cluster.name)
    }

    /// Waits until something holds; shows the cluster when it does not.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                begun.elapsed() < deadline,
                "not within {deadline:?}: {what}\n{:#}\n{}",
                self.view(),
                self.stage.world.log_tails()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Creates a cluster with a backup Region and binds its keys.
fn bound(
    stage: &Stage,
    there: &Owner,
    name: &str,
    keys: Keys,
    revocation: &str,
) -> (Cluster, String) {
    let create = ["cluster", "create", name, "--region", REGION, "--backup-region", SECOND];
    stage.world.cli_ok(&[&create[..], &["--encryption", "external"]].concat());
    stage.wait(name, "AwaitingKey", None, Duration::from_secs(5));
    let role = stage.view(name)["tenant_role_arn"].as_str().expect("a role").to_owned();
    let (key_arn, second) = match keys {
        Keys::Separate => (stage.owner.make_key(&role), there.make_key(&role)),
        Keys::Replicas => {
            let policy = stage.owner.policy(Some(&role));
            let make = json!({ "Policy": policy, "MultiRegion": true });
            let made = stage.owner.call("CreateKey", make).body;
            let key = made["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned();
            let copy = json!({ "KeyId": key, "ReplicaRegion": SECOND, "Policy": policy });
            let copied = stage.owner.call("ReplicateKey", copy).body;
            let replica = copied["ReplicaKeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned();
            let describe = json!({ "KeyId": replica });
            let begun = Instant::now();
            while there.call("DescribeKey", describe.clone()).body["KeyMetadata"]["KeyState"]
                != "Enabled"
            {
                assert!(begun.elapsed() < Duration::from_secs(10), "the replica is not enabled");
                std::thread::sleep(Duration::from_millis(50));
            }
            (key, replica)
        }
    };
    let associate = ["cluster", "associate", name, "--key-arn", &key_arn];
    let second_args = ["--backup-key-arn", &second, "--revocation", revocation];
    stage.world.cli_ok(&[&associate[..], &second_args[..]].concat());
    stage.wait(name, "Ready", None, Duration::from_secs(60));
    let postgres = stage.view(name)["endpoints"]["postgres"].as_str().expect("shown").to_owned();
    (Cluster { name: name.to_owned(), key_arn, role_arn: role, postgres }, second)
}
