//! From a key identifier to a key that the caller may use.

use super::{Call, Note, Room, conditions};
use crate::store::records::KeySpec;
use crate::store::state::LiveKey;
use keystead_aws::ops::{KeyRef, Operation};
use keystead_aws::policy::{AllowedBy, Denied, EvaluateInput, GrantView, RequestContext, evaluate};
use keystead_aws::trail::Resource;
use keystead_aws::{AwsError, error};
use keystead_types::{AccountId, KeyArn, Region};

/// A key named by a request.
pub(super) struct Found<'a> {
    pub(super) key: &'a LiveKey,
    /// The alias ARN of another account by which it was found: a refusal must not tell its key.
    foreign_alias: Option<String>,
    /// The alias, with its `alias/`, by which the request named it.
    request_alias: Option<String>,
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
            let request_alias = Some(name.to_owned());
            Ok(Found { foreign_alias: Some(arn), request_alias, ..found })
        }
        Some(found) => Ok(Found { request_alias: Some(name.to_owned()), ..found }),
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
    room.state.keys.get(arn).map(|key| Found { key, foreign_alias: None, request_alias: None })
}

impl<'a> Found<'a> {
    /// The key of its family in another Region.
    pub(super) fn in_region(&self, room: &Room<'a>, region: &Region) -> Option<Self> {
        let mut family = room.state.related(self.arn());
        let key = family.find(|key| key.record.arn.region() == region)?;
        Some(Self { key, foreign_alias: None, request_alias: None })
    }
}

impl Found<'_> {
    pub(super) fn arn(&self) -> &KeyArn {
        &self.key.record.arn
    }

    /// The condition keys that the key has.
    pub(super) fn shape(&self, room: &Room<'_>, request: &mut RequestContext) {
        let key = &self.key.record;
        conditions::of_key(request, key.spec, key.multi_region, &key.tags);
        for alias in room.state.alias_names(&key.arn) {
            request.key("kms:ResourceAliases", alias);
        }
    }

    /// A request on this key, with the condition keys that the key has.
    pub(super) fn request(&self, room: &Room<'_>, call: &Call<'_>, action: &str) -> RequestContext {
        let mut request = call.context(action, &self.arn().to_string());
        self.shape(room, &mut request);
        if let Some(alias) = &self.request_alias {
            request.key("kms:RequestAlias", alias.as_str());
        }
        request
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
        let mut request = self.request(room, call, action);
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
        self.allowed_with(room, call, op, |_| {})
    }

    /// [`Self::authorize`] of an operation with one action.
    pub(super) fn allowed_with(
        &self,
        room: &Room<'_>,
        call: &Call<'_>,
        op: Operation,
        shape: impl FnOnce(&mut RequestContext),
    ) -> Result<(), AwsError> {
        match self.authorize(room, call, op.info().actions[0], op, shape) {
            Ok(_) => Ok(()),
            Err(denied) => Err(denied.kms_error()),
        }
    }

    /// Refuses a key that does not encrypt.
    pub(super) fn encrypts(&self, op: Operation) -> Result<(), AwsError> {
        match self.key.record.spec {
            KeySpec::Symmetric => Ok(()),
            other => {
                let arn = self.arn().to_string();
                Err(error::invalid_key_usage(&arn, other.usage(), op.name()))
            }
        }
    }
}
