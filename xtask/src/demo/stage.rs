//! The demo's processes, and the bench's: `keystead dev` on free ports, the AWS CLI, one psql that writes.

use crate::proc;
use crate::setup::{self, Tools};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PSQL: &str = "/usr/lib/postgresql/15/bin/psql";

/// The running roles and both people's tools.
pub(crate) struct Stage {
    tools: Tools,
    program: PathBuf,
    data: PathBuf,
    env: HashMap<String, String>,
    dev: Child,
}

impl Stage {
    /// Over a folder beside the target's, named by what it is for.
    pub(crate) fn start(tools: Tools, what: &str) -> Result<Self> {
        let program = proc::target().join("ci/keystead");
        let data = setup::beside_target(&format!("keystead-{what}-{}", std::process::id()));
        let file = data.with_extension("env");
        let dev = proc::dev(&data, &file)
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut stage = Self { tools, program, data, env: HashMap::new(), dev };
        let begun = Instant::now();
        while !file.exists() {
            let ended = stage.dev.try_wait()?;
            if ended.is_some() || begun.elapsed() > Duration::from_secs(35) {
                bail!("keystead dev did not come up\n{}", stage.log_tails());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for line in std::fs::read_to_string(&file)?.lines() {
            if let Some((name, value)) = line.trim_start_matches("export ").split_once('=') {
                stage.env.insert(name.to_owned(), value.trim_matches('\'').to_owned());
            }
        }
        Ok(stage)
    }

    pub(crate) fn env(&self, name: &str) -> Result<&str> {
        self.env
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("{name} is not in the env file"))
    }

    /// The operator's command line.
    pub(crate) fn cli(&self, args: &[&str]) -> Result<String> {
        proc::output(Command::new(&self.program).args(args).envs(&self.env))
    }

    pub(crate) fn json(&self, args: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.cli(args)?)?)
    }

    pub(crate) fn watch(&self, name: &str, until: &str, timeout: &str) -> Result<Value> {
        self.json(&["cluster", "watch", name, "--until", until, "--timeout", timeout, "--json"])
    }

    /// The command line with the key owner's credentials.
    pub(crate) fn cli_as_owner(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .envs(&self.env)
            .env("AWS_ACCESS_KEY_ID", self.env("KEYSTEAD_CUSTOMER_AWS_ACCESS_KEY_ID")?)
            .env("AWS_SECRET_ACCESS_KEY", self.env("KEYSTEAD_CUSTOMER_AWS_SECRET_ACCESS_KEY")?);
        proc::output(&mut command)
    }

    /// The stock AWS CLI as the key owner.
    pub(crate) fn aws(&self, args: &[&str]) -> Result<Value> {
        self.aws_in(super::REGION, args)
    }

    /// The same, in any Region.
    pub(crate) fn aws_in(&self, region: &str, args: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.tools.aws);
        command
            .args(args)
            .args(["--endpoint-url", self.env("KEYSTEAD_AWS_ENDPOINT")?, "--output", "json"])
            .env("AWS_ACCESS_KEY_ID", self.env("KEYSTEAD_CUSTOMER_AWS_ACCESS_KEY_ID")?)
            .env("AWS_SECRET_ACCESS_KEY", self.env("KEYSTEAD_CUSTOMER_AWS_SECRET_ACCESS_KEY")?)
            .env("AWS_DEFAULT_REGION", region)
            .env("AWS_PAGER", "")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE");
        let text = proc::output(&mut command)?;
        if text.trim().is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }

    /// The stock AWS CLI's program.
    pub(crate) fn aws_program(&self) -> &Path {
        &self.tools.aws
    }

    /// The data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// A file beside the demo's folder.
    pub(crate) fn beside(&self, extension: &str) -> PathBuf {
        self.data.with_extension(extension)
    }

    /// The last lines of each role's log.
    pub(crate) fn log_tails(&self) -> String {
        let mut text = String::new();
        for role in ["kms", "hold", "control", "node", "hold-eu-west-1", "node-eu-west-1"] {
            let log = std::fs::read_to_string(self.data.join(format!("log/{role}.log")))
                .unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text.push_str(&format!(
                "--- {role}\n{}\n",
                lines[lines.len().saturating_sub(15)..].join("\n")
            ));
        }
        text
    }

    /// Says who can try what, and waits until the supervisor is stopped.
    pub(crate) fn stay(&mut self) -> Result<()> {
        let (data, file) = (self.data.display(), self.data.with_extension("env"));
        let (program, aws) = (self.program.display(), self.tools.aws.display());
        println!(
            "
It stays up. In another shell, first:  . {file}

Olga, operator:
  {program} cluster get demo
  {program} why demo
  {program} volume list demo
  {program} bucket list demo
  {program} s3-key create demo --role reader
  {program} doc put demo FILE              prints the document's id
  {program} doc list demo
  {program} doc link demo ID               a link for curl, good for 15 minutes
  {program} doc get demo ID

Kim, key owner (export AWS_ACCESS_KEY_ID=$KEYSTEAD_CUSTOMER_AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$KEYSTEAD_CUSTOMER_AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION=eu-central-1):
  {aws} --endpoint-url $KEYSTEAD_AWS_ENDPOINT kms list-keys
  {aws} --endpoint-url $KEYSTEAD_AWS_ENDPOINT kms disable-key --key-id ARN
  {aws} --endpoint-url $KEYSTEAD_AWS_ENDPOINT --region eu-west-1 kms disable-key --key-id ARN2
  {program} key disable --cluster demo     both Regions' keys at once; then: key enable --cluster demo
  {aws} --endpoint-url $KEYSTEAD_AWS_ENDPOINT cloudtrail lookup-events

stop:    ctrl-c, or {program} dev stop --data {data}
resume:  {program} dev --data {data} --env {file} --control-listen 127.0.0.1:0 --kms-listen 127.0.0.1:0 --s3-listen 127.0.0.1:0 --second-s3-listen 127.0.0.1:0
clean:   {program} dev clean --data {data}",
            file = file.display()
        );
        self.dev.wait()?;
        Ok(())
    }

    /// Stops; deletes too when `clean`.
    pub(crate) fn end(&mut self, clean: bool) -> Result<()> {
        let verb = if clean { "clean" } else { "stop" };
        proc::output(Command::new(&self.program).args(["dev", verb, "--data"]).arg(&self.data))?;
        self.dev.wait()?;
        if clean {
            remove(&self.data.with_extension("env"))?;
        }
        Ok(())
    }
}

/// An error on the way must not leave the roles behind.
impl Drop for Stage {
    fn drop(&mut self) {
        if matches!(self.dev.try_wait(), Ok(None)) {
            let _ = self.end(false);
        }
    }
}

fn remove(file: &Path) -> Result<()> {
    std::fs::remove_file(file).with_context(|| format!("delete {}", file.display()))
}

type Rows = Arc<Mutex<Vec<(u64, Instant)>>>;

/// One psql that inserts a row, one after the other, and says each that was acknowledged.
pub(crate) struct Reader {
    uri: String,
    psql: Child,
    rows: Rows,
    running: Arc<Mutex<bool>>,
}

impl Reader {
    pub(crate) fn start(uri: &str) -> Result<Self> {
        proc::output(Command::new(PSQL).args([
            uri,
            "-qc",
            "create table demo(n bigint primary key)",
        ]))?;
        let mut psql = Command::new(PSQL)
            .args([uri, "-qAtX", "-v", "ON_ERROR_STOP=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start psql")?;
        let input = psql.stdin.take().context("psql has a stdin")?;
        let output = BufReader::new(psql.stdout.take().context("psql has a stdout")?);
        let rows = Rows::default();
        let running = Arc::new(Mutex::new(true));
        let (kept, go) = (Arc::clone(&rows), Arc::clone(&running));
        std::thread::spawn(move || write_rows(input, output, &kept, &go));
        Ok(Self { uri: uri.to_owned(), psql, rows, running })
    }

    pub(crate) fn count(&self) -> usize {
        locked(&self.rows).len()
    }

    /// When the last row was acknowledged.
    pub(crate) fn last(&self) -> Instant {
        locked(&self.rows).last().map_or_else(Instant::now, |(_, at)| *at)
    }

    /// When row number `before` + 1 was acknowledged.
    pub(crate) fn first_after(&self, before: usize) -> Instant {
        locked(&self.rows).get(before).map_or_else(Instant::now, |(_, at)| *at)
    }

    pub(crate) fn wait_for(&self, count: usize, limit: Duration) -> Result<usize> {
        let begun = Instant::now();
        while self.count() < count {
            if begun.elapsed() > limit {
                bail!("{} rows after {limit:?}, not {count}", self.count());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(self.count())
    }

    /// Ends the writer; answers what was acknowledged and what is there.
    pub(crate) fn finish(&mut self) -> Result<(Vec<u64>, BTreeSet<u64>)> {
        *locked(&self.running) = false;
        self.psql.wait()?;
        let text = proc::output(Command::new(PSQL).args([
            &self.uri,
            "-qAtX",
            "-c",
            "select n from demo",
        ]))?;
        let present = text.lines().filter_map(|l| l.trim().parse().ok()).collect();
        Ok((locked(&self.rows).iter().map(|(n, _)| *n).collect(), present))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

/// The row comes back from `returning` only with the commit.
fn write_rows(mut input: ChildStdin, output: impl BufRead, rows: &Rows, running: &Mutex<bool>) {
    let mut lines = output.lines();
    for n in 0_u64.. {
        if !*locked(running)
            || writeln!(input, "insert into demo values ({n}) returning n;").is_err()
        {
            return;
        }
        match lines.next() {
            Some(Ok(line)) if line.trim().parse() == Ok(n) => {
                locked(rows).push((n, Instant::now()))
            }
            _ => return,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn locked<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
