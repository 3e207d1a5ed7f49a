//! Which key states an operation takes. The whole table, operation by state, is a test:
//! `crate::tests::states`.

use super::find::Found;
use crate::store::records::KeyState;
use keystead_aws::{AwsError, error};

/// A state that an operation may not take, beside that of a key that waits for its deletion.
#[derive(PartialEq, Eq)]
enum Not {
    Disabled,
    Creating,
    Updating,
}

impl Found<'_> {
    /// Crypto calls, CreateGrant, UpdatePrimaryRegion, automatic rotation on and off.
    pub(super) fn usable(&self) -> Result<(), AwsError> {
        self.refuse(&[Not::Disabled, Not::Creating])
    }

    /// ReplicateKey, RotateKeyOnDemand.
    pub(super) fn settled(&self) -> Result<(), AwsError> {
        self.refuse(&[Not::Disabled, Not::Creating, Not::Updating])
    }

    /// EnableKey, DisableKey.
    pub(super) fn switchable(&self) -> Result<(), AwsError> {
        self.refuse(&[Not::Creating, Not::Updating])
    }

    /// ScheduleKeyDeletion.
    pub(super) fn deletable(&self) -> Result<(), AwsError> {
        self.refuse(&[Not::Updating])
    }

    /// Names, tags, descriptions.
    pub(super) fn not_pending(&self) -> Result<(), AwsError> {
        self.refuse(&[])
    }

    fn refuse(&self, states: &[Not]) -> Result<(), AwsError> {
        let arn = self.arn().to_string();
        match self.key.record.state {
            KeyState::PendingDeletion { .. } | KeyState::PendingReplicaDeletion { .. } => {
                Err(error::pending_deletion(&arn))
            }
            KeyState::Disabled if states.contains(&Not::Disabled) => Err(error::disabled(&arn)),
            KeyState::Creating if states.contains(&Not::Creating) => {
                Err(error::invalid_state(&arn, "creating"))
            }
            KeyState::Updating if states.contains(&Not::Updating) => {
                Err(error::invalid_state(&arn, "updating"))
            }
            KeyState::Enabled | KeyState::Disabled | KeyState::Creating | KeyState::Updating => {
                Ok(())
            }
        }
    }
}
