//! Time as the lease sees it. Wall time appears only in records.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A moment of CLOCK_BOOTTIME: it runs on while the machine is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Boot(Duration);

impl Boot {
    /// A moment, as time since boot.
    pub const fn since_boot(d: Duration) -> Self {
        Self(d)
    }
    /// Time since boot.
    pub const fn as_duration(self) -> Duration {
        self.0
    }
    /// This moment plus a span.
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d))
    }
    /// This moment less a span, not before boot.
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(d))
    }
    /// The span from an earlier moment to this one; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where a component reads time; handed in, so that tests can stop it.
pub trait Clock: Send + Sync {
    /// CLOCK_BOOTTIME now.
    fn boot(&self) -> Boot;
    /// Wall time now, in milliseconds since the Unix epoch; for records only.
    fn wall_ms(&self) -> i64;
}
