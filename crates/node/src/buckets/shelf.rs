//! One cluster's buckets: a store, a vault, and a thread that opens and shuts them.
//!
//! ```text
//!   keeper ── tell ──► gate (at once) ─► the thread: cut connections, wipe keys
//!   assignment ──────► the thread ─► a thread of its own unwraps ─► vault, unless shut meanwhile
//! ```

use super::Parts;
use super::credentials;
use super::unwrap::{Asked, CREDENTIALS, asked, open};
use super::wishes::Wishes;
use crate::cluster::machine::LeaseView;
use crate::time::{SystemClock, boot};
use keystead_envelope::lease::LeaseGate;
use keystead_objects::gateway::{Found, Lookup, Role, Space};
use keystead_objects::{BucketSettings, Store, Vault};
use keystead_types::{
    Boot, BucketId, BucketStatus, BucketWish, BucketWord, Cause, Clock, ClusterAssignment,
    ClusterId, LeaseWord, MadeS3Key, S3Role,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use zeroize::Zeroizing;

/// What failed is tried again after this, whatever the length of the outage.
const AGAIN: Duration = Duration::from_millis(700);
/// Without a word from anybody the thread looks so often.
const LOOK: Duration = Duration::from_secs(1);
/// While something is under way.
const SOON: Duration = Duration::from_millis(50);
/// A silence that lasts this much longer than the lease costs the keys.
const ZEROIZE: Duration = Duration::from_secs(10);

/// One cluster's buckets.
pub(super) struct Shelf {
    cluster: ClusterId,
    parts: Arc<Parts>,
    gate: Arc<LeaseGate>,
    vault: Arc<Vault>,
    state: Mutex<State>,
    came: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub(super) struct State {
    pub(super) wanted: Arc<ClusterAssignment>,
    view: LeaseView,
    /// Once the store is open.
    pub(super) shop: Option<Shop>,
    /// Rises at each shutting: keys that were asked for before are not let in any more.
    shut: u64,
    /// The vault may hold keys.
    keys: bool,
    opening: bool,
    not_before: Boot,
    /// Rings in the vault by name, and how many keys each has.
    pub(super) rings: BTreeMap<String, usize>,
    /// Why a ring does not open, or a bucket's own proof is refused.
    denied: BTreeMap<String, (Cause, String)>,
    /// Why nothing opens.
    failed: Option<String>,
    access_keys: BTreeMap<String, AccessKey>,
    pub(super) wishes: Vec<BucketWish>,
    pub(super) removing: BTreeSet<BucketId>,
    fresh: bool,
    stop: bool,
}

#[derive(Clone)]
pub(super) struct Shop {
    pub(super) store: Arc<Store>,
    space: Arc<Space>,
}

struct AccessKey {
    sealed: String,
    secret: Option<Zeroizing<String>>,
}

impl Shelf {
    /// Starts its thread; the store is opened there.
    pub(super) fn start(
        parts: Arc<Parts>,
        wanted: &ClusterAssignment,
    ) -> std::io::Result<Arc<Self>> {
        let gate = Arc::new(LeaseGate::new());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let vault = Arc::new(Vault::new(gate.clone(), clock, Cause::KmsUnreachable));
        let state = State {
            wanted: Arc::new(wanted.clone()),
            view: LeaseView { word: LeaseWord::None, cause: None, until: None },
            shop: None,
            shut: 0,
            keys: false,
            opening: false,
            not_before: boot(),
            rings: BTreeMap::new(),
            denied: BTreeMap::new(),
            failed: None,
            access_keys: BTreeMap::new(),
            wishes: Vec::new(),
            removing: BTreeSet::new(),
            fresh: true,
            stop: false,
        };
        let shelf = Arc::new(Self {
            cluster: wanted.cluster.clone(),
            parts,
            gate,
            vault,
            state: Mutex::new(state),
            came: Condvar::new(),
            thread: Mutex::default(),
        });
        let runs = shelf.clone();
        let name = format!("buckets {}", wanted.name);
        let thread = std::thread::Builder::new().name(name).spawn(move || runs.run())?;
        *shelf.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(shelf)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let done = change(&mut state);
        state.fresh = true;
        self.came.notify_one();
        done
    }

    /// The newest assignment.
    pub(super) fn assign(&self, wanted: &ClusterAssignment) {
        self.with(|s| s.wanted = Arc::new(wanted.clone()));
    }

    /// The keeper's word. The gate moves at once; what waits for nothing else is done here.
    pub(super) fn tell(&self, view: LeaseView) {
        self.gate.publish(view.until.filter(|_| view.word == LeaseWord::Live));
        self.with(|s| s.view = view);
    }

    /// What a bucket's own proof came to.
    pub(super) fn tell_bucket(&self, bucket: &BucketId, said: Option<(Cause, String)>) {
        self.with(|s| {
            let Some(name) = s.wanted.buckets.iter().find(|b| b.bucket == *bucket) else { return };
            let name = name.name.clone();
            match said {
                Some((cause, detail)) => {
                    s.denied.insert(name, (cause, detail));
                }
                None => drop(s.denied.remove(&name)),
            }
        });
    }

    pub(super) fn stop(&self) {
        self.gate.publish(None);
        self.with(|s| s.stop = true);
    }

    pub(super) fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!(cluster = %self.cluster, "the buckets' thread had panicked");
        }
    }

    /// An access key of this cluster. One whose secret is sealed is known all the same: who has it
    /// learns why, and nothing else.
    pub(super) fn access_key(&self, id: &str) -> Lookup {
        let state = self.lock();
        let Some(known) = state.wanted.s3_keys.iter().find(|k| k.access_key_id == id) else {
            return Lookup::Unknown;
        };
        if known.expires_ms.is_some_and(|at| SystemClock.wall_ms() >= at) {
            return Lookup::Unknown;
        }
        let secret = state.access_keys.get(id).and_then(|k| k.secret.clone());
        match (secret, &state.shop) {
            (Some(secret), Some(shop)) => Lookup::Found(Found {
                secret,
                role: match known.role {
                    S3Role::Reader => Role::Reader,
                    S3Role::Writer => Role::Writer,
                },
                space: shop.space.clone(),
            }),
            _ => Lookup::Sealed(state.cause()),
        }
    }

    fn run(self: &Arc<Self>) {
        loop {
            let (stop, soon) = self.round();
            if stop {
                return;
            }
            let mut state = self.lock();
            if !state.fresh {
                let wait = if soon { SOON } else { LOOK };
                state = match self.came.wait_timeout(state, wait) {
                    Ok((guard, _)) => guard,
                    Err(poisoned) => poisoned.into_inner().0,
                };
            }
            state.fresh = false;
        }
    }

    /// One look; answers whether it is the last, and whether the next is soon.
    fn round(self: &Arc<Self>) -> (bool, bool) {
        let (wanted, view, keys, shop, stop) = {
            let s = self.lock();
            (s.wanted.clone(), s.view, s.keys, s.shop.clone(), s.stop)
        };
        let now = boot();
        let fenced = match view.word {
            LeaseWord::Live => view.until.is_none_or(|until| now >= until),
            _ => true,
        };
        let cause = view.cause.unwrap_or(Cause::KmsUnreachable);
        if fenced || stop {
            if let Some(shop) = &shop {
                let cut = shop.space.cut(cause);
                if cut > 0 {
                    tracing::info!(cluster = %self.cluster, %cause, cut, "S3 connections cut");
                }
            }
            let silent = view.word == LeaseWord::Lapsed || view.word == LeaseWord::Live;
            let spared = silent && view.until.is_none_or(|until| now < until.plus(ZEROIZE));
            if keys && (stop || !spared) {
                self.wipe(cause);
            }
        }
        if stop {
            return (true, false);
        }
        let Some(shop) = shop.or_else(|| self.open_store()) else {
            self.report();
            return (false, true);
        };
        self.register(&shop, &wanted);
        self.deny(&wanted);
        let mut soon = fenced && keys;
        if !fenced {
            soon |= self.open_rings(&wanted, now);
            self.open_secrets(&wanted);
            shop.space.open();
        }
        self.report();
        (false, soon)
    }

    fn wipe(&self, cause: Cause) {
        {
            let mut s = self.lock();
            s.shut += 1;
            s.keys = false;
            s.rings.clear();
        }
        self.vault.close(cause);
        tracing::info!(cluster = %self.cluster, %cause, "the buckets' keys are wiped");
    }

    fn open_store(self: &Arc<Self>) -> Option<Shop> {
        if boot() < self.lock().not_before {
            return None;
        }
        let folder = self.parts.data.join("objects").join(self.cluster.as_str());
        match Store::open(&folder, self.vault.clone(), Arc::new(SystemClock)) {
            Ok(store) => {
                let port = Arc::new(Wishes::of(self));
                let space = Space::new(store.clone(), port, self.cluster.as_str());
                let shop = Shop { store, space };
                // Nothing is served before the first thaw.
                shop.space.cut(Cause::KmsUnreachable);
                let mut s = self.lock();
                (s.shop, s.failed) = (Some(shop.clone()), None);
                Some(shop)
            }
            Err(error) => {
                let why = format!("the objects' folder: {}", crate::kms::deepest(&error));
                tracing::error!(cluster = %self.cluster, why);
                let mut s = self.lock();
                (s.failed, s.not_before) = (Some(why), boot().plus(AGAIN));
                None
            }
        }
    }

    /// The store has the buckets of the assignment. One that is to go must be empty: what is in it
    /// is never deleted from here.
    fn register(&self, shop: &Shop, wanted: &ClusterAssignment) {
        let runtime = &self.parts.runtime;
        let there = match runtime.block_on(shop.store.list_buckets()) {
            Ok(there) => there,
            Err(error) => {
                self.lock().failed = Some(format!("the objects' index: {error}"));
                return;
            }
        };
        let removing = self.lock().removing.clone();
        for bucket in wanted.buckets.iter().filter(|b| !removing.contains(&b.bucket)) {
            if there.iter().any(|t| t.name == bucket.name) {
                continue;
            }
            let Some(wrapped) = bucket.keys.last().and_then(|k| k.wrapped.first()) else {
                continue;
            };
            let key_arn = wrapped.key.to_string();
            let settings = BucketSettings { key_arn, ..BucketSettings::default() };
            match runtime.block_on(shop.store.add_bucket(&bucket.name, settings)) {
                Ok(_) => {
                    tracing::info!(cluster = %self.cluster, bucket = bucket.name, "bucket made");
                }
                Err(error) => {
                    self.lock().failed = Some(format!("bucket {}: {error}", bucket.name));
                }
            }
        }
        for stray in there.iter().filter(|t| wanted.buckets.iter().all(|b| b.name != t.name)) {
            match runtime.block_on(shop.store.remove_bucket(&stray.name)) {
                Ok(()) => {
                    tracing::info!(cluster = %self.cluster, bucket = stray.name, "bucket removed")
                }
                Err(error) => tracing::debug!(bucket = stray.name, %error, "kept on disk"),
            }
        }
    }

    /// Shuts the buckets whose own proof is refused.
    fn deny(&self, wanted: &ClusterAssignment) {
        let mut s = self.lock();
        let State { rings, denied, .. } = &mut *s;
        denied.retain(|name, _| {
            name == CREDENTIALS || wanted.buckets.iter().any(|b| b.name == *name)
        });
        for (name, (cause, detail)) in denied.iter() {
            if rings.remove(name).is_some() {
                tracing::warn!(cluster = %self.cluster, bucket = name, %cause, detail, "bucket shut");
                self.vault.close_bucket(name, *cause);
            }
        }
    }

    /// Has what is recorded and not open unwrapped; answers whether something is under way.
    fn open_rings(self: &Arc<Self>, wanted: &Arc<ClusterAssignment>, now: Boot) -> bool {
        let mut s = self.lock();
        let lacks = |a: &Asked| s.rings.get(&a.name) != Some(&a.keys());
        let missing: Vec<Asked> = asked(wanted).into_iter().filter(lacks).collect();
        if missing.is_empty() || s.opening || now < s.not_before {
            return !missing.is_empty();
        }
        (s.opening, s.keys) = (true, true);
        let (shelf, wanted, shut) = (self.clone(), wanted.clone(), s.shut);
        drop(s);
        let opener = move || shelf.unwrap(&wanted, &missing, shut);
        let started = std::thread::Builder::new().name("open buckets".to_owned()).spawn(opener);
        if let Err(error) = started {
            let mut s = self.lock();
            (s.opening, s.not_before) = (false, boot().plus(AGAIN));
            s.failed = Some(format!("a thread: {error}"));
        }
        true
    }

    fn unwrap(&self, wanted: &ClusterAssignment, missing: &[Asked], shut: u64) {
        let opened = open(&*self.parts.keys, wanted, missing);
        self.with(|s| {
            s.opening = false;
            // Asked for before the last shutting: wiped unseen.
            if s.shut != shut || s.view.word != LeaseWord::Live {
                return;
            }
            for (asked, ring) in missing.iter().zip(opened) {
                match ring {
                    Ok(ring) => {
                        self.vault.open(&asked.name, ring);
                        s.rings.insert(asked.name.clone(), asked.keys());
                        s.denied.remove(&asked.name);
                        tracing::info!(cluster = %self.cluster, store = asked.name, "opened");
                    }
                    Err(fault) => {
                        tracing::warn!(cluster = %self.cluster, store = asked.name,
                            cause = %fault.cause, detail = fault.detail, "not opened");
                        self.vault.close_bucket(&asked.name, fault.cause);
                        s.denied.insert(asked.name.clone(), (fault.cause, fault.detail));
                        s.not_before = boot().plus(AGAIN);
                    }
                }
            }
        });
    }

    /// Opens sealed secrets, and makes those that control asks for.
    fn open_secrets(&self, wanted: &ClusterAssignment) {
        if !self.lock().rings.contains_key(CREDENTIALS) {
            return;
        }
        let live = |id: &String| wanted.s3_keys.iter().any(|k| k.access_key_id == *id);
        self.lock().access_keys.retain(|id, _| live(id));
        for key in &wanted.s3_keys {
            let id = &key.access_key_id;
            let known = self.lock().access_keys.get(id).map(|k| k.sealed.clone());
            match &key.sealed {
                Some(sealed) if known.as_ref() == Some(sealed) => {}
                Some(sealed) => {
                    let secret = credentials::open(&self.vault, id, sealed)
                        .inspect_err(|why| {
                            tracing::error!(cluster = %self.cluster, key = id, why,
                                "a sealed secret does not open");
                        })
                        .ok();
                    let sealed = sealed.clone();
                    self.lock().access_keys.insert(id.clone(), AccessKey { sealed, secret });
                }
                None if self.parts.board.has_s3_key(id) => {}
                None => match credentials::make(&self.vault, id) {
                    Ok((secret, sealed)) => {
                        // Whoever asked for it may use it before control's next word comes.
                        let kept =
                            AccessKey { sealed: sealed.clone(), secret: Some(secret.clone()) };
                        self.lock().access_keys.insert(id.clone(), kept);
                        let (access_key_id, secret) = (id.clone(), secret.to_string());
                        self.parts.board.s3_key(MadeS3Key { access_key_id, sealed, secret });
                    }
                    Err(why) => tracing::warn!(cluster = %self.cluster, key = id, why, "no secret"),
                },
            }
        }
    }

    fn report(&self) {
        let s = self.lock();
        let status = s.wanted.buckets.iter().map(|b| s.status(b)).collect();
        let (board, wishes) = (&self.parts.board, s.wishes.clone());
        board.buckets(&self.cluster, status);
        board.wishes(&self.cluster, wishes);
    }
}

impl State {
    /// Why nothing is served.
    fn cause(&self) -> Cause {
        self.view.cause.unwrap_or(Cause::KmsUnreachable)
    }

    #[cfg(test)]
    pub(super) fn holds_keys(&self) -> bool {
        self.keys
    }
    #[cfg(test)]
    pub(super) fn is_opening(&self) -> bool {
        self.opening
    }

    /// The lease does not live, and why.
    pub(super) fn shut_for(&self) -> Option<Cause> {
        (self.view.word != LeaseWord::Live).then(|| self.cause())
    }

    fn status(&self, bucket: &keystead_types::BucketAssignment) -> BucketStatus {
        let denied = self.denied.get(&bucket.name);
        let live = self.view.word == LeaseWord::Live;
        let open = self.rings.contains_key(&bucket.name) && self.shop.is_some();
        let state = match (live, denied) {
            (true, None) if open => BucketWord::Serving,
            (true, None) if self.failed.is_some() => BucketWord::Failed,
            (true, None) => BucketWord::Opening,
            (true, Some(_)) => BucketWord::Frozen,
            (false, _) if bucket.keys.is_empty() => BucketWord::Opening,
            (false, _) => BucketWord::Frozen,
        };
        BucketStatus {
            bucket: bucket.bucket.clone(),
            state,
            cause: denied.map(|(cause, _)| *cause).or(self.view.cause),
            message: denied.map(|(_, detail)| detail.clone()).or_else(|| self.failed.clone()),
        }
    }
}
