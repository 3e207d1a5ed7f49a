//! One call as a CloudTrail record.

use super::iso_seconds;
use crate::AwsError;
use crate::policy::{Caller, CallerKind};
use serde_json::{Map, Value, json};

/// Longest text of errorMessage and userAgent, in bytes.
const SHORT: usize = 1024;

/// Who called, as the record shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A caller that the signature proved.
    Known {
        /// The caller.
        caller: Caller,
        /// The access key used.
        access_key_id: String,
        /// When the session began, milliseconds since the epoch.
        session_created_ms: Option<i64>,
    },
    /// Another account's caller, in the key owner's copy: the account and the principal's ids.
    Account {
        /// The account.
        account: String,
        /// `principalId`.
        principal_id: String,
    },
    /// Nobody that could be told: the signature did not hold.
    Unknown {
        /// The access key as claimed.
        access_key_id: Option<String>,
    },
    /// The service itself, as for a deletion that fell due.
    Service {
        /// The key's account.
        account: String,
    },
}

/// A key or role that the call touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its account.
    pub account: String,
    /// `AWS::KMS::Key`, `AWS::KMS::Alias`, `AWS::IAM::Role`.
    pub kind: &'static str,
    /// Its ARN.
    pub arn: String,
}

impl Resource {
    /// A KMS key.
    pub fn key(account: &str, arn: &str) -> Self {
        Self { account: account.to_owned(), kind: "AWS::KMS::Key", arn: arn.to_owned() }
    }
    /// An alias of a KMS key.
    pub fn alias(account: &str, arn: &str) -> Self {
        Self { account: account.to_owned(), kind: "AWS::KMS::Alias", arn: arn.to_owned() }
    }
    /// An IAM role.
    pub fn role(account: &str, arn: &str) -> Self {
        Self { account: account.to_owned(), kind: "AWS::IAM::Role", arn: arn.to_owned() }
    }
}

/// One call; [`CallRecord::to_json`] writes it.
#[derive(Debug, Clone)]
pub struct CallRecord {
    /// When, milliseconds since the epoch.
    pub time_ms: i64,
    /// `kms.amazonaws.com`, `sts.amazonaws.com` …
    pub event_source: &'static str,
    /// The operation.
    pub event_name: String,
    /// The Region.
    pub region: String,
    /// The peer's address.
    pub source_ip: String,
    /// As sent.
    pub user_agent: String,
    /// Host header as sent.
    pub host: String,
    /// Who.
    pub identity: Identity,
    /// See [`super::kms_parameters`]; null for denied calls.
    pub request_parameters: Value,
    /// Null for crypto and read-only calls.
    pub response_elements: Value,
    /// `additionalEventData`, as the grant id of RetireGrant.
    pub additional: Option<Value>,
    /// The refusal.
    pub error: Option<AwsError>,
    /// `x-amzn-RequestId`.
    pub request_id: String,
    /// This record's own id.
    pub event_id: String,
    /// The same in both accounts' records of a cross-account call.
    pub shared_event_id: Option<String>,
    /// `readOnly`.
    pub read_only: bool,
    /// What was touched; ReEncrypt: source, then destination.
    pub resources: Vec<Resource>,
    /// The account whose record this is.
    pub recipient_account: String,
    /// DryRun was set.
    pub dry_run: bool,
    /// A service that made the call for the caller, as KMS does in another Region.
    pub invoked_by: Option<&'static str>,
    /// `serviceEventDetails` of what KMS did by itself.
    pub service_details: Option<Value>,
}

/// What KMS does by itself and CloudTrail shows as a call.
const SHOWN_AS_CALL: &str = "SynchronizeMultiRegionKey";

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHORT)]
}

impl Identity {
    fn to_json(&self) -> Value {
        match self {
            Self::Known { caller, access_key_id, session_created_ms } => {
                known(caller, access_key_id, *session_created_ms)
            }
            Self::Account { account, principal_id } => {
                json!({"type": "AWSAccount", "principalId": principal_id, "accountId": account})
            }
            Self::Unknown { access_key_id: Some(id) } => {
                json!({"type": "Unknown", "accessKeyId": id})
            }
            Self::Unknown { access_key_id: None } => json!({"type": "Unknown"}),
            Self::Service { account } => {
                json!({"accountId": account, "invokedBy": "AWS Internal"})
            }
        }
    }
}

fn known(caller: &Caller, access_key_id: &str, created_ms: Option<i64>) -> Value {
    let kind = match caller.kind {
        CallerKind::User => "IAMUser",
        CallerKind::RoleSession => "AssumedRole",
        CallerKind::Root => "Root",
    };
    let mut identity = json!({
        "type": kind,
        "principalId": caller.user_id(),
        "arn": caller.arn,
        "accountId": caller.account,
        "accessKeyId": access_key_id,
    });
    let last = |arn: &str| arn.rsplit('/').next().unwrap_or_default().to_owned();
    if caller.kind == CallerKind::User {
        identity["userName"] = last(&caller.arn).into();
    }
    if let Some(role) = &caller.role_arn {
        identity["sessionContext"] = json!({
            "sessionIssuer": {
                "type": "Role",
                "principalId": caller.unique_id,
                "arn": role,
                "accountId": caller.account,
                "userName": last(role),
            },
            "attributes": {
                "creationDate": created_ms.map(iso_seconds),
                "mfaAuthenticated": "false",
            },
        });
    }
    identity
}

impl CallRecord {
    /// The copy for another account (the key owner's of a cross-account call): same shared id,
    /// own event id, and the caller told as an account.
    pub fn for_account(&self, account: &str, event_id: &str) -> Self {
        let identity = match &self.identity {
            Identity::Known { caller, .. } => Identity::Account {
                account: caller.account.clone(),
                principal_id: caller.user_id(),
            },
            other => other.clone(),
        };
        Self {
            identity,
            event_id: event_id.to_owned(),
            recipient_account: account.to_owned(),
            ..self.clone()
        }
    }

    /// The record as CloudTrail writes it.
    pub fn to_json(&self) -> Map<String, Value> {
        let service = matches!(self.identity, Identity::Service { .. });
        let mut r = Map::new();
        let mut put = |name: &str, value: Value| r.insert(name.to_owned(), value);
        put("eventVersion", "1.11".into());
        let mut identity = self.identity.to_json();
        if let Some(service) = self.invoked_by {
            identity["invokedBy"] = service.into();
        }
        put("userIdentity", identity);
        put("eventTime", iso_seconds(self.time_ms).into());
        put("eventSource", self.event_source.into());
        put("eventName", self.event_name.as_str().into());
        put("awsRegion", self.region.as_str().into());
        put("sourceIPAddress", self.source_ip.as_str().into());
        put("userAgent", cut(&self.user_agent).into());
        if let Some(error) = &self.error {
            put("errorCode", error.trail_code().into());
            if let Some(text) = &error.message {
                put("errorMessage", cut(text).into());
            }
        }
        put("requestParameters", self.request_parameters.clone());
        put("responseElements", self.response_elements.clone());
        let mut additional = self.additional.clone();
        if self.dry_run {
            additional.get_or_insert_with(|| json!({}))["dryRun"] = true.into();
        }
        if let Some(additional) = additional {
            put("additionalEventData", additional);
        }
        put("requestID", self.request_id.as_str().into());
        put("eventID", self.event_id.as_str().into());
        put("readOnly", self.read_only.into());
        let resources: Vec<Value> = self
            .resources
            .iter()
            .map(|x| json!({"accountId": x.account, "type": x.kind, "ARN": x.arn}))
            .collect();
        if !resources.is_empty() {
            put("resources", resources.into());
        }
        let event = service && self.event_name != SHOWN_AS_CALL;
        put("eventType", if event { "AwsServiceEvent" } else { "AwsApiCall" }.into());
        put("managementEvent", true.into());
        put("recipientAccountId", self.recipient_account.as_str().into());
        if let Some(shared) = &self.shared_event_id {
            put("sharedEventID", shared.as_str().into());
        }
        if let Some(details) = &self.service_details {
            put("serviceEventDetails", details.clone());
        }
        put("eventCategory", "Management".into());
        if !service {
            put("tlsDetails", json!({"clientProvidedHostHeader": cut(&self.host)}));
        }
        r
    }
}
