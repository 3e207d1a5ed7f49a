//! From a key identifier to a key that the caller may use.

use super::{Call, Note, Room};
use crate::store::records::KeyState;
use crate::store::state::LiveKey;
use keystead_aws::ops::{KeyRef, Operation};
use keystead_aws::policy::{AllowedBy, Denied, EvaluateInput, GrantView, RequestContext, evaluate};
use keystead_aws::trail::Resource;
use keystead_aws::{AwsError, error};
use keystead_types::KeyArn;

/// A key named by a request.
pub(super) struct Found<'a> {
    pub(super) key: &'a LiveKey,
}

/// Looks a key identifier up; the key's ARN goes on record even when there is no such key.
pub(super) fn find<'a>(
    room: &Room<'a>,
    call: &Call<'_>,
    given: &str,
    op: Operation,
    note: &mut Note,
) -> Result<Found<'a>, AwsError> {
    let arn = match KeyRef::parse(given, call.region, op.info().takes_alias)? {
        KeyRef::Id(id) => KeyArn::new(call.region.clone(), call.account()?, &id)
            .map_err(|_| error::invalid_key_id(given))?,
        KeyRef::Arn(arn) => arn,
        KeyRef::Alias(name) => target(room, call, call.account()?.as_str(), &name)?,
        KeyRef::AliasArn { account, alias } => target(room, call, account.as_str(), &alias)?,
    };
    by_arn(room, &arn, note).ok_or_else(|| error::key_not_found(&arn.to_string()))
}

fn target(room: &Room<'_>, call: &Call<'_>, account: &str, name: &str) -> Result<KeyArn, AwsError> {
    let arn = format!("arn:aws:kms:{}:{account}:{name}", call.region);
    let alias = room.state.aliases.get(&arn).ok_or_else(|| error::alias_not_found(&arn))?;
    Ok(alias.target.clone())
}

/// The key of an ARN; on record either way.
pub(super) fn by_arn<'a>(room: &Room<'a>, arn: &KeyArn, note: &mut Note) -> Option<Found<'a>> {
    note.resources.push(Resource::key(arn.account().as_str(), &arn.to_string()));
    room.state.keys.get(arn).map(|key| Found { key })
}

impl Found<'_> {
    pub(super) fn arn(&self) -> &KeyArn {
        &self.key.record.arn
    }

    /// May the caller do this? `shape` adds the condition keys of the operation.
    pub(super) fn authorize(
        &self,
        room: &Room<'_>,
        call: &Call<'_>,
        action: &str,
        op: Operation,
        shape: impl FnOnce(&mut RequestContext),
    ) -> Result<AllowedBy, Denied> {
        let mut request = call.context(action, &self.arn().to_string());
        shape(&mut request);
        let grants: Vec<GrantView<'_>> =
            room.state.grants(self.arn()).map(|grant| grant.view()).collect();
        evaluate(&EvaluateInput {
            caller: &call.who.caller,
            request: &request,
            key_account: self.arn().account().as_str(),
            key_policy: &self.key.policy,
            identity: &call.who.identity,
            session: call.who.session.as_ref(),
            grants: &grants,
            cross_account: op.info().cross_account,
        })
        .into_result()
    }

    /// [`Self::authorize`] of an operation with one action and no condition keys of its own.
    pub(super) fn allowed(
        &self,
        room: &Room<'_>,
        call: &Call<'_>,
        op: Operation,
    ) -> Result<(), AwsError> {
        match self.authorize(room, call, op.info().actions[0], op, |_| {}) {
            Ok(_) => Ok(()),
            Err(denied) => Err(denied.kms_error()),
        }
    }

    /// Refuses a key that is disabled or waits for its deletion.
    pub(super) fn usable(&self) -> Result<(), AwsError> {
        match self.key.record.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => Err(error::disabled(&self.arn().to_string())),
            KeyState::PendingDeletion { .. } => self.not_pending(),
        }
    }

    pub(super) fn not_pending(&self) -> Result<(), AwsError> {
        match self.key.record.state {
            KeyState::PendingDeletion { .. } => {
                Err(error::pending_deletion(&self.arn().to_string()))
            }
            KeyState::Enabled | KeyState::Disabled => Ok(()),
        }
    }
}
