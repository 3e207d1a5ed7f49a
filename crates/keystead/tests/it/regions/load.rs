//! A mixed load on the primary Region, of clients that know what must be there afterwards, and
//! readers of both Regions who accept nothing half.

use super::{Pair, sealed};
use crate::objects::client::S3;
use crate::world::Random;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const CLIENTS: usize = 3;
/// Few, so that they are written over and deleted.
const KEYS: u64 = 12;
const BREATH: Duration = Duration::from_millis(20);
const CATCHES_UP: Duration = Duration::from_secs(60);
/// Longer than any error's XML.
const ERROR: usize = 2048;

/// A key, and what may be there: what was acknowledged last, then what was tried since. `None`: no
/// object.
pub(crate) struct Known {
    pub(crate) path: String,
    may: Vec<Option<String>>,
}

/// What all clients share.
pub(crate) struct Shared {
    stop: AtomicBool,
    random: Mutex<Random>,
    /// When plaintext last came from either Region, or a write was last acknowledged.
    last: Mutex<Option<Instant>>,
    acknowledged: AtomicUsize,
    replicas_read: AtomicUsize,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
    fn now(&self) {
        *self.last.lock().expect("held") = Some(Instant::now());
    }
    fn below(&self, n: u64) -> u64 {
        self.random.lock().expect("held").below(n)
    }
}

pub(crate) struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Vec<Known>>>,
    readers: Vec<JoinHandle<()>>,
}

/// A body that says itself what it is: its title, over and over. The title's last word is its size.
pub(crate) fn body(title: &str) -> Vec<u8> {
    let size = title.rsplit(' ').next().and_then(|s| s.parse().ok()).expect("a size");
    let mut body = format!("{title}\n").repeat(size / (title.len() + 1) + 1).into_bytes();
    body.truncate(size);
    body
}

/// The title of what was read, which must be whole and of this path.
pub(crate) fn title(path: &str, read: &[u8]) -> String {
    let line = read.split(|b| *b == b'\n').next().unwrap_or_default();
    let title = String::from_utf8_lossy(line).into_owned();
    assert!(title.starts_with(path), "{path} has another's bytes: {title:.80}");
    assert!(body(&title) == read, "{path} is half visible: {} bytes of {title:.80}", read.len());
    title
}

impl Load {
    /// Starts it on the bucket `documents`.
    pub(crate) fn start(users: &[S3; 2]) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            random: Mutex::new(Random::from_environment()),
            last: Mutex::default(),
            acknowledged: AtomicUsize::new(0),
            replicas_read: AtomicUsize::new(0),
        });
        let writers = (0..CLIENTS).map(|client| {
            let (s3, shared) = (users[0].clone(), shared.clone());
            std::thread::spawn(move || write(&s3, client, &shared))
        });
        let writers = writers.collect();
        let readers = users.iter().enumerate().map(|(region, s3)| {
            let (s3, shared) = (s3.clone(), shared.clone());
            std::thread::spawn(move || read(&s3, region, &shared))
        });
        let readers = readers.collect();
        Self { shared, writers, readers }
    }

    /// When plaintext last came, or a write was last acknowledged.
    pub(crate) fn last(&self) -> Instant {
        self.shared.last.lock().expect("held").expect("something came before")
    }

    pub(crate) fn below(&self, n: u64) -> u64 {
        self.shared.below(n)
    }

    /// Ends it; says what was acknowledged and what was read of replicas, and what must be there.
    pub(crate) fn finish(self) -> (usize, usize, Vec<Known>) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let writers = self.writers.into_iter();
        let known = writers.flat_map(|w| w.join().expect("a writer")).collect();
        self.readers.into_iter().for_each(|r| r.join().expect("a reader"));
        let read = |n: &AtomicUsize| n.load(Ordering::SeqCst);
        (read(&self.shared.acknowledged), read(&self.shared.replicas_read), known)
    }
}

/// Puts, overwrites, deletes and uploads in parts, small and large.
fn write(s3: &S3, client: usize, shared: &Shared) -> Vec<Known> {
    let path = |key: u64| format!("/documents/{client}-{key}");
    let known = |key| Known { path: path(key), may: vec![None] };
    let mut all: Vec<_> = (0..KEYS).map(known).collect();
    let mut n = 0;
    while !shared.stopped() {
        n += 1;
        let known = &mut all[shared.below(KEYS) as usize];
        let path = known.path.clone();
        let size = |least: u64, most: u64| least + shared.below(most - least);
        let title = |size: u64| format!("{path} {n} {size}");
        let (tried, done) = match shared.below(10) {
            0 => {
                let reply = s3.call("DELETE", &path, "", b"");
                (None, reply.is_ok_and(|r| r.status == 204))
            }
            1 => {
                let title = title(size(6 << 20, 9 << 20));
                let whole = body(&title);
                let (first, second) = whole.split_at(5 << 20);
                let done = s3.upload(&path, &[first, second], Duration::ZERO).is_some();
                (Some(title), done)
            }
            kind => {
                let title =
                    title(if kind < 4 { size(4 << 20, 8 << 20) } else { size(200, 200_000) });
                let reply = s3.call("PUT", &path, "", &body(&title));
                (Some(title), reply.is_ok_and(|r| r.status == 200))
            }
        };
        if done {
            shared.now();
            shared.acknowledged.fetch_add(1, Ordering::SeqCst);
            known.may = vec![tried];
        } else {
            known.may.push(tried);
            std::thread::sleep(BREATH);
        }
    }
    all
}

/// Reads what is written meanwhile: whatever is answered whole is whole.
fn read(s3: &S3, region: usize, shared: &Shared) {
    while !shared.stopped() {
        let client = shared.below(CLIENTS as u64);
        let path = format!("/documents/{client}-{}", shared.below(KEYS));
        let mut begun = false;
        let reply = s3.read_slowly(&path, Duration::ZERO, &mut |n| {
            begun |= n > ERROR;
            if begun {
                shared.now();
            }
        });
        match reply {
            Ok(reply) if reply.status == 200 => {
                shared.now();
                title(&path, &reply.body);
                shared.replicas_read.fetch_add(region, Ordering::SeqCst);
            }
            _ => std::thread::sleep(BREATH),
        }
    }
}

/// The object, if there is one; it must be whole. An error: there is no such answer yet.
fn found(s3: &S3, path: &str) -> Result<Option<String>, String> {
    let reply = s3.call("GET", path, "", b"").map_err(|e| format!("{path}: {e}"))?;
    match reply.status {
        200 => Ok(Some(title(path, &reply.body))),
        404 => Ok(None),
        other => Err(format!("{path}: {other} {}", reply.text())),
    }
}

/// When nothing is written any more: what was acknowledged is in the primary Region, the backup
/// catches up until nothing waits, and both have the same files. Answers how long it took, and the
/// number of files.
pub(crate) fn settled(pair: &Pair, users: &[S3; 2], known: &[Known]) -> (Duration, usize) {
    let [here, there] = users;
    let begun = Instant::now();
    let must = known.iter().map(|one| {
        let now = found(here, &one.path).expect("answered");
        assert!(one.may.contains(&now), "{}: {now:?} is none of {:?}", one.path, one.may);
        (&one.path, now)
    });
    for (path, must) in must.collect::<Vec<_>>() {
        pair.until(&format!("{path} as in the primary Region"), CATCHES_UP, || {
            (found(there, path).as_ref() == Ok(&must)).then_some(())
        });
    }
    let replication = pair.until("nothing waits", CATCHES_UP, || {
        let told = pair.replication();
        (told["pending"] == 0).then_some(told)
    });
    let took = begun.elapsed();
    assert_eq!((&replication["oldest"], &replication["lag_ms"]), (&json!(null), &json!(0)));
    // Uploads that nobody will complete stay in the primary Region until they are aborted.
    let listed = here.ok("GET", "/documents", "uploads=", b"").text();
    for upload in listed.split("<Upload>").skip(1) {
        let text = |name: &str| {
            let (_, rest) = upload.split_once(&format!("<{name}>")).expect("named");
            rest.split('<').next().unwrap_or_default().to_owned()
        };
        let query = format!("uploadId={}", text("UploadId"));
        here.ok("DELETE", &format!("/documents/{}", text("Key")), &query, b"");
    }
    (took, sealed::same(pair))
}
