//! One call from bytes to bytes: proved, decoded, run, committed, recorded, answered.

use crate::ops::{self, Body, Call, Done, Note, Room};
use crate::principals::Principals;
use crate::store::Store;
use crate::trail::{Record, Trail};
use crate::watch::Hub;
use crate::who::{Gatekeeper, Surroundings, Who};
use keystead_aws::cloudtrail::{self, LookupEvents};
use keystead_aws::ops::{KmsRequest, Operation, TARGET_PREFIX};
use keystead_aws::query::{Form, IAM_NAMESPACE, QueryRequest, STS_NAMESPACE};
use keystead_aws::sigv4::{self, AuthFault, HttpRequest, Presented};
use keystead_aws::trail::{CallRecord, Identity, kms_parameters, query_parameters};
use keystead_aws::{AwsError, error, watch};
use keystead_envelope::root_key::RootKey;
use keystead_types::{Boot, Clock, Region};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// IAM is global; its events lie in this Region.
const GLOBAL: &str = "us-east-1";

/// Everything that a call needs.
pub(crate) struct Kms {
    pub(crate) principals: Principals,
    pub(crate) root: RootKey,
    pub(crate) store: Store,
    pub(crate) trail: Trail,
    pub(crate) hub: Hub,
    pub(crate) gatekeeper: Gatekeeper,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hosts: Vec<String>,
    /// How long servers of this store had run when this one started, and when that was.
    pub(crate) ran_before: (u64, Boot),
}

/// A request as the listener read it.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) peer: String,
    pub(crate) request_id: String,
}

/// What goes back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

const JSON: &str = "application/x-amz-json-1.1";
const XML: &str = "text/xml";

/// Which service a request is for.
enum Service {
    Kms(Option<Operation>, String),
    CloudTrail(String),
    Watch,
    Query,
}

impl Service {
    fn of(request: &HttpRequest<'_>) -> Option<Self> {
        if let Some(target) = request.header("x-amz-target") {
            return Some(if target == watch::TARGET {
                Self::Watch
            } else if let Some(name) = target.strip_prefix(TARGET_PREFIX) {
                Self::Kms(Operation::named(name), name.to_owned())
            } else {
                Self::CloudTrail(target.strip_prefix(cloudtrail::TARGET_PREFIX)?.to_owned())
            });
        }
        let form = "application/x-www-form-urlencoded";
        let content = request.header("content-type")?;
        content.starts_with(form).then_some(Self::Query)
    }

    /// The scope must name this service; IAM and STS are told apart by the scope itself.
    fn check_scope(&self, claimed: &Presented) -> Result<(), AuthFault> {
        let service = claimed.service.as_str();
        let wanted = match self {
            Self::Kms(..) | Self::Watch => "kms",
            Self::CloudTrail(_) => "cloudtrail",
            Self::Query if service == "iam" => "iam",
            Self::Query => "sts",
        };
        if service == wanted { Ok(()) } else { Err(AuthFault::Service(wanted.to_owned())) }
    }

    fn is_query(&self) -> bool {
        matches!(self, Self::Query)
    }
}

/// Why nobody is proved, with what was claimed.
type Refusal = (AuthFault, Option<Presented>);

/// What the trail needs to know of a call beside its outcome.
struct Event {
    source: &'static str,
    name: String,
    region: String,
    read_only: bool,
    parameters: Value,
}

impl Kms {
    pub(crate) fn running_ms(&self) -> u64 {
        let (before, since) = self.ran_before;
        let ran = self.clock.boot().since(since).as_millis();
        before.saturating_add(u64::try_from(ran).unwrap_or(u64::MAX))
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: &Request) -> Answer {
        let http = HttpRequest {
            method: &request.method,
            path: &request.path,
            query: &request.query,
            headers: &request.headers,
            body: &request.body,
        };
        if (http.method, http.path, http.query) != ("POST", "/", "") {
            return refused(&error::unknown_operation(), 404, None, &request.request_id);
        }
        let Some(service) = Service::of(&http) else {
            return refused(&error::unknown_operation(), 404, None, &request.request_id);
        };
        let (who, claimed) = match self.prove(&http, &service) {
            Ok(proved) => proved,
            Err(refusal) => {
                let (fault, claimed) = *refusal;
                self.note_fault(request, &service, claimed.as_ref(), &fault);
                let (error, namespace) = if service.is_query() {
                    (fault.query(), Some(namespace(claimed.as_ref())))
                } else {
                    (fault.json(), None)
                };
                return refused(&error, error.status, namespace, &request.request_id);
            }
        };
        let namespace = service.is_query().then(|| namespace(Some(&claimed)));
        let result = match claimed.region.parse::<Region>() {
            Ok(region) => self.run(request, &http, service, &who, &claimed, &region).await,
            Err(_) => Err(AuthFault::Region(claimed.region.clone()).json()),
        };
        match result {
            Ok(Body::Empty) => Answer { status: 200, content_type: JSON, body: Vec::new() },
            Ok(Body::Json(value)) => {
                Answer { status: 200, content_type: JSON, body: value.to_string().into_bytes() }
            }
            Ok(Body::Secret(body)) => Answer { status: 200, content_type: JSON, body },
            Ok(Body::Xml(text)) => {
                Answer { status: 200, content_type: XML, body: text.into_bytes() }
            }
            Err(error) => refused(&error, error.status, namespace, &request.request_id),
        }
    }

    fn prove(
        &self,
        http: &HttpRequest<'_>,
        service: &Service,
    ) -> Result<(Who, Presented), Box<Refusal>> {
        let claimed = sigv4::parse(http).map_err(|fault| Box::new((fault, None)))?;
        let proved = service.check_scope(&claimed).and_then(|()| {
            let state = self.store.state();
            let around = Surroundings {
                principals: &self.principals,
                root: &self.root,
                state: &state,
                now_ms: self.clock.wall_ms(),
                hosts: &self.hosts,
            };
            self.gatekeeper.prove(&claimed, http, around)
        });
        match proved {
            Ok(who) => Ok((who, claimed)),
            Err(fault) => Err(Box::new((fault, Some(claimed)))),
        }
    }

    async fn run(
        &self,
        request: &Request,
        http: &HttpRequest<'_>,
        service: Service,
        who: &Who,
        claimed: &Presented,
        region: &Region,
    ) -> Result<Body, AwsError> {
        let call = Call {
            who,
            region,
            now_ms: self.clock.wall_ms(),
            running_ms: self.running_ms(),
            source_ip: &request.peer,
            request_id: &request.request_id,
        };
        match service {
            Service::Watch => self.watch(&call, http.body).await,
            Service::Kms(None, name) => {
                tracing::info!(%name, "an operation that this server does not have");
                Err(error::unknown_operation())
            }
            Service::Kms(Some(op), _) => {
                let decoded = KmsRequest::decode(op, http.body);
                let event = Event {
                    source: "kms.amazonaws.com",
                    name: op.name().to_owned(),
                    region: region.to_string(),
                    read_only: op.info().read_only,
                    parameters: decoded.as_ref().map(kms_parameters).unwrap_or_default(),
                };
                let changing = !op.info().read_only;
                let run = |room: &Room<'_>| match &decoded {
                    Ok(decoded) => ops::kms(room, &call, decoded),
                    Err(error) => failed(error.clone()),
                };
                self.carry_out(request, &call, event, changing, run).await
            }
            Service::CloudTrail(name) if name == "LookupEvents" => {
                let decoded = LookupEvents::decode(http.body);
                let event = Event {
                    source: "cloudtrail.amazonaws.com",
                    name,
                    region: region.to_string(),
                    read_only: true,
                    parameters: Value::Null,
                };
                let run = |room: &Room<'_>| match &decoded {
                    Ok(decoded) => ops::lookup_events(room, &call, decoded),
                    Err(error) => failed(error.clone()),
                };
                self.carry_out(request, &call, event, false, run).await
            }
            Service::CloudTrail(_) => Err(error::unknown_operation()),
            Service::Query => {
                let form = Form::parse(http.body)?;
                let decoded = QueryRequest::decode(&claimed.service, &form);
                let iam = claimed.service == "iam";
                let event = Event {
                    source: if iam { "iam.amazonaws.com" } else { "sts.amazonaws.com" },
                    name: match &decoded {
                        Ok(decoded) => decoded.name().to_owned(),
                        Err(_) => {
                            form.get("Action").unwrap_or("Unknown").chars().take(64).collect()
                        }
                    },
                    region: if iam { GLOBAL.to_owned() } else { region.to_string() },
                    read_only: decoded.as_ref().map_or(true, QueryRequest::read_only),
                    parameters: decoded.as_ref().map(query_parameters).unwrap_or_default(),
                };
                let changing = decoded.as_ref().is_ok_and(|decoded| !decoded.read_only());
                let run = |room: &Room<'_>| match &decoded {
                    Ok(decoded) => ops::query(room, &call, decoded),
                    Err(error) => failed(error.clone()),
                };
                self.carry_out(request, &call, event, changing, run).await
            }
        }
    }

    /// Runs an operation, makes its changes durable, puts it on record, and only then answers.
    async fn carry_out(
        &self,
        request: &Request,
        call: &Call<'_>,
        event: Event,
        changing: bool,
        run: impl Fn(&Room<'_>) -> Done + Send,
    ) -> Result<Body, AwsError> {
        let writer = if changing { Some(self.store.writer().await) } else { None };
        let mut done = {
            let state = self.store.state();
            run(&Room {
                state: &state,
                principals: &self.principals,
                root: &self.root,
                trail: &self.trail,
            })
        };
        let records = records(request, call, &event, &done, &self.hosts);
        if let (Some(writer), false) = (&writer, done.changes.is_empty()) {
            let changes = std::mem::take(&mut done.changes);
            let committed = tokio::task::block_in_place(|| writer.commit(changes, &records));
            let (sequence, touched) = committed.map_err(|fault| {
                tracing::error!(
                    fault = &fault as &dyn std::error::Error,
                    "nothing was changed: the key store cannot be written"
                );
                error::unavailable("The key store cannot be written.")
            })?;
            self.hub.publish(sequence, touched);
        }
        drop(writer);
        let dry = done.note.dry_run && done.result.as_ref().is_err_and(|e| *e == error::dry_run());
        if dry || (done.note.canary && done.result.is_ok()) {
            for (_, record) in records {
                self.trail.record_soon(record).map_err(unrecorded)?;
            }
        } else {
            self.record(records, changing).await?;
        }
        done.result
    }

    async fn record(&self, records: Vec<(String, Record)>, owed: bool) -> Result<(), AwsError> {
        for (id, record) in records {
            self.trail.record(record).await.map_err(unrecorded)?;
            if owed {
                self.store.paid([id]);
            }
        }
        Ok(())
    }

    /// A signature that does not hold, claimed with the access key of a known user.
    fn note_fault(
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
        };
        // Refused either way; a full queue must not hold the refusal up.
        let _ = self.trail.record_soon(record.to_json());
    }

    async fn watch(&self, call: &Call<'_>, body: &[u8]) -> Result<Body, AwsError> {
        let request: watch::WatchRequest = serde_json::from_slice(body)
            .map_err(|fault| error::serialization(Some(fault.to_string())))?;
        if request.watched.len() > watch::MAX_WATCHED {
            let most = watch::MAX_WATCHED;
            return Err(error::validation(format!("At most {most} keys can be watched.")));
        }
        ops::watch_allowed(call)?;
        let wait = Duration::from_millis(request.wait_millis.min(watch::MAX_WAIT_MILLIS));
        let (sequence, mut named) = self.hub.wait(request.since, &request.watched, wait).await;
        named.extend(self.time_driven(&request.watched));
        named.sort();
        named.dedup();
        let answer = watch::WatchResponse {
            sequence,
            epoch: self.store.epoch.clone(),
            named,
            scheduler_time_ms: self.clock.wall_ms(),
            head: self.trail.head(),
        };
        serde_json::to_value(answer).map(Body::Json).map_err(|_| error::internal())
    }

    /// Keys whose answer may change with the clock alone: a policy looks at the time. Named every
    /// time, so that a proof finds out.
    fn time_driven<'a>(&self, watched: &'a [watch::Watched]) -> impl Iterator<Item = String> + 'a {
        let state = self.store.state();
        let timed = |text: &str| {
            let text = text.to_ascii_lowercase();
            text.contains("aws:currenttime")
                || text.contains("aws:epochtime")
                || text.contains("aws:tokenissuetime")
        };
        let mut found = Vec::new();
        for one in watched {
            let role = state.roles.get(&one.role_arn).map(|role| &role.record);
            let by_role = role.is_some_and(|role| {
                timed(&role.trust.text) || role.policies.values().any(|text| timed(text))
            });
            let key = one.key_arn.parse().ok().and_then(|arn| state.keys.get(&arn));
            if by_role || key.is_some_and(|key| timed(&key.record.policy.text)) {
                found.push(one.key_arn.clone());
            }
        }
        found.into_iter()
    }
}

fn failed(error: AwsError) -> Done {
    Done { result: Err(error), changes: Vec::new(), note: Note::default() }
}

fn unrecorded(_: crate::trail::TrailError) -> AwsError {
    error::unavailable("The call cannot be recorded, so it is not answered.")
}

fn namespace(claimed: Option<&Presented>) -> &'static str {
    match claimed {
        Some(claimed) if claimed.service == "iam" => IAM_NAMESPACE,
        _ => STS_NAMESPACE,
    }
}

fn refused(error: &AwsError, status: u16, namespace: Option<&str>, request_id: &str) -> Answer {
    let (content_type, body) = match namespace {
        Some(namespace) => (XML, error.query_xml(namespace, request_id)),
        None => (JSON, error.json_body()),
    };
    Answer { status, content_type, body: body.into_bytes() }
}

fn header(request: &Request, name: &str) -> String {
    let found = request.headers.iter().find(|(n, _)| n == name);
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

/// The call's records: the caller's account has one, and so has every other account whose key or
/// role it touched.
fn records(
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
            resources: done.note.resources.clone(),
            recipient_account: account.to_owned(),
            dry_run: done.note.dry_run,
        };
        (event_id, record.to_json())
    };
    let known = Identity::Known {
        caller: caller.clone(),
        access_key_id: call.who.access_key_id.clone(),
        session_created_ms: call.who.issued_ms,
    };
    let mut all = vec![one(&caller.account, known)];
    for account in accounts {
        let from_outside =
            Identity::Account { account: caller.account.clone(), principal_id: caller.user_id() };
        all.push(one(account, from_outside));
    }
    all
}
