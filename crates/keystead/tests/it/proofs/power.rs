//! The power goes while rows are committed: `dev` with a PostgreSQL cluster runs in a VM over a
//! disk that forgets what was not flushed, and tells each row after its commit.
//!
//! A row is safe when PostgreSQL's fsync passed through ext4 on the volume, loop, FUSE, the node,
//! its image, the guest's ext4 and virtio to that disk. At a cut all of the guest's memory is lost
//! and of the disk's cache a seeded share, in any order. Not modelled: a physical sector, of 4 KiB,
//! written in part. The seed repeats what the test chose, not the guest's own timing.

use super::count;
use super::vm::{Boot, Vm};
use super::volatile::{Cut, Volatile};
use crate::joint::figures::{Figures, Series};
use crate::world::{Alone, Random};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const DISK: u64 = 6 << 30;
/// Of an emulated machine, beside others: to end what hangs, not to judge.
const BACK_WITHIN: Duration = Duration::from_secs(900);
/// How many rows are committed before a cut, at the least.
const ROWS: usize = 20;
/// The cut comes within so many writes to the disk: some seconds of commits.
const WRITES: u64 = 1000;
/// The same while it comes back.
const WRITES_OF_A_START: u64 = 500;

/// One machine after the other over one disk, and every row that any of them told as committed.
struct Rounds {
    folder: tempfile::TempDir,
    disk: Volatile,
    random: Random,
    committed: BTreeSet<u64>,
}

impl Rounds {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("kst-").tempdir().expect("a folder");
        let disk = Volatile::new(folder.path(), DISK).expect("a disk");
        Self { folder, disk, random: Random::from_environment(), committed: BTreeSet::new() }
    }

    fn power_on(&mut self) -> Vm {
        Vm::boot(&Boot {
            folder: self.folder.path(),
            guest: "power_guest.sh",
            settings: "",
            disk: self.disk.power_on().expect("the disk is served"),
            rig: &[],
        })
    }

    /// Waits until the machine serves; answers which committed rows it has not.
    fn missing(&self, vm: &mut Vm) -> Vec<u64> {
        let mut present = BTreeSet::new();
        loop {
            let line = vm.next();
            if let Some(row) = row(&line, "present ") {
                present.insert(row);
                continue;
            }
            eprintln!("vm: {line}");
            if line.ends_with("GOES ON") {
                return self.committed.difference(&present).copied().collect();
            }
        }
    }

    /// Rows are committed, and then the power goes.
    fn commit_and_cut(&mut self, mut vm: Vm) -> Cut {
        let enough = self.committed.len() + ROWS;
        while self.committed.len() < enough {
            self.hear(&vm.next());
        }
        self.cut(vm, WRITES)
    }

    /// The power goes within so many writes, at a seeded one.
    fn cut(&mut self, mut vm: Vm, writes: u64) -> Cut {
        self.disk.power_goes_after(self.random.below(writes));
        while !self.disk.is_off() {
            vm.lines_within(Duration::from_millis(10), |line| self.hear(line));
        }
        // What it told before its end counts.
        for line in vm.cut() {
            self.hear(&line);
        }
        let cut = self.disk.cut(&mut self.random);
        eprintln!(
            "power cut: {} rows committed so far; {} flushes since power on; of the disk's cache {} sectors kept, {} lost",
            self.committed.len(),
            cut.flushes,
            cut.kept,
            cut.lost
        );
        cut
    }

    fn hear(&mut self, line: &str) {
        if let Some(row) = row(line, "committed ") {
            self.committed.insert(row);
        } else if row(line, "present ").is_none() {
            eprintln!("vm: {line}");
        }
    }
}

/// A line in full: the cut may have left the half of one.
fn row(line: &str, what: &str) -> Option<u64> {
    line.strip_prefix(what)?.strip_suffix('.')?.parse().ok()
}

#[test]
fn a_power_cut_loses_no_committed_row() {
    let _alone = Alone::take();
    let mut rounds = Rounds::new();
    let mut back = Series::new("power cut: from power on to all rows read".into(), BACK_WITHIN);
    let mut vm = rounds.power_on();
    rounds.missing(&mut vm);
    let mut cuts = Vec::new();
    for _ in 0..count(1, 5) {
        cuts.push(rounds.commit_and_cut(vm));
        // Again, while it comes back.
        if count(0, 1) == 1 {
            let vm = rounds.power_on();
            cuts.push(rounds.cut(vm, WRITES_OF_A_START));
        }
        let on = Instant::now();
        vm = rounds.power_on();
        let missing = rounds.missing(&mut vm);
        back.push(on.elapsed());
        assert!(missing.is_empty(), "of {} rows: {missing:?}", rounds.committed.len());
    }
    let lost: usize = cuts.iter().map(|cut| cut.lost).sum();
    let mut figures = Figures::default();
    figures.say(format!(
        "power cut: {} cuts, {lost} unflushed sectors lost; {} rows committed, 0 missing",
        cuts.len(),
        rounds.committed.len()
    ));
    figures.take(back);
    figures.assert_within_bars();
}

/// What the first test rests on: a flush that does not reach the disk is seen.
#[test]
fn a_disk_that_ignores_flushes_loses_committed_rows() {
    if count(0, 1) == 0 {
        return;
    }
    let _alone = Alone::take();
    let mut rounds = Rounds::new();
    let mut vm = rounds.power_on();
    rounds.missing(&mut vm);
    rounds.disk.ignore_flushes();
    rounds.commit_and_cut(vm);
    let mut vm = rounds.power_on();
    let missing = rounds.missing(&mut vm).len();
    eprintln!(
        "FIGURE a disk that ignores flushes: {missing} of {} committed rows missing",
        rounds.committed.len()
    );
    assert!(missing > 0, "the proof would not see a lost flush");
}
