//! The node's one real clock, and jitter.

use keystead_types::{Boot, Clock};
use std::time::Duration;

/// CLOCK_BOOTTIME and the wall.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> Boot {
        boot()
    }

    // The one place of this crate that reads wall time; everybody else is handed this clock.
    #[allow(clippy::disallowed_methods)]
    fn wall_ms(&self) -> i64 {
        jiff::Timestamp::now().as_millisecond()
    }
}

/// CLOCK_BOOTTIME now.
pub(crate) fn boot() -> Boot {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Boot::since_boot(Duration::new(seconds, nanos))
}

/// A span within a tenth of `middle`, so that nodes do not ask in step. Not for secrets.
pub(crate) fn jittered(middle: Duration) -> Duration {
    let [a, b, ..] = *uuid::Uuid::new_v4().as_bytes();
    let share = f64::from(u16::from_le_bytes([a, b])) / f64::from(u16::MAX);
    middle.mul_f64(0.9 + 0.2 * share)
}
