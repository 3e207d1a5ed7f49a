//! One World: `keystead dev` over a folder of its own on free ports, with the four roles as
//! processes. One runs at a time on this machine; an orderly stop leaves nothing behind.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const LOCK: &str = "/tmp/keystead-kernel-test.lock";
const STARTS_WITHIN: Duration = Duration::from_secs(40);
const STOPS_WITHIN: Duration = Duration::from_secs(40);
const ROLES: [&str; 4] = ["kms", "hold", "control", "node"];
/// What the second Region adds.
const SECOND: [&str; 2] = ["hold-eu-west-1", "node-eu-west-1"];
const TICK: Duration = Duration::from_millis(10);

/// How a World differs from the default.
#[derive(Default)]
pub(crate) struct WorldOptions {
    /// Where the node dials KMS instead.
    pub(crate) node_kms_endpoint: Option<String>,
    /// Serve both Regions.
    pub(crate) two_regions: bool,
    /// Where the nodes dial the second Region's KMS instead.
    pub(crate) second_kms_endpoint: Option<String>,
    /// How long a frozen workload stays in memory.
    pub(crate) evict_after: Option<String>,
    /// How keys are held in memory.
    pub(crate) arena: Option<String>,
    /// Where its folder is made.
    pub(crate) folder: Option<PathBuf>,
    /// Parts of the data folder that lie on another disk, and where there.
    pub(crate) elsewhere: Vec<(&'static str, PathBuf)>,
}

/// The machine's kernel tests, one at a time.
pub(crate) struct Alone {
    _lock: File,
}

impl Alone {
    pub(crate) fn take() -> Self {
        let lock = File::create(LOCK).expect("the lock file can be made");
        flock(&lock, FlockOperation::LockExclusive).expect("the lock is granted");
        Self { _lock: lock }
    }
}

/// The running roles.
pub(crate) struct World {
    folder: tempfile::TempDir,
    dev: Child,
    options: WorldOptions,
    env: HashMap<String, String>,
    stopped: bool,
    loops: HashSet<String>,
    _alone: Alone,
}

impl World {
    /// Starts one and waits until it can make clusters.
    pub(crate) fn start(options: WorldOptions) -> Self {
        Self::start_with(options, |_| {})
    }

    /// The same; `early` is called as soon as the addresses are known.
    pub(crate) fn start_with(
        options: WorldOptions,
        early: impl for<'w> FnOnce(&'w (dyn for<'n> Fn(&'n str) -> &'w str + 'w)),
    ) -> Self {
        Self::start_alone(Alone::take(), options, early)
    }

    /// The same, when the machine is ours already.
    pub(crate) fn start_alone(
        alone: Alone,
        options: WorldOptions,
        early: impl for<'w> FnOnce(&'w (dyn for<'n> Fn(&'n str) -> &'w str + 'w)),
    ) -> Self {
        let place = options.folder.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("kst-").tempdir_in(place);
        let folder = folder.expect("a temporary folder");
        for (part, place) in &options.elsewhere {
            lay_elsewhere(&folder.path().join("data"), part, place);
        }
        let dev = spawn_dev(folder.path(), &options);
        let mut world = Self {
            folder,
            dev,
            options,
            env: HashMap::new(),
            stopped: false,
            loops: loops(),
            _alone: alone,
        };
        world.read_env();
        early(&|name: &str| world.env(name));
        world
    }

    fn read_env(&mut self) {
        let file = self.folder.path().join("env");
        self.await_until(STARTS_WITHIN, "env file", || file.exists().then_some(()));
        self.env = read_env(&file);
    }

    /// Kills the supervisor and starts it again over the same folder.
    pub(crate) fn kill_supervisor(&mut self) {
        self.dev.kill().expect("the supervisor is killed");
        self.dev.wait().expect("the supervisor is reaped");
        fs::remove_file(self.folder.path().join("env")).expect("the env file was there");
        self.dev = spawn_dev(self.folder.path(), &self.options);
        self.read_env();
    }

    /// All of it dies at once, as when the machine does: supervisor, roles, holder, workloads.
    pub(crate) fn kill_everything(&mut self) {
        let pids: Vec<i32> = self.roles().map(|role| self.pid(role)).collect();
        let supervisor = self.dev.id().cast_signed();
        signal(supervisor, Signal::STOP);
        for pid in pids.iter().copied().chain([supervisor]) {
            signal(pid, Signal::KILL);
        }
        self.dev.wait().expect("the supervisor is reaped");
        self.await_until(Duration::from_secs(10), "the end of all", || {
            pids.iter().all(|pid| !alive(*pid)).then_some(())
        });
        self.stopped = true;
    }

    /// A start over the same folder.
    pub(crate) fn start_again(&mut self) {
        fs::remove_file(self.folder.path().join("env")).expect("the env file was there");
        self.stopped = false;
        self.dev = spawn_dev(self.folder.path(), &self.options);
        self.read_env();
    }

    /// `keystead dev clean` after [`Self::kill_everything`]; nothing may be left.
    pub(crate) fn clean(self) {
        let prefix = self.cgroup_prefix().expect("it has run");
        self.cli_ok(&["dev", "clean", "--data", &self.data().display().to_string()]);
        let mut left = self.left();
        groups(Path::new("/sys/fs/cgroup"), &prefix, 3, &mut left);
        assert!(left.is_empty(), "left after clean: {left:#?}");
        assert!(!self.data().exists(), "the folder is still there");
    }

    /// An orderly stop, and a start over the same folder.
    pub(crate) fn stop_and_start(&mut self) {
        self.down();
        self.start_again();
    }

    /// An orderly stop, to be followed by [`Self::start_again`].
    pub(crate) fn down(&mut self) {
        self.end();
        let left = self.left();
        assert!(left.is_empty(), "left after the stop: {left:#?}\n{}", self.log_tails());
    }

    fn roles(&self) -> impl Iterator<Item = &'static str> + use<> {
        let second = if self.options.two_regions { &SECOND[..] } else { &[] };
        ROLES.iter().chain(second).copied()
    }

    /// A value of the env file.
    pub(crate) fn env(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("{name} is not in the env file"))
    }

    /// All of them.
    pub(crate) fn all_env(&self) -> &HashMap<String, String> {
        &self.env
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The role's process now.
    pub(crate) fn pid(&self, role: &str) -> i32 {
        let path = self.data().join(format!("run/{role}.pid"));
        let read = || fs::read_to_string(&path).ok()?.trim().parse().ok();
        self.await_until(Duration::from_secs(5), role, read)
    }

    /// Kills the role; the supervisor starts another.
    pub(crate) fn kill(&self, role: &str) {
        signal(self.pid(role), Signal::KILL);
    }

    /// The role's log.
    pub(crate) fn log(&self, role: &str) -> String {
        fs::read_to_string(self.data().join(format!("log/{role}.log"))).unwrap_or_default()
    }

    /// Waits until another process than `old` plays the role.
    pub(crate) fn wait_for_new(&self, role: &str, old: i32, deadline: Duration) -> i32 {
        self.await_until(deadline, &format!("a new {role}"), || {
            let pid = self.pid(role);
            (pid != old && alive(pid)).then_some(pid)
        })
    }

    /// Kills the role and keeps it down until the guard is dropped.
    pub(crate) fn hold_down(&self, role: &str) -> HeldDown {
        let supervisor = self.dev.id().cast_signed();
        signal(supervisor, Signal::STOP);
        let guard = HeldDown { supervisor };
        let pid = self.pid(role);
        signal(pid, Signal::KILL);
        self.await_until(Duration::from_secs(5), "the killed role's end", || {
            (!alive(pid)).then_some(())
        });
        guard
    }

    /// The command line, as the operator.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        self.cli_as(self.env("KEYSTEAD_TOKEN"), args)
    }

    /// The same, with somebody's token.
    pub(crate) fn cli_as(&self, token: &str, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_keystead"))
            .args(args)
            .envs(&self.env)
            .env("KEYSTEAD_TOKEN", token)
            .output()
            .expect("the command line runs")
    }

    /// The same as the operator, and it must succeed; answers stdout.
    pub(crate) fn cli_ok(&self, args: &[&str]) -> String {
        let out = self.cli(args);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            out.status.success(),
            "keystead {args:?}: {}\n{text}{}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr),
            self.log_tails()
        );
        text
    }

    /// The same, read as JSON.
    pub(crate) fn cli_json(&self, args: &[&str]) -> Value {
        let text = self.cli_ok(args);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// The last lines of each role's log.
    pub(crate) fn log_tails(&self) -> String {
        let mut text = tail("dev", &self.folder.path().join("dev.log"));
        for role in self.roles() {
            text.push_str(&tail(role, &self.data().join(format!("log/{role}.log"))));
        }
        text
    }

    /// Every request id in the trail.
    pub(crate) fn trail_request_ids(&self) -> HashSet<String> {
        let id = |record: &Value| record["requestID"].as_str().map(str::to_owned);
        self.trail_records().iter().filter_map(id).collect()
    }

    /// Every record of the trail.
    pub(crate) fn trail_records(&self) -> Vec<Value> {
        let mut records = Vec::new();
        for entry in fs::read_dir(self.trail()).expect("the trail is readable").flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            records.extend(text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()));
        }
        records
    }

    /// `keystead audit verify` with the node's heads.
    pub(crate) fn audit_verify(&self) -> Output {
        let trail = self.trail().display().to_string();
        let heads = self.data().join("node/eu-central-1/heads.jsonl").display().to_string();
        self.cli(&["audit", "verify", "--dir", &trail, "--heads", &heads])
    }

    fn trail(&self) -> PathBuf {
        self.data().join("kms/trail")
    }

    /// Orderly stop; nothing may be left.
    pub(crate) fn stop(self) {
        self.stop_and_look(|| {});
    }

    /// The same, with a look at the folder before it is deleted.
    pub(crate) fn stop_and_look(mut self, look: impl FnOnce()) {
        self.end();
        let left = self.left();
        assert!(left.is_empty(), "left after the stop: {left:#?}\n{}", self.log_tails());
        look();
    }

    fn end(&mut self) {
        if self.stopped {
            return;
        }
        self.stopped = true;
        let supervisor = self.dev.id().cast_signed();
        signal(supervisor, Signal::CONT);
        signal(supervisor, Signal::TERM);
        let begun = Instant::now();
        while matches!(self.dev.try_wait(), Ok(None)) {
            if begun.elapsed() > STOPS_WITHIN {
                let _ = self.dev.kill();
                let _ = self.dev.wait();
                break;
            }
            thread::sleep(TICK);
        }
    }

    /// Processes, mounts, loops and cgroups of this World that are still there.
    fn left(&self) -> Vec<String> {
        let mark = self.folder.path().display().to_string();
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc is readable").flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let own = entry.file_name().to_string_lossy() == std::process::id().to_string();
            if !own && command.contains(&mark) {
                left.push(format!("process {}: {command}", entry.file_name().to_string_lossy()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(mounts.lines().filter(|l| l.contains(&mark)).map(|l| format!("mount {l}")));
        // The kernel shows the backing file of a loop in another mount namespace as `/`: what is
        // new since the start is ours, for one World runs at a time.
        left.extend(loops().difference(&self.loops).map(|name| format!("loop device {name}")));
        if let Some(prefix) = self.cgroup_prefix() {
            groups(Path::new("/sys/fs/cgroup"), &prefix, 3, &mut left);
        }
        left
    }

    fn cgroup_prefix(&self) -> Option<String> {
        let config = fs::read_to_string(self.data().join("config/hold.toml")).ok()?;
        let line = config.lines().find_map(|l| l.strip_prefix("cgroup_prefix = "))?;
        Some(line.trim_matches('"').to_owned())
    }

    fn await_until<T>(&self, limit: Duration, what: &str, mut get: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = get() {
                return value;
            }
            assert!(begun.elapsed() < limit, "no {what} within {limit:?}\n{}", self.log_tails());
            thread::sleep(TICK);
        }
    }
}

/// By a link, as an operator would who gives a part a disk of its own.
fn lay_elsewhere(data: &Path, part: &str, place: &Path) {
    let link = data.join(part);
    fs::create_dir_all(link.parent().expect("below the data folder")).expect("folders");
    std::os::unix::fs::symlink(place, link).expect("linked");
    fs::write(data.join("VERSION"), "1\n").expect("ours from the start");
}

fn spawn_dev(folder: &Path, options: &WorldOptions) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystead"));
    command
        .args(["dev", "--control-listen", "127.0.0.1:0", "--kms-listen", "127.0.0.1:0"])
        .args(["--s3-listen", "127.0.0.1:0"])
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--env")
        .arg(folder.join("env"))
        .stdin(Stdio::null());
    if let Some(span) = &options.evict_after {
        command.args(["--evict-after", span]);
    }
    if let Some(arena) = &options.arena {
        command.args(["--arena", arena]);
    }
    if options.two_regions {
        command.args(["--second-s3-listen", "127.0.0.1:0"]);
    } else {
        command.arg("--single-region");
    }
    let dialled = [
        ("KEYSTEAD__KMS__EU-CENTRAL-1", &options.node_kms_endpoint),
        ("KEYSTEAD__KMS__EU-WEST-1", &options.second_kms_endpoint),
    ];
    for (name, endpoint) in dialled {
        if let Some(endpoint) = endpoint {
            command.env(name, endpoint);
            command.args(["--kms-host", endpoint.trim_start_matches("http://")]);
        }
    }
    let log = File::options().create(true).append(true).open(folder.join("dev.log"));
    let log = log.expect("the log can be opened");
    command.stdout(log.try_clone().expect("the log is shared")).stderr(log);
    command.spawn().expect("dev starts")
}

/// A panicking test stops its World too: a parked volume would hang the machine.
impl Drop for World {
    fn drop(&mut self) {
        self.end();
        let clean = ["dev", "clean", "--data"];
        let _ = Command::new(env!("CARGO_BIN_EXE_keystead")).args(clean).arg(self.data()).output();
    }
}

/// A role that stays down.
pub(crate) struct HeldDown {
    supervisor: i32,
}

impl Drop for HeldDown {
    fn drop(&mut self) {
        signal(self.supervisor, Signal::CONT);
    }
}

/// A small generator whose seed is printed, so that a run can be repeated.
pub(crate) struct Random(u64);

impl Random {
    /// From KEYSTEAD_SEED, else a fresh one.
    pub(crate) fn from_environment() -> Self {
        let seed = std::env::var("KEYSTEAD_SEED").ok().and_then(|s| s.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let bytes =
                fs::read("/proc/sys/kernel/random/uuid").expect("the kernel has randomness");
            bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            })
        });
        eprintln!("KEYSTEAD_SEED={seed}");
        Self(seed.max(1))
    }

    /// One of `0..n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n.max(1)
    }
}

/// Loop devices in use.
fn loops() -> HashSet<String> {
    let used = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        entry.path().join("loop/backing_file").exists().then_some(name)
    };
    fs::read_dir("/sys/block").into_iter().flatten().flatten().filter_map(used).collect()
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Not gone, and no zombie that its stopped parent has yet to reap.
fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| !s.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

fn read_env(file: &Path) -> HashMap<String, String> {
    let text = fs::read_to_string(file).expect("the env file is readable");
    let pair = |line: &str| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('\'').to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

fn tail(name: &str, file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(30)..];
    format!("--- {name}\n{}\n", last.join("\n"))
}

fn groups(folder: &Path, prefix: &str, depth: u32, left: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.path().is_dir() {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            left.push(format!("cgroup {}", entry.path().display()));
        } else if depth > 0 {
            groups(&entry.path(), prefix, depth - 1, left);
        }
    }
}
