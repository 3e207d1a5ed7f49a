//! `cargo xtask demo`: the steps between an operator and a key owner, for real, with a cluster of
//! two Regions. The key owner uses the stock AWS CLI, the reader uses psql, the holder of a link
//! curl; each line says what was checked and how long it took.

mod documents;
mod keys;
pub(crate) mod stage;

use crate::setup;
use anyhow::{Context, Result, ensure};
use documents::Document;
use serde_json::Value;
use stage::{Reader, Stage};
use std::time::{Duration, Instant};

pub(crate) const REGION: &str = "eu-central-1";
const BACKUP_REGION: &str = "eu-west-1";
const CLUSTER: &str = "demo";

/// Runs it; with `once` everything is stopped and deleted at the end.
pub(crate) fn run(once: bool) -> Result<()> {
    let tools = setup::run()?;
    println!("building (about ten minutes of CPU on a fresh clone)");
    crate::proc::status(&mut crate::proc::cargo(&["build", "--profile", "ci", "-p", "keystead"]))?;
    let mut stage = Stage::start(tools, "demo")?;
    let result = steps(&stage);
    match (&result, once) {
        (Ok(()), false) => stage.stay()?,
        (Err(_), _) => eprintln!("{}", stage.log_tails()),
        _ => {}
    }
    stage.end(once)?;
    result
}

/// Prints one numbered line with the time that `check` took.
fn step<T>(number: u32, check: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
    let begun = Instant::now();
    let (value, text) = check().with_context(|| format!("step {number}"))?;
    println!("{number}. {text} ({:.2} s)", begun.elapsed().as_secs_f64());
    Ok(value)
}

fn steps(stage: &Stage) -> Result<()> {
    step(1, || {
        let made = stage.json(&[
            "cluster",
            "create",
            CLUSTER,
            "--region",
            REGION,
            "--backup-region",
            BACKUP_REGION,
            "--encryption",
            "external",
            "--json",
        ])?;
        ensure!(made["name"] == CLUSTER, "the answer names {}", made["name"]);
        let id = word(&made, "/id")?;
        Ok((
            (),
            format!(
                "operator makes a cluster with external keys in {REGION} and {BACKUP_REGION}: {id}"
            ),
        ))
    })?;
    let role = step(2, || {
        let view = stage.watch(CLUSTER, "AwaitingKey", "30s")?;
        let role = word(&view, "/tenant_role_arn")?;
        let text = format!("cluster awaits its key, tenant role {role}");
        Ok((role, text))
    })?;
    let keys = step(3, || {
        let account = stage.env("KEYSTEAD_CUSTOMER_ACCOUNT")?;
        let policy = stage.cli(&["policy", "render", CLUSTER, "--customer-account", account])?;
        ensure!(policy.contains(&role), "the policy does not name the tenant role");
        let keys = keys::make(stage, &policy)?;
        let text = format!(
            "key owner makes a multi-Region key with that policy and its replica, by the stock AWS CLI: {}, {}",
            keys.primary, keys.replica
        );
        Ok((keys, text))
    })?;
    step(4, || {
        let one = ["cluster", "associate", CLUSTER, "--key-arn", &keys.primary];
        let both = [&one[..], &["--backup-key-arn", &keys.replica, "--revocation", "any"]].concat();
        let lines = stage.cli(&both)?;
        let held = lines.lines().filter(|l| l.trim_start().starts_with("ok ")).count();
        ensure!(held >= 18, "only {held} checks were shown:\n{lines}");
        ensure!(stage.cli(&both).is_err(), "a second binding was accepted");
        Ok((
            (),
            format!(
                "preflight as the tenant role in both Regions: {held} checks hold; bound once, a second binding is refused"
            ),
        ))
    })?;
    let uri = step(5, || {
        let view = stage.watch(CLUSTER, "Ready", "90s")?;
        let volumes = stage.json(&["volume", "list", CLUSTER, "--json"])?;
        let volumes = volumes.as_array().context("volumes are a list")?;
        ensure!(
            volumes.len() >= 2 && volumes.iter().all(|v| v["grant_id"].is_string()),
            "a volume has no grant: {volumes:?}"
        );
        let uri = word(&view, "/endpoints/postgres")?;
        Ok((uri, format!("Ready: {} encrypted volumes, each with its own grant", volumes.len())))
    })?;
    let mut reader = Reader::start(&uri)?;
    let document = step(6, || {
        let rows = reader.wait_for(20, Duration::from_secs(10))?;
        let document = Document::put(stage)?;
        let text = format!(
            "the workload's user writes and reads by psql: {rows} rows acknowledged; a document put, listed and got by `keystead doc`, and by curl with its link"
        );
        Ok((document, text))
    })?;
    step(7, || {
        let took = document.replicated(stage)?;
        let view = stage.json(&["cluster", "get", CLUSTER, "--json"])?;
        let lag = &view["replication"];
        ensure!(lag["pending"].is_u64(), "no lag is shown: {view}");
        let text = format!(
            "the document is in {BACKUP_REGION} too, read there by the stock AWS CLI within {} ms; a write there is refused; {} changes wait, {} ms behind",
            took.as_millis(),
            lag["pending"],
            lag["lag_ms"]
        );
        Ok(((), text))
    })?;
    step(8, || keys::seen_in_trail(stage, &keys.primary))?;
    step(9, || keys::disable_one(stage, &keys, &reader, &document))?;
    step(10, || keys::enable_one(stage, &keys, &reader, &document))?;
    step(11, || keys::disable_both(stage, &reader, &document))?;
    step(12, || keys::enable_both(stage, &mut reader, &document))?;
    Ok(())
}

pub(crate) fn word(value: &Value, at: &str) -> Result<String> {
    value
        .pointer(at)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("no {at} in {value}"))
}
