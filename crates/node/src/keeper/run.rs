//! The keeper's loop: one task on a thread and runtime of its own, so that nothing else in the
//! process can hold up a renewal. It owns every lease; what it learns goes to the leases first, to
//! the clusters' threads second and to the board last.

use super::causes::{Diagnosis, diagnose};
use super::proofs::{Round, Whom, prove, verdict};
use super::second::{Refusal, Seconds};
use super::sequence::HighWater;
use super::{Subject, watch as watching};
use crate::cluster::machine::LeaseView;
use crate::heads::Heads;
use crate::kms::Kms;
use crate::kms::answer::Failure;
use crate::status::Board;
use crate::time::{SystemClock, boot, jittered};
use keystead_aws::watch::Watched;
use keystead_types::{
    Boot, BucketId, Cause, Clock, ClusterId, LeaseSettings, LeaseStatus, LeaseWord,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const PROOF_EVERY: Duration = Duration::from_secs(60);
/// While a lease does not live: fixed, whatever the length of the outage.
const PROBE_EVERY: Duration = Duration::from_millis(700);
const TICK: Duration = Duration::from_millis(50);
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// What the keeper tells a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    ProofOk { sent: Boot },
    WatchUnchanged { sent: Boot },
    Named { at: Boot },
    Refused { at: Boot, cause: Cause },
    Corrupt { at: Boot },
    ConfirmedDeleted,
    Tick { now: Boot },
}

/// A lease and the gate that the engine threads read.
pub(crate) trait Guarded: Send {
    fn on(&mut self, said: Said);
    fn view(&self) -> LeaseView;
}

/// Makes the lease of a cluster.
pub(crate) type MakeLease = Box<dyn Fn(&ClusterId, &LeaseSettings) -> Box<dyn Guarded> + Send>;
/// Tells a cluster where its lease stands.
pub(crate) type Tell = Box<dyn Fn(&ClusterId, LeaseView) + Send>;
/// Tells the board where a lease stands.
pub(crate) type Show = Box<dyn Fn(&ClusterId, LeaseStatus) + Send>;
/// Tells that the watch named a cluster's key: something of it changed.
pub(crate) type TellNamed = Box<dyn Fn(&ClusterId) + Send>;
/// Tells a bucket what its own proof came to: why it was refused, or that it was not.
pub(crate) type TellBucket = Box<dyn Fn(&ClusterId, &BucketId, Option<(Cause, String)>) + Send>;

/// What the keeper is made of.
pub(crate) struct Parts {
    pub(crate) kms: Arc<Kms>,
    pub(crate) board: Arc<Board>,
    pub(crate) data: std::path::PathBuf,
    pub(crate) subjects: watch::Receiver<Arc<Vec<Subject>>>,
    pub(crate) lease: MakeLease,
    pub(crate) tell: Tell,
    pub(crate) show: Show,
    pub(crate) named: TellNamed,
    /// What the keys of other Regions refuse.
    pub(crate) seconds: Arc<Seconds>,
    pub(crate) tell_bucket: TellBucket,
}

struct Entry {
    subject: Arc<Subject>,
    lease: Box<dyn Guarded>,
    next_proof: Boot,
    last_ok: Option<Boot>,
    diagnosis: Option<Diagnosis>,
    deletion_date_ms: Option<i64>,
    told: Option<LeaseView>,
    since_ms: i64,
    /// Its own key refused last.
    refused: bool,
    /// The other Region's key refuses.
    second_refused: bool,
    /// Since when it is guarded.
    begun: Boot,
    /// A proof held and did not count, for the other key had not answered yet.
    waits: bool,
}

struct Keeper {
    parts: Parts,
    entries: BTreeMap<ClusterId, Entry>,
    rounds: JoinSet<Round>,
    diagnoses: JoinSet<(ClusterId, Boot, Diagnosis)>,
    high: HighWater,
    heads: Heads,
    /// None before the first answer of the watch: until then nobody can tell.
    rolled_back: Option<bool>,
    version: u64,
}

/// Keeps the leases until the subjects' sender is gone.
pub(crate) async fn run(parts: Parts) -> std::io::Result<()> {
    let (send_keys, keys) = watch::channel(Arc::new(Vec::new()));
    let (send_answer, mut answers) = mpsc::channel(4);
    tokio::spawn(watching::run(parts.kms.settings.clone(), keys, send_answer));
    let mut subjects = parts.subjects.clone();
    let (high, heads) = (HighWater::load(&parts.data)?, Heads::new(&parts.data));
    let mut keeper = Keeper {
        parts,
        entries: BTreeMap::new(),
        rounds: JoinSet::new(),
        diagnoses: JoinSet::new(),
        high,
        heads,
        rolled_back: None,
        version: 0,
    };
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut refreshes = tokio::time::interval(REFRESH_EVERY);
    subjects.mark_changed();
    loop {
        tokio::select! {
            biased;
            Some(Ok(round)) = keeper.rounds.join_next() => keeper.on_round(round),
            answer = answers.recv() => match answer {
                Some(answer) => keeper.on_watch(&answer),
                // Nothing renews any more, and no change is heard of.
                None => return Err(std::io::Error::other("the watch ended")),
            },
            Some(Ok((cluster, at, found))) = keeper.diagnoses.join_next() => {
                keeper.on_diagnosis(&cluster, at, found);
            }
            changed = subjects.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let wanted = subjects.borrow_and_update().clone();
                keeper.adopt(&wanted);
                send_keys.send_replace(Arc::new(keeper.watched()));
            }
            _ = ticks.tick() => keeper.on_tick(),
            _ = refreshes.tick() => {
                let kms = keeper.parts.kms.clone();
                tokio::spawn(async move { kms.refresh_ahead().await });
            }
        }
        keeper.publish();
    }
}

impl Keeper {
    fn adopt(&mut self, wanted: &[Subject]) {
        let none = LeaseView { word: LeaseWord::None, cause: None, until: None };
        let gone = |id: &ClusterId| wanted.iter().all(|s| s.cluster != *id);
        for id in self.entries.keys().filter(|id| gone(id)) {
            // Nobody asks for it any more: what it opened is to be shut.
            (self.parts.tell)(id, none);
        }
        self.entries.retain(|id, _| !gone(id));
        for subject in wanted {
            let known = self.entries.get(&subject.cluster);
            if known.is_some_and(|e| Subject { version: 0, ..(*e.subject).clone() } == *subject) {
                continue;
            }
            // Buckets come and go by their users' hand: that must neither undo proofs under way nor
            // ask for new ones.
            if let Some(entry) = self.entries.get_mut(&subject.cluster) {
                let version = entry.subject.version;
                let now = Subject { buckets: subject.buckets.clone(), ..(*entry.subject).clone() };
                if now == (Subject { version, ..subject.clone() }) {
                    entry.subject = Arc::new(now);
                    continue;
                }
            }
            self.version += 1;
            let subject = Arc::new(Subject { version: self.version, ..subject.clone() });
            let kept = self
                .entries
                .remove(&subject.cluster)
                .filter(|e| e.subject.settings == subject.settings);
            let entry = match kept {
                Some(kept) => Entry { subject: subject.clone(), next_proof: boot(), ..kept },
                None => Entry {
                    lease: (self.parts.lease)(&subject.cluster, &subject.settings),
                    subject: subject.clone(),
                    next_proof: boot(),
                    last_ok: None,
                    diagnosis: None,
                    deletion_date_ms: None,
                    told: None,
                    since_ms: SystemClock.wall_ms(),
                    refused: false,
                    second_refused: false,
                    begun: boot(),
                    waits: false,
                },
            };
            self.entries.insert(subject.cluster.clone(), entry);
        }
    }

    fn watched(&self) -> Vec<Watched> {
        self.entries
            .values()
            .map(|e| Watched {
                key_arn: e.subject.key.to_string(),
                role_arn: e.subject.role.to_string(),
            })
            .collect()
    }

    fn on_tick(&mut self) {
        let now = boot();
        for entry in self.entries.values_mut() {
            entry.lease.on(Said::Tick { now });
            if let Some(detail) = &entry.subject.mismatch {
                // Never asked: the record itself is wrong.
                entry.lease.on(Said::Corrupt { at: now });
                entry.diagnosis = Some(Diagnosis {
                    cause: Cause::WrappedKeyMismatch,
                    detail: detail.clone(),
                    deletion_date_ms: None,
                });
                continue;
            }
            if entry.subject.second {
                entry.hear_second(now, self.parts.seconds.refusal(&entry.subject.cluster));
                if entry.waits && !entry.waits_for_second(now, &self.parts.seconds) {
                    (entry.waits, entry.next_proof) = (false, now);
                }
            }
            if now >= entry.next_proof {
                entry.schedule(now);
                self.rounds.spawn(prove(self.parts.kms.clone(), entry.subject.clone()));
            }
        }
    }

    fn on_watch(&mut self, answer: &watching::Answer) {
        let (now, said) = (boot(), &answer.response);
        if let Err(error) = self.heads.saw(said, now, SystemClock.wall_ms()) {
            tracing::warn!(%error, "the trail's head cannot be kept");
        }
        // What cannot be remembered is not believed: the leases run out instead.
        match self.high.continues(&said.epoch, said.sequence) {
            Ok(continues) => self.rolled_back = Some(!continues),
            Err(error) => {
                tracing::warn!(%error, "the sequence cannot be kept; not renewed");
                // The watch does not repeat what it named.
                self.named(now, &said.named);
                return;
            }
        }
        if self.rolled_back == Some(false) {
            self.named(now, &said.named);
        }
        for entry in self.entries.values_mut() {
            let key = entry.subject.key.to_string();
            if self.rolled_back == Some(true) {
                entry.lease.on(Said::Refused { at: now, cause: Cause::KeyStoreRolledBack });
                entry.diagnosis = None;
            } else if !said.named.contains(&key) && answer.watched.iter().any(|w| w.key_arn == key)
            {
                entry.lease.on(Said::WatchUnchanged { sent: answer.sent });
                if entry.lease.view().word == LeaseWord::Lapsed {
                    // KMS is back: a proof now, not at the next probe.
                    entry.next_proof = now;
                }
            }
            // Of a cluster under two keys both must be gone.
            let second = || self.parts.seconds.refusal(&entry.subject.cluster);
            let both = !entry.subject.second || second().is_some_and(|r| r.dead);
            if both && entry.gone(said.scheduler_time_ms) {
                entry.lease.on(Said::ConfirmedDeleted);
            }
        }
    }

    /// What changed at KMS is not believed any more until a proof says so.
    fn named(&mut self, now: Boot, keys: &[String]) {
        for entry in self.entries.values_mut() {
            if keys.contains(&entry.subject.key.to_string()) {
                entry.lease.on(Said::Named { at: now });
                (self.parts.named)(&entry.subject.cluster);
                entry.schedule(now);
                self.rounds.spawn(prove(self.parts.kms.clone(), entry.subject.clone()));
            }
        }
    }

    fn on_round(&mut self, round: Round) {
        let Some(entry) = self.entries.get_mut(&round.cluster) else { return };
        if round.version != entry.subject.version {
            return;
        }
        for (whom, answer) in &round.parts {
            if let Whom::Bucket(bucket) = whom {
                let said = match answer {
                    Ok(()) => None,
                    // A proof that fell into an outage says nothing of the bucket.
                    Err(Failure::Silent { .. }) => continue,
                    Err(failure) => Some((failure.cause(), failure.detail().to_owned())),
                };
                (self.parts.tell_bucket)(&round.cluster, bucket, said);
            }
            if let Whom::Store(volume) = whom {
                match answer {
                    Ok(()) => self.parts.board.store_fine(volume),
                    Err(Failure::Silent { .. }) => {}
                    Err(failure) => self
                        .parts
                        .board
                        .store_denied(volume, (failure.cause(), failure.detail().to_owned())),
                }
            }
        }
        let now = boot();
        if entry.subject.second {
            entry.hear_second(now, self.parts.seconds.refusal(&round.cluster));
        }
        match verdict(&round.parts) {
            // The watch's first answer names every key, so that a proof follows it at once.
            Ok(()) if self.rolled_back != Some(false) => {}
            // The other key may have said no while this process was not there to hear it.
            Ok(()) if entry.waits_for_second(now, &self.parts.seconds) => entry.waits = true,
            Ok(()) => {
                entry.refused = false;
                entry.last_ok = entry.last_ok.max(Some(round.sent));
                entry.lease.on(Said::ProofOk { sent: round.sent });
                if entry.lease.view().word == LeaseWord::Live {
                    (entry.diagnosis, entry.deletion_date_ms) = (None, None);
                }
            }
            // Asked before one that held: its refusal is older than that proof.
            Err(_) if entry.last_ok.is_some_and(|ok| round.sent < ok) => {}
            Err(denied) => {
                match &denied.failure {
                    Failure::Silent { detail } => {
                        tracing::debug!(cluster = %round.cluster, detail, "a proof without answer");
                        // Asked again soon: one proof that fell into an outage must not let the
                        // lease outgrow its last good one.
                        entry.next_proof = entry.next_proof.min(now.plus(jittered(PROBE_EVERY)));
                        return;
                    }
                    Failure::Corrupt { .. } => {
                        entry.refused = true;
                        entry.lease.on(Said::Corrupt { at: now });
                    }
                    Failure::Refused { cause, .. } => {
                        // Known better from an earlier look; a refusal repeated is no other one.
                        let known = entry.diagnosis.as_ref().map_or(*cause, |d| d.cause);
                        let cause = if *cause == Cause::PolicyDenies { known } else { *cause };
                        entry.refused = true;
                        entry.lease.on(Said::Refused { at: now, cause });
                    }
                }
                tracing::info!(cluster = %round.cluster, failure = %denied.failure,
                    request_id = denied.failure.request_id(), "a proof is denied");
                let (kms, subject) = (self.parts.kms.clone(), entry.subject.clone());
                self.diagnoses.spawn(async move {
                    let found = diagnose(&kms, &subject, &denied).await;
                    (subject.cluster.clone(), now, found)
                });
            }
        }
    }

    fn on_diagnosis(&mut self, cluster: &ClusterId, at: Boot, found: Diagnosis) {
        let Some(entry) = self.entries.get_mut(cluster) else { return };
        if entry.last_ok.is_some_and(|ok| ok > at) || self.rolled_back == Some(true) {
            return;
        }
        entry.deletion_date_ms = found.deletion_date_ms.or(entry.deletion_date_ms);
        if found.cause != Cause::WrappedKeyMismatch {
            entry.lease.on(Said::Refused { at, cause: found.cause });
        }
        entry.diagnosis = Some(found);
    }

    /// Tells what changed: the cluster's thread, then the board.
    fn publish(&mut self) {
        for (cluster, entry) in &mut self.entries {
            let view = entry.lease.view();
            if entry.told != Some(view) {
                if entry.told.map(|t| t.word) != Some(view.word) {
                    entry.since_ms = SystemClock.wall_ms();
                    // A lease that stopped living is probed from now on.
                    entry.next_proof = entry.next_proof.min(boot().plus(jittered(PROBE_EVERY)));
                }
                entry.told = Some(view);
                (self.parts.tell)(cluster, view);
            }
            let detail = entry.diagnosis.as_ref().filter(|_| view.word != LeaseWord::Live);
            (self.parts.show)(
                cluster,
                LeaseStatus {
                    state: view.word,
                    cause: view.cause,
                    detail: detail.map(|d| d.detail.clone()),
                    since_ms: entry.since_ms,
                    deletion_date_ms: entry.deletion_date_ms,
                },
            );
        }
    }
}

impl Entry {
    fn schedule(&mut self, now: Boot) {
        let live = self.lease.view().word == LeaseWord::Live;
        self.next_proof = now.plus(jittered(if live { PROOF_EVERY } else { PROBE_EVERY }));
    }

    /// The other Region's key has not answered yet, and its KMS is not silent for a lease's length.
    fn waits_for_second(&self, now: Boot, seconds: &Seconds) -> bool {
        let silence = Duration::from_millis(self.subject.settings.silence_ms);
        let waits = self.subject.second && now < self.begun.plus(silence);
        waits && !seconds.heard(&self.subject.cluster)
    }

    /// One hand is enough: while the other Region's key refuses, no proof of this one's thaws. What
    /// this Region's own key says is the nearer cause.
    fn hear_second(&mut self, now: Boot, refusal: Option<Refusal>) {
        let Some(refusal) = refusal else {
            if std::mem::take(&mut self.second_refused) {
                self.next_proof = now;
            }
            return;
        };
        self.second_refused = true;
        let own = self.lease.view().cause.filter(|_| self.refused);
        let cause = own.unwrap_or(Cause::SecondKeyUnusable);
        self.lease.on(Said::Refused { at: now, cause });
        if own.is_none() {
            let detail = format!("{}: {}", refusal.cause, refusal.detail);
            let detail = detail.trim_end_matches([':', ' ']).to_owned();
            self.diagnosis = Some(Diagnosis { cause, detail, deletion_date_ms: None });
        }
    }

    /// NotFound, and a deletion date that was seen and has passed by the scheduler's clock.
    fn gone(&self, scheduler_ms: i64) -> bool {
        self.lease.view().cause == Some(Cause::KeyDeleted)
            && self.deletion_date_ms.is_some_and(|date| scheduler_ms >= date)
    }
}

#[cfg(test)]
mod tests;
