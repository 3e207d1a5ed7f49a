//! One call from bytes to bytes: proved, decoded, run, committed, recorded, answered.

use crate::ops::{self, Body, Call, Done, Note, Room};
use crate::principals::Principals;
use crate::recording::records;
use crate::regions::Regions;
use crate::scheduler::Ahead;
use crate::store::{Store, StoreError, Writer};
use crate::trail::{Record, Trail};
use crate::watch::Hub;
use crate::who::{Gatekeeper, Surroundings, Who};
use keystead_aws::cloudtrail::{self, LookupEvents};
use keystead_aws::ops::{KmsRequest, NOT_SERVED, Operation, TARGET_PREFIX};
use keystead_aws::query::{Form, IAM_NAMESPACE, QueryRequest, STS_NAMESPACE};
use keystead_aws::sigv4::{self, AuthFault, HttpRequest, Presented};
use keystead_aws::trail::{kms_parameters, query_parameters};
use keystead_aws::{AwsError, error, watch};
use keystead_envelope::root_key::RootKey;
use keystead_types::{Boot, Clock, Region};
use serde_json::Value;
use std::sync::Arc;

/// IAM is global; its events lie in this Region.
const GLOBAL: &str = "us-east-1";

/// Everything that a call needs.
pub(crate) struct Kms {
    pub(crate) principals: Principals,
    pub(crate) regions: Regions,
    pub(crate) root: RootKey,
    pub(crate) store: Store,
    pub(crate) trail: Trail,
    pub(crate) hub: Hub,
    pub(crate) gatekeeper: Gatekeeper,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hosts: Vec<String>,
    /// How long servers of this store had run when this one started, and when that was.
    pub(crate) ran_before: (u64, Boot),
    pub(crate) ahead: Ahead,
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
pub(crate) enum Service {
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
pub(crate) struct Event {
    pub(crate) source: &'static str,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) read_only: bool,
    pub(crate) parameters: Value,
}

impl Kms {
    pub(crate) fn running_ms(&self) -> u64 {
        let (before, since) = self.ran_before;
        let ran = self.clock.boot().since(since).as_millis();
        before.saturating_add(u64::try_from(ran).unwrap_or(u64::MAX))
    }

    /// The scheduler's own time.
    pub(crate) fn scheduler_ms(&self) -> i64 {
        self.clock.wall_ms().saturating_add(self.ahead.ms())
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
        let result = match self.region(&service, &claimed) {
            Ok(region) => self.run(request, &http, service, &who, &claimed, &region).await,
            Err(fault) => Err(fault.json()),
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
            ahead_ms: self.ahead.ms(),
            source_ip: &request.peer,
            user_agent: http.header("user-agent"),
            request_id: &request.request_id,
        };
        match service {
            Service::Watch => {
                if let Err(denied) = ops::watch_allowed(&call) {
                    self.trail.check().map_err(unrecorded)?;
                    let event = Event {
                        source: "kms.amazonaws.com",
                        name: "Watch".to_owned(),
                        region: region.to_string(),
                        read_only: true,
                        parameters: Value::Null,
                    };
                    return self.finish(request, &call, event, failed(denied), None).await;
                }
                self.watch(http.body).await
            }
            Service::Kms(None, name) if NOT_SERVED.contains(&&*name) => {
                Err(error::not_served(&name))
            }
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
                self.trail.check().map_err(unrecorded)?;
                // A search takes its time and holds nobody up.
                let done = tokio::task::block_in_place(|| match &decoded {
                    Ok(decoded) => ops::lookup_events(&self.trail, &call, decoded),
                    Err(error) => failed(error.clone()),
                });
                self.finish(request, &call, event, done, None).await
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
        // Nothing is begun that could not be recorded.
        self.trail.check().map_err(unrecorded)?;
        let done = {
            let state = self.store.state();
            run(&Room {
                state: &state,
                principals: &self.principals,
                root: &self.root,
                regions: &self.regions,
            })
        };
        self.finish(request, call, event, done, writer).await
    }

    /// Makes changes durable, puts the call on record, and answers.
    async fn finish(
        &self,
        request: &Request,
        call: &Call<'_>,
        event: Event,
        mut done: Done,
        writer: Option<Writer<'_>>,
    ) -> Result<Body, AwsError> {
        let changes = std::mem::take(&mut done.changes);
        let mut entries = records(request, call, &event, &done, &self.hosts);
        let mut owed = false;
        if let (Some(writer), false) = (&writer, changes.is_empty()) {
            match tokio::task::block_in_place(|| writer.commit(changes, &entries)) {
                Ok((sequence, touched)) => {
                    self.hub.publish(sequence, touched);
                    owed = true;
                }
                Err(StoreError::Ahead) => {
                    // Memory and disk differ: whoever starts next reads the disk and pays what
                    // is owed.
                    tracing::error!("a write that failed is on disk after all; kms ends");
                    std::process::exit(1);
                }
                Err(fault) => {
                    tracing::error!(
                        fault = &fault as &dyn std::error::Error,
                        "nothing was changed: the key store cannot be written"
                    );
                    done.result = Err(error::unavailable("The key store cannot be written."));
                    entries = records(request, call, &event, &done, &self.hosts);
                }
            }
        }
        drop(writer);
        let dry = done.note.dry_run && done.result.as_ref().is_err_and(|e| *e == error::dry_run());
        if dry || (done.note.canary && done.result.is_ok()) {
            let (_, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
            self.trail.record_soon(entries).map_err(unrecorded)?;
        } else {
            self.record(entries, owed).await?;
        }
        done.result
    }

    async fn record(&self, records: Vec<(String, Record)>, owed: bool) -> Result<(), AwsError> {
        let (ids, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
        if !owed {
            return self.trail.record(records).await.map_err(unrecorded);
        }
        self.trail.record_owed(records).await.map_err(|_| {
            error::unavailable("The change is made; its record follows when the trail has room.")
        })?;
        self.store.paid(ids);
        Ok(())
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
