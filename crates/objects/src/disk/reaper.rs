//! The thread that removes files, so that no request waits for it.

use super::pending::discard;
use super::remove;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

const QUEUE: usize = 4096;

enum Job {
    /// The index unhooked it; it stands in the table of the doomed.
    Doomed(String),
    /// It was announced and came to nothing.
    Discarded(String, PathBuf),
}

/// Removes files behind the back of requests.
pub(crate) struct Reaper {
    root: PathBuf,
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Doomed paths that are gone: the index forgets them with its next commit.
    gone: Arc<Mutex<Vec<String>>>,
}

impl Reaper {
    pub(super) fn start(root: PathBuf) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let gone = Arc::new(Mutex::new(Vec::new()));
        let (at, done) = (root.clone(), Arc::clone(&gone));
        let thread = std::thread::Builder::new()
            .name("objects-reaper".to_owned())
            .spawn(move || run(&at, &jobs, &done))?;
        Ok(Self { root, queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)), gone })
    }

    pub(crate) fn remove(&self, path: String) {
        self.send(Job::Doomed(path));
    }

    pub(crate) fn discard(&self, target: String, link: PathBuf) {
        self.send(Job::Discarded(target, link));
    }

    /// Doomed paths that are gone since the last call.
    pub(crate) fn take_gone(&self) -> Vec<String> {
        std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The transaction that was to forget these failed.
    pub(crate) fn give_back(&self, paths: Vec<String>) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
    }

    /// Finishes what is queued and ends the thread.
    pub(crate) fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// A full queue is no reason to wait or to forget: the caller does it himself.
    fn send(&self, job: Job) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let back = match queue.as_ref() {
            None => Some(job),
            Some(queue) => match queue.try_send(job) {
                Ok(()) => None,
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Some(job),
            },
        };
        drop(queue);
        if let Some(job) = back {
            work(&self.root, job, &self.gone);
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(root: &Path, jobs: &Receiver<Job>, gone: &Mutex<Vec<String>>) {
    while let Ok(job) = jobs.recv() {
        work(root, job, gone);
    }
}

fn work(root: &Path, job: Job, gone: &Mutex<Vec<String>>) {
    let result = match &job {
        Job::Doomed(path) => remove(root, path),
        Job::Discarded(target, link) => discard(root, target, link),
    };
    match (result, job) {
        (Ok(()), Job::Doomed(path)) => {
            gone.lock().unwrap_or_else(PoisonError::into_inner).push(path);
        }
        (Ok(()), Job::Discarded(..)) => {}
        // It stays in the table, or its link stays: the next start tries again.
        (Err(error), _) => tracing::warn!(%error, "a file of no use could not be removed"),
    }
}
