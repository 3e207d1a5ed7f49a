//! Deletions that fall due.
//!
//! Two clocks must agree: the wall has passed the date, and servers of this store have run for the
//! whole window. A wall clock put forward deletes nothing; a server that was down deletes later.
//! `keystead dev kms-clock` puts both forward at once, for this purpose alone.

use crate::calls::Kms;
use crate::store::records::KeyState;
use crate::store::state::Change;
use keystead_aws::trail::{CallRecord, Identity, Resource};
use keystead_types::KeyArn;
use serde_json::{Value, json};
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
            tracing::warn!(ahead_ms = ms, "the deletion scheduler was put forward");
        }
    }
}

/// Deletes what is due.
pub(crate) async fn look(kms: &Kms) {
    kms.ahead.read();
    let due = |state: KeyState| match state {
        KeyState::PendingDeletion { date_ms, due_running_ms } => {
            let ran = kms.running_ms().saturating_add(kms.ahead.ms().unsigned_abs());
            kms.scheduler_ms() >= date_ms && ran >= due_running_ms
        }
        KeyState::Enabled | KeyState::Disabled => false,
    };
    let candidates: Vec<KeyArn> = {
        let state = kms.store.state();
        let keys = state.keys.values().map(|key| &key.record);
        keys.filter(|key| due(key.state)).map(|key| key.arn.clone()).collect()
    };
    for arn in candidates {
        if kms.trail.check().is_err() {
            return;
        }
        let writer = kms.store.writer().await;
        // Cancelled meanwhile?
        let still = kms.store.state().keys.get(&arn).is_some_and(|key| due(key.record.state));
        if !still {
            continue;
        }
        let (id, record) = record(kms, &arn);
        let owed = [(id.clone(), record.clone())];
        let committed = tokio::task::block_in_place(|| {
            writer.commit(vec![Change::RemoveKey(arn.clone())], &owed)
        });
        match committed {
            Ok((sequence, touched)) => {
                kms.hub.publish(sequence, touched);
                drop(writer);
                tracing::info!(key = %arn, "deleted: its window is over");
                if kms.trail.record_owed(vec![record]).await.is_ok() {
                    kms.store.paid([id]);
                }
            }
            Err(fault) => {
                tracing::error!(fault = &fault as &dyn std::error::Error, "delete a key");
            }
        }
    }
}

fn record(kms: &Kms, arn: &KeyArn) -> (String, crate::trail::Record) {
    let account = arn.account().to_string();
    let event_id = uuid::Uuid::new_v4().to_string();
    let record = CallRecord {
        time_ms: kms.clock.wall_ms(),
        event_source: "kms.amazonaws.com",
        event_name: "DeleteKey".to_owned(),
        region: arn.region().to_string(),
        source_ip: "AWS Internal".to_owned(),
        user_agent: "AWS Internal".to_owned(),
        host: String::new(),
        identity: Identity::Service { account: account.clone() },
        request_parameters: Value::Null,
        response_elements: json!({ "keyId": arn }),
        additional: None,
        error: None,
        request_id: uuid::Uuid::new_v4().to_string(),
        event_id: event_id.clone(),
        shared_event_id: None,
        read_only: false,
        resources: vec![Resource::key(&account, &arn.to_string())],
        recipient_account: account,
        dry_run: false,
    };
    (event_id, record.to_json())
}
