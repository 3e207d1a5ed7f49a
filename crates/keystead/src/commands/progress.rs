//! A word on a terminal that something is going on; nothing when nobody looks.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// One line of stderr, written over and over; gone when dropped.
pub(crate) struct Progress {
    shown: bool,
    begun: Instant,
    said: Instant,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self { shown: std::io::stderr().is_terminal(), begun: Instant::now(), said: Instant::now() }
    }

    /// Says how far a transfer is, a few times a second.
    pub(crate) fn bytes(&mut self, done: u64, whole: u64) {
        if !self.shown || self.said.elapsed() < Duration::from_millis(200) {
            return;
        }
        self.said = Instant::now();
        let mib = |n: u64| n as f64 / f64::from(1 << 20);
        let rate = mib(done) / self.begun.elapsed().as_secs_f64().max(0.001);
        self.say(&format!("{:.1} of {:.1} MiB, {rate:.0} MiB/s", mib(done), mib(whole)));
    }

    /// Says what is waited for.
    pub(crate) fn say(&self, text: &str) {
        if self.shown {
            // The line must not wrap, or it cannot be taken back.
            let text: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
            eprint!("\r\x1b[K{text} ({} s)", self.begun.elapsed().as_secs());
            let _ = std::io::stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
