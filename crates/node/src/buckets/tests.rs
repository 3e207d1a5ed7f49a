//! A cluster's buckets with a KMS in memory, from the assignment to the refusal.

mod documents;
mod regions;

use super::*;
use crate::kms::answer::Failure;
use bytes::Bytes;
use keystead_envelope::memory::DataKey;
use keystead_objects::gateway::Buckets as _;
use keystead_objects::{GetOptions, PutOptions, Store, StoreError};
use keystead_types::{
    BucketAssignment, BucketWord, ClusterAssignment, EncryptionContext, LeaseWord, MadeS3Key,
    RoleArn, S3KeyAssignment, S3Role, StoreKey, WrappedKey,
};
use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Opens every wrapped key to a key of its own; refuses and holds up when told to.
#[derive(Default)]
struct Fake {
    asked: AtomicUsize,
    refuses: AtomicBool,
    holds: Mutex<bool>,
    goes_on: Condvar,
}

impl Fake {
    fn hold(&self, holds: bool) {
        *self.holds.lock().expect("one thread") = holds;
        self.goes_on.notify_all();
    }
}

impl OpenKeys for Arc<Fake> {
    fn open(
        &self,
        _: &RoleArn,
        wrapped: &[WrappedKey],
    ) -> Result<Vec<Result<DataKey, Failure>>, Failure> {
        let refused = self.refuses.load(Ordering::SeqCst);
        self.asked.fetch_add(wrapped.len(), Ordering::SeqCst);
        let mut holds = self.holds.lock().expect("one thread");
        while *holds {
            holds = self.goes_on.wait(holds).expect("one thread");
        }
        let open = |w: &WrappedKey| {
            if refused {
                let (detail, request_id) = ("no".to_owned(), None);
                return Err(Failure::Refused { cause: Cause::PolicyDenies, detail, request_id });
            }
            let mut bytes = [w.ciphertext.as_bytes()[0]; 32];
            Ok(DataKey::from_slice_zeroizing(&mut bytes).expect("key memory"))
        };
        Ok(wrapped.iter().map(open).collect())
    }
}

const OFTEN: Pace = Pace {
    first: Duration::from_millis(20),
    every: Duration::from_millis(100),
    look: Duration::from_millis(20),
    bytes_a_second: 8 << 20,
};

struct World {
    runtime: tokio::runtime::Runtime,
    fake: Arc<Fake>,
    board: Arc<Board>,
    buckets: Arc<Buckets>,
    wanted: ClusterAssignment,
    folder: tempfile::TempDir,
}

fn store_key(wanted: &ClusterAssignment, context: EncryptionContext, ciphertext: &str) -> StoreKey {
    let key = wanted.binding.as_ref().expect("bound").key.clone();
    let wrapped = WrappedKey { key, ciphertext: ciphertext.to_owned(), context };
    StoreKey { ordinal: 0, wrapped: vec![wrapped], created_ms: 1 }
}

impl World {
    /// One bucket and the credentials, both with a recorded key; nothing is told yet.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut wanted = crate::joint::tests::wanted(folder.path(), 1 << 20);
        let bucket = BucketId::from_uuid(uuid::Uuid::now_v7());
        let context = EncryptionContext::bucket(&wanted.cluster, &bucket);
        let keys = vec![store_key(&wanted, context, "AQID")];
        wanted.buckets = vec![BucketAssignment { bucket, name: "documents".into(), keys }];
        let context = EncryptionContext::credentials(&wanted.cluster);
        wanted.credentials = vec![store_key(&wanted, context, "BQID")];
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (fake, board) = (Arc::<Fake>::default(), Arc::<Board>::default());
        let buckets = Arc::new(Buckets::new(Parts {
            keys: Box::new(fake.clone()),
            board: board.clone(),
            data: folder.path().to_owned(),
            runtime: runtime.handle().clone(),
            pace: OFTEN,
        }));
        Self { runtime, fake, board, buckets, wanted, folder }
    }

    fn assign(&self) {
        let assignment = Assignment {
            generation: 1,
            region: "eu-central-1".parse().expect("a Region"),
            clusters: vec![self.wanted.clone()],
            preflights: vec![],
            documents: keystead_types::DocumentAsks::default(),
        };
        self.buckets.assign(&assignment).expect("a thread");
    }

    fn live(&self) {
        let until = Some(crate::time::boot().plus(Duration::from_secs(600)));
        let view = LeaseView { word: LeaseWord::Live, cause: None, until };
        self.buckets.tell(&self.wanted.cluster, view);
    }

    fn refused(&self, cause: Cause) {
        let view = LeaseView { word: LeaseWord::Frozen, cause: Some(cause), until: None };
        self.buckets.tell(&self.wanted.cluster, view);
    }

    fn shelf(&self) -> Arc<Shelf> {
        self.buckets.lock().get(&self.wanted.cluster).cloned().expect("a shelf")
    }

    fn store(&self) -> Arc<Store> {
        until("the store", || self.shelf().lock().shop.is_some());
        self.shelf().lock().shop.clone().expect("a store").store
    }

    fn word(&self) -> (BucketWord, Option<Cause>) {
        let seen = self.board.bucket_words(&self.wanted.cluster);
        seen.first().map_or((BucketWord::Opening, None), |b| (b.state, b.cause))
    }

    fn becomes(&self, word: BucketWord) {
        until(&format!("{word:?}"), || self.word().0 == word);
    }

    fn put(&self, text: &'static [u8]) -> Result<(), StoreError> {
        let store = self.store();
        self.runtime.block_on(async {
            let mut put = store.put("documents", "a", PutOptions::default()).await?;
            put.write(Bytes::from_static(text)).await?;
            put.commit(None).await.map(drop)
        })
    }

    fn get(&self) -> Result<u64, StoreError> {
        let got = self.store();
        let got = self.runtime.block_on(got.get("documents", "a", GetOptions::default()))?;
        Ok(got.info.size)
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_bucket_serves_while_the_lease_lives_and_says_why_when_it_does_not() {
    let w = World::new();
    w.assign();
    assert!(matches!(w.put(b"early"), Err(StoreError::Refused(_) | StoreError::NoSuchBucket(_))));
    w.live();
    w.becomes(BucketWord::Serving);
    w.put(b"text").expect("stored");
    w.refused(Cause::KeyDisabled);
    // The gate is shut before the thread has looked.
    assert!(matches!(w.get(), Err(StoreError::Refused(_))));
    w.becomes(BucketWord::Frozen);
    assert_eq!(w.word().1, Some(Cause::KeyDisabled));
    until("the wiping", || w.shelf().lock().rings.is_empty());
    until(
        "the cause",
        || matches!(w.get(), Err(StoreError::Refused(r)) if r.cause == Cause::KeyDisabled),
    );
    w.live();
    w.becomes(BucketWord::Serving);
    assert_eq!(w.get().expect("there again"), 4);
    assert_eq!(w.fake.asked.load(Ordering::SeqCst), 4, "two keys, opened twice");
    let store = w.store();
    w.buckets.end();
    let after = w.runtime.block_on(store.get("documents", "a", GetOptions::default()));
    assert!(matches!(after, Err(StoreError::Refused(_))));
}

#[test]
fn a_flipped_bit_is_found_before_anyone_reads_it() {
    let w = World::new();
    w.assign();
    w.live();
    w.becomes(BucketWord::Serving);
    w.put(b"text").expect("stored");
    let message = || {
        let seen = w.board.bucket_words(&w.wanted.cluster);
        seen.first().and_then(|bucket| bucket.message.clone())
    };
    until("a scrub", || w.shelf().lock().findings.values().any(|corrupt| *corrupt == 0));
    assert_eq!(message(), None);
    let folder = w.folder.path().join("objects").join(w.wanted.cluster.as_str());
    let version = std::fs::read_dir(folder.join("buckets/documents/a")).expect("a folder");
    let version = version.map(|entry| entry.expect("an entry").path()).next().expect("one");
    let part = version.join("part00001");
    let mut bytes = std::fs::read(&part).expect("a part");
    *bytes.last_mut().expect("some") ^= 1;
    std::fs::write(&part, &bytes).expect("written");
    until("the finding", || message().is_some_and(|m| m.starts_with("1 objects do not")));
    assert_eq!(w.word().0, BucketWord::Serving, "others are served");
    // Day after day the object has one alarm.
    let store = w.store();
    until("more scrubs", || store.stats().corrupt > 2);
    assert_eq!(store.stats().alarms, 1);
    // While the lease does not live, nothing is read.
    w.refused(Cause::KeyDisabled);
    w.becomes(BucketWord::Frozen);
    std::thread::sleep(Duration::from_millis(200));
    let before = store.stats().corrupt;
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(store.stats().corrupt, before);
    *bytes.last_mut().expect("some") ^= 1;
    std::fs::write(&part, &bytes).expect("mended");
    w.live();
    until("the mending", || message().is_none());
}

#[test]
fn a_key_that_comes_after_the_refusal_is_not_let_in() {
    let w = World::new();
    w.fake.hold(true);
    w.assign();
    w.live();
    until("asked", || w.fake.asked.load(Ordering::SeqCst) > 0);
    w.refused(Cause::KeyDisabled);
    until("shut", || {
        let shelf = w.shelf();
        let s = shelf.lock();
        s.shut_for().is_some() && !s.keys
    });
    w.fake.hold(false);
    until("the answer came", || !w.shelf().lock().opening);
    assert!(w.shelf().lock().rings.is_empty());
    w.live();
    w.becomes(BucketWord::Serving);
}

#[test]
fn a_bucket_that_is_refused_alone_is_shut_alone_and_comes_back_by_itself() {
    let w = World::new();
    w.assign();
    w.live();
    w.becomes(BucketWord::Serving);
    w.put(b"text").expect("stored");
    w.fake.refuses.store(true, Ordering::SeqCst);
    let (bucket, said) = (&w.wanted.buckets[0].bucket, (Cause::PolicyDenies, "no".to_owned()));
    w.buckets.tell_bucket(&w.wanted.cluster, bucket, Some(said));
    w.becomes(BucketWord::Frozen);
    until(
        "shut",
        || matches!(w.get(), Err(StoreError::Refused(r)) if r.cause == Cause::PolicyDenies),
    );
    assert!(w.shelf().lock().rings.contains_key(".s3-credentials"), "the others stay open");
    w.fake.refuses.store(false, Ordering::SeqCst);
    w.becomes(BucketWord::Serving);
    w.get().expect("there again");
}

#[test]
fn a_recorded_key_of_another_context_is_told_and_kms_never_asked() {
    let mut w = World::new();
    let foreign = EncryptionContext::credentials(&w.wanted.cluster);
    w.wanted.buckets[0].keys = vec![store_key(&w.wanted, foreign, "AQID")];
    w.wanted.credentials = vec![];
    w.assign();
    w.live();
    // Before the lease lives the bucket is frozen for no reason of its own.
    let told = (BucketWord::Frozen, Some(Cause::WrappedKeyMismatch));
    until("the reason", || w.word() == told);
    assert_eq!(w.fake.asked.load(Ordering::SeqCst), 0);
}

/// Has the node make the secret of an access key; answers what it reports.
fn made(w: &mut World, id: &str) -> MadeS3Key {
    let key = S3KeyAssignment {
        access_key_id: id.to_owned(),
        role: S3Role::Reader,
        sealed: None,
        expires_ms: None,
    };
    w.wanted.s3_keys.push(key);
    w.assign();
    until("a secret", || w.board.has_s3_key(id));
    let made = w.board.made_s3_key(id).expect("made");
    assert_eq!(secret(w, id).as_ref(), Some(&made.secret), "good at once");
    w.wanted.s3_keys.last_mut().expect("it").sealed = Some(made.sealed.clone());
    w.assign();
    made
}

fn secret(w: &World, id: &str) -> Option<String> {
    match w.buckets.find(id) {
        Lookup::Found(found) => Some(found.secret.to_string()),
        _ => None,
    }
}

#[test]
fn secrets_of_access_keys_are_sealed_under_the_clusters_key() {
    let mut w = World::new();
    w.assign();
    w.live();
    let (one, two) = (made(&mut w, "KSIAONE"), made(&mut w, "KSIATWO"));
    assert_eq!(one.secret.len(), 40);
    assert!(!one.sealed.contains(&one.secret));
    until("found", || secret(&w, "KSIATWO").as_ref() == Some(&two.secret));
    assert_eq!(secret(&w, "KSIAONE").as_ref(), Some(&one.secret));
    assert!(matches!(w.buckets.find("KSIATHREE"), Lookup::Unknown));

    // A node that starts while the key is disabled knows the ids alone.
    w.buckets.end();
    w.buckets = Arc::new(Buckets::new(Parts {
        keys: Box::new(w.fake.clone()),
        board: w.board.clone(),
        data: w.folder.path().to_owned(),
        runtime: w.runtime.handle().clone(),
        pace: OFTEN,
    }));
    // Sealed secrets that changed places do not open.
    w.wanted.s3_keys[0].sealed = Some(two.sealed.clone());
    w.wanted.s3_keys[1].expires_ms = Some(1);
    w.assign();
    w.refused(Cause::KeyDisabled);
    assert!(matches!(w.buckets.find("KSIAONE"), Lookup::Sealed(Cause::KeyDisabled)));
    assert!(matches!(w.buckets.find("KSIATWO"), Lookup::Unknown), "it has ended");
    w.live();
    w.becomes(BucketWord::Serving);
    w.wanted.s3_keys[1].expires_ms = None;
    w.assign();
    until("the right one", || secret(&w, "KSIATWO").as_ref() == Some(&two.secret));
    assert_eq!(secret(&w, "KSIAONE"), None);
}

#[test]
fn buckets_are_made_and_removed_through_control() {
    let mut w = World::new();
    w.assign();
    w.live();
    w.becomes(BucketWord::Serving);
    w.put(b"text").expect("stored");
    let port = Arc::new(wishes::Wishes::of(&w.shelf()));
    let taken = w.runtime.block_on(port.create("documents"));
    assert!(matches!(taken, Err(StoreError::BucketExists(_))));
    let full = w.runtime.block_on(port.delete("documents"));
    assert!(matches!(full, Err(StoreError::BucketNotEmpty(_))));
    let none = w.runtime.block_on(port.delete("other"));
    assert!(matches!(none, Err(StoreError::NoSuchBucket(_))));

    let asks = port.clone();
    let making = w.runtime.spawn(async move { asks.create("more").await });
    until("a wish", || w.board.wished(&w.wanted.cluster).len() == 1);
    let bucket = BucketId::from_uuid(uuid::Uuid::now_v7());
    let context = EncryptionContext::bucket(&w.wanted.cluster, &bucket);
    let keys = vec![store_key(&w.wanted, context, "CQID")];
    w.wanted.buckets.push(BucketAssignment { bucket, name: "more".into(), keys });
    w.assign();
    w.runtime.block_on(making).expect("joined").expect("made");
    until("taken back", || w.board.wished(&w.wanted.cluster).is_empty());

    let removing = w.runtime.spawn(async move { port.delete("more").await });
    until("a wish", || w.board.wished(&w.wanted.cluster).len() == 1);
    w.wanted.buckets.pop();
    w.assign();
    w.runtime.block_on(removing).expect("joined").expect("removed");
    let there = w.runtime.block_on(w.store().list_buckets()).expect("listed");
    assert_eq!(there.len(), 1);
}

#[test]
fn a_name_given_to_another_bucket_is_sealed_under_that_buckets_own_key() {
    let mut w = World::new();
    w.assign();
    w.live();
    w.becomes(BucketWord::Serving);
    // Removed and made again, both with one key: only the id differs.
    let bucket = BucketId::from_uuid(uuid::Uuid::now_v7());
    let context = EncryptionContext::bucket(&w.wanted.cluster, &bucket);
    let keys = vec![store_key(&w.wanted, context, "CQID")];
    w.wanted.buckets[0] =
        BucketAssignment { bucket: bucket.clone(), name: "documents".into(), keys };
    w.assign();
    until("the new bucket's ring", || {
        let shelf = w.shelf();
        let s = shelf.lock();
        s.serves(&w.wanted.buckets[0])
    });
    w.put(b"text").expect("stored");
    w.refused(Cause::KeyDisabled);
    until("the wiping", || w.shelf().lock().rings.is_empty());
    w.live();
    w.becomes(BucketWord::Serving);
    assert_eq!(w.get().expect("opens with the key of record"), 4);
}

#[test]
fn a_long_silence_wipes_the_keys_and_a_short_one_does_not() {
    let w = World::new();
    w.assign();
    w.live();
    w.becomes(BucketWord::Serving);
    w.put(b"text").expect("stored");
    // The last lease ended five seconds ago, then eleven.
    let lapsed = LeaseView { word: LeaseWord::Lapsed, cause: None, until: None };
    for (ago, wiped) in [(5, false), (11, true)] {
        let shelf = w.shelf();
        let past = crate::time::boot().as_duration() - Duration::from_secs(ago);
        shelf.with(|s| s.lived_until = keystead_types::Boot::since_boot(past));
        w.buckets.tell(&w.wanted.cluster, lapsed);
        assert!(matches!(w.get(), Err(StoreError::Refused(_))), "the gate is shut");
        std::thread::sleep(Duration::from_millis(300));
        let s = shelf.lock();
        assert_eq!((s.keys, s.rings.is_empty()), (!wiped, wiped), "{ago} s");
    }
}

#[test]
fn who_hangs_up_leaves_no_wish_and_a_full_status_takes_no_more() {
    let w = World::new();
    w.assign();
    w.live();
    w.becomes(BucketWord::Serving);
    let port = Arc::new(wishes::Wishes::of(&w.shelf()));
    let bad = w.runtime.block_on(port.create("my.bucket"));
    assert!(matches!(bad, Err(StoreError::InvalidBucketName)));
    let asking: Vec<_> = (0..20)
        .map(|n| {
            let port = port.clone();
            w.runtime.spawn(async move { port.create(&format!("bucket-{n}")).await })
        })
        .collect();
    until("wishes", || w.board.wished(&w.wanted.cluster).len() == 8);
    asking.iter().for_each(tokio::task::JoinHandle::abort);
    until("forgotten", || w.board.wished(&w.wanted.cluster).is_empty());
}

#[test]
fn objects_of_a_bucket_that_control_forgot_are_kept_and_never_another_buckets() {
    let mut w = World::new();
    let other = BucketId::from_uuid(uuid::Uuid::now_v7());
    let context = EncryptionContext::bucket(&w.wanted.cluster, &other);
    let keys = vec![store_key(&w.wanted, context, "DQID")];
    w.wanted.buckets.push(BucketAssignment { bucket: other, name: "others".into(), keys });
    w.assign();
    w.live();
    w.becomes(BucketWord::Serving);
    w.put(b"text").expect("stored");
    // As when control's store was put back to before the bucket, which then was made anew.
    let old = w.wanted.buckets[0].clone();
    let bucket = BucketId::from_uuid(uuid::Uuid::now_v7());
    let context = EncryptionContext::bucket(&w.wanted.cluster, &bucket);
    let keys = vec![store_key(&w.wanted, context, "CQID")];
    w.wanted.buckets[0] = BucketAssignment { bucket, name: "documents".into(), keys };
    w.assign();
    w.becomes(BucketWord::Frozen);
    assert_eq!(w.word().1, Some(Cause::WrappedKeyMismatch));
    assert!(matches!(w.get(), Err(StoreError::Refused(_))));
    let serves = |w: &World| {
        let shelf = w.shelf();
        let s = shelf.lock();
        s.serves(&w.wanted.buckets[1])
    };
    until("the other one serves all the while", || serves(&w));
    w.wanted.buckets[0] = old;
    w.assign();
    w.becomes(BucketWord::Serving);
    assert_eq!(w.get().expect("they are there"), 4);
}
