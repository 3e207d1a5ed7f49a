//! What a call leaves in the trail: its records, and those of signatures that do not hold.

use crate::calls::{Event, Kms, Request, Service};
use crate::ops::{Call, Done, Further, ServiceEvent};
use crate::trail::Record;
use keystead_aws::sigv4::{AuthFault, Presented};
use keystead_aws::trail::{CallRecord, Identity, Resource};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const KMS: &str = "kms.amazonaws.com";
const INTERNAL: &str = "AWS Internal";

impl Kms {
    /// A signature that does not hold, claimed with the access key of a known user.
    pub(crate) fn note_fault(
        &self,
        request: &Request,
        service: &Service,
        claimed: Option<&Presented>,
        fault: &AuthFault,
    ) {
        tracing::info!(peer = %request.peer, %fault, "a signature was refused");
        let Some(claimed) = claimed else { return };
        let Some(user) = self.principals.by_access_key(&claimed.access_key_id) else { return };
        let (source, name, error) = match service {
            Service::Kms(_, name) => ("kms.amazonaws.com", name.as_str(), fault.json()),
            Service::Watch => ("kms.amazonaws.com", "Watch", fault.json()),
            Service::CloudTrail(name) => ("cloudtrail.amazonaws.com", name.as_str(), fault.json()),
            Service::Query => ("sts.amazonaws.com", "Query", fault.query()),
        };
        let record = CallRecord {
            time_ms: self.clock.wall_ms(),
            event_source: source,
            event_name: name.chars().take(64).collect(),
            region: claimed.region.chars().take(32).collect(),
            source_ip: request.peer.clone(),
            user_agent: header(request, "user-agent"),
            host: header(request, "host"),
            identity: Identity::Unknown { access_key_id: Some(claimed.access_key_id.clone()) },
            request_parameters: Value::Null,
            response_elements: Value::Null,
            additional: None,
            error: Some(error),
            request_id: request.request_id.clone(),
            event_id: uuid::Uuid::new_v4().to_string(),
            shared_event_id: None,
            read_only: true,
            resources: Vec::new(),
            recipient_account: user.caller.account.clone(),
            dry_run: false,
            invoked_by: None,
            service_details: None,
        };
        // Refused either way; a full queue must not hold the refusal up.
        let _ = self.trail.record_soon(vec![record.to_json()]);
    }
}

fn header(request: &Request, name: &str) -> String {
    let found = request.headers.iter().find(|(n, _)| n == name);
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

/// The call's records: the caller's account has one, and so has every other account whose key or
/// role it touched.
pub(crate) fn records(
    request: &Request,
    call: &Call<'_>,
    event: &Event,
    done: &Done,
    hosts: &[String],
) -> Vec<(String, Record)> {
    let caller = &call.who.caller;
    let error = done.result.as_ref().err();
    let denied = error.is_some_and(|e| e.trail_code() == "AccessDenied");
    let mut accounts: BTreeSet<&str> =
        done.note.resources.iter().map(|r| r.account.as_str()).collect();
    accounts.remove(caller.account.as_str());
    let shared = (!accounts.is_empty()).then(|| uuid::Uuid::new_v4().to_string());
    let host = hosts.first().cloned().unwrap_or_default();
    let one = |account: &str, identity: Identity| {
        let event_id = uuid::Uuid::new_v4().to_string();
        let record = CallRecord {
            time_ms: call.now_ms,
            event_source: event.source,
            event_name: event.name.clone(),
            region: event.region.clone(),
            source_ip: request.peer.clone(),
            user_agent: header(request, "user-agent"),
            host: request
                .headers
                .iter()
                .find(|(n, _)| n == "host")
                .map_or_else(|| host.clone(), |(_, v)| v.clone()),
            identity,
            request_parameters: if denied { Value::Null } else { event.parameters.clone() },
            response_elements: match error {
                None => done.note.response.clone(),
                Some(_) => Value::Null,
            },
            additional: done.note.additional.clone(),
            error: error.cloned(),
            request_id: request.request_id.clone(),
            event_id: event_id.clone(),
            shared_event_id: shared.clone(),
            read_only: event.read_only,
            resources: match &done.note.foreign_alias {
                Some(alias) if denied && account == caller.account => vec![alias.clone()],
                _ => done.note.resources.clone(),
            },
            recipient_account: account.to_owned(),
            dry_run: done.note.dry_run,
            invoked_by: None,
            service_details: None,
        };
        (event_id, record)
    };
    let known = Identity::Known {
        caller: caller.clone(),
        access_key_id: call.who.access_key_id.clone(),
        session_created_ms: call.who.issued_ms,
    };
    let own = one(&caller.account, known);
    let mut all = Vec::new();
    if error.is_none() {
        all.extend(done.note.further.iter().map(|more| further(more, &own.1)));
    }
    all.insert(0, (own.0, own.1.to_json()));
    for account in accounts {
        let from_outside =
            Identity::Account { account: caller.account.clone(), principal_id: caller.user_id() };
        let (id, record) = one(account, from_outside);
        all.push((id, record.to_json()));
    }
    all
}

/// A further record of a call, beside the call's own.
fn further(more: &Further, own: &CallRecord) -> (String, Record) {
    match more {
        Further::Event(event) => service_record(event, own.time_ms),
        Further::Elsewhere { name, key, parameters, response } => {
            let event_id = uuid::Uuid::new_v4().to_string();
            let record = CallRecord {
                event_name: (*name).to_owned(),
                region: key.region().to_string(),
                source_ip: KMS.to_owned(),
                user_agent: KMS.to_owned(),
                request_parameters: parameters.clone(),
                response_elements: response.clone(),
                event_id: event_id.clone(),
                shared_event_id: None,
                resources: vec![Resource::key(key.account().as_str(), &key.to_string())],
                invoked_by: Some(KMS),
                ..own.clone()
            };
            (event_id, record.to_json())
        }
    }
}

/// The record of what KMS did by itself: its event id, and the record.
pub(crate) fn service_record(event: &ServiceEvent, now_ms: i64) -> (String, Record) {
    let account = event.key.account().to_string();
    let event_id = uuid::Uuid::new_v4().to_string();
    let record = CallRecord {
        time_ms: now_ms,
        event_source: KMS,
        event_name: event.name.to_owned(),
        region: event.key.region().to_string(),
        source_ip: INTERNAL.to_owned(),
        user_agent: INTERNAL.to_owned(),
        host: String::new(),
        identity: Identity::Service { account: account.clone() },
        request_parameters: Value::Null,
        response_elements: json!({ "keyId": event.key }),
        additional: None,
        error: None,
        request_id: uuid::Uuid::new_v4().to_string(),
        event_id: event_id.clone(),
        shared_event_id: None,
        read_only: false,
        resources: vec![Resource::key(&account, &event.key.to_string())],
        recipient_account: account,
        dry_run: false,
        invoked_by: None,
        service_details: event.details.clone(),
    };
    (event_id, record.to_json())
}
