//! A word on a terminal that something is going on; nothing when nobody looks.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// One line of stderr, written over and over; gone when dropped.
pub(crate) struct Progress {
    shown: bool,
    begun: Instant,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self { shown: std::io::stderr().is_terminal(), begun: Instant::now() }
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
