//! Rotation: new material seals from then on, every older one goes on opening what it sealed.
//!
//! A rotation is one change of the key and of all keys of its multi-Region family, so no call ever
//! finds material in one Region that another has not. It is a property of the family that its
//! primary key decides. A key that is disabled or waits for its deletion does not rotate; what fell
//! due meanwhile happens once, when it is enabled again.

use super::find::{Found, find};
use super::keys::DAY_MS;
use super::material::Fresh;
use super::{Body, Call, Further, Note, Room, ServiceEvent, conditions, page, paged, seconds};
use crate::store::records::{Key, KeySpec, Material, MultiRegion, Rotated, Rotation, Schedule};
use crate::store::state::{Change, LiveKey, State};
use keystead_aws::ops::{EnableKeyRotation, KeyOnly, ListKeyRotations, Operation};
use keystead_aws::{AwsError, error};
use keystead_envelope::root_key::RootKey;
use serde_json::{Value, json};

type Answer = Result<Body, AwsError>;

const MOST_ON_DEMAND: usize = 25;
/// How long before an automatic rotation none on demand begins.
const BEFORE_AUTOMATIC_MS: i64 = 20 * 60 * 1000;

impl Schedule {
    /// Of a period that begins now, by the scheduler's clock.
    fn from(period_days: u16, now_ms: i64) -> Self {
        let next_ms = now_ms.saturating_add(i64::from(period_days) * DAY_MS);
        Self { period_days, next_ms }
    }
}

impl Found<'_> {
    /// Only symmetric keys rotate.
    fn rotates(&self) -> Result<(), AwsError> {
        match self.key.record.spec {
            KeySpec::Symmetric => Ok(()),
            other => Err(error::does_not_rotate(&self.arn().to_string(), other.as_str())),
        }
    }

    /// Of a family the primary key decides.
    fn decides(&self) -> Result<(), AwsError> {
        match self.key.record.multi_region {
            None | Some(MultiRegion::Primary) => self.rotates(),
            Some(MultiRegion::Replica) => Err(error::not_primary(&self.arn().to_string())),
        }
    }
}

/// Turns automatic rotation on or off for the key and its family.
fn put(room: &Room<'_>, found: &Found<'_>, schedule: Option<Schedule>, changes: &mut Vec<Change>) {
    for key in room.state.related(found.arn()) {
        changes.push(Change::PutKey(Key { schedule, ..key.record.clone() }));
    }
}

pub(super) fn enable(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &EnableKeyRotation,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let op = Operation::EnableKeyRotation;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed_with(room, call, op, |request| {
        request.key("kms:RotationPeriodInDays", r.period_days.to_string());
    })?;
    found.usable()?;
    found.decides()?;
    note.response = json!({ "keyId": found.arn() });
    let before = found.key.record.schedule.map(|schedule| schedule.period_days);
    // The same period again puts nothing off.
    if before != Some(r.period_days) {
        let schedule = Schedule::from(r.period_days, call.scheduler_ms());
        put(room, &found, Some(schedule), changes);
    }
    Ok(Body::Empty)
}

pub(super) fn disable(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &KeyOnly,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let op = Operation::DisableKeyRotation;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed(room, call, op)?;
    found.usable()?;
    found.decides()?;
    note.response = json!({ "keyId": found.arn() });
    if found.key.record.schedule.is_some() {
        put(room, &found, None, changes);
    }
    Ok(Body::Empty)
}

pub(super) fn status(room: &Room<'_>, call: &Call<'_>, r: &KeyOnly, note: &mut Note) -> Answer {
    let op = Operation::GetKeyRotationStatus;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed(room, call, op)?;
    found.rotates()?;
    let schedule = found.key.record.schedule.filter(|_| found.not_pending().is_ok());
    let mut answer =
        json!({ "KeyId": found.arn().key_id(), "KeyRotationEnabled": schedule.is_some() });
    if let Some(schedule) = schedule {
        answer["RotationPeriodInDays"] = schedule.period_days.into();
        answer["NextRotationDate"] = seconds(schedule.next_ms);
    }
    Ok(Body::Json(answer))
}

pub(super) fn on_demand(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &KeyOnly,
    note: &mut Note,
    changes: &mut Vec<Change>,
) -> Answer {
    let op = Operation::RotateKeyOnDemand;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed(room, call, op)?;
    found.settled()?;
    found.decides()?;
    let arn = found.arn().to_string();
    let key = &found.key.record;
    let on_demand = |m: &&Material| m.rotated.is_some_and(|r| r.how == Rotation::OnDemand);
    if key.materials().filter(on_demand).count() >= MOST_ON_DEMAND {
        return Err(error::rotations_used_up(&arn));
    }
    let soon = call.scheduler_ms().saturating_add(BEFORE_AUTOMATIC_MS);
    if key.schedule.is_some_and(|schedule| schedule.next_ms <= soon) {
        return Err(error::rotation_is_due(&arn));
    }
    let rotated = Rotated { at_ms: call.now_ms, how: Rotation::OnDemand };
    // The automatic schedule stays as it is.
    let (made, events) = turn(room.state, room.root, found.key, rotated, key.schedule)?;
    changes.extend(made);
    note.further.extend(events.into_iter().map(Further::Event));
    note.response = json!({ "keyId": found.arn() });
    Ok(Body::Json(json!({ "KeyId": found.arn().key_id() })))
}

pub(super) fn list(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &ListKeyRotations,
    note: &mut Note,
) -> Answer {
    let op = Operation::ListKeyRotations;
    let found = find(room, call, &r.key_id, op, note)?;
    found.allowed(room, call, op)?;
    found.rotates()?;
    let key = &found.key.record;
    let shown: Vec<(usize, &Material)> = key
        .materials()
        .enumerate()
        .filter(|(_, material)| r.all_material || material.rotated.is_some())
        .collect();
    let marker_of = |(number, _): &(usize, &Material)| format!("{number:08}");
    let (shown, next) = page(shown.iter(), marker_of, r.marker.as_deref(), r.limit)?;
    let rotations: Vec<Value> = shown.iter().map(|(_, material)| entry(key, material)).collect();
    Ok(paged(json!({ "Rotations": rotations }), next))
}

fn entry(key: &Key, material: &Material) -> Value {
    let current = material.id == key.material.id;
    let mut entry = json!({
        "KeyId": key.arn.key_id(),
        "KeyMaterialId": material.id,
        "KeyMaterialState": if current { "CURRENT" } else { "NON_CURRENT" },
    });
    if let Some(rotated) = material.rotated {
        entry["RotationDate"] = seconds(rotated.at_ms);
        entry["RotationType"] = rotated.how.as_str().into();
    }
    entry
}

/// Is an automatic rotation of this enabled key due? Replicas follow their primary.
pub(crate) fn is_due(key: &Key, scheduler_ms: i64) -> bool {
    key.multi_region != Some(MultiRegion::Replica)
        && key.schedule.is_some_and(|schedule| schedule.next_ms <= scheduler_ms)
}

/// An automatic rotation. The next one is a whole period away, however late this one is.
pub(crate) fn automatic(
    state: &State,
    root: &RootKey,
    key: &LiveKey,
    now_ms: i64,
    scheduler_ms: i64,
) -> Result<(Vec<Change>, Vec<ServiceEvent>), AwsError> {
    let next = key.record.schedule.map(|s| Schedule::from(s.period_days, scheduler_ms));
    turn(state, root, key, Rotated { at_ms: now_ms, how: Rotation::Automatic }, next)
}

/// Gives the key and its family new material.
fn turn(
    state: &State,
    root: &RootKey,
    key: &LiveKey,
    rotated: Rotated,
    schedule: Option<Schedule>,
) -> Result<(Vec<Change>, Vec<ServiceEvent>), AwsError> {
    let fresh = Fresh::make(key.record.materials(), Some(rotated))?;
    let mut changes = Vec::new();
    let mut events = Vec::new();
    for relative in state.related(&key.record.arn) {
        let mut record = relative.record.clone();
        let material = fresh.seal(root, &record.arn)?;
        events.push(ServiceEvent {
            name: "RotateKey",
            key: record.arn.clone(),
            details: Some(json!({
                "rotationType": rotated.how.as_str(),
                "keyOrigin": conditions::ORIGIN,
                "previousKeyMaterialId": record.material.id,
                "currentKeyMaterialId": material.id,
                "keyId": record.arn.key_id(),
            })),
        });
        record.older.push(std::mem::replace(&mut record.material, material));
        record.schedule = schedule;
        changes.push(Change::PutKey(record));
    }
    if changes.len() > 1 {
        let key = key.record.arn.clone();
        events.push(ServiceEvent { name: "SynchronizeMultiRegionKey", key, details: None });
    }
    Ok((changes, events))
}
