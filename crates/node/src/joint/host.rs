//! The holder, as one cluster's thread sees it.

use crate::cluster::runner::Host;
use crate::host::{FaultKind, Fifreeze, Holder, HostError};
use keystead_types::ClusterId;
use std::sync::Arc;
use std::time::Duration;

/// One cluster at the holder.
pub(super) struct Held {
    pub(super) holder: Arc<Holder>,
    pub(super) cluster: ClusterId,
}

/// What the holder does not have is neither running nor written to.
fn unknown(error: &HostError) -> bool {
    error.kind() == Some(FaultKind::NotFound)
}

impl Host for Held {
    fn freeze(&self, deadline: Duration) -> Result<bool, String> {
        match self.holder.freeze(&self.cluster, deadline) {
            Ok(report) => {
                let (processes_ms, late) = (report.frozen_ms, report.late());
                let failed = report.volumes.iter().find_map(|(volume, f)| match f {
                    Fifreeze::Failed(why) => Some(format!("FIFREEZE of {volume}: {why}")),
                    Fifreeze::Done(_) | Fifreeze::Late => None,
                });
                match failed {
                    // Evicted in three seconds, whatever else is amiss.
                    _ if late => {}
                    Some(why) => return Err(why),
                    None if processes_ms.is_none() => {
                        return Err("the processes are not frozen yet".to_owned());
                    }
                    None => {}
                }
                tracing::info!(cluster = %self.cluster, processes_ms, late, "frozen");
                Ok(late)
            }
            Err(error) if unknown(&error) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    fn thaw(&self) -> Result<(), String> {
        match self.holder.thaw(&self.cluster) {
            Err(error) if !unknown(&error) => Err(error.to_string()),
            _ => {
                tracing::info!(cluster = %self.cluster, "thawed");
                Ok(())
            }
        }
    }

    fn evict(&self) -> Result<(), String> {
        let report = self.holder.evict(&self.cluster).map_err(|e| e.to_string())?;
        tracing::info!(cluster = %self.cluster, took_ms = report.took_ms, "evicted");
        if report.left.is_empty() { Ok(()) } else { Err(report.left.join("; ")) }
    }
}
