//! The trail's writer: one thread owns the file, gathers what came in meanwhile into one fsync,
//! and answers those who wait for it. The bytes are `docs/formats/trail-segment.md`.
//!
//! A record that must be on disk before its call is answered goes through [`Trail::record`];
//! canaries and dry runs go through [`Trail::record_soon`] and are there within 200 ms. When there
//! is no room or a write fails, nothing half written stays, those who waited are refused, and so is
//! every later call ([`Trail::check`]) until the writer, which goes on trying, has room again: no
//! call is answered unrecorded. The record of a change that is made already
//! ([`Trail::record_owed`]) is written into room kept for it, else as soon as there is some.

mod file;
mod index;

use file::Segments;
use index::Index;
pub(crate) use index::Query;
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
    /// The records of one call, an account each: on disk together.
    records: Vec<Record>,
    /// What it records has happened: it is written sooner or later.
    owed: bool,
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
        let segments = Segments::open(folder, clock.as_ref(), &key, |record| index.push(&record))?;
        let head = Mutex::new(segments.state());
        let shared =
            Shared { healthy: AtomicBool::new(true), head, index: RwLock::new(index), key };
        let shared = Arc::new(shared);
        let (jobs, queue) = sync_channel(QUEUE);
        let waiting = Vec::new();
        let mut writer = Writer { segments, shared: shared.clone(), clock, waiting, healthy: true };
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

    /// Refused while nothing can be recorded.
    pub(crate) fn check(&self) -> Result<(), TrailError> {
        if self.shared.healthy.load(Ordering::SeqCst) { Ok(()) } else { Err(TrailError::Refused) }
    }

    /// Puts the records of a call on disk; answers when they are there. They are under way when
    /// this is first polled: a caller who goes away does not keep his call off the record.
    pub(crate) async fn record(&self, records: Vec<Record>) -> Result<(), TrailError> {
        let (done, written) = oneshot::channel();
        self.send(Job { records, owed: false, done: Some(done) })?;
        settled(written).await
    }

    /// The same for what has happened already: when it fails now, it is tried again.
    pub(crate) async fn record_owed(&self, records: Vec<Record>) -> Result<(), TrailError> {
        let (done, written) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(TrailError::Refused)?;
        let job = Job { records, owed: true, done: Some(done) };
        tokio::task::block_in_place(|| jobs.send(job)).map_err(|_| TrailError::Refused)?;
        settled(written).await
    }

    /// Puts records on disk within 200 ms; refused while the disk refuses.
    pub(crate) fn record_soon(&self, records: Vec<Record>) -> Result<(), TrailError> {
        self.check()?;
        self.send(Job { records, owed: true, done: None })
    }

    /// The signed head: what is on disk now.
    pub(crate) fn head(&self) -> Head {
        let state = *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner);
        state.head(&self.shared.key)
    }

    /// Records that the query and `fits` accept, newest first, and whether there are more. Takes
    /// tens of milliseconds when it has to look through all of them: call it where that may block.
    pub(crate) fn newest(
        &self,
        query: &Query<'_>,
        fits: impl Fn(&Record) -> bool,
    ) -> (Vec<Record>, bool) {
        let index = self.shared.index.read().unwrap_or_else(PoisonError::into_inner);
        let events = index.snapshot();
        drop(index);
        index::search(&events, query, fits)
    }
}

async fn settled(written: oneshot::Receiver<bool>) -> Result<(), TrailError> {
    if written.await.unwrap_or(false) { Ok(()) } else { Err(TrailError::Refused) }
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
    /// Owed records that could not be written yet.
    waiting: Vec<Record>,
    healthy: bool,
}

impl Writer {
    fn run(&mut self, queue: &Receiver<Job>) {
        while let Ok(first) = self.next(queue) {
            let mut batch: Vec<Job> = first.into_iter().collect();
            if !batch.is_empty() {
                gather(queue, &mut batch);
            }
            self.write(batch);
        }
        if !self.waiting.is_empty() {
            self.write(Vec::new());
        }
    }

    /// The next job; none when it is time to try the disk again.
    fn next(&self, queue: &Receiver<Job>) -> Result<Option<Job>, ()> {
        if self.healthy {
            return queue.recv().map(Some).map_err(|_| ());
        }
        match queue.recv_timeout(SOON) {
            Ok(job) => Ok(Some(job)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    fn write(&mut self, batch: Vec<Job>) {
        let room = self.segments.make_ready(self.clock.wall_ms(), &self.shared.key);
        let mut records = std::mem::take(&mut self.waiting);
        let mut owed = vec![true; records.len()];
        let mut done = Vec::with_capacity(batch.len());
        for job in batch {
            // Without room to spare only what has happened already is written.
            if room.is_err() && !job.owed {
                if let Some(done) = job.done {
                    let _ = done.send(false);
                }
                continue;
            }
            owed.resize(owed.len() + job.records.len(), job.owed);
            records.extend(job.records);
            done.extend(job.done);
        }
        let written = match records.is_empty() {
            true => Ok(()),
            false => self.segments.append(&records),
        };
        let good = written.is_ok();
        if good {
            *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner) =
                self.segments.state();
            let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
            records.iter().for_each(|record| index.push(record));
        } else {
            let mut owed = owed.into_iter();
            records.retain(|_| owed.next().unwrap_or(false));
            self.waiting = records;
        }
        self.tell(room.and(written));
        for done in done {
            let _ = done.send(good);
        }
    }

    /// Lets calls in or refuses them; says so when that changes.
    fn tell(&mut self, state: Result<(), TrailError>) {
        let good = state.is_ok();
        match state {
            Err(error) if self.healthy => tracing::error!(
                error = &error as &dyn std::error::Error,
                "calls are refused: the trail cannot be written"
            ),
            Ok(()) if !self.healthy => tracing::info!("the trail can be written again"),
            _ => {}
        }
        self.healthy = good;
        self.shared.healthy.store(good, Ordering::SeqCst);
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
