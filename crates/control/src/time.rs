//! Control's one real clock, and times as the API shows them.

use keystead_types::{Boot, Clock};
use std::time::Duration;

/// CLOCK_BOOTTIME and the wall.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> Boot {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Boot::since_boot(Duration::new(seconds, nanos))
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that reads wall time")]
    fn wall_ms(&self) -> i64 {
        jiff::Timestamp::now().as_millisecond()
    }
}

/// RFC 3339 in UTC; `None` for a time that no calendar holds.
pub(crate) fn rfc3339(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|t| t.to_string())
}

/// A clock that stands until it is moved.
#[cfg(test)]
pub(crate) struct TestClock(std::sync::atomic::AtomicI64);

#[cfg(test)]
impl TestClock {
    pub(crate) fn at(ms: i64) -> Self {
        Self(ms.into())
    }
    pub(crate) fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for TestClock {
    fn boot(&self) -> Boot {
        Boot::since_boot(Duration::from_millis(self.wall_ms().unsigned_abs()))
    }
    fn wall_ms(&self) -> i64 {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}
