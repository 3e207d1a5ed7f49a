//! `cargo xtask bench objects`: CPU time of the gateway for each GiB, in the whole system under a
//! cluster's key, beside nginx and s3s-fs in the same run. Each server has core 0, the load and all
//! else core 1. Objects of 64 MiB, bodies unsigned, CRC64NVME checked. Ours alone encrypts, and
//! alone waits for the disk.

use super::load::{Body, load};
use super::peers::{Nginx, S3sFs};
use super::{cpu_seconds, read_requests};
use crate::demo::stage::Stage;
use crate::demo::{REGION, word};
use crate::{proc, setup};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const CLUSTER: &str = "bench";
pub(super) const BUCKET: &str = "documents";
const SIZE: usize = 64 << 20;
const KEYS: usize = 4;
const ROUNDS: usize = 3;
const GIB: f64 = (1 << 30) as f64;
/// CPU seconds a GiB of ours, at the most.
const BARS: [(&str, f64); 2] = [("PUT", 1.1), ("GET", 1.0)];
/// What makes every figure worthless.
const BUILDERS: [&str; 9] = [
    "rustc",
    "clippy-driver",
    "cc1",
    "cc1plus",
    "ld",
    "ld.lld",
    "rust-lld",
    "javac",
    "qemu-system-x86",
];

/// Each as it goes over the wire, or its head.
pub(super) type Requests = Vec<Vec<u8>>;

/// A server's process, where it listens, and the requests of each operation.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) pid: String,
    pub(super) address: String,
    pub(super) put: Requests,
    pub(super) get: Requests,
}

/// Runs it.
pub(crate) fn objects() -> Result<()> {
    still()?;
    let tools = setup::run()?;
    proc::status(&mut proc::cargo(&["build", "--profile", "ci", "-p", "keystead"]))?;
    let programs = super::peers::install()?;
    still()?;
    // Before anything starts, so that all of it inherits core 1.
    proc::output(Command::new("taskset").args(["-acp", "1", &std::process::id().to_string()]))?;
    let folder = setup::beside_target(&format!("keystead-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = measure(&tools, &programs, &folder);
    fs::remove_dir_all(&folder).with_context(|| format!("delete {}", folder.display()))?;
    result
}

/// Nothing may build meanwhile: the two cores are the server's and the load's.
fn still() -> Result<()> {
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        ensure!(
            !BUILDERS.contains(&name.trim()),
            "{} runs (process {}): figures would be its as much as ours; run the bench when the machine is still",
            name.trim(),
            entry.file_name().to_string_lossy()
        );
    }
    Ok(())
}

fn measure(tools: &setup::Tools, programs: &super::peers::Programs, folder: &Path) -> Result<()> {
    let body = Body::new(SIZE);
    let mut stage = Stage::start(tools.clone(), "bench-dev")?;
    let (access_key_id, secret) = cluster(&stage)?;
    let nginx = Nginx::start(programs, folder)?;
    let s3s_fs = S3sFs::start(programs, folder, &access_key_id, &secret)?;
    let node = fs::read_to_string(stage.data().join("run/node.pid"))?.trim().to_owned();
    proc::output(Command::new("taskset").args(["-acp", "0", &node]))?;
    let ours = stage.env("KEYSTEAD_S3_ENDPOINT")?.trim_start_matches("http://").to_owned();
    let sign = |address: &str| -> Result<(Requests, Requests)> {
        proc::output(
            Command::new(&tools.python)
                .arg(proc::root().join("compat/sign_objects.py"))
                .args([address, REGION, BUCKET, &folder.display().to_string()])
                .args([&KEYS.to_string(), &SIZE.to_string(), &body.checksum])
                .env("AWS_ACCESS_KEY_ID", &access_key_id)
                .env("AWS_SECRET_ACCESS_KEY", &secret),
        )?;
        Ok((read_requests(&folder.join("put"))?, read_requests(&folder.join("get"))?))
    };
    // Quietest of the rounds, which are interleaved: neighbours come and go.
    let mut best: BTreeMap<(&str, &str), (f64, f64)> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let signed = |name, pid: &str, address: &str| -> Result<Server> {
            let (put, get) = sign(address)?;
            Ok(Server { name, pid: pid.to_owned(), address: address.to_owned(), put, get })
        };
        let mut servers = vec![
            signed("keystead", &node, &ours)?,
            signed("s3s-fs", &s3s_fs.pid(), &s3s_fs.address)?,
        ];
        servers.extend(nginx.servers(KEYS, SIZE));
        for server in &servers {
            for (operation, requests) in [("PUT", &server.put), ("GET", &server.get)] {
                if requests.is_empty() {
                    continue;
                }
                let before = cpu_seconds(&server.pid)?;
                let body = (operation == "PUT").then_some(&body);
                let (bytes, took) = load(&server.address, requests, body, SIZE)
                    .with_context(|| format!("{operation} of {}", server.name))?;
                let cpu = (cpu_seconds(&server.pid)? - before) / (bytes as f64 / GIB);
                let rate = bytes as f64 / 1e6 / took.as_secs_f64();
                let entry = best.entry((operation, server.name)).or_insert((rate, cpu));
                *entry = (entry.0.max(rate), entry.1.min(cpu));
            }
        }
        still()?;
    }
    stage.end(true)?;
    report(&best)
}

/// A cluster with its key, Ready; answers an access key of its buckets.
fn cluster(stage: &Stage) -> Result<(String, String)> {
    stage.cli(&["cluster", "create", CLUSTER, "--region", REGION, "--encryption", "external"])?;
    stage.watch(CLUSTER, "AwaitingKey", "60s")?;
    let account = stage.env("KEYSTEAD_CUSTOMER_ACCOUNT")?;
    let policy = stage.cli(&["policy", "render", CLUSTER, "--customer-account", account])?;
    let made = stage.aws(&["kms", "create-key", "--policy", &policy])?;
    let key = word(&made, "/KeyMetadata/Arn")?;
    stage.cli(&["cluster", "associate", CLUSTER, "--key-arn", &key])?;
    stage.watch(CLUSTER, "Ready", "120s")?;
    let key = stage.json(&["s3-key", "create", CLUSTER, "--role", "writer", "--json"])?;
    Ok((word(&key, "/access_key_id")?, word(&key, "/secret_access_key")?))
}

fn report(best: &BTreeMap<(&str, &str), (f64, f64)>) -> Result<()> {
    println!("{:4} {:16} {:>8} {:>12} {:>16}", "", "server", "MB/s", "CPU s/GiB", "keystead's, x");
    let mut over = Vec::new();
    for (operation, bar) in BARS {
        let ours = best.get(&(operation, "keystead")).context("no figure of ours")?.1;
        for ((_, name), (rate, cpu)) in best.iter().filter(|((o, _), _)| *o == operation) {
            println!("{operation:4} {name:16} {rate:>8.0} {cpu:>12.3} {:>16.2}", ours / cpu);
        }
        println!("{operation:4} bar: keystead <= {bar} CPU s/GiB, has {ours:.3}");
        if ours > bar {
            over.push(format!("{operation}: {ours:.3} CPU s/GiB, its bar is {bar}"));
        }
    }
    println!(
        "{KEYS} objects of {} MiB, {} connections, {ROUNDS} rounds of {:?} a cell, the best of each; keystead alone encrypts and syncs to the disk",
        SIZE >> 20,
        super::load::CONNECTIONS,
        super::load::SPAN
    );
    ensure!(over.is_empty(), "over the bar: {}", over.join("; "));
    Ok(())
}
