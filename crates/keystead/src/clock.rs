//! The binary's one wall clock, for names of files and records only.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
#[allow(clippy::disallowed_methods)] // the one real clock of this crate
pub(crate) fn wall_ms() -> i64 {
    let span = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
