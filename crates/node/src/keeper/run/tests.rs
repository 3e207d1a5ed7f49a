use super::*;
use crate::config::Credentials;
use crate::keeper::proofs::Denied;
use crate::kms::Settings;
use keystead_types::{EncryptionContext, WrappedKey};
use zeroize::Zeroizing;

#[derive(Clone, Default)]
struct Live(Arc<std::sync::Mutex<Vec<Said>>>);

impl Guarded for Live {
    fn on(&mut self, said: Said) {
        self.0.lock().expect("one thread").push(said);
    }
    fn view(&self) -> LeaseView {
        LeaseView { word: LeaseWord::Live, cause: None, until: Some(boot()) }
    }
}

fn keeper(data: &std::path::Path, live: &Live) -> (Keeper, ClusterId) {
    let live = live.clone();
    let cluster = ClusterId::from_uuid(uuid::Uuid::now_v7());
    let settings = Settings {
        endpoint: "http://127.0.0.1:1".into(),
        region: "eu-central-1".into(),
        user_arn: "arn:aws:iam::444455556666:user/n".parse().expect("a user"),
        credentials: Arc::new(Credentials {
            access_key_id: "AKIAEXAMPLE".into(),
            secret_access_key: Zeroizing::new("secret".into()),
        }),
        materials: Default::default(),
    };
    let key: keystead_types::KeyArn =
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
            .parse()
            .expect("a key");
    let subject = Subject {
        cluster: cluster.clone(),
        version: 0,
        role: "arn:aws:iam::444455556666:role/r".parse().expect("a role"),
        canary: WrappedKey {
            key: key.clone(),
            ciphertext: String::new(),
            context: EncryptionContext::canary(&cluster),
        },
        key,
        stores: vec![],
        buckets: vec![],
        settings: LeaseSettings::default(),
        second: false,
        mismatch: None,
    };
    let parts = Parts {
        kms: Arc::new(Kms::new(Arc::new(settings))),
        board: Arc::new(Board::default()),
        data: data.to_owned(),
        subjects: watch::channel(Arc::new(vec![])).1,
        lease: Box::new(move |_, _| Box::new(live.clone())),
        tell: Box::new(|_, _| {}),
        show: Box::new(|_, _| {}),
        named: Box::new(|_| {}),
        seconds: Arc::new(Seconds::load(data).expect("none yet")),
        tell_bucket: Box::new(|_, _, _| {}),
    };
    let mut keeper = Keeper {
        parts,
        entries: BTreeMap::new(),
        rounds: JoinSet::new(),
        diagnoses: JoinSet::new(),
        high: HighWater::load(data).expect("none yet"),
        heads: Heads::new(data),
        rolled_back: Some(false),
        version: 0,
    };
    keeper.adopt(&[subject]);
    (keeper, cluster)
}

#[tokio::test]
async fn a_proof_that_fell_into_an_outage_is_made_again_soon() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut keeper, cluster) = keeper(folder.path(), &Live::default());
    let entry = keeper.entries.get_mut(&cluster).expect("adopted");
    entry.schedule(boot());
    let version = entry.subject.version;
    assert!(entry.next_proof > boot().plus(PROOF_EVERY / 2));
    let silent = || Failure::Silent { detail: "no answer".into() };
    let parts = vec![(Whom::Canary, Err(silent()))];
    assert!(matches!(verdict(&parts), Err(Denied { .. })));
    keeper.on_round(Round { cluster: cluster.clone(), sent: boot(), version, parts });
    let next = keeper.entries[&cluster].next_proof;
    assert!(next <= boot().plus(PROBE_EVERY * 2), "in {:?}", next.since(boot()));
}

/// A keeper over a real lease, of a cluster that the other Region's key freezes, too.
fn of_two(data: &std::path::Path) -> (Keeper, ClusterId) {
    let (mut keeper, cluster) = keeper(data, &Live::default());
    let entry = keeper.entries.get_mut(&cluster).expect("adopted");
    entry.lease = Box::new(super::super::second::Witness::new(&LeaseSettings::default()));
    entry.subject = Arc::new(Subject { second: true, ..(*entry.subject).clone() });
    (keeper, cluster)
}

fn said(state: LeaseWord, cause: Option<Cause>) -> LeaseStatus {
    LeaseStatus { state, cause, detail: None, since_ms: 0, deletion_date_ms: None }
}

/// A round that came back now, asked now.
fn round(keeper: &mut Keeper, cluster: &ClusterId, answer: Result<(), Failure>) {
    let version = keeper.entries[cluster].subject.version;
    std::thread::sleep(Duration::from_millis(1));
    let (cluster, sent) = (cluster.clone(), boot());
    keeper.on_round(Round { cluster, sent, version, parts: vec![(Whom::Canary, answer)] });
}

#[tokio::test]
async fn a_refusal_of_the_other_regions_key_freezes_until_a_proof_there_and_then_one_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut keeper, cluster) = of_two(folder.path());
    let seconds = keeper.parts.seconds.clone();
    let view = |keeper: &Keeper| keeper.entries[&cluster].lease.view();

    // Known from before this process: not even the first proof opens.
    seconds.saw(&cluster, &said(LeaseWord::Frozen, Some(Cause::KeyDisabled)));
    round(&mut keeper, &cluster, Ok(()));
    assert_eq!(view(&keeper).cause, Some(Cause::SecondKeyUnusable));

    // Silence there changes nothing; a proof there asks for one here at once.
    seconds.saw(&cluster, &said(LeaseWord::Lapsed, None));
    round(&mut keeper, &cluster, Ok(()));
    assert_eq!(view(&keeper).word, LeaseWord::Frozen);
    keeper.entries.get_mut(&cluster).expect("there").schedule(boot());
    seconds.saw(&cluster, &said(LeaseWord::Live, None));
    keeper.on_tick();
    assert_eq!(keeper.rounds.len(), 1, "no proof was asked for");
    round(&mut keeper, &cluster, Ok(()));
    assert_eq!(view(&keeper).word, LeaseWord::Live);

    // Not heard in this process: nothing opens yet; once it has answered, a proof is asked for at once.
    let (mut fresh, other) = of_two(tempfile::tempdir().expect("a folder").path());
    round(&mut fresh, &other, Ok(()));
    assert_eq!(fresh.entries[&other].lease.view().word, LeaseWord::Unproved);
    fresh.entries.get_mut(&other).expect("there").schedule(boot());
    fresh.on_tick();
    assert_eq!(fresh.rounds.len(), 0, "asked again and again");
    fresh.parts.seconds.saw(&other, &said(LeaseWord::Live, None));
    fresh.on_tick();
    assert_eq!(fresh.rounds.len(), 1, "no proof was asked for");
    let (mut fresh, other) = of_two(tempfile::tempdir().expect("a folder").path());
    round(&mut fresh, &other, Ok(()));
    // Its KMS is silent for a lease's length: then its word is not waited for.
    fresh.entries.get_mut(&other).expect("there").begun = Boot::since_boot(Duration::ZERO);
    round(&mut fresh, &other, Ok(()));
    assert_eq!(fresh.entries[&other].lease.view().word, LeaseWord::Live);

    // From a live lease: the next tick freezes.
    seconds.saw(&cluster, &said(LeaseWord::Frozen, Some(Cause::PolicyDenies)));
    keeper.on_tick();
    assert_eq!(view(&keeper).cause, Some(Cause::SecondKeyUnusable));
    let told = keeper.entries[&cluster].diagnosis.clone().expect("told");
    assert!(told.detail.contains("policy-denies"), "{}", told.detail);

    // What this Region's own key says is the nearer cause, and stays it.
    let refused =
        Failure::Refused { cause: Cause::KeyDisabled, detail: "no".into(), request_id: None };
    round(&mut keeper, &cluster, Err(refused));
    keeper.on_tick();
    assert_eq!(view(&keeper).cause, Some(Cause::KeyDisabled));
    // And with this one mended the other still stands.
    round(&mut keeper, &cluster, Ok(()));
    keeper.on_tick();
    assert_eq!(view(&keeper).cause, Some(Cause::SecondKeyUnusable));
}

#[tokio::test]
async fn only_two_dead_keys_are_a_dead_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut keeper, cluster) = of_two(folder.path());
    let gone = |keeper: &mut Keeper| {
        let head = keystead_aws::watch::Head {
            sequence: 1,
            chain: "00".repeat(32),
            signature: String::new(),
        };
        let response = keystead_aws::watch::WatchResponse {
            sequence: 7,
            epoch: "e".into(),
            named: vec![],
            scheduler_time_ms: 2_000,
            head,
        };
        let watched = Arc::new(keeper.watched());
        keeper.on_watch(&watching::Answer { sent: boot(), watched, response });
        keeper.entries[&cluster].lease.view().word
    };
    let deleted =
        Failure::Refused { cause: Cause::KeyDeleted, detail: "gone".into(), request_id: None };
    round(&mut keeper, &cluster, Err(deleted));
    keeper.entries.get_mut(&cluster).expect("there").deletion_date_ms = Some(1_000);
    assert_eq!(gone(&mut keeper), LeaseWord::Frozen, "the other key may come back");
    let seconds = keeper.parts.seconds.clone();
    seconds.saw(&cluster, &said(LeaseWord::Frozen, Some(Cause::KeyDisabled)));
    assert_eq!(gone(&mut keeper), LeaseWord::Frozen);
    seconds.saw(&cluster, &said(LeaseWord::Dead, None));
    assert_eq!(gone(&mut keeper), LeaseWord::Dead);
}

#[tokio::test]
async fn what_the_watch_named_is_proved_even_when_the_sequence_cannot_be_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let live = Live::default();
    let (mut keeper, cluster) = keeper(folder.path(), &live);
    let key = keeper.entries[&cluster].subject.key.to_string();
    // The folder is gone, as good as a disk that refuses.
    drop(folder);
    let head =
        keystead_aws::watch::Head { sequence: 1, chain: "00".repeat(32), signature: String::new() };
    let response = keystead_aws::watch::WatchResponse {
        sequence: 7,
        epoch: "e".into(),
        named: vec![key],
        scheduler_time_ms: 0,
        head,
    };
    let watched = Arc::new(keeper.watched());
    keeper.on_watch(&watching::Answer { sent: boot(), watched, response });
    let said = live.0.lock().expect("one thread").clone();
    assert!(matches!(said.as_slice(), [Said::Named { .. }]), "{said:?}");
    assert_eq!(keeper.rounds.len(), 1, "no proof was asked for");
}
