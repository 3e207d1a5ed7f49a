//! From a key identifier to a key that the caller may use.

use super::{Call, Note, Room};
use crate::store::records::KeyState;
use crate::store::state::LiveKey;
use keystead_aws::ops::{KeyRef, Operation};
use keystead_aws::policy::{AllowedBy, Denied, EvaluateInput, GrantView, RequestContext, evaluate};
use keystead_aws::trail::Resource;
use keystead_aws::{AwsError, error};
use keystead_types::{AccountId, KeyArn};

/// A key named by a request.
pub(super) struct Found<'a> {
    pub(super) key: &'a LiveKey,
    /// The alias ARN of another account by which it was found: a refusal must not tell its key.
    foreign_alias: Option<String>,
}

/// Looks a key identifier up; the key's ARN goes on record even when there is no such key.
pub(super) fn find<'a>(
    room: &Room<'a>,
    call: &Call<'_>,
    given: &str,
    op: Operation,
    note: &mut Note,
) -> Result<Found<'a>, AwsError> {
    let (account, arn) = match KeyRef::parse(given, call.region, op.info().takes_alias)? {
        KeyRef::Id(id) => {
            let account = call.account()?;
            let arn = KeyArn::new(call.region.clone(), account.clone(), &id);
            (account, arn.map_err(|_| error::invalid_key_id(given))?)
        }
        KeyRef::Arn(arn) => (arn.account().clone(), arn),
        KeyRef::Alias(name) => return by_alias(room, call, &call.account()?, &name, op, note),
        KeyRef::AliasArn { account, alias } => {
            return by_alias(room, call, &account, &alias, op, note);
        }
    };
    let found = by_arn(room, &arn, note);
    // Where another account's keys are out of reach, whether there is one is not told either.
    if account != call.account()? && !op.info().cross_account {
        let action = op.info().actions[0];
        return Err(Denied::undisclosed(&call.who.caller, action, &arn.to_string()).kms_error());
    }
    found.ok_or_else(|| error::key_not_found(&arn.to_string()))
}

/// The key that an alias names. Names can be guessed: of another account's alias nothing is told
/// to who may not use its key, not even whether there is one.
fn by_alias<'a>(
    room: &Room<'a>,
    call: &Call<'_>,
    account: &AccountId,
    name: &str,
    op: Operation,
    note: &mut Note,
) -> Result<Found<'a>, AwsError> {
    let arn = format!("arn:aws:kms:{}:{account}:{name}", call.region);
    let foreign = *account != call.account()?;
    let target = room.state.aliases.get(&arn).map(|alias| &alias.target);
    match target.and_then(|target| by_arn(room, target, note)) {
        Some(found) if foreign => {
            note.foreign_alias = Some(Resource::alias(account.as_str(), &arn));
            Ok(Found { foreign_alias: Some(arn), ..found })
        }
        Some(found) => Ok(found),
        None if foreign => {
            note.resources.push(Resource::alias(account.as_str(), &arn));
            let action = op.info().actions[0];
            Err(Denied::undisclosed(&call.who.caller, action, &arn).kms_error())
        }
        None => Err(error::alias_not_found(&arn)),
    }
}

/// The key of an ARN; on record either way.
pub(super) fn by_arn<'a>(room: &Room<'a>, arn: &KeyArn, note: &mut Note) -> Option<Found<'a>> {
    note.resources.push(Resource::key(arn.account().as_str(), &arn.to_string()));
    room.state.keys.get(arn).map(|key| Found { key, foreign_alias: None })
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
        .map_err(|denied| match &self.foreign_alias {
            Some(alias) => Denied::undisclosed(&call.who.caller, action, alias),
            None => denied,
        })
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
