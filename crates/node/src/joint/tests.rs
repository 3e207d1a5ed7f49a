//! The joint on the real kernel, below KMS: clusters' threads, machine, volume servers, keys and
//! gates, over a hold process of its own. The lease is told by hand, as the keeper tells it.

use super::{Joined, Shared, Unwrap};
use crate::config::NodeConfig;
use crate::fleet::{Fleet, Joint};
use crate::grants::{Grant, Grants};
use crate::hold::HoldConfig;
use crate::host::{ClusterHeld, FsWord, Holder};
use crate::keeper::run::{Guarded, Said};
use crate::kms::answer::Failure;
use crate::status::Board;
use crate::time::boot;
use keystead_envelope::memory::DataKey;
use keystead_types::{
    AccountId, Assignment, Binding, Cause, ClusterAssignment, ClusterId, ClusterStatus, Disk,
    EncryptionContext, LeaseSettings, OrganizationId, Process, RoleArn, Template, VolumeAssignment,
    VolumeId, WorkloadWord, WrappedKey,
};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const FOLDER: &str = "KEYSTEAD_TEST_JOINT_FOLDER";
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const TEXT: &str = r#"
    region = "eu-central-1"
    name = "n"
    data = "/d"
    control_url = "http://127.0.0.1:7440"
    control_token = "/t"
    hold_socket = "/s"
    credentials = "/c"
    user_arn = "arn:aws:iam::444455556666:user/keystead-node-eu-central-1"
    [kms]
    eu-central-1 = "http://127.0.0.1:7480"
"#;

/// KMS as one volume sees it: the same key each time, or a refusal.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) refuses: AtomicBool,
    pub(super) asked: AtomicUsize,
}

impl Unwrap for Arc<Fake> {
    fn unwrap_key(&self, wrapped: &WrappedKey, token: &str) -> Result<DataKey, Failure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!((wrapped.key.to_string().as_str(), token), (KEY, "token"));
        if self.refuses.load(Ordering::SeqCst) {
            let (cause, detail) = (Cause::KeyDisabled, "disabled".to_owned());
            return Err(Failure::Refused { cause, detail, request_id: None });
        }
        let seed = wrapped.ciphertext.bytes().fold(7u8, u8::wrapping_add);
        let mut bytes: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(7) ^ seed).collect();
        Ok(DataKey::from_slice_zeroizing(&mut bytes).expect("key memory"))
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

/// A cluster with one volume whose wrapped key is recorded, and its grant.
pub(crate) fn wanted(data: &Path, size_bytes: u64) -> ClusterAssignment {
    let id = uuid::Uuid::now_v7;
    let (cluster, volume) = (ClusterId::from_uuid(id()), VolumeId::from_uuid(id()));
    let account: AccountId = "444455556666".parse().expect("an account");
    let context = EncryptionContext::volume(&cluster, &volume);
    let key: keystead_types::KeyArn = KEY.parse().expect("an ARN");
    let grant = Grant {
        volume: volume.clone(),
        generation: 1,
        grant_id: "g".into(),
        token: "token".into(),
        created_ms: 0,
    };
    Grants::new(data).keep(&grant).expect("kept");
    let writer = "i=0; while :; do i=$((i+1)); echo $i > {disk.data}/n.new; \
        mv {disk.data}/n.new {disk.data}/n; done";
    ClusterAssignment {
        cluster,
        organization: OrganizationId::from_uuid(id()),
        name: "c".into(),
        generation: 1,
        part: keystead_types::Part::Primary,
        peer: None,
        tenant_role: RoleArn::new(account, "keystead-c").expect("a role"),
        binding: Some(Binding::of(key.clone())),
        canary: None,
        volumes: vec![VolumeAssignment {
            volume,
            disk: "data".into(),
            size_bytes,
            wrapped: Some(WrappedKey { key, ciphertext: "AQID".into(), context }),
            key_digest: None,
            grant_generation: 1,
        }],
        buckets: vec![],
        credentials: vec![],
        s3_keys: vec![],
        template: Template {
            buckets: vec![],
            name: "t".into(),
            disks: vec![Disk { name: "data".into(), size_bytes }],
            // Fails when the disk of a later start is not the disk of the first.
            prepare: vec![process(
                "first",
                "[ -f first ] || { echo {port} > first && sync first; }",
            )],
            processes: vec![process("writer", writer)],
            ready: Some(process("ready", "[ -s n ] && [ \"$(cat first)\" = {port} ]")),
            after_ready: vec![process("after", "echo {password} > after && sync after")],
            endpoint: Some("postgres://u:{password}@127.0.0.1:{port}/u".into()),
        },
        lease: LeaseSettings { silence_ms: 600_000, grace_ms: 0, evict_after_ms: 600_000 },
    }
}

/// Not a test of its own: the hold process of the test below.
#[test]
fn hold_process() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).expect("dies with it");
    let name = folder.file_name().and_then(|n| n.to_str()).expect("a name");
    let config = HoldConfig {
        socket: folder.join("sock"),
        data: folder.join("hold"),
        cgroup_prefix: name.to_owned(),
    };
    crate::hold::serve(config).expect("serves and ends in order");
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within twenty seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Hold, in a process of its own. Dropped: everything evicted or detached, whatever the state.
struct Rig {
    holder: Arc<Holder>,
    hold: Child,
    cluster: ClusterId,
    folder: tempfile::TempDir,
    _lock: File,
}

impl Rig {
    fn new() -> (Self, ClusterAssignment) {
        assert!(rustix::process::geteuid().is_root(), "the kernel tests of the joint need root");
        let lock = File::create("/tmp/keystead-kernel-test.lock").expect("the lock file");
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("the kernel lock");
        let prefix = format!("kst-{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a folder");
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        command.args(["joint::tests::hold_process", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(FOLDER, folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let hold = command.spawn().expect("starts");
        let mut found = None;
        until("hold answers", || {
            found = Holder::connect(&folder.path().join("sock")).ok();
            found.is_some()
        });
        let wanted = wanted(&folder.path().join("node"), 64 << 20);
        let holder = Arc::new(found.expect("hold answers"));
        (Self { holder, hold, cluster: wanted.cluster.clone(), folder, _lock: lock }, wanted)
    }

    fn held(&self) -> Option<ClusterHeld> {
        let held = self.holder.inventory().expect("told");
        held.clusters.into_iter().find(|c| c.cluster == self.cluster)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.holder.evict(&self.cluster);
        let _ = rustix::process::kill_process(Pid::from_child(&self.hold), Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.hold.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.hold.kill();
        let _ = self.hold.wait();
    }
}

/// The node but KMS and control: one process's worth of it.
struct Node {
    joint: Arc<Joined>,
    fleet: Fleet,
    board: Arc<Board>,
    grants: Grants,
    assignment: Mutex<Assignment>,
    lease: Mutex<Box<dyn Guarded>>,
    cluster: ClusterId,
}

impl Node {
    fn start(rig: &Rig, fake: &Arc<Fake>, wanted: &ClusterAssignment) -> Self {
        let data = rig.folder.path().join("node");
        let (board, grants) = (Arc::new(Board::default()), Grants::new(&data));
        let joint = Arc::new(Joined::new(Shared {
            holder: rig.holder.clone(),
            keys: Box::new(fake.clone()),
            grants: grants.clone(),
            board: board.clone(),
            data,
            detach: true,
            ports: Mutex::default(),
        }));
        let fleet = Fleet::new(joint.clone(), board.clone());
        let assignment = Assignment {
            generation: 1,
            region: "eu-central-1".parse().expect("a Region"),
            clusters: vec![wanted.clone()],
            preflights: vec![],
            documents: keystead_types::DocumentAsks::default(),
        };
        let cluster = wanted.cluster.clone();
        let lease = Mutex::new(joint.lease(&cluster, &wanted.lease));
        let assignment = Mutex::new(assignment);
        let node = Self { joint, fleet, board, grants, assignment, lease, cluster };
        node.assign();
        node
    }

    fn assign(&self) {
        let assignment = self.assignment.lock().expect("unbroken");
        self.fleet.assign(&assignment, &self.grants).expect("assigned");
    }

    fn say(&self, said: Said) {
        let mut lease = self.lease.lock().expect("unbroken");
        lease.on(said);
        self.fleet.tell(&self.cluster, lease.view());
    }

    fn proved(&self) {
        self.say(Said::ProofOk { sent: boot() });
    }

    fn status(&self) -> ClusterStatus {
        let config = NodeConfig::parse(TEXT, std::iter::empty()).expect("settings");
        let assignment = self.assignment.lock().expect("unbroken");
        self.board.compose(&config, "i", &assignment).clusters.remove(0)
    }

    fn reaches(&self, state: WorkloadWord) -> ClusterStatus {
        let mut last = self.status();
        until(&format!("{state:?}, last {last:?}"), || {
            last = self.status();
            last.workload.state == state
        });
        last
    }
}

#[test]
fn an_encrypted_cluster_comes_up_freezes_thaws_is_evicted_adopted_and_detached() {
    let (rig, mut wanted) = Rig::new();
    let fake = Arc::new(Fake::default());
    let node = Node::start(&rig, &fake, &wanted);
    node.proved();

    // Formatted, told, and nothing more until control has recorded the digest.
    let mut digest = None;
    until("the digest is told", || {
        digest = node.status().made.volumes.first().and_then(|v| v.key_digest.clone());
        digest.is_some()
    });
    assert!(rig.held().is_none(), "attached before the digest is recorded");
    wanted.volumes[0].key_digest = digest.clone();
    node.assignment.lock().expect("unbroken").clusters[0] = wanted.clone();
    node.assign();
    let ready = node.reaches(WorkloadWord::Ready);
    let endpoint = ready.workload.endpoint.expect("an endpoint");
    assert!(endpoint.starts_with("postgres://u:") && !endpoint.contains("u:@"), "{endpoint}");

    // Refused: FIFREEZE is done in time because the gate leaves it its room; then the keys go.
    fake.refuses.store(true, Ordering::SeqCst);
    let asked = Instant::now();
    node.say(Said::Refused { at: boot(), cause: Cause::KeyDisabled });
    let frozen = node.reaches(WorkloadWord::Frozen);
    assert!(!frozen.sync_stalled, "{frozen:?}");
    until("all is frozen", || {
        rig.held().is_some_and(|c| c.frozen && c.volumes.iter().all(|v| v.fs == FsWord::Frozen))
    });
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());

    // A lease that lives while the key is still refused opens nothing.
    node.proved();
    let tries = fake.asked.load(Ordering::SeqCst);
    until("a thaw is tried", || fake.asked.load(Ordering::SeqCst) > tries);
    assert!(rig.held().expect("held").frozen);
    until("it is told why", || {
        node.status().workload.message.is_some_and(|m| m.contains("key-disabled"))
    });
    fake.refuses.store(false, Ordering::SeqCst);
    node.reaches(WorkloadWord::Ready);
    let held = rig.held().expect("held");
    assert!(!held.frozen && held.volumes[0].fs == FsWord::Thawed, "{held:?}");

    // Gone for good: evicted at once; and it comes back with what it had.
    node.say(Said::Refused { at: boot(), cause: Cause::KeyDeleted });
    node.reaches(WorkloadWord::Stopped);
    assert!(rig.held().is_none());
    node.proved();
    let again = node.reaches(WorkloadWord::Ready);
    assert_eq!(again.workload.endpoint.as_ref(), Some(&endpoint));

    // The node process goes, the workload stays; its successor parks it until it has a lease.
    let pid = rig.held().expect("held").processes[0].pid;
    node.fleet.stop();
    drop(node);
    // As if it had been killed while the disk was being made.
    let image = rig.folder.path().join(format!("node/volumes/{}.img", wanted.volumes[0].volume));
    let mark = image.with_extension("formatted");
    std::fs::remove_file(&mark).expect("marked");
    let node = Node::start(&rig, &fake, &wanted);
    assert_eq!(node.reaches(WorkloadWord::Frozen).workload.endpoint, None);
    node.proved();
    let adopted = node.reaches(WorkloadWord::Ready);
    assert_eq!(adopted.workload.endpoint, Some(endpoint));
    assert_eq!(rig.held().expect("held").processes[0].pid, pid);

    assert!(mark.exists(), "a disk that carries a file system is never made anew");

    // A foreign image is never opened.
    node.say(Said::Refused { at: boot(), cause: Cause::KeyDeleted });
    node.reaches(WorkloadWord::Stopped);
    let aside = image.with_extension("kept");
    std::fs::rename(&image, &aside).expect("moved");
    node.proved();
    until("the loss is told", || node.status().volumes[0].cause == Some(Cause::WrappedKeyMismatch));
    assert!(!image.exists(), "an image that is lost is not made anew");
    std::fs::rename(&aside, &image).expect("moved back");
    assert_eq!(node.reaches(WorkloadWord::Ready).volumes[0].cause, None);

    // The orderly end.
    node.fleet.stop();
    node.joint.end();
    assert!(rig.held().is_none(), "{:?}", rig.held());
}
