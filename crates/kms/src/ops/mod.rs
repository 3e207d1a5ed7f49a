//! The operations. Each looks at the state and at its request and says what is to be answered,
//! recorded and changed; nothing here writes. `crate::calls` commits, records and answers.

mod aliases;
mod conditions;
mod crypto;
mod find;
mod grants;
pub(crate) mod keys;
mod lookup;
mod material;
mod metadata;
mod replicas;
mod roles;
pub(crate) mod rotation;
mod states;
mod sts;
mod tags;

use crate::principals::Principals;
use crate::regions::Regions;
use crate::store::state::{Change, State};
use crate::who::Who;
use keystead_aws::AwsError;
use keystead_aws::ops::KmsRequest;
use keystead_aws::policy::{BoundPolicy, Policy, PolicyError, Principal, StoredPolicy};
use keystead_aws::query::QueryRequest;
use keystead_aws::trail::Resource;
use keystead_envelope::root_key::RootKey;
use keystead_types::{AccountId, KeyArn, Region};
use serde_json::Value;

pub(crate) use lookup::lookup_events;

/// One call, proved and decoded.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) who: &'a Who,
    /// From the credential scope.
    pub(crate) region: &'a Region,
    pub(crate) now_ms: i64,
    pub(crate) running_ms: u64,
    /// How far the scheduler is ahead of both.
    pub(crate) ahead_ms: i64,
    pub(crate) source_ip: &'a str,
    pub(crate) user_agent: Option<&'a str>,
    pub(crate) request_id: &'a str,
}

/// What the operations look at.
pub(crate) struct Room<'a> {
    pub(crate) state: &'a State,
    pub(crate) principals: &'a Principals,
    pub(crate) root: &'a RootKey,
    pub(crate) regions: &'a Regions,
}

/// A body of an answer.
pub(crate) enum Body {
    Empty,
    Json(Value),
    /// JSON that holds a secret: written once, never as a `Value`.
    Secret(Vec<u8>),
    Xml(String),
}

/// What came of a call.
pub(crate) struct Done {
    pub(crate) result: Result<Body, AwsError>,
    pub(crate) changes: Vec<Change>,
    pub(crate) note: Note,
}

/// What the trail shows of a call beside its request.
#[derive(Default)]
pub(crate) struct Note {
    pub(crate) resources: Vec<Resource>,
    /// Another account's alias by which its key was found: who is refused does not learn the key.
    pub(crate) foreign_alias: Option<Resource>,
    pub(crate) response: Value,
    pub(crate) additional: Option<Value>,
    pub(crate) dry_run: bool,
    /// Further records, of a call that succeeded.
    pub(crate) further: Vec<Further>,
    /// A canary: on record within 200 ms instead of before the answer.
    pub(crate) canary: bool,
}

/// A record beside the call's own.
pub(crate) enum Further {
    /// What KMS does for the caller in another Region.
    Elsewhere { name: &'static str, key: KeyArn, parameters: Value, response: Value },
    /// What KMS does by itself.
    Event(ServiceEvent),
}

/// Something that KMS does by itself to a key.
#[derive(Debug, Clone)]
pub(crate) struct ServiceEvent {
    pub(crate) name: &'static str,
    pub(crate) key: KeyArn,
    pub(crate) details: Option<Value>,
}

impl Call<'_> {
    /// The scheduler's time.
    fn scheduler_ms(&self) -> i64 {
        self.now_ms.saturating_add(self.ahead_ms)
    }

    fn account(&self) -> Result<AccountId, AwsError> {
        self.who.caller.account.parse().map_err(|_| keystead_aws::error::internal())
    }
}

/// May the caller watch? Identity policies decide.
pub(crate) fn watch_allowed(call: &Call<'_>) -> Result<(), AwsError> {
    keys::identity_allows(call, keystead_aws::watch::ACTION, "*", |_| {})
}

/// Runs a KMS operation. What an operation learned before it failed is in the note.
pub(crate) fn kms(room: &Room<'_>, call: &Call<'_>, request: &KmsRequest) -> Done {
    let mut note = Note::default();
    let mut changes = Vec::new();
    let n = &mut note;
    let c = &mut changes;
    let result = match request {
        KmsRequest::CreateKey(r) => keys::create(room, call, r, n, c),
        KmsRequest::DescribeKey(r) => keys::describe(room, call, r, n),
        KmsRequest::ListKeys(r) => keys::list(room, call, r),
        KmsRequest::GenerateRandom(r) => crypto::generate_random(call, r),
        KmsRequest::EnableKey(r) => keys::enable(room, call, r, n, c),
        KmsRequest::DisableKey(r) => keys::disable(room, call, r, n, c),
        KmsRequest::ScheduleKeyDeletion(r) => keys::schedule_deletion(room, call, r, n, c),
        KmsRequest::CancelKeyDeletion(r) => keys::cancel_deletion(room, call, r, n, c),
        KmsRequest::UpdateKeyDescription(r) => keys::update_description(room, call, r, n, c),
        KmsRequest::ListKeyPolicies(r) => keys::list_policies(room, call, r, n),
        KmsRequest::GetKeyPolicy(r) => keys::get_policy(room, call, r, n),
        KmsRequest::PutKeyPolicy(r) => keys::put_policy(room, call, r, n, c),
        KmsRequest::Encrypt(r) => crypto::encrypt(room, call, r, n),
        KmsRequest::Decrypt(r) => crypto::decrypt(room, call, r, n),
        KmsRequest::ReEncrypt(r) => crypto::re_encrypt(room, call, r, n),
        KmsRequest::GenerateDataKey(r) => crypto::generate(room, call, r, true, n),
        KmsRequest::GenerateDataKeyWithoutPlaintext(r) => crypto::generate(room, call, r, false, n),
        KmsRequest::CreateAlias(r) => aliases::create(room, call, r, n, c),
        KmsRequest::UpdateAlias(r) => aliases::update(room, call, r, n, c),
        KmsRequest::DeleteAlias(r) => aliases::delete(room, call, r, n, c),
        KmsRequest::TagResource(r) => tags::tag(room, call, r, n, c),
        KmsRequest::UntagResource(r) => tags::untag(room, call, r, n, c),
        KmsRequest::ListResourceTags(r) => tags::list(room, call, r, n),
        KmsRequest::ListAliases(r) => aliases::list(room, call, r),
        KmsRequest::CreateGrant(r) => grants::create(room, call, r, n, c),
        KmsRequest::ListGrants(r) => grants::list(room, call, r, n),
        KmsRequest::RevokeGrant(r) => grants::revoke(room, call, r, n, c),
        KmsRequest::RetireGrant(r) => grants::retire(room, call, r, n, c),
        KmsRequest::ListRetirableGrants(r) => grants::list_retirable(room, call, r),
        KmsRequest::EnableKeyRotation(r) => rotation::enable(room, call, r, n, c),
        KmsRequest::DisableKeyRotation(r) => rotation::disable(room, call, r, n, c),
        KmsRequest::GetKeyRotationStatus(r) => rotation::status(room, call, r, n),
        KmsRequest::RotateKeyOnDemand(r) => rotation::on_demand(room, call, r, n, c),
        KmsRequest::ListKeyRotations(r) => rotation::list(room, call, r, n),
        KmsRequest::ReplicateKey(r) => replicas::replicate(room, call, r, n, c),
        KmsRequest::UpdatePrimaryRegion(r) => replicas::update_primary(room, call, r, n, c),
    };
    done(result, changes, note)
}

/// Runs an STS or IAM action.
pub(crate) fn query(room: &Room<'_>, call: &Call<'_>, request: &QueryRequest) -> Done {
    let mut note = Note::default();
    let mut changes = Vec::new();
    let n = &mut note;
    let c = &mut changes;
    let result = match request {
        QueryRequest::AssumeRole(r) => sts::assume_role(room, call, r, n),
        QueryRequest::GetCallerIdentity => Ok(sts::caller_identity(call)),
        QueryRequest::CreateRole(r) => roles::create(room, call, r, n, c),
        QueryRequest::GetRole { role_name } => roles::get(room, call, role_name, n),
        QueryRequest::DeleteRole { role_name } => roles::delete(room, call, role_name, n, c),
        QueryRequest::PutRolePolicy(r) => roles::put_policy(room, call, r, n, c),
        QueryRequest::GetRolePolicy(r) => roles::get_policy(room, call, r, n),
        QueryRequest::DeleteRolePolicy(r) => roles::delete_policy(room, call, r, n, c),
    };
    done(result, changes, note)
}

fn done(result: Result<Body, AwsError>, changes: Vec<Change>, note: Note) -> Done {
    // A refused call changes nothing, whatever it had prepared.
    let changes = if result.is_ok() { changes } else { Vec::new() };
    Done { result, changes, note }
}

const BAD_PRINCIPAL: &str = "Policy contains a statement with one or more invalid principals.";

/// Ties a policy to the unique ids that its principals have now; all must exist.
fn bind(
    room: &Room<'_>,
    policy: Policy,
    text: &str,
) -> Result<(BoundPolicy, StoredPolicy), PolicyError> {
    let mut ids = std::collections::BTreeMap::new();
    let bad = || PolicyError(BAD_PRINCIPAL.to_owned());
    for principal in policy.principals() {
        match principal {
            Principal::Any | Principal::Service(_) => {}
            Principal::User(arn) | Principal::Role(arn) => {
                let id = principal_id(room, arn).ok_or_else(bad)?;
                ids.insert(arn.clone(), id);
            }
            Principal::Account(_) | Principal::Session(_) => {
                let known = principal.account().is_some_and(|a| room.principals.has_account(a));
                if !known {
                    return Err(bad());
                }
            }
            Principal::Federated(_) => return Err(bad()),
        }
    }
    let stored = StoredPolicy { text: text.to_owned(), ids: ids.clone() };
    Ok((BoundPolicy::new(policy, ids), stored))
}

/// The unique id of a user or role that exists.
fn principal_id(room: &Room<'_>, arn: &str) -> Option<String> {
    match room.principals.unique_id(arn) {
        Some(id) => Some(id.to_owned()),
        None => Some(room.state.roles.get(arn)?.record.id.clone()),
    }
}

/// Cuts a page out of a list that is sorted by its marker; the marker is the last item's.
fn page<'a, T>(
    items: impl Iterator<Item = &'a T>,
    marker_of: impl Fn(&T) -> String,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<&'a T>, Option<String>), AwsError> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let after = match after {
        None => None,
        Some(marker) => {
            let bytes = STANDARD.decode(marker).ok();
            let text = bytes.and_then(|b| String::from_utf8(b).ok());
            Some(text.ok_or_else(keystead_aws::error::invalid_marker)?)
        }
    };
    let mut rest =
        items.filter(|item| after.as_ref().is_none_or(|a| marker_of(item) > *a)).peekable();
    let found: Vec<&T> = rest.by_ref().take(limit).collect();
    let next = match (rest.peek(), found.last()) {
        (Some(_), Some(last)) => Some(STANDARD.encode(marker_of(last))),
        _ => None,
    };
    Ok((found, next))
}

/// `Truncated` and `NextMarker` of a page.
fn paged(mut answer: Value, next: Option<String>) -> Body {
    answer["Truncated"] = next.is_some().into();
    if let Some(next) = next {
        answer["NextMarker"] = next.into();
    }
    Body::Json(answer)
}

/// Milliseconds as AWS's epoch seconds.
fn seconds(ms: i64) -> Value {
    #[allow(clippy::cast_precision_loss)] // milliseconds of this millennium fit
    Value::from(ms as f64 / 1000.0)
}
