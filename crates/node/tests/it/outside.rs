//! What a node talks to over HTTP, in memory on one port: KMS, STS and control, as far as one
//! cluster needs them. Nobody's signature is looked at.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keystead_aws::watch::{Head, WatchRequest, WatchResponse};
use keystead_types::{Assignment, ClusterStatus, NodeStatus};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How KMS answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kms {
    Allows,
    Disabled,
    Silent,
}

pub(crate) struct State {
    pub(crate) assignment: Assignment,
    pub(crate) status: Option<NodeStatus>,
    kms: Kms,
    sequence: u64,
    /// Real calls of Decrypt by the grant: those that release a data key.
    pub(crate) unwrapped: u64,
}

/// The servers; they end with the test's process.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

type Answer = (u16, &'static str, String);

impl Outside {
    pub(crate) fn start(assignment: Assignment) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = State { assignment, status: None, kms: Kms::Allows, sequence: 1, unwrapped: 0 };
        let made = Self { address, state: Arc::new(Mutex::new(state)) };
        let served = made.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || served.converse(&stream));
            }
        });
        made
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another answer from now on; a watch names the key.
    pub(crate) fn kms(&self, kms: Kms) {
        let mut state = self.lock();
        (state.kms, state.sequence) = (kms, state.sequence + 1);
    }

    /// What the node says of its cluster.
    pub(crate) fn cluster(&self) -> Option<ClusterStatus> {
        self.lock().status.as_ref().and_then(|s| s.clusters.first().cloned())
    }

    /// Forgets what a former node process said.
    pub(crate) fn forget(&self) {
        self.lock().status = None;
    }

    fn converse(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(n) if n > 0 => {}
                    _ => return,
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            let header = |name: &str| {
                head.iter().skip(1).find_map(|l| {
                    let (n, v) = l.split_once(':')?;
                    n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
                })
            };
            let length = header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            let target = header("x-amz-target").unwrap_or_default();
            let request = head.first().map(String::as_str).unwrap_or_default();
            let (status, kind, text) = self.answer(request, &target, &body);
            let reply = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nx-amzn-requestid: r\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            );
            if (&*stream).write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &str, target: &str, body: &[u8]) -> Answer {
        if request.starts_with("GET /v1/node/assignment") {
            return self.assignment(request);
        }
        if request.starts_with("PUT /v1/node/status") {
            self.record(serde_json::from_slice(body).expect("a status"));
            return (204, "text/plain", String::new());
        }
        let kms = self.lock().kms;
        match target.rsplit('.').next() {
            _ if kms == Kms::Silent => (500, "text/plain", String::new()),
            Some("Watch") => self.watch(&serde_json::from_slice(body).expect("a question")),
            Some("") | None => session(),
            Some(action) => {
                let body: Value = serde_json::from_slice(body).expect("JSON");
                let (status, body) = self.crypto(kms, action, &body);
                (status, "application/x-amz-json-1.1", body.to_string())
            }
        }
    }

    /// A long poll, as control does it.
    fn assignment(&self, request: &str) -> Answer {
        let after = request.split_once("after=").map(|(_, r)| r);
        let digits = after.map(|r| r.split(|c: char| !c.is_ascii_digit()).next());
        let after: u64 = digits.flatten().and_then(|d| d.parse().ok()).unwrap_or(0);
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let current = self.lock().assignment.clone();
            if current.generation > after {
                let text = serde_json::to_string(&current).expect("JSON");
                return (200, "application/json", text);
            }
            if Instant::now() > deadline {
                return (204, "text/plain", String::new());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Records what the node made, once each.
    fn record(&self, status: NodeStatus) {
        let mut state = self.lock();
        for said in &status.clusters {
            let mut known = state.assignment.clusters[0].clone();
            known.canary = known.canary.or(said.made.canary.clone());
            for made in &said.made.volumes {
                let volume = known.volumes.iter_mut().find(|v| v.volume == made.volume);
                let volume = volume.expect("a volume of the assignment");
                volume.wrapped = volume.wrapped.take().or(made.wrapped.clone());
                volume.key_digest = volume.key_digest.take().or(made.key_digest.clone());
            }
            if known != state.assignment.clusters[0] {
                state.assignment.clusters[0] = known;
                state.assignment.generation += 1;
            }
        }
        state.status = Some(status);
    }

    fn watch(&self, asked: &WatchRequest) -> Answer {
        let deadline = Instant::now() + Duration::from_millis(asked.wait_millis.min(500));
        let (sequence, named) = loop {
            let now = self.lock().sequence;
            if asked.since.is_none_or(|since| since < now) {
                break (now, asked.watched.iter().map(|w| w.key_arn.clone()).collect());
            }
            if Instant::now() > deadline {
                break (now, vec![]);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let head = Head { sequence, chain: "00".repeat(32), signature: "AA==".to_owned() };
        let answer =
            WatchResponse { sequence, epoch: "e".to_owned(), named, scheduler_time_ms: 0, head };
        (200, "application/json", serde_json::to_string(&answer).expect("JSON"))
    }

    fn crypto(&self, kms: Kms, action: &str, body: &Value) -> (u16, Value) {
        let fault = |kind: &str, message: &str| (400, json!({"__type": kind, "message": message}));
        let key = body["KeyId"].as_str().unwrap_or_default();
        match action {
            _ if kms == Kms::Disabled => fault("DisabledException", &format!("{key} is disabled.")),
            "Decrypt" if body["DryRun"] == true => fault("DryRunOperationException", "it would"),
            "Decrypt" => {
                if body.get("GrantTokens").is_some() {
                    self.lock().unwrapped += 1;
                }
                // The plaintext follows from the ciphertext.
                let blob = STANDARD.decode(body["CiphertextBlob"].as_str().unwrap_or_default());
                let blob = blob.expect("base64");
                let plain: Vec<u8> =
                    (0..64u8).map(|i| i.wrapping_mul(11) ^ blob[usize::from(i) % 16]).collect();
                (200, json!({"KeyId": key, "Plaintext": STANDARD.encode(plain)}))
            }
            "GenerateDataKeyWithoutPlaintext" => {
                let blob = STANDARD.encode(uuid::Uuid::new_v4().as_bytes());
                (200, json!({"KeyId": key, "CiphertextBlob": blob}))
            }
            "CreateGrant" => (200, json!({"GrantId": "g", "GrantToken": "t"})),
            other => fault("AccessDeniedException", other),
        }
    }
}

fn session() -> Answer {
    let text = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
        <AssumeRoleResult><Credentials><AccessKeyId>ASIAXXXXXXXXXXXXXXXX</AccessKeyId>\
        <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
        <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult>\
        </AssumeRoleResponse>";
    (200, "text/xml", text.to_owned())
}
