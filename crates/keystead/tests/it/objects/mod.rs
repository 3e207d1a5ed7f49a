//! Objects under the customer's key: a cluster's buckets in the whole system.
//!
//! `cargo xtask test` runs each scenario with few cycles; `cargo xtask soak objects` sets
//! KEYSTEAD_SOAK=objects and runs the full counts. Figures are printed as `FIGURE …` lines.

pub(crate) mod client;
mod documents;
mod exit;
mod kills;
mod revoked;
mod walk;

use crate::joint::stage::{Cluster, REGION, Stage, address};
use client::S3;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The sampled count in `test`, the full one in `soak`.
pub(crate) fn count(sample: usize, full: usize) -> usize {
    crate::count("objects", sample, full)
}

/// A new access key of a cluster.
pub(crate) fn access_key(stage: &Stage, cluster: &Cluster, role: &str) -> S3 {
    let made = stage.world.cli_json(&["s3-key", "create", &cluster.name, "--role", role, "--json"]);
    let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{name}")).to_owned();
    S3 {
        to: address(stage.world.env("KEYSTEAD_S3_ENDPOINT")),
        access_key_id: text("access_key_id"),
        secret: text("secret_access_key"),
        region: REGION,
    }
}

/// A bucket's record as control shows it, once it serves.
pub(crate) fn serving(stage: &Stage, cluster: &Cluster, name: &str) -> Value {
    let begun = Instant::now();
    loop {
        let all = stage.world.cli_json(&["bucket", "list", &cluster.name, "--json"]);
        let found = all.as_array().expect("a list").iter().find(|b| b["name"] == name).cloned();
        if let Some(bucket) = found.as_ref().filter(|b| b["state"] == "serving") {
            return bucket.clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{name} does not serve: {found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes that tell where they stand.
pub(crate) fn text(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// Disables the key; answers the moment of KMS's answer.
fn disable(stage: &Stage, cluster: &Cluster) -> Instant {
    stage.owner.call("DisableKey", json!({ "KeyId": cluster.key_arn })).at
}

/// Enables it; answers the moment of KMS's answer.
fn enable(stage: &Stage, cluster: &Cluster) -> Instant {
    stage.owner.call("EnableKey", json!({ "KeyId": cluster.key_arn })).at
}

/// Waits until an object is answered again; says how long after `since`.
pub(crate) fn back(s3: &S3, path: &str, since: Instant) -> Duration {
    loop {
        if s3.call("HEAD", path, "", b"").is_ok_and(|r| r.status == 200) {
            return since.elapsed();
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{path} does not come back");
        std::thread::sleep(Duration::from_millis(10));
    }
}
