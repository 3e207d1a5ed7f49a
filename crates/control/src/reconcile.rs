//! The reconciler: finds in the store what is to be done, does it, tries again at a fixed period.
//! It takes no input; a nudge only makes it look sooner.

use crate::board::Board;
use crate::plan::{Step, plan};
use crate::roles::{Iam, RoleError};
use crate::store::{Recorded, Select, Store, StoreError};
use keystead_types::{AccountId, ParseArnError};
use std::{error::Error, sync::Arc, time::Duration};

/// What failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Without a nudge the store is read this often.
const LOOK: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Name(#[from] ParseArnError),
}

/// The loop's parts.
pub(crate) struct Reconciler {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) board: Arc<Board>,
    pub(crate) iam: Iam,
    pub(crate) provider: AccountId,
}

impl Reconciler {
    /// Runs for ever.
    pub(crate) async fn run(self) {
        loop {
            let whole = self.round().await.unwrap_or_else(|error| {
                tracing::error!(error = said(&error), "reconcile");
                false
            });
            tokio::select! {
                () = self.board.nudge.notified() => {}
                () = tokio::time::sleep(if whole { LOOK } else { AGAIN }) => {}
            }
        }
    }

    /// True when nothing is left to do.
    async fn round(&self) -> Result<bool, ReconcileError> {
        let clusters = self.store.clusters(Select::WithoutRole).await?;
        let mut whole = true;
        for step in plan(&self.provider, &clusters)? {
            whole &= self.step(step).await?;
        }
        Ok(whole)
    }

    async fn step(&self, step: Step) -> Result<bool, ReconcileError> {
        let Step::MakeRole { cluster, regions, role } = step;
        let done = self.iam.make(&role, &regions).await;
        if let Err(error) = done {
            let text = said(&error);
            if self.board.role_fault(&cluster).as_ref() != Some(&text) {
                match error {
                    RoleError::Foreign(_) => tracing::error!(%cluster, error = text, "tenant role"),
                    _ => tracing::warn!(%cluster, error = text, "tenant role"),
                }
                self.board.set_role_fault(&cluster, Some(text));
                self.board.records_changed();
            }
            return Ok(false);
        }
        if self.store.record_role(&cluster, &role).await? == Recorded::New {
            tracing::info!(%cluster, %role, "tenant role made");
        }
        self.board.set_role_fault(&cluster, None);
        self.board.records_changed();
        Ok(true)
    }
}

/// An error with its sources, on one line.
pub(crate) fn said(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
