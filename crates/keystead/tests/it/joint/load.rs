//! A load on a cluster's database that remembers what was acknowledged, and when.
//!
//! Writers insert one row a transaction and note its id and the moment at which COMMIT returned;
//! a reader notes the moment at which each row came back. Nobody times out: a frozen cluster makes
//! them wait, and after the thaw they go on over the same connection. Any error is kept.

use postgres::{Client, NoTls};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Seen {
    acked: Mutex<Vec<(i64, Instant)>>,
    reads: Mutex<Vec<Instant>>,
    errors: Mutex<Vec<String>>,
}

pub(crate) struct Load {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    uri: String,
    table: String,
}

/// What a load saw, once it has ended.
pub(crate) struct Tally {
    pub(crate) acked: usize,
    pub(crate) missing: Vec<i64>,
    pub(crate) unacked_present: i64,
    pub(crate) errors: Vec<String>,
}

pub(crate) fn connect(uri: &str) -> Client {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match Client::connect(uri, NoTls) {
            Ok(client) => return client,
            Err(e) if Instant::now() > deadline => panic!("cannot connect to {uri}: {e}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

impl Load {
    /// Starts `writers` writers and one reader on a fresh table.
    pub(crate) fn start(uri: &str, writers: usize) -> Self {
        static TABLES: AtomicI64 = AtomicI64::new(0);
        let table = format!("acks_{}", TABLES.fetch_add(1, Ordering::Relaxed));
        connect(uri)
            .batch_execute(&format!(
                "drop table if exists {table}; create table {table} (id bigint primary key, filler text)"
            ))
            .expect("the table is made");
        let seen = Arc::new(Seen::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads: Vec<JoinHandle<()>> = (0..writers)
            .map(|n| {
                let (seen, stop) = (seen.clone(), stop.clone());
                let (uri, table) = (uri.to_owned(), table.clone());
                std::thread::spawn(move || write(&uri, &table, n as i64, &seen, &stop))
            })
            .collect();
        let (s, e) = (seen.clone(), stop.clone());
        let (u, t) = (uri.to_owned(), table.clone());
        threads.push(std::thread::spawn(move || read(&u, &t, &s, &e)));
        let load = Self { seen, stop, threads, uri: uri.to_owned(), table };
        let begun = Instant::now();
        while load.rows() < 20 {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the load does not get going: {:?}",
                load.errors()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        load
    }

    fn rows(&self) -> usize {
        self.seen.acked.lock().expect("no panic holds it").len()
    }

    pub(crate) fn errors(&self) -> Vec<String> {
        self.seen.errors.lock().expect("no panic holds it").clone()
    }

    /// Moments at which a row was committed or read, in a window, sorted.
    fn moments(&self, from: Instant, to: Instant, commits_only: bool) -> Vec<Instant> {
        let within = |at: &Instant| *at >= from && *at <= to;
        let mut all: Vec<Instant> = self
            .seen
            .acked
            .lock()
            .expect("no panic holds it")
            .iter()
            .map(|a| a.1)
            .filter(within)
            .collect();
        if !commits_only {
            all.extend(
                self.seen.reads.lock().expect("no panic holds it").iter().copied().filter(within),
            );
        }
        all.sort();
        all
    }

    /// The last row committed or read in a window.
    pub(crate) fn last_row(&self, from: Instant, to: Instant) -> Option<Instant> {
        self.moments(from, to, false).last().copied()
    }

    /// The last row committed in a window.
    pub(crate) fn last_commit(&self, from: Instant, to: Instant) -> Option<Instant> {
        self.moments(from, to, true).last().copied()
    }

    /// The first row committed after a moment; waits for it until `deadline` has passed.
    pub(crate) fn first_commit_after(&self, from: Instant, deadline: Duration) -> Option<Instant> {
        loop {
            if let Some(at) = self.moments(from, Instant::now(), true).first() {
                return Some(*at);
            }
            if from.elapsed() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The longest time without a commit in a window, its ends counted.
    pub(crate) fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let mut last = from;
        let mut worst = Duration::ZERO;
        for at in self.moments(from, to, true).into_iter().chain([to]) {
            worst = worst.max(at.duration_since(last));
            last = at;
        }
        worst
    }

    /// Ends the load and compares what was acknowledged with what is there.
    pub(crate) fn finish(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let mut present: Vec<i64> = connect(&self.uri)
            .query(&format!("select id from {}", self.table), &[])
            .expect("the rows are readable")
            .iter()
            .map(|row| row.get(0))
            .collect();
        present.sort_unstable();
        let acked = self.seen.acked.lock().expect("no panic holds it");
        let missing =
            acked.iter().map(|a| a.0).filter(|id| present.binary_search(id).is_err()).collect();
        let tally = Tally {
            acked: acked.len(),
            missing,
            unacked_present: present.len() as i64 - acked.len() as i64,
            errors: self.errors(),
        };
        drop(acked);
        connect(&self.uri)
            .batch_execute(&format!("drop table {}", self.table))
            .expect("the table goes");
        tally
    }
}

/// What was acknowledged by a server that is gone by now.
pub(crate) struct Acknowledged {
    ids: Vec<i64>,
    uri: String,
    table: String,
}

impl Load {
    /// Ends the load without minding errors: its server was taken away.
    pub(crate) fn abandon(mut self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let acked = self.seen.acked.lock().expect("no panic holds it");
        let ids = acked.iter().map(|a| a.0).collect();
        Acknowledged { ids, uri: self.uri.clone(), table: self.table.clone() }
    }
}

impl Acknowledged {
    /// All of it is there, as soon as the server is.
    pub(crate) fn assert_present(&self) {
        let rows = connect(&self.uri)
            .query(&format!("select id from {}", self.table), &[])
            .expect("the rows are readable");
        let present: std::collections::HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        let missing = self.ids.iter().filter(|id| !present.contains(id)).count();
        assert_eq!(missing, 0, "of {} acknowledged rows", self.ids.len());
        assert!(!self.ids.is_empty(), "nothing was acknowledged");
    }
}

impl Tally {
    /// Nothing acknowledged is missing and no client saw an error.
    pub(crate) fn assert_whole(&self) {
        assert!(self.errors.is_empty(), "client errors: {:?}", self.errors);
        assert!(self.missing.is_empty(), "{} acknowledged rows are missing", self.missing.len());
        assert!(self.acked > 0, "the load committed nothing");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn write(uri: &str, table: &str, lane: i64, seen: &Seen, stop: &AtomicBool) {
    let mut client = connect(uri);
    let insert = client
        .prepare(&format!("insert into {table} values ($1, repeat('x', 100))"))
        .expect("it prepares");
    let mut id = lane << 40;
    while !stop.load(Ordering::Relaxed) {
        id += 1;
        match client.execute(&insert, &[&id]) {
            Ok(_) => seen.acked.lock().expect("no panic holds it").push((id, Instant::now())),
            Err(e) => {
                return seen
                    .errors
                    .lock()
                    .expect("no panic holds it")
                    .push(format!("insert {id}: {e}"));
            }
        }
    }
}

fn read(uri: &str, table: &str, seen: &Seen, stop: &AtomicBool) {
    let mut client = connect(uri);
    let select = client
        .prepare(&format!("select id from {table} order by id desc limit 1"))
        .expect("it prepares");
    while !stop.load(Ordering::Relaxed) {
        match client.query_opt(&select, &[]) {
            Ok(_) => seen.reads.lock().expect("no panic holds it").push(Instant::now()),
            Err(e) => {
                return seen.errors.lock().expect("no panic holds it").push(format!("select: {e}"));
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
