//! The key refused in the midst of a GET, a PUT and a multipart upload.

use super::client::S3;
use super::{access_key, back, count, disable, enable, serving, text};
use crate::joint::stage::{Cluster, Stage};
use crate::world::{World, WorldOptions};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FENCE: Duration = Duration::from_secs(1);
const THAW: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// What clients saw, while they read and wrote.
#[derive(Default)]
struct Seen {
    /// When plaintext last came, or a write was last acknowledged.
    last: Mutex<Option<Instant>>,
    acknowledged: Mutex<BTreeSet<String>>,
    begun: Mutex<BTreeSet<String>>,
    stop: AtomicBool,
}

impl Seen {
    fn now(&self) {
        *self.last.lock().expect("held") = Some(Instant::now());
    }
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

fn body() -> Vec<u8> {
    text(3 << 20)
}

/// Reads the large object over and over, slowly.
fn reader(s3: S3, seen: Arc<Seen>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while !seen.stopped() {
            let mut status = None;
            let piece = &mut |_: usize| seen.now();
            // Error answers come in pieces, too: those are told apart by their length below.
            let done = s3.read_slowly("/documents/large", PAUSE, &mut |n| {
                if n > 2048 || status.is_some() {
                    status = Some(());
                    piece(n);
                }
            });
            if done.is_err() || done.is_ok_and(|r| r.status != 200) {
                std::thread::sleep(PAUSE);
            }
        }
    })
}

/// Puts objects, slowly; what was acknowledged is noted.
fn writer(s3: S3, seen: Arc<Seen>, label: String) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let body = body();
        let mut n = 0;
        while !seen.stopped() {
            n += 1;
            let path = format!("/documents/{label}-{n}");
            seen.begun.lock().expect("held").insert(path.clone());
            match s3.write_slowly(&path, "", &body, PAUSE) {
                Ok(reply) if reply.status == 200 => {
                    seen.now();
                    seen.acknowledged.lock().expect("held").insert(path);
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    })
}

/// Multipart uploads of two parts, each part slowly.
fn uploader(s3: S3, seen: Arc<Seen>, label: String) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (first, second) = (text(5 << 20), text(1 << 20));
        let mut n = 0;
        while !seen.stopped() {
            n += 1;
            let path = format!("/documents/{label}-{n}");
            seen.begun.lock().expect("held").insert(path.clone());
            if s3.upload(&path, &[&first, &second], PAUSE).is_some() {
                seen.now();
                seen.acknowledged.lock().expect("held").insert(path);
            } else {
                std::thread::sleep(PAUSE);
            }
        }
    })
}

fn cycle(
    stage: &Stage,
    cluster: &Cluster,
    s3: &S3,
    seen: &Seen,
    round: usize,
) -> (Duration, Duration) {
    // In the midst of everything, each time elsewhere.
    std::thread::sleep(Duration::from_millis(1_500 + round as u64 * 137 % 900));
    let at = disable(stage, cluster);
    std::thread::sleep(Duration::from_millis(1_500));
    let last = seen.last.lock().expect("held").expect("something came before");
    let fence = last.saturating_duration_since(at);
    let refused = s3.call("GET", "/documents/large", "", b"").expect("answered");
    assert_eq!((refused.status, refused.code().as_str()), (400, "KMS.DisabledException"));
    let listed = s3.call("GET", "/documents", "list-type=2", b"").expect("answered");
    assert_eq!(listed.status, 400, "a listing is refused, too");
    let at = enable(stage, cluster);
    (fence, back(s3, "/documents/large", at))
}

#[test]
fn the_key_refused_in_the_midst_of_everything_loses_nothing_and_leaves_nothing_half() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("midst");
    serving(&stage, &cluster, "documents");
    let s3 = access_key(&stage, &cluster, "writer");
    let large = text(64 << 20);
    s3.ok("PUT", "/documents/large", "", &large);
    let seen = Arc::new(Seen::default());
    let threads = [
        reader(s3.clone(), seen.clone()),
        reader(s3.clone(), seen.clone()),
        writer(s3.clone(), seen.clone(), "put".to_owned()),
        uploader(s3.clone(), seen.clone(), "parts".to_owned()),
    ];
    let cycles = count(3, 20);
    let (mut fence, mut thaw) = (Duration::ZERO, Duration::ZERO);
    for round in 0..cycles {
        let (f, t) = cycle(&stage, &cluster, &s3, &seen, round);
        (fence, thaw) = (fence.max(f), thaw.max(t));
    }
    seen.stop.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|t| t.join().expect("a client"));

    // What was acknowledged is there and whole; what is there is whole.
    let (acknowledged, begun) =
        (seen.acknowledged.lock().expect("held"), seen.begun.lock().expect("held"));
    let (put, parts) = (body(), [text(5 << 20), text(1 << 20)].concat());
    let mut unsure = 0;
    for path in begun.iter() {
        let reply = s3.call("GET", path, "", b"").expect("answered");
        let whole = if path.contains("/put-") { &put } else { &parts };
        match reply.status {
            200 => assert!(reply.body == *whole, "{path} is not what was written"),
            404 => assert!(!acknowledged.contains(path), "{path} was acknowledged and is lost"),
            other => panic!("{path}: {other} {}", reply.text()),
        }
        unsure += usize::from(reply.status == 200 && !acknowledged.contains(path));
    }
    assert!(s3.ok("GET", "/documents/large", "", b"").body == large);
    eprintln!(
        "FIGURE objects: {cycles} revocations in mid-GET, mid-PUT and mid-multipart: last plaintext or \
         acknowledgement <= {} ms after KMS's answer, served again <= {} ms after EnableKey; {} writes \
         acknowledged, 0 lost, {unsure} there unacknowledged, {} refused",
        fence.as_millis(),
        thaw.as_millis(),
        acknowledged.len(),
        begun.len() - acknowledged.len() - unsure,
    );
    assert!(!acknowledged.is_empty());
    assert!(fence <= FENCE && thaw <= THAW, "fence {fence:?}, thaw {thaw:?}");
    drop((acknowledged, begun));
    stage.world.stop();
}
