//! The trail's writer: one thread owns the file, gathers what came in meanwhile into one fsync,
//! and answers those who wait for it. The bytes are `docs/formats/trail-segment.md`.
//!
//! A record that must be on disk before its call is answered goes through [`Trail::record`];
//! canaries and dry runs go through [`Trail::record_soon`] and are there within 200 ms. When a
//! write fails, nothing half written stays, those who waited are refused, and so is every later
//! record until a write succeeds: no call is answered unrecorded.

mod file;
mod index;

use file::Segments;
use index::Index;
use keystead_aws::trail::{ChainState, TrailKey};
use keystead_aws::watch::Head;
use keystead_types::Clock;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a record may wait for company before it is on disk.
const SOON: Duration = Duration::from_millis(150);
/// Records waiting for the writer; more are refused.
const QUEUE: usize = 4096;
/// Records in one fsync.
const BATCH: usize = 1024;

/// One trail record.
pub(crate) type Record = Map<String, Value>;

/// Why a record is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// A file call failed.
    #[error("cannot {what} the trail")]
    File {
        /// Verb.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A segment's last whole line is not one of ours.
    #[error("the last line of {0} is not a trail record: run `keystead audit verify`")]
    Foreign(String),
    /// The disk refused; nothing was written.
    #[error("the trail cannot be written")]
    Refused,
    /// Too many records wait.
    #[error("the trail is busy")]
    Busy,
}

struct Job {
    record: Record,
    /// Waited for: on disk before the answer.
    done: Option<oneshot::Sender<bool>>,
}

/// The trail of one KMS.
pub(crate) struct Trail {
    jobs: Option<SyncSender<Job>>,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    healthy: AtomicBool,
    /// State after the last line on disk.
    head: Mutex<ChainState>,
    index: RwLock<Index>,
    key: TrailKey,
}

impl Trail {
    /// Opens the trail of a folder, made when missing. A torn last line is cut, and the cut is
    /// recorded.
    pub(crate) fn open(
        folder: &Path,
        key: TrailKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TrailError> {
        let mut index = Index::default();
        let segments = Segments::open(folder, clock.as_ref(), &key, |record| index.push(record))?;
        let head = Mutex::new(segments.state());
        let shared =
            Shared { healthy: AtomicBool::new(true), head, index: RwLock::new(index), key };
        let shared = Arc::new(shared);
        let (jobs, queue) = sync_channel(QUEUE);
        let mut writer = Writer { segments, shared: shared.clone(), clock, waiting: Vec::new() };
        let writer = std::thread::Builder::new()
            .name("trail".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|source| TrailError::File { what: "start the writer of", source })?;
        Ok(Self { jobs: Some(jobs), shared, writer: Some(writer) })
    }

    fn send(&self, job: Job) -> Result<(), TrailError> {
        let jobs = self.jobs.as_ref().ok_or(TrailError::Refused)?;
        jobs.try_send(job).map_err(|_| TrailError::Busy)
    }

    /// Puts a record on disk; answers when it is there.
    pub(crate) async fn record(&self, record: Record) -> Result<(), TrailError> {
        let (done, written) = oneshot::channel();
        self.send(Job { record, done: Some(done) })?;
        if written.await.unwrap_or(false) { Ok(()) } else { Err(TrailError::Refused) }
    }

    /// Puts a record on disk within 200 ms; refused while the disk refuses.
    pub(crate) fn record_soon(&self, record: Record) -> Result<(), TrailError> {
        if !self.shared.healthy.load(Ordering::SeqCst) {
            return Err(TrailError::Refused);
        }
        self.send(Job { record, done: None })
    }

    /// The signed head: what is on disk now.
    pub(crate) fn head(&self) -> Head {
        let state = *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner);
        state.head(&self.shared.key)
    }

    /// Records that `fits` accepts, newest first, at most `most`, after `skip` of them; and
    /// whether there are more.
    pub(crate) fn newest(
        &self,
        skip: usize,
        most: usize,
        fits: impl Fn(&Record) -> bool,
    ) -> (Vec<Record>, bool) {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner).newest(skip, most, fits)
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        // The writer ends when its queue does, after everything in it is on disk.
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

struct Writer {
    segments: Segments,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    /// Records that nobody waits for and that a failed write has left over.
    waiting: Vec<Record>,
}

impl Writer {
    fn run(&mut self, queue: &Receiver<Job>) {
        while let Ok(first) = self.next(queue) {
            let mut batch: Vec<Job> = first.into_iter().collect();
            gather(queue, &mut batch);
            self.write(batch);
        }
        if !self.waiting.is_empty() {
            self.write(Vec::new());
        }
    }

    /// The next job; none when left-over records are to be tried again.
    fn next(&self, queue: &Receiver<Job>) -> Result<Option<Job>, ()> {
        if self.waiting.is_empty() {
            return queue.recv().map(Some).map_err(|_| ());
        }
        match queue.recv_timeout(SOON) {
            Ok(job) => Ok(Some(job)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    fn write(&mut self, batch: Vec<Job>) {
        let mut records = std::mem::take(&mut self.waiting);
        let left_over = records.len();
        let mut done = Vec::with_capacity(batch.len());
        for job in batch {
            records.push(job.record);
            done.push(job.done);
        }
        let written = self.segments.append(&records, self.clock.wall_ms(), &self.shared.key);
        let good = match written {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "calls are refused: the trail cannot be written"
                );
                false
            }
        };
        self.shared.healthy.store(good, Ordering::SeqCst);
        if good {
            *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner) =
                self.segments.state();
            let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
            records.into_iter().for_each(|record| index.push(record));
        } else {
            // Calls that waited are refused; of the others the records are still owed.
            let mut number = 0;
            records.retain(|_| {
                let owed = number < left_over || done[number - left_over].is_none();
                number += 1;
                owed
            });
            self.waiting = records;
        }
        for done in done.into_iter().flatten() {
            let _ = done.send(good);
        }
    }
}

/// Takes along what is there already; when nobody waits, also what comes within [`SOON`].
fn gather(queue: &Receiver<Job>, batch: &mut Vec<Job>) {
    let until = Instant::now() + SOON;
    while batch.len() < BATCH {
        let urgent = batch.iter().any(|job| job.done.is_some());
        let next = if urgent {
            queue.try_recv().map_err(|e| e == TryRecvError::Disconnected)
        } else {
            let left = until.saturating_duration_since(Instant::now());
            queue.recv_timeout(left).map_err(|e| e == RecvTimeoutError::Disconnected)
        };
        match next {
            Ok(job) => batch.push(job),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
