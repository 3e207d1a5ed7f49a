//! Tells a slow machine from a slow Keystead: a thread ticks every 10 ms, and a tick that comes
//! late while other processes or the hypervisor had the CPU excuses the cycle it fell into.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(10);
/// A tick later than this makes a cycle doubtful.
pub(crate) const LATE: Duration = Duration::from_millis(200);

pub(crate) struct Sentinel {
    late: Arc<Mutex<Vec<(Instant, Duration)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sentinel {
    pub(crate) fn start() -> Self {
        let late = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, end) = (late.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            while !end.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                let now = Instant::now();
                let over = now.duration_since(last).saturating_sub(TICK);
                if over > LATE {
                    seen.lock().expect("no panic holds it").push((now, over));
                }
                last = now;
            }
        });
        Self { late, stop, thread: Some(thread) }
    }

    /// The latest tick that fell into a window, if one was late.
    pub(crate) fn worst(&self, from: Instant, to: Instant) -> Option<Duration> {
        let late = self.late.lock().expect("no panic holds it");
        late.iter().filter(|(at, over)| *at >= from && *at - *over <= to).map(|l| l.1).max()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// CPU of the whole machine and of our own processes, in clock ticks.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    steal: u64,
    busy: u64,
    ours: u64,
}

impl Cpu {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").expect("/proc/stat is readable");
        let first: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|f| f.parse().ok())
            .collect();
        let at = |i: usize| first.get(i).copied().unwrap_or(0);
        // user nice system idle iowait irq softirq steal
        Self { steal: at(7), busy: at(0) + at(1) + at(2) + at(5) + at(6), ours: ours() }
    }

    /// True when steal or somebody else's work since `earlier` can explain a late tick.
    pub(crate) fn excuses(self, earlier: Self) -> bool {
        let steal = self.steal.saturating_sub(earlier.steal);
        let busy = self.busy.saturating_sub(earlier.busy);
        let ours = self.ours.saturating_sub(earlier.ours);
        // 5 ticks are 50 ms of one processor.
        steal >= 5 || busy.saturating_sub(ours) >= 20
    }
}

fn ours() -> u64 {
    const NAMES: [&str; 5] = ["keystead", "postgres", "pgbench", "it-", "psql"];
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    processes
        .flatten()
        .filter_map(|p| fs::read_to_string(p.path().join("stat")).ok())
        .filter_map(|stat| {
            let (head, tail) = stat.rsplit_once(')')?;
            let name = head.split_once('(')?.1;
            if !NAMES.iter().any(|n| name.starts_with(n)) {
                return None;
            }
            let fields: Vec<&str> = tail.split_whitespace().collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        })
        .sum()
}
