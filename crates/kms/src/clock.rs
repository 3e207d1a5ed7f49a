//! The server's one real clock.

use keystead_types::{Boot, Clock};
use std::time::Duration;

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> Boot {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Boot::since_boot(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0)))
    }

    #[allow(clippy::disallowed_methods)] // the one real clock of this crate
    fn wall_ms(&self) -> i64 {
        jiff::Timestamp::now().as_millisecond()
    }
}
