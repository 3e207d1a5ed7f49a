//! What happens by itself once its time has come: deletions, automatic rotations, and the end of the
//! passing states of multi-Region keys.
//!
//! For a deletion two clocks must agree: the wall has passed the date, and servers of this store
//! have run for the whole window. A wall clock put forward deletes nothing; a server that was down
//! deletes later. A rotation loses nothing, so it goes by the wall alone. `keystead dev kms-clock`
//! puts both clocks forward at once, for this purpose only.

use crate::calls::Kms;
use crate::ops::{ServiceEvent, keys, rotation};
use crate::recording::service_record;
use crate::store::Writer;
use crate::store::records::{Key, KeyState, MultiRegion};
use crate::store::state::{Change, LiveKey, State};
use keystead_aws::AwsError;
use keystead_types::KeyArn;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const LOOK: Duration = Duration::from_secs(1);
/// The running time is noted this often; a crash loses no more of it.
const NOTE_MS: u64 = 60_000;

/// Looks for ever.
pub(crate) async fn run(kms: &Kms) {
    let mut noted = kms.running_ms();
    loop {
        tokio::time::sleep(LOOK).await;
        let running = kms.running_ms();
        if running.saturating_sub(noted) >= NOTE_MS {
            if let Err(fault) = tokio::task::block_in_place(|| kms.store.note_running(running)) {
                tracing::error!(fault = &fault as &dyn std::error::Error, "note the running time");
            }
            noted = running;
        }
        if kms.trail.check().is_err() {
            // Nothing is written before the trail can be, and its disk is often the store's.
            tokio::task::block_in_place(|| kms.store.let_go());
        }
        look(kms).await;
    }
}

/// How far the scheduler is ahead of the clocks; never behind.
pub(crate) struct Ahead {
    file: Option<PathBuf>,
    ms: AtomicI64,
}

impl Ahead {
    pub(crate) fn of(file: Option<PathBuf>) -> Self {
        let ahead = Self { file, ms: AtomicI64::new(0) };
        ahead.read();
        ahead
    }

    pub(crate) fn ms(&self) -> i64 {
        self.ms.load(Ordering::Relaxed)
    }

    /// No file, one that others may touch, or one that says nothing: as before.
    fn read(&self) {
        let Some(path) = &self.file else { return };
        let private = std::fs::metadata(path).is_ok_and(|m| m.mode() & 0o077 == 0);
        let text = private.then(|| std::fs::read_to_string(path).ok()).flatten();
        if let Some(ms) = text.and_then(|t| t.trim().parse::<i64>().ok())
            && self.ms.fetch_max(ms, Ordering::Relaxed) < ms
        {
            tracing::warn!(ahead_ms = ms, "the scheduler was put forward");
        }
    }
}

/// What is due of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Delete,
    Rotate,
    /// Leave Creating or Updating.
    Settle,
}

impl Kms {
    fn due(&self, key: &Key) -> Option<Due> {
        match key.state {
            KeyState::PendingDeletion { date_ms, due_running_ms } => {
                let ran = self.running_ms().saturating_add(self.ahead.ms().unsigned_abs());
                let over = self.scheduler_ms() >= date_ms && ran >= due_running_ms;
                over.then_some(Due::Delete)
            }
            KeyState::Creating | KeyState::Updating => Some(Due::Settle),
            KeyState::Enabled => rotation::is_due(key, self.scheduler_ms()).then_some(Due::Rotate),
            KeyState::Disabled | KeyState::PendingReplicaDeletion { .. } => None,
        }
    }

    /// What happens then, and what goes on record.
    fn carried_out(
        &self,
        due: Due,
        state: &State,
        key: &LiveKey,
    ) -> Result<(Vec<Change>, Vec<ServiceEvent>), AwsError> {
        let arn = key.record.arn.clone();
        Ok(match due {
            Due::Settle => {
                let settled = Key { state: KeyState::Enabled, ..key.record.clone() };
                (vec![Change::PutKey(settled)], Vec::new())
            }
            Due::Delete => {
                let mut changes = vec![Change::RemoveKey(arn.clone())];
                changes.extend(self.widowed(state, &arn).map(Change::PutKey));
                (changes, vec![ServiceEvent { name: "DeleteKey", key: arn, details: None }])
            }
            Due::Rotate => {
                let (wall, scheduler) = (self.clock.wall_ms(), self.scheduler_ms());
                rotation::automatic(state, &self.root, key, wall, scheduler)?
            }
        })
    }

    /// A primary key that waits for its deletion and loses its last replica: its window begins.
    fn widowed(&self, state: &State, replica: &KeyArn) -> Option<Key> {
        let mut others = state.related(replica).filter(|key| key.record.arn != *replica);
        let primary = &others.next()?.record;
        let last = others.next().is_none() && primary.multi_region == Some(MultiRegion::Primary);
        let KeyState::PendingReplicaDeletion { window_days } = primary.state else { return None };
        let (now, ran) = (self.clock.wall_ms(), self.running_ms());
        let state = keys::pending_deletion(window_days, now, ran, self.ahead.ms());
        last.then(|| Key { state, ..primary.clone() })
    }
}

/// Does what is due.
pub(crate) async fn look(kms: &Kms) {
    kms.ahead.read();
    let candidates: Vec<KeyArn> = {
        let state = kms.store.state();
        let keys = state.keys.values().map(|key| &key.record);
        keys.filter(|key| kms.due(key).is_some()).map(|key| key.arn.clone()).collect()
    };
    for arn in candidates {
        if kms.trail.check().is_err() {
            return;
        }
        let writer = kms.store.writer().await;
        carry_out(kms, writer, &arn).await;
    }
}

/// One key, looked at again: a call may have changed it meanwhile.
async fn carry_out(kms: &Kms, writer: Writer<'_>, arn: &KeyArn) {
    let done = {
        let state = kms.store.state();
        let Some(key) = state.keys.get(arn) else { return };
        let Some(due) = kms.due(&key.record) else { return };
        kms.carried_out(due, &state, key).map(|(changes, events)| (due, changes, events))
    };
    let (due, changes, events) = match done {
        Ok(done) => done,
        Err(fault) => {
            tracing::error!(key = %arn, %fault, "something due was not done");
            return;
        }
    };
    let owed: Vec<_> =
        events.iter().map(|event| service_record(event, kms.clock.wall_ms())).collect();
    match tokio::task::block_in_place(|| writer.commit(changes, &owed)) {
        Ok((sequence, touched)) => {
            kms.hub.publish(sequence, touched);
            drop(writer);
            tracing::info!(key = %arn, ?due, "its time had come");
            let (ids, records): (Vec<_>, Vec<_>) = owed.into_iter().unzip();
            if !records.is_empty() && kms.trail.record_owed(records).await.is_ok() {
                kms.store.paid(ids);
            }
        }
        Err(fault) => {
            let fault = &fault as &dyn std::error::Error;
            tracing::error!(key = %arn, ?due, fault, "something due was not written");
        }
    }
}
