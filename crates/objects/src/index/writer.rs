//! The one thread that writes the index.

use super::apply::{Asked, Change, Effects, Now, Outcome, apply};
use super::{META, Shared};
use crate::disk::{Disk, Pending};
use crate::error::StoreError;
use crate::role::StoreRole;
use keystead_types::Clock;
use redb::{Database, ReadableDatabase};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::sync::{Notify, mpsc, oneshot};

/// Changes that wait, and the most in one transaction.
const QUEUE: usize = 1024;

struct Job {
    asked: Asked,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// The index.
pub(crate) struct Index {
    pub(crate) shared: Arc<Shared>,
    queue: RwLock<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counters: Arc<Counters>,
    /// Told when something was queued for the other Region.
    pub(crate) queued: Arc<Notify>,
}

#[derive(Default)]
struct Counters {
    changes: AtomicU64,
    commits: AtomicU64,
}

impl Index {
    /// Opens the index, with its writer. Blocks.
    pub(crate) fn open(
        disk: &Arc<Disk>,
        role: StoreRole,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let path = disk.index_path();
        let database = super::start::create(&path, role)?;
        super::start::sweep(&database, disk)?;
        let sequence = sequence(&database)?;
        let shared = Arc::new(Shared { path, database: RwLock::new(Some(database)) });
        let counters = Arc::<Counters>::default();
        let queued = Arc::<Notify>::default();
        let (queue, jobs) = mpsc::channel(QUEUE);
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            disk: Arc::clone(disk),
            counters: Arc::clone(&counters),
            queued: Arc::clone(&queued),
            role,
            clock: Arc::clone(clock),
            sequence,
            broken: false,
        };
        let thread = std::thread::Builder::new()
            .name("objects-index".to_owned())
            .spawn(move || writer.run(jobs))?;
        Ok(Self {
            shared,
            queue: RwLock::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
            counters,
            queued,
        })
    }

    /// Asks for a change and waits until it is durable. What is pending with it is kept or removed
    /// as the change comes out, even if the caller goes away meanwhile.
    pub(crate) async fn change(
        &self,
        change: Change,
        pending: Vec<Pending>,
    ) -> Result<Outcome, StoreError> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner).clone();
        let queue = queue.ok_or(StoreError::Unavailable)?;
        let job = Job { asked: Asked { change, pending }, answer };
        queue.send(job).await.map_err(|_| StoreError::Unavailable)?;
        answered.await.map_err(|_| StoreError::Unavailable)?
    }

    /// Changes and the transactions that they took.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let Counters { changes, commits } = &*self.counters;
        (changes.load(Ordering::Relaxed), commits.load(Ordering::Relaxed))
    }
}

impl Index {
    /// Commits what is queued and ends the writer.
    pub(crate) fn stop(&self) {
        self.queue.write().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn sequence(database: &Database) -> Result<u64, StoreError> {
    let read = database.begin_read()?;
    Ok(read.open_table(META)?.get("sequence")?.map_or(0, |value| value.value()))
}

struct Writer {
    shared: Arc<Shared>,
    disk: Arc<Disk>,
    counters: Arc<Counters>,
    queued: Arc<Notify>,
    role: StoreRole,
    clock: Arc<dyn Clock>,
    /// Number of the last commit.
    sequence: u64,
    /// A write failed for another reason than a full disk. The kernel may show pages that never
    /// reached the disk, and nothing may be acknowledged above them.
    broken: bool,
}

/// What became of a transaction.
enum Commit {
    Made(Vec<Result<Outcome, StoreError>>, Effects),
    /// Nothing of it is there.
    Failed(StoreError),
    /// Whether it is there cannot be told now.
    Unknown(StoreError),
}

impl Writer {
    fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < QUEUE
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            self.batch(batch);
        }
    }

    fn batch(&mut self, batch: Vec<Job>) {
        let gone = self.disk.reaper.take_gone();
        match self.commit(&batch, &gone) {
            Commit::Made(outcomes, effects) => {
                self.counters.changes.fetch_add(batch.len() as u64, Ordering::Relaxed);
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                let mut answers = Vec::with_capacity(batch.len());
                for (job, outcome) in batch.into_iter().zip(outcomes) {
                    if matches!(outcome, Ok(Outcome::Done)) {
                        job.asked.pending.into_iter().for_each(Pending::keep);
                    }
                    answers.push((job.answer, outcome));
                }
                for (version, path) in effects.doomed {
                    self.disk.pins.doom(&self.disk, version, path);
                }
                if effects.queued {
                    self.queued.notify_one();
                }
                // Whoever asked may have gone.
                answers.into_iter().for_each(|(to, outcome)| drop(to.send(outcome)));
            }
            Commit::Failed(error) => {
                self.disk.reaper.give_back(gone);
                if matches!(error, StoreError::NoSpace) && self.disk.ballast.give_up() {
                    // Deletions alone are tried again, in the room that this gave.
                    let deletes = |job: &Job| job.asked.change.deletes();
                    let (deletions, others): (Vec<_>, Vec<_>) =
                        batch.into_iter().partition(deletes);
                    fail(others, error, false);
                    if !deletions.is_empty() {
                        self.batch(deletions);
                    }
                } else {
                    fail(batch, error, false);
                }
            }
            Commit::Unknown(error) => {
                self.disk.reaper.give_back(gone);
                fail(batch, error, true);
            }
        }
    }

    fn commit(&mut self, batch: &[Job], gone: &[String]) -> Commit {
        if self.broken {
            return Commit::Failed(StoreError::Unavailable);
        }
        if let Err(error) = self.reopen_if_closed() {
            return Commit::Failed(error);
        }
        let next = self.sequence + 1;
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = database.as_ref() else { return Commit::Failed(StoreError::Unavailable) };
        let now = Now { role: self.role, wall_ms: self.clock.wall_ms() };
        let error = match write(open, batch, gone, next, now) {
            Ok((outcomes, effects)) => {
                self.sequence = next;
                return Commit::Made(outcomes, effects);
            }
            Err(error) => error,
        };
        drop(database);
        tracing::error!(%error, "the index could not be written");
        if !matches!(error, StoreError::NoSpace) {
            self.broken = true;
            tracing::error!(
                alarm = true,
                "no change is taken any more until the node is started again on a mended disk"
            );
        }
        // redb refuses everything after a failed write, until it is opened again.
        *self.shared.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        match self.reopen_if_closed() {
            // A failed fsync may have lost what reads well now: it is never acknowledged.
            Ok(()) if self.sequence == next => Commit::Unknown(error),
            Ok(()) => Commit::Failed(error),
            Err(again) => {
                tracing::error!(error = %again, "the index could not be opened again");
                Commit::Unknown(error)
            }
        }
    }

    fn reopen_if_closed(&mut self) -> Result<(), StoreError> {
        let database = &self.shared.database;
        if database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let opened = Database::open(&self.shared.path)?;
        self.sequence = sequence(&opened)?;
        *database.write().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        Ok(())
    }
}

fn write(
    database: &Database,
    batch: &[Job],
    gone: &[String],
    sequence: u64,
    now: Now,
) -> Result<(Vec<Result<Outcome, StoreError>>, Effects), StoreError> {
    let txn = database.begin_write()?;
    let mut effects = Effects::default();
    let mut outcomes = Vec::with_capacity(batch.len());
    for job in batch {
        outcomes.push(apply(&txn, &job.asked.change, now, &mut effects)?);
    }
    {
        let mut doomed = txn.open_table(super::DOOMED)?;
        for path in gone {
            doomed.remove(path.as_str())?;
        }
        txn.open_table(META)?.insert("sequence", sequence)?;
    }
    txn.commit()?;
    Ok((outcomes, effects))
}

/// Every change of a failed transaction is answered; what was pending goes, or stays for the next
/// start when it may be committed.
fn fail(batch: Vec<Job>, error: StoreError, unknown: bool) {
    let full = matches!(error, StoreError::NoSpace);
    let mut first = Some(error);
    for job in batch {
        if unknown {
            job.asked.pending.into_iter().for_each(Pending::leave);
        } else {
            drop(job.asked.pending);
        }
        let again = if full { StoreError::NoSpace } else { StoreError::Unavailable };
        let _ = job.answer.send(Err(first.take().unwrap_or(again)));
    }
}
