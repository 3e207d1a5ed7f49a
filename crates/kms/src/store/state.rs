//! The live state: every record in memory with its policies parsed. A call reads nothing from
//! disk.

use super::records::{Alias, Grant, Key, RecordError, Role};
use keystead_aws::policy::{BoundPolicy, GrantView, Policy, StoredPolicy};
use keystead_types::{AccountId, KeyArn, Region};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct LiveKey {
    pub(crate) record: Key,
    pub(crate) policy: BoundPolicy,
    /// Its policy looks at the time.
    pub(crate) timed: bool,
}

pub(crate) struct LiveRole {
    pub(crate) record: Role,
    pub(crate) trust: BoundPolicy,
    pub(crate) policies: Vec<Policy>,
    /// One of its policies looks at the time.
    pub(crate) timed: bool,
}

/// A change of one record.
pub(crate) enum Change {
    PutKey(Key),
    /// With its aliases and grants.
    RemoveKey(KeyArn),
    PutAlias(Alias),
    RemoveAlias(Alias),
    PutGrant(Grant),
    RemoveGrant(KeyArn, String),
    PutRole(Role),
    RemoveRole(String),
}

/// What a watcher may wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Touched {
    Key(String),
    Role(String),
}

impl Change {
    /// What the change touches; an alias may open and shut its key (kms:ResourceAliases).
    pub(crate) fn touched(&self) -> Option<Touched> {
        match self {
            Self::PutKey(key) => Some(Touched::Key(key.arn.to_string())),
            Self::PutGrant(grant) => Some(Touched::Key(grant.key.to_string())),
            Self::RemoveKey(key) | Self::RemoveGrant(key, _) => Some(Touched::Key(key.to_string())),
            Self::PutRole(role) => Some(Touched::Role(role.arn.clone())),
            Self::RemoveRole(arn) => Some(Touched::Role(arn.clone())),
            Self::PutAlias(alias) | Self::RemoveAlias(alias) => {
                Some(Touched::Key(alias.target.to_string()))
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) keys: BTreeMap<KeyArn, LiveKey>,
    /// Where the keys of a multi-Region id are.
    families: BTreeMap<(AccountId, String), BTreeSet<Region>>,
    /// By alias ARN.
    pub(crate) aliases: BTreeMap<String, Alias>,
    /// Names, with their `alias/`, by key.
    alias_names: BTreeMap<KeyArn, BTreeSet<String>>,
    /// By key, then by grant id.
    grants: BTreeMap<KeyArn, BTreeMap<String, Grant>>,
    /// By ARN.
    pub(crate) roles: BTreeMap<String, LiveRole>,
}

fn family(key: &KeyArn) -> (AccountId, String) {
    (key.account().clone(), key.key_id().to_owned())
}

fn bound(
    stored: &StoredPolicy,
    parse: fn(&str) -> Result<Policy, keystead_aws::policy::PolicyError>,
) -> Result<BoundPolicy, RecordError> {
    let policy = parse(&stored.text).map_err(|e| RecordError::Damaged(e.0))?;
    Ok(BoundPolicy::new(policy, stored.ids.clone()))
}

/// Does the policy look at the time, in a condition or a variable? Read as JSON and written anew,
/// so that no escape hides it.
fn looks_at_time(text: &str) -> bool {
    let plain = serde_json::from_str::<serde_json::Value>(text).map(|value| value.to_string());
    plain.is_ok_and(|plain| {
        let plain = plain.to_ascii_lowercase();
        plain.contains("aws:currenttime") || plain.contains("aws:epochtime")
    })
}

impl State {
    /// Applies a change; an error means that a policy does not parse, which was checked before the
    /// record was made.
    pub(crate) fn apply(&mut self, change: Change) -> Result<(), RecordError> {
        match change {
            Change::PutKey(record) => {
                let policy = bound(&record.policy, Policy::parse_key_policy)?;
                let timed = looks_at_time(&record.policy.text);
                if record.multi_region.is_some() {
                    let regions = self.families.entry(family(&record.arn)).or_default();
                    regions.insert(record.arn.region().clone());
                }
                self.keys.insert(record.arn.clone(), LiveKey { record, policy, timed });
            }
            Change::RemoveKey(arn) => {
                self.keys.remove(&arn);
                if let Some(regions) = self.families.get_mut(&family(&arn)) {
                    regions.remove(arn.region());
                    if regions.is_empty() {
                        self.families.remove(&family(&arn));
                    }
                }
                self.grants.remove(&arn);
                self.aliases.retain(|_, alias| alias.target != arn);
                self.alias_names.remove(&arn);
            }
            Change::PutAlias(alias) => {
                self.forget_alias(&alias.arn);
                let names = self.alias_names.entry(alias.target.clone()).or_default();
                names.insert(alias.name.clone());
                self.aliases.insert(alias.arn.clone(), alias);
            }
            Change::RemoveAlias(alias) => self.forget_alias(&alias.arn),
            Change::PutGrant(grant) => {
                self.grants.entry(grant.key.clone()).or_default().insert(grant.id.clone(), grant);
            }
            Change::RemoveGrant(key, id) => {
                if let Some(grants) = self.grants.get_mut(&key) {
                    grants.remove(&id);
                }
            }
            Change::PutRole(record) => {
                let trust = bound(&record.trust, Policy::parse_trust)?;
                let parse = |text: &String| Policy::parse_identity(text);
                let policies = record.policies.values().map(parse).collect::<Result<_, _>>();
                let policies = policies.map_err(|e| RecordError::Damaged(e.0))?;
                let timed = looks_at_time(&record.trust.text)
                    || record.policies.values().any(|text| looks_at_time(text));
                self.roles.insert(record.arn.clone(), LiveRole { record, trust, policies, timed });
            }
            Change::RemoveRole(arn) => {
                self.roles.remove(&arn);
            }
        }
        Ok(())
    }

    fn forget_alias(&mut self, arn: &str) {
        let Some(alias) = self.aliases.remove(arn) else { return };
        if let Some(names) = self.alias_names.get_mut(&alias.target) {
            names.remove(&alias.name);
        }
    }

    pub(crate) fn alias_names(&self, key: &KeyArn) -> impl Iterator<Item = &str> {
        self.alias_names.get(key).into_iter().flatten().map(String::as_str)
    }

    pub(crate) fn grants(&self, key: &KeyArn) -> impl Iterator<Item = &Grant> {
        self.grants.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// The grants of all keys, in the order of their ARNs.
    pub(crate) fn all_grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values().flat_map(BTreeMap::values)
    }

    /// The key, and the others of its multi-Region family.
    pub(crate) fn related(&self, key: &KeyArn) -> impl Iterator<Item = &LiveKey> {
        let others = self.families.get(&family(key)).into_iter().flatten();
        let others = others.filter(|region| *region != key.region()).filter_map(|region| {
            KeyArn::new(region.clone(), key.account().clone(), key.key_id()).ok()
        });
        std::iter::once(key.clone()).chain(others).filter_map(|arn| self.keys.get(&arn))
    }

    pub(crate) fn grant_count(&self, key: &KeyArn) -> usize {
        self.grants.get(key).map_or(0, BTreeMap::len)
    }

    pub(crate) fn grant(&self, key: &KeyArn, id: &str) -> Option<&Grant> {
        self.grants.get(key)?.get(id)
    }

    pub(crate) fn role_of_name(&self, account: &str, name: &str) -> Option<&LiveRole> {
        self.roles.values().find(|r| r.record.account == account && r.record.name == name)
    }
}

impl Grant {
    pub(crate) fn view(&self) -> GrantView<'_> {
        GrantView {
            id: &self.id,
            grantee: &self.grantee,
            grantee_id: self.grantee_id.as_deref(),
            operations: &self.operations,
            constraints: &self.constraints,
        }
    }

    /// The retiring principal in the grantee's place.
    pub(crate) fn retiring_view(&self) -> Option<GrantView<'_>> {
        let retiring = self.retiring.as_deref()?;
        Some(GrantView {
            grantee: retiring,
            grantee_id: self.retiring_id.as_deref(),
            ..self.view()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::looks_at_time;

    #[test]
    fn a_look_at_the_time_is_seen_however_it_is_spelt() {
        for text in [
            r#"{"Condition":{"DateLessThan":{"aws:CurrentTime":"2030-01-01T00:00:00Z"}}}"#,
            r#"{"Condition":{"DateLessThan":{"AWS:\u0043urrentTime":"2030-01-01T00:00:00Z"}}}"#,
            r#"{"Resource":"arn:aws:kms:*:*:key/${aws:currenttime}"}"#,
            r#"{"Condition":{"NumericLessThan":{"aws:EpochTime":"1900000000"}}}"#,
        ] {
            assert!(looks_at_time(text), "{text}");
        }
        assert!(!looks_at_time(r#"{"Condition":{"Bool":{"aws:SecureTransport":"false"}}}"#));
    }
}
