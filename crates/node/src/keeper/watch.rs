//! `Keystead.Watch`: one long poll for all keys of the node, a hand-made signed request.
//!
//! After a failure it is asked again at a fixed, jittered period; no outage makes it wait longer.

use crate::kms::Settings;
use crate::time::{SystemClock, boot, jittered};
use keystead_aws::sigv4::Signer;
use keystead_aws::watch::{TARGET, WatchRequest, WatchResponse, Watched};
use keystead_types::{Boot, Clock};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const WAIT_MS: u64 = 1_000;
const RETRY: Duration = Duration::from_millis(200);
/// The server's wait and what the network may add.
const ATTEMPT: Duration = Duration::from_millis(2_500);

/// One answer, with what was asked and when.
pub(super) struct Answer {
    /// When the question was sent: leases count from here.
    pub(super) sent: Boot,
    /// Which keys it was about.
    pub(super) watched: Arc<Vec<Watched>>,
    pub(super) response: WatchResponse,
}

/// Asks for ever. `since` is the sequence to begin after.
pub(super) async fn run(
    settings: Arc<Settings>,
    mut keys: watch::Receiver<Arc<Vec<Watched>>>,
    answers: mpsc::Sender<Answer>,
) {
    let Ok(client) = reqwest::Client::builder()
        .connect_timeout(Duration::from_millis(400))
        .timeout(ATTEMPT)
        .build()
    else {
        return;
    };
    // None at the start: everything is named, and so everything is proved.
    let mut since = None;
    loop {
        let watched = keys.borrow_and_update().clone();
        if watched.is_empty() {
            if keys.changed().await.is_err() {
                return;
            }
            continue;
        }
        let sent = boot();
        match ask(&client, &settings, since, &watched).await {
            Ok(response) => {
                since = Some(response.sequence);
                if answers.send(Answer { sent, watched, response }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "watch");
                tokio::time::sleep(jittered(RETRY)).await;
            }
        }
    }
}

async fn ask(
    client: &reqwest::Client,
    settings: &Settings,
    since: Option<u64>,
    watched: &[Watched],
) -> Result<WatchResponse, String> {
    let request = WatchRequest { since, wait_millis: WAIT_MS, watched: watched.to_vec() };
    let body = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
    let url = reqwest::Url::parse(&settings.endpoint).map_err(|e| e.to_string())?;
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err("the endpoint has no host".to_owned()),
    };
    let mut headers = vec![
        ("host".to_owned(), host),
        ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
        ("x-amz-target".to_owned(), TARGET.to_owned()),
    ];
    let signer = Signer {
        access_key_id: &settings.credentials.access_key_id,
        secret: &settings.credentials.secret_access_key,
        session_token: None,
        region: &settings.region,
        service: "kms",
    };
    let added = signer.sign("POST", "/", "", &headers, &body, SystemClock.wall_ms());
    headers.extend(added);
    let mut post = client.post(url);
    for (name, value) in headers {
        post = post.header(name, value);
    }
    let answer = post.body(body).send().await.map_err(|e| e.to_string())?;
    let status = answer.status();
    let bytes = answer.bytes().await.map_err(|e| e.to_string())?;
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&bytes)));
    }
    serde_json::from_slice(&bytes).map_err(|e| e.to_string())
}
