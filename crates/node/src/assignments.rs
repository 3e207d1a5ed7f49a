//! The assignment: pulled from control by long poll, kept on disk, handed on as it changes.
//!
//! Control being away changes nothing here: the last assignment stays in force, from disk after a
//! restart, and the poll is repeated at a fixed period.

use crate::config::NodeConfig;
use crate::disk;
use crate::time::jittered;
use keystead_types::{Assignment, DocumentAsks};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};
use zeroize::Zeroizing;

const WAIT_MS: u64 = 20_000;
const RETRY: Duration = Duration::from_millis(300);

/// Where the last assignment lies.
fn file(config: &NodeConfig) -> PathBuf {
    config.data.join("assignment.json")
}

/// What the last process was doing, or nothing yet.
pub(crate) fn last(config: &NodeConfig) -> std::io::Result<Option<Assignment>> {
    let found: Option<Assignment> = disk::load(&file(config))?;
    Ok(found.filter(|a| a.region == config.region))
}

/// Control as the node sees it: two requests and a token.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) client: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: Arc<Zeroizing<String>>,
}

impl Control {
    /// One long poll; `None` when nothing changed.
    async fn ask(
        &self,
        config: &NodeConfig,
        (after, serial): (u64, u64),
    ) -> Result<Option<Assignment>, String> {
        let url = format!("{}/v1/node/assignment", self.url);
        let after = after.to_string();
        let wait = WAIT_MS.to_string();
        let serial = serial.to_string();
        let query = [
            ("region", config.region.as_str()),
            ("after", &after),
            ("documents", &serial),
            ("wait_ms", &wait),
        ];
        let answer = self
            .client
            .get(url)
            .query(&query)
            .bearer_auth(self.token.as_str())
            .timeout(Duration::from_millis(WAIT_MS + 5_000))
            .send()
            .await
            .map_err(|e| e.to_string())?;
        match answer.status().as_u16() {
            204 => Ok(None),
            200 => answer.json().await.map(Some).map_err(|e| e.to_string()),
            other => Err(format!("control answered {other}")),
        }
    }
}

/// The part that is kept on disk: what somebody waits for may hold a file's name, and ends with the
/// wait.
fn lasting(whole: &Assignment) -> Assignment {
    let mut kept = whole.clone();
    kept.documents = DocumentAsks::default();
    kept
}

/// Polls for ever; hands on what is on disk already, never the other way round.
pub(crate) async fn run(
    config: Arc<NodeConfig>,
    control: Control,
    current: watch::Sender<Arc<Assignment>>,
) {
    let mut quiet = false;
    loop {
        let (after, lasting) = {
            let now = current.borrow();
            ((now.generation, now.documents.serial), lasting(&now))
        };
        match control.ask(&config, after).await {
            Ok(None) => quiet = false,
            Ok(Some(next)) if next.region != config.region => {
                warn!(region = %next.region, "an assignment for another Region is ignored");
                tokio::time::sleep(jittered(RETRY)).await;
            }
            Ok(Some(next)) => {
                quiet = false;
                let (path, kept) = (file(&config), self::lasting(&next));
                let new = kept != lasting;
                let write = move || if new { disk::replace(&path, &kept) } else { Ok(()) };
                let written = tokio::task::spawn_blocking(write).await;
                if let Ok(Err(error)) = written {
                    // Acting on what a restart would forget is worse than acting late.
                    warn!(%error, "the assignment cannot be kept on disk; it is not acted on");
                    tokio::time::sleep(jittered(RETRY)).await;
                    continue;
                }
                if new {
                    let (generation, clusters) = (next.generation, next.clusters.len());
                    info!(generation, clusters, "assignment");
                }
                current.send_replace(Arc::new(next));
            }
            Err(error) => {
                if !quiet {
                    warn!(%error, "control does not answer; the last assignment stays in force");
                }
                quiet = true;
                tokio::time::sleep(jittered(RETRY)).await;
            }
        }
    }
}
