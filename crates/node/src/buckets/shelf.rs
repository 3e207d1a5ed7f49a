//! One cluster's buckets: a store, a vault, and a thread that opens and shuts them (`rounds.rs`).
//!
//! ```text
//!   keeper ── tell ──► gate (at once) ─► the thread: cut connections, wipe keys
//!   assignment ──────► the thread ─► chores (store, index: what may wait for the disk)
//!                                 └► an opener unwraps ─► vault, unless shut meanwhile
//! ```

use super::Parts;
use super::documents::Documents;
use super::replication::{Running, Teller};
use super::scrub::Scrubber;
use super::unwrap::{Asked, CREDENTIALS};
use crate::cluster::machine::LeaseView;
use crate::time::{SystemClock, boot};
use keystead_envelope::lease::LeaseGate;
use keystead_objects::gateway::{Found, Lookup, Space};
use keystead_objects::{Store, Vault};
use keystead_types::{
    Boot, BucketAssignment, BucketId, BucketStatus, BucketWish, BucketWord, Cause, Clock,
    ClusterAssignment, ClusterId, LeaseWord,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use zeroize::Zeroizing;

/// One cluster's buckets.
pub(super) struct Shelf {
    pub(super) cluster: ClusterId,
    pub(super) parts: Arc<Parts>,
    gate: Arc<LeaseGate>,
    pub(super) vault: Arc<Vault>,
    state: Mutex<State>,
    pub(super) came: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub(super) struct State {
    pub(super) wanted: Arc<ClusterAssignment>,
    pub(super) view: LeaseView,
    /// The end of the last lease that lived.
    pub(super) lived_until: Boot,
    /// A refusal came that the thread has not acted on yet, whatever came after it.
    pub(super) refused: Option<Cause>,
    /// Rises with each word that is not "live" and with each bucket's own refusal: keys that were
    /// asked for before are not let in any more.
    pub(super) shut: u64,
    /// Once the store is open.
    pub(super) shop: Option<Shop>,
    /// The vault may hold keys.
    pub(super) keys: bool,
    pub(super) opening: bool,
    pub(super) open_again: Boot,
    pub(super) chores: bool,
    pub(super) chores_again: Boot,
    /// What the store was last brought to, as far as it could be.
    pub(super) brought: Option<Vec<(BucketId, String)>>,
    /// The buckets that it has.
    pub(super) registered: Vec<(BucketId, String)>,
    /// Rings in the vault, by name: which bucket's, and with which keys.
    pub(super) rings: BTreeMap<String, Asked>,
    /// Why a ring does not open, or a bucket's own proof is refused.
    pub(super) denied: BTreeMap<String, (Cause, String)>,
    /// Why nothing opens.
    pub(super) failed: Option<String>,
    pub(super) access_keys: BTreeMap<String, AccessKey>,
    /// Names of buckets that users of S3 wait for.
    pub(super) wishes: BTreeSet<String>,
    /// Buckets that are to go. Once said it is not taken back: control may have heard it.
    pub(super) removals: BTreeSet<BucketId>,
    pub(super) documents: Documents,
    /// A primary's, while the lease lives.
    pub(super) sender: Option<Running>,
    pub(super) teller: Option<Teller>,
    pub(super) scrubber: Option<Scrubber>,
    /// Objects of a bucket that do not authenticate, by the last scrub.
    pub(super) findings: BTreeMap<BucketId, u64>,
    pub(super) fresh: bool,
    pub(super) stop: bool,
}

#[derive(Clone)]
pub(super) struct Shop {
    pub(super) store: Arc<Store>,
    pub(super) space: Arc<Space>,
}

pub(super) struct AccessKey {
    pub(super) sealed: String,
    pub(super) secret: Option<Zeroizing<String>>,
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
        let now = boot();
        let state = State {
            wanted: Arc::new(wanted.clone()),
            view: LeaseView { word: LeaseWord::None, cause: None, until: None },
            lived_until: now,
            refused: None,
            shut: 0,
            shop: None,
            keys: false,
            opening: false,
            open_again: now,
            chores: false,
            chores_again: now,
            brought: None,
            registered: Vec::new(),
            rings: BTreeMap::new(),
            denied: BTreeMap::new(),
            failed: None,
            access_keys: BTreeMap::new(),
            wishes: BTreeSet::new(),
            removals: BTreeSet::new(),
            documents: Documents::new(now),
            sender: None,
            teller: None,
            scrubber: None,
            findings: BTreeMap::new(),
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

    /// Changes the state and has the thread look.
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

    /// The keeper's word. The gate moves at once; the thread does the rest.
    pub(super) fn tell(&self, view: LeaseView) {
        self.gate.publish(view.until.filter(|_| view.word == LeaseWord::Live));
        self.with(|s| {
            match view.word {
                LeaseWord::Live => s.lived_until = view.until.unwrap_or(s.lived_until),
                LeaseWord::Frozen | LeaseWord::Dead => {
                    s.refused = Some(view.cause.unwrap_or(Cause::KmsUnreachable));
                    s.shut += 1;
                }
                _ => s.shut += 1,
            }
            s.view = view;
        });
    }

    /// What a bucket's own proof came to.
    pub(super) fn tell_bucket(&self, bucket: &BucketId, said: Option<(Cause, String)>) {
        self.with(|s| {
            let Some(found) = s.wanted.buckets.iter().find(|b| b.bucket == *bucket) else { return };
            let name = found.name.clone();
            match said {
                Some(why) => {
                    s.shut += 1;
                    s.denied.insert(name, why);
                }
                None => drop(s.denied.remove(&name)),
            }
        });
    }

    pub(super) fn stop(&self) {
        self.gate.publish(None);
        self.with(|s| {
            (s.stop, s.shut) = (true, s.shut + 1);
        });
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
            (Some(secret), Some(shop)) => {
                Lookup::Found(Found { secret, role: known.role, space: shop.space.clone() })
            }
            _ => {
                let denied = state.denied.get(CREDENTIALS).map(|(cause, _)| *cause);
                Lookup::Sealed(denied.unwrap_or_else(|| state.cause()))
            }
        }
    }
}

impl State {
    /// Why nothing is served.
    pub(super) fn cause(&self) -> Cause {
        self.view.cause.unwrap_or(Cause::KmsUnreachable)
    }

    /// The lease does not live, and why.
    pub(super) fn shut_for(&self) -> Option<Cause> {
        (self.view.word != LeaseWord::Live).then(|| self.cause())
    }

    /// The store has the bucket under its own id.
    pub(super) fn has(&self, bucket: &BucketId) -> bool {
        self.registered.iter().any(|(id, _)| id == bucket)
    }

    /// The bucket's ring is open, and it is its own.
    pub(super) fn serves(&self, bucket: &BucketAssignment) -> bool {
        let ring = self.rings.get(&bucket.name).and_then(|ring| ring.bucket.as_ref());
        ring == Some(&bucket.bucket) && self.has(&bucket.bucket)
    }

    pub(super) fn status(&self, bucket: &BucketAssignment) -> BucketStatus {
        let denied = self.denied.get(&bucket.name);
        let live = self.view.word == LeaseWord::Live;
        let state = match (live, denied) {
            (true, None) if self.serves(bucket) => BucketWord::Serving,
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
            message: denied
                .map(|(_, detail)| detail.clone())
                .or_else(|| self.failed.clone())
                .or_else(|| self.finding(&bucket.bucket)),
        }
    }

    /// What control is asked for.
    pub(super) fn wishes(&self) -> Vec<BucketWish> {
        let create = self.wishes.iter().cloned().map(BucketWish::Create);
        create.chain(self.removals.iter().cloned().map(BucketWish::Remove)).collect()
    }
}
