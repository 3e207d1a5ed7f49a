//! `cargo xtask bench kms`: CPU time of the server for each call, beside that of `/healthz` on the
//! same listener in the same run. The server has one core, the load the other; wall clock figures
//! are printed but are the machine's as much as ours.

mod load;
mod objects;
mod peers;

pub(crate) use objects::objects;

use crate::{proc, setup};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CALLS: [&str; 5] = ["healthz", "DescribeKey", "GenerateDataKey", "Decrypt", "Decrypt-DryRun"];
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 3;
const SPAN: Duration = Duration::from_secs(2);
/// USER_HZ of every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Runs it.
pub(crate) fn kms() -> Result<()> {
    let tools = setup::run()?;
    proc::status(&mut proc::cargo(&["build", "--profile", "ci", "-p", "keystead"]))?;
    let target = proc::target();
    let folder = setup::beside_target(&format!("keystead-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = measure(&tools, &folder);
    let program = target.join("ci/keystead");
    let _ = proc::output(
        Command::new(program).args(["dev", "clean", "--data"]).arg(folder.join("data")),
    );
    fs::remove_dir_all(&folder).with_context(|| format!("delete {}", folder.display()))?;
    result
}

struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn measure(tools: &setup::Tools, folder: &Path) -> Result<()> {
    let env_file = folder.join("env");
    let data = folder.join("data");
    let dev =
        proc::dev(&data, &env_file).stdout(Stdio::null()).spawn().context("start keystead dev")?;
    let _dev = Dev(dev);
    let begun = Instant::now();
    while !env_file.exists() {
        ensure!(begun.elapsed() < Duration::from_secs(35), "keystead dev did not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
    let text = fs::read_to_string(&env_file)?;
    let env: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.trim_start_matches("export ").split_once('='))
        .map(|(name, value)| (name, value.trim_matches('\'')))
        .collect();
    let get = |name: &str| env.get(name).copied().with_context(|| format!("no {name}"));
    let endpoint = get("KEYSTEAD_AWS_ENDPOINT")?;
    let pid = fs::read_to_string(data.join("run/kms.pid"))?.trim().to_owned();
    proc::output(Command::new("taskset").args(["-acp", "0", &pid]))?;
    proc::output(Command::new("taskset").args(["-acp", "1", &std::process::id().to_string()]))?;
    println!("{:16} {:>10} {:>14} {:>8}", "call", "per second", "CPU us a call", "ratio");
    // Quietest of the rounds, which are interleaved: neighbours come and go.
    let mut best: HashMap<&str, (f64, f64)> = HashMap::new();
    for _ in 0..ROUNDS {
        // Signed anew: signatures age.
        proc::output(
            Command::new(&tools.python)
                .arg(proc::root().join("compat/presign_kms.py"))
                .args([endpoint, &folder.display().to_string()])
                .env("AWS_ACCESS_KEY_ID", get("KEYSTEAD_CUSTOMER_AWS_ACCESS_KEY_ID")?)
                .env("AWS_SECRET_ACCESS_KEY", get("KEYSTEAD_CUSTOMER_AWS_SECRET_ACCESS_KEY")?),
        )?;
        for call in CALLS {
            let requests = read_requests(&folder.join(call))?;
            let before = cpu_seconds(&pid)?;
            let (count, took) = load(endpoint.trim_start_matches("http://"), &requests)?;
            let cpu = (cpu_seconds(&pid)? - before) * 1e6 / count as f64;
            let rate = count as f64 / took.as_secs_f64();
            let entry = best.entry(call).or_insert((rate, cpu));
            *entry = (entry.0.max(rate), entry.1.min(cpu));
        }
    }
    let base = best["healthz"].1;
    for call in CALLS {
        let (rate, cpu) = best[call];
        println!("{call:16} {rate:>10.0} {cpu:>14.1} {:>8.2}", cpu / base);
    }
    println!(
        "{CONNECTIONS} connections, {ROUNDS} rounds of {SPAN:?}, the best of each; calls that release a key wait for their record's fsync"
    );
    Ok(())
}

fn read_requests(path: &Path) -> Result<Vec<Vec<u8>>> {
    let mut file = BufReader::new(fs::File::open(path)?);
    let mut all = Vec::new();
    let mut line = String::new();
    while file.read_line(&mut line)? > 0 {
        let mut request = vec![0; line.trim().parse().context("a length")?];
        file.read_exact(&mut request)?;
        all.push(request);
        line.clear();
    }
    Ok(all)
}

/// User and system time of all threads.
fn cpu_seconds(pid: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok());
    let all = ticks(11).zip(ticks(12)).context("read the CPU time")?;
    Ok((all.0 + all.1) / TICKS_PER_SECOND)
}

/// Every answer must be 200, or the refusal that says that a dry run would have succeeded.
fn load(address: &str, requests: &[Vec<u8>]) -> Result<(u64, Duration)> {
    let count = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let failed = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|n| {
                let (count, stop) = (&count, &stop);
                scope.spawn(move || worker(address, &requests[n..], count, stop))
            })
            .collect();
        std::thread::sleep(SPAN);
        stop.store(true, Ordering::Relaxed);
        let ends = workers.into_iter().map(|w| w.join().unwrap_or_else(|_| bail!("a worker")));
        ends.filter_map(Result::err).next()
    });
    match failed {
        Some(error) => Err(error),
        None => Ok((count.into_inner(), begun.elapsed())),
    }
}

fn worker(address: &str, requests: &[Vec<u8>], count: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut body = Vec::new();
    for request in requests.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        stream.write_all(request)?;
        let mut length = 0;
        let mut status = String::new();
        reader.read_line(&mut status)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        let dry = body.starts_with(b"{\"__type\":\"DryRunOperationException\"");
        ensure!(status.contains(" 200 ") || dry, "{status}{}", String::from_utf8_lossy(&body));
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
