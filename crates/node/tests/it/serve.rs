//! A whole node process over hold and the kernel, with KMS and control in memory: up, refused,
//! killed, silent, and ended in order.

use crate::outside::{Kms, Outside};
use crate::rig::{Rig, until};
use keystead_node::NodeConfig;
use keystead_node::host::ClusterHeld;
use keystead_types::{
    AccountId, Assignment, Binding, ClusterAssignment, Disk, LeaseSettings, OrganizationId,
    Process, RoleArn, Template, VolumeAssignment, VolumeId, WorkloadWord,
};
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = "KEYSTEAD_TEST_NODE_CONFIG";
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// Not a test of its own: the node process of the test below.
#[test]
fn node_process() {
    let Some(path) = std::env::var_os(CONFIG).map(PathBuf::from) else { return };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).expect("dies with it");
    let config = NodeConfig::load(&path).expect("settings");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    if let Err(error) = runtime.expect("a runtime").block_on(keystead_node::serve(config)) {
        std::fs::write(path.with_extension("error"), error.to_string()).expect("written");
        std::process::exit(3);
    }
}

fn process(name: &str, script: &str) -> Process {
    Process {
        name: name.to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        user: "nobody".to_owned(),
        environment: BTreeMap::new(),
        stop_signal: None,
    }
}

fn assignment(rig: &Rig) -> Assignment {
    let account: AccountId = "444455556666".parse().expect("an account");
    let disk = |name: &str| Disk { name: name.to_owned(), size_bytes: 64 << 20 };
    let volume = |disk: &Disk| VolumeAssignment {
        volume: VolumeId::from_uuid(uuid::Uuid::now_v7()),
        disk: disk.name.clone(),
        size_bytes: disk.size_bytes,
        wrapped: None,
        key_digest: None,
        grant_generation: 1,
    };
    let disks = vec![disk("data"), disk("search")];
    let writer = "i=0; while :; do i=$((i+1)); echo $i > n.new; mv n.new n; \
        echo $i > {disk.search}/n; done";
    let cluster = ClusterAssignment {
        cluster: rig.cluster.clone(),
        organization: OrganizationId::from_uuid(uuid::Uuid::now_v7()),
        name: "c".into(),
        generation: 1,
        part: keystead_types::Part::Primary,
        peer: None,
        tenant_role: RoleArn::new(account, "keystead-c").expect("a role"),
        binding: Some(Binding::of(KEY.parse().expect("an ARN"))),
        canary: None,
        volumes: disks.iter().map(volume).collect(),
        buckets: vec![],
        credentials: vec![],
        s3_keys: vec![],
        template: Template {
            buckets: vec![],
            name: "t".into(),
            disks,
            prepare: vec![process(
                "first",
                "[ -f kept ] || { echo {password} > kept; sync kept; }",
            )],
            processes: vec![process("writer", writer)],
            ready: Some(process("ready", "[ -s n ] && [ \"$(cat kept)\" = {password} ]")),
            after_ready: vec![],
            endpoint: Some("postgres://u:{password}@127.0.0.1:{port}/u".into()),
        },
        lease: LeaseSettings { silence_ms: 3_000, grace_ms: 0, evict_after_ms: 600_000 },
    };
    Assignment {
        generation: 1,
        region: "eu-central-1".parse().expect("a Region"),
        clusters: vec![cluster],
        preflights: vec![],
        documents: keystead_types::DocumentAsks::default(),
    }
}

/// A node process; killed when dropped.
struct Node(Child);

impl Node {
    fn start(rig: &Rig, outside: &Outside) -> Self {
        let folder = rig.folder();
        let secret = |name: &str, text: &str| {
            let path = folder.join(name);
            let mut options = std::fs::File::options();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
            std::io::Write::write_all(&mut file.expect("opened"), text.as_bytes())
                .expect("written");
            path.display().to_string()
        };
        let credentials = "access_key_id = \"AKIAXXXXXXXXXXXXXXXX\"\nsecret_access_key = \"s\"\n";
        let path = folder.join("node.toml");
        let text = format!(
            r#"region = "eu-central-1"
name = "node-eu-central-1"
data = "{data}"
control_url = "http://{at}"
control_token = "{token}"
hold_socket = "{socket}"
credentials = "{credentials}"
user_arn = "arn:aws:iam::444455556666:user/keystead-node-eu-central-1"
insecure_swap = true
detach_on_stop = true
[kms]
eu-central-1 = "http://{at}"
"#,
            data = folder.join("node").display(),
            at = outside.address,
            token = secret("token", "t\n"),
            socket = folder.join("sock").display(),
            credentials = secret("credentials.toml", credentials),
        );
        std::fs::write(&path, text).expect("written");
        outside.forget();
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        command.args(["serve::node_process", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(CONFIG, &path).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().expect("starts"))
    }

    fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("reaped");
    }

    fn ends(&mut self, at_most: Duration) -> ExitStatus {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.0.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "the node does not end within {at_most:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn held(rig: &Rig) -> Option<ClusterHeld> {
    let held = rig.holder.inventory().expect("told");
    held.clusters.into_iter().find(|c| c.cluster == rig.cluster)
}

fn reaches(outside: &Outside, state: WorkloadWord) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let now = outside.cluster();
        if let Some(now) = &now
            && now.workload.state == state
        {
            return now.workload.endpoint.clone();
        }
        assert!(Instant::now() < deadline, "not {state:?}: {now:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn no_plaintext(folder: &Path) {
    for entry in std::fs::read_dir(folder.join("node/volumes")).expect("images") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "img") {
            let bytes = std::fs::read(&path).expect("read");
            // ext4's superblock would show its magic and the name of its first folder.
            let plain = bytes.windows(10).any(|w| w == b"lost+found");
            assert!(!plain, "{} shows plaintext", path.display());
        }
    }
}

#[test]
fn a_node_process_brings_up_freezes_survives_its_death_and_ends_in_order() {
    let mut rig = Rig::new();
    let outside = Outside::start(assignment(&rig));
    let node = Node::start(&rig, &outside);
    let endpoint = reaches(&outside, WorkloadWord::Ready).expect("an endpoint");
    no_plaintext(rig.folder());
    assert_eq!(outside.lock().unwrapped, 4, "two volumes, formatted and opened");

    // Refused: frozen as a whole well within two seconds, and back.
    let asked = Instant::now();
    outside.kms(Kms::Disabled);
    until("all is frozen", || held(&rig).is_some_and(|c| c.frozen));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    reaches(&outside, WorkloadWord::Frozen);
    assert!(!outside.cluster().expect("told").sync_stalled);
    outside.kms(Kms::Allows);
    reaches(&outside, WorkloadWord::Ready);

    // Killed: the workload goes on under the next process.
    let pid = held(&rig).expect("held").processes[0].pid;
    node.kill();
    let node = Node::start(&rig, &outside);
    assert_eq!(reaches(&outside, WorkloadWord::Ready), Some(endpoint.clone()));
    assert_eq!(held(&rig).expect("held").processes[0].pid, pid);

    // Killed while KMS is silent: the next process has no proof, and fences what it found.
    node.kill();
    outside.kms(Kms::Silent);
    let mut node = Node::start(&rig, &outside);
    reaches(&outside, WorkloadWord::Frozen);
    until("it is fenced or off the host", || held(&rig).is_none_or(|c| c.frozen));
    outside.kms(Kms::Allows);
    assert_eq!(reaches(&outside, WorkloadWord::Ready), Some(endpoint.clone()));

    // The orderly end takes everything off the host.
    let start = Instant::now();
    rustix::process::kill_process(Pid::from_child(&node.0), Signal::TERM).expect("signalled");
    let ended = node.ends(Duration::from_secs(22));
    assert!(ended.success(), "{ended:?} after {:?}", start.elapsed());
    assert!(held(&rig).is_none(), "{:?}", held(&rig));

    // Hold dies and comes back: the node ends, so that its successor begins anew.
    let mut node = Node::start(&rig, &outside);
    assert_eq!(reaches(&outside, WorkloadWord::Ready), Some(endpoint.clone()));
    rig.restart_hold();
    assert_eq!(node.ends(Duration::from_secs(10)).code(), Some(3));
    let why = std::fs::read_to_string(rig.folder().join("node.error")).expect("told");
    assert!(why.contains("the holder is lost"), "{why}");
    let node = Node::start(&rig, &outside);
    assert_eq!(reaches(&outside, WorkloadWord::Ready), Some(endpoint));

    // Frozen, the orderly end evicts.
    outside.kms(Kms::Disabled);
    reaches(&outside, WorkloadWord::Frozen);
    let mut node = node;
    rustix::process::kill_process(Pid::from_child(&node.0), Signal::TERM).expect("signalled");
    assert!(node.ends(Duration::from_secs(22)).success());
    rig.assert_nothing_left(true);
}
