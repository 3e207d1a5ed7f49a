//! The thread of a cluster's buckets: what it does at each look. Nothing here waits for the disk or
//! for KMS: a refusal must never stand behind either.

use super::chores::due;
use super::credentials::{self, SecretFault};
use super::shelf::{AccessKey, Shelf, State};
use super::unwrap::{Asked, CREDENTIALS, asked, open};
use crate::time::boot;
use keystead_types::{
    Boot, BucketId, Cause, ClusterAssignment, LeaseWord, MadeS3Key, Part, S3Role,
};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// What failed is tried again after this, whatever the length of the outage.
pub(super) const AGAIN: Duration = Duration::from_millis(700);
/// Without a word from anybody the thread looks so often.
const LOOK: Duration = Duration::from_secs(1);
/// While something is under way.
const SOON: Duration = Duration::from_millis(50);
/// A silence that lasts this much longer than the lease costs the keys.
const ZEROIZE: Duration = Duration::from_secs(10);

impl Shelf {
    pub(super) fn run(self: &Arc<Self>) {
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
        let now = boot();
        let stop = self.shut_what_must(now);
        if stop {
            return (true, false);
        }
        let wanted = self.lock().wanted.clone();
        self.drop_strangers(&wanted);
        self.deny();
        let mut soon = self.chores_if_due(&wanted, now);
        if self.lock().view.word == LeaseWord::Live {
            soon |= self.open_rings(&wanted, now);
            self.open_secrets(&wanted);
        }
        {
            let mut s = self.lock();
            soon |= s.keys && s.view.word != LeaseWord::Live;
            // Decided and done under the lock: a refusal that comes now is met in the next look.
            if let Some(shop) = &s.shop
                && s.view.word == LeaseWord::Live
                && s.refused.is_none()
            {
                shop.space.open();
            }
            self.replicate(&mut s);
            self.scrub(&mut s);
        }
        soon |= self.tend_documents(now);
        self.report();
        (false, soon)
    }

    /// Cuts and wipes; answers whether the shelf is to end.
    fn shut_what_must(&self, now: Boot) -> bool {
        let (refused, fenced, cause, stop, shop, keys, lived_until) = {
            let mut s = self.lock();
            let fenced = s.view.word != LeaseWord::Live;
            let refused = s.refused.take();
            let cause = refused.unwrap_or_else(|| s.cause());
            if refused.is_some() || fenced || s.stop {
                // What it has sent is sealed; the gate keeps it from sending more.
                s.sender = None;
            }
            if s.stop {
                (s.teller, s.scrubber) = (None, None);
            }
            (refused.is_some(), fenced, cause, s.stop, s.shop.clone(), s.keys, s.lived_until)
        };
        if !(refused || fenced || stop) {
            return false;
        }
        if let Some(shop) = &shop {
            let cut = shop.space.cut(cause);
            if cut > 0 {
                tracing::info!(cluster = %self.cluster, %cause, cut, "S3 connections cut");
            }
        }
        let silent_for_long = fenced && now >= lived_until.plus(ZEROIZE);
        if keys && (refused || stop || silent_for_long) {
            self.wipe(cause);
        }
        stop
    }

    fn wipe(&self, cause: Cause) {
        {
            let mut s = self.lock();
            s.shut += 1;
            // An opener that is under way is told by `shut`; it sets `keys` again when it begins.
            s.keys = false;
            s.rings.clear();
            if s.view.word == LeaseWord::Dead {
                s.access_keys.clear();
            }
        }
        self.vault.close(cause);
        tracing::info!(cluster = %self.cluster, %cause, "the buckets' keys are wiped");
    }

    /// Shuts the rings of buckets that the assignment no longer names, or names by another id.
    fn drop_strangers(&self, wanted: &ClusterAssignment) {
        let asked = asked(wanted);
        let mut s = self.lock();
        let known = |name: &String, ring: &Asked| {
            asked.iter().any(|a| a.name == *name && a.bucket == ring.bucket)
        };
        let strange: Vec<_> =
            s.rings.iter().filter(|(n, r)| !known(n, r)).map(|(n, _)| n.clone()).collect();
        for name in strange {
            s.rings.remove(&name);
            self.vault.close_bucket(&name, Cause::KeyDeleted);
        }
        s.denied.retain(|name, _| asked.iter().any(|a| a.name == *name));
    }

    /// Shuts the buckets whose own proof is refused.
    fn deny(&self) {
        let mut s = self.lock();
        let denied: Vec<_> = s.denied.iter().map(|(n, why)| (n.clone(), why.clone())).collect();
        for (name, (cause, detail)) in denied {
            if s.rings.remove(&name).is_some() {
                tracing::warn!(cluster = %self.cluster, bucket = name, %cause, detail, "bucket shut");
                self.vault.close_bucket(&name, cause);
                // Its plaintext may be on its way in any of them; the others come again at once.
                if let Some(shop) = &s.shop {
                    shop.space.cut(cause);
                }
            }
        }
    }

    /// Has what is recorded and not open unwrapped; answers whether something is under way.
    fn open_rings(self: &Arc<Self>, wanted: &Arc<ClusterAssignment>, now: Boot) -> bool {
        let mut s = self.lock();
        let lacks = |a: &Asked| {
            let there = a.bucket.as_ref().is_none_or(|bucket| s.has(bucket));
            there && s.rings.get(&a.name) != Some(a)
        };
        let missing: Vec<Asked> = asked(wanted).into_iter().filter(lacks).collect();
        if missing.is_empty() || s.opening || now < s.open_again {
            return !missing.is_empty();
        }
        (s.opening, s.keys) = (true, true);
        let (shelf, wanted, shut) = (self.clone(), wanted.clone(), s.shut);
        drop(s);
        let opener = move || shelf.unwrap(&wanted, missing, shut);
        let started = std::thread::Builder::new().name("open buckets".to_owned()).spawn(opener);
        if let Err(error) = started {
            let mut s = self.lock();
            (s.opening, s.open_again) = (false, boot().plus(AGAIN));
            s.failed = Some(format!("a thread: {error}"));
        }
        true
    }

    fn unwrap(&self, wanted: &ClusterAssignment, missing: Vec<Asked>, shut: u64) {
        let opened = open(&*self.parts.keys, wanted, &missing);
        self.with(|s| {
            s.opening = false;
            // Asked for before the last word that was not "live": wiped unseen.
            if s.shut != shut || s.view.word != LeaseWord::Live {
                return;
            }
            for (asked, ring) in missing.into_iter().zip(opened) {
                let name = asked.name.clone();
                let fault = match ring {
                    Ok(ring) => {
                        tracing::info!(cluster = %self.cluster, store = name, "opened");
                        self.vault.open(&name, ring);
                        s.denied.remove(&name);
                        s.rings.insert(name, asked);
                        continue;
                    }
                    Err(fault) => fault,
                };
                s.open_again = boot().plus(AGAIN);
                let silent = fault.cause == Cause::KmsUnreachable;
                // A moment of silence takes nothing away that is open.
                let keeps = s.rings.get(&name).is_some_and(|ring| ring.bucket == asked.bucket);
                if silent && keeps {
                    continue;
                }
                let why = (fault.cause, fault.detail);
                if s.denied.get(&name) != Some(&why) {
                    tracing::warn!(cluster = %self.cluster, store = name, cause = %why.0,
                        detail = why.1, "not opened");
                }
                s.rings.remove(&name);
                self.vault.close_bucket(&name, why.0);
                s.denied.insert(name, why);
            }
        });
    }

    /// Opens sealed secrets, and makes those that control asks for. CPU work only.
    fn open_secrets(&self, wanted: &ClusterAssignment) {
        {
            let s = self.lock();
            // A secret that is told must be good for something.
            if s.shop.is_none() || !s.rings.contains_key(CREDENTIALS) {
                return;
            }
        }
        let live = |id: &String| wanted.s3_keys.iter().any(|k| k.access_key_id == *id);
        self.lock().access_keys.retain(|id, _| live(id));
        for key in &wanted.s3_keys {
            let id = &key.access_key_id;
            let known = self.lock().access_keys.get(id).map(|k| k.sealed.clone());
            match &key.sealed {
                Some(sealed) if known.as_ref() == Some(sealed) => {}
                Some(sealed) => {
                    let secret = match credentials::open(&self.vault, id, sealed) {
                        Ok(secret) => Some(secret),
                        // The gate has closed meanwhile: another look will tell.
                        Err(SecretFault::Refused(_)) => return,
                        Err(why) => {
                            tracing::error!(alarm = true, cluster = %self.cluster, key = id, %why,
                                "a sealed secret does not open");
                            None
                        }
                    };
                    let sealed = sealed.clone();
                    self.lock().access_keys.insert(id.clone(), AccessKey { sealed, secret });
                }
                None if self.parts.board.has_s3_key(id) => {}
                // Secrets are made where the cluster is written, under both Regions' keys.
                None if wanted.part == Part::Backup => {}
                None => match credentials::make(&self.vault, id) {
                    Ok((secret, sealed)) => {
                        // Whoever asked for it may use it before control's next word comes.
                        let kept =
                            AccessKey { sealed: sealed.clone(), secret: Some(secret.clone()) };
                        self.lock().access_keys.insert(id.clone(), kept);
                        // Those of links and replication stay here: nobody asked for them.
                        let told = matches!(key.role, S3Role::Reader | S3Role::Writer);
                        let secret = if told { secret.to_string() } else { String::new() };
                        let access_key_id = id.clone();
                        self.parts.board.s3_key(MadeS3Key { access_key_id, sealed, secret });
                    }
                    Err(why) => {
                        tracing::warn!(cluster = %self.cluster, key = id, %why, "no secret")
                    }
                },
            }
        }
    }

    fn report(&self) {
        let (status, wishes) = {
            let s = self.lock();
            (s.wanted.buckets.iter().map(|b| s.status(b)).collect(), s.wishes())
        };
        self.parts.board.buckets(&self.cluster, status);
        self.parts.board.wishes(&self.cluster, wishes);
    }

    /// Starts the chores when the store is not what the assignment says; answers whether they run.
    fn chores_if_due(self: &Arc<Self>, wanted: &Arc<ClusterAssignment>, now: Boot) -> bool {
        {
            let mut s = self.lock();
            // Gone for control, too: the wish is granted.
            let there = |id: &BucketId| wanted.buckets.iter().any(|b| b.bucket == *id);
            s.removals.retain(there);
            if s.chores {
                return true;
            }
            let is = s.brought.as_ref();
            if now < s.chores_again || is == Some(&due(wanted, &s.removals)) {
                return s.brought.is_none();
            }
            s.chores = true;
        }
        let (shelf, wanted) = (self.clone(), wanted.clone());
        let started = std::thread::Builder::new()
            .name("bucket chores".to_owned())
            .spawn(move || shelf.do_chores(&wanted));
        if let Err(error) = started {
            let mut s = self.end_chores();
            s.failed = Some(format!("a thread: {error}"));
        }
        true
    }

    /// The chores have ended, well or not; what follows from it is the caller's.
    pub(super) fn end_chores(&self) -> MutexGuard<'_, State> {
        let mut s = self.lock();
        (s.chores, s.chores_again, s.fresh) = (false, boot().plus(AGAIN), true);
        s
    }
}
