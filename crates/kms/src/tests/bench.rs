//! A server without a port: signed calls from bytes to bytes, a clock in the hand, a folder that it
//! can be opened on again.

use super::{Hand, config};
use crate::calls::{Kms, Request};
use crate::{open, scheduler};
use keystead_aws::ops::TARGET_PREFIX;
use keystead_aws::sigv4::Signer;
use keystead_types::Clock as _;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) const HERE: &str = "eu-central-1";
pub(super) const THERE: &str = "eu-west-1";
pub(super) const ADMIN: &str = "arn:aws:iam::111122223333:user/admin";
const KEY_ID: &str = "AKIAABCDEFGHIJKLMNOP";
const SECRET: &str = "0123456789abcdef";
pub(super) const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}"#;
const PRINCIPALS: &str = r#"
[[account]]
id = "111122223333"
name = "c"
[[account.user]]
name = "admin"
access_key_id = "AKIAABCDEFGHIJKLMNOP"
secret_access_key = "0123456789abcdef"
policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
"#;

pub(super) struct Bench {
    kms: Option<Kms>,
    pub(super) clock: Arc<Hand>,
    folder: tempfile::TempDir,
}

async fn server(folder: &Path, clock: &Arc<Hand>) -> Kms {
    let settings = config(folder);
    std::fs::write(&settings.principals, PRINCIPALS).expect("written");
    let at = "127.0.0.1:1".parse().expect("an address");
    open(&settings, clock.clone(), at).await.expect("it opens")
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::on(tempfile::tempdir().expect("a folder")).await
    }

    /// On a folder that may hold a store.
    pub(super) async fn on(folder: tempfile::TempDir) -> Self {
        let clock = Arc::new(Hand::default());
        Self { kms: Some(server(folder.path(), &clock).await), clock, folder }
    }

    pub(super) fn kms(&self) -> &Kms {
        self.kms.as_ref().expect("open")
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Another server on the same folder.
    pub(super) async fn again(&mut self) {
        drop(self.kms.take());
        self.kms = Some(server(self.folder.path(), &self.clock).await);
    }

    /// Time goes by, for the wall and for the server; then its scheduler looks.
    pub(super) async fn wait(&self, ms: i64) {
        self.clock.wall.fetch_add(ms, Ordering::SeqCst);
        self.clock.ran.fetch_add(ms, Ordering::SeqCst);
        scheduler::look(self.kms()).await;
    }

    /// A signed call, from bytes to bytes.
    pub(super) async fn call(&self, operation: &str, input: &Value) -> (u16, Value) {
        self.call_in(HERE, operation, input).await
    }

    pub(super) async fn call_in(
        &self,
        region: &str,
        operation: &str,
        input: &Value,
    ) -> (u16, Value) {
        let mut headers = vec![
            ("host".to_owned(), self.kms().hosts[0].clone()),
            ("x-amz-target".to_owned(), format!("{TARGET_PREFIX}{operation}")),
        ];
        let body = input.to_string().into_bytes();
        let signer = Signer {
            access_key_id: KEY_ID,
            secret: SECRET,
            session_token: None,
            region,
            service: "kms",
        };
        let now_ms = self.clock.wall_ms();
        headers.extend(signer.sign("POST", "/", "", &headers, &body, now_ms));
        let request = Request {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: String::new(),
            headers,
            body,
            peer: "127.0.0.1".to_owned(),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let answer = self.kms().answer(&request).await;
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    pub(super) async fn good(&self, operation: &str, input: Value) -> Value {
        self.good_in(HERE, operation, input).await
    }

    pub(super) async fn good_in(&self, region: &str, operation: &str, input: Value) -> Value {
        let (status, answer) = self.call_in(region, operation, &input).await;
        assert_eq!(status, 200, "{operation} {input} in {region}: {answer}");
        answer
    }

    /// A refused call: the error's name and text.
    pub(super) async fn refused(
        &self,
        region: &str,
        operation: &str,
        input: Value,
    ) -> (String, String) {
        let (status, answer) = self.call_in(region, operation, &input).await;
        assert_eq!(status, 400, "{operation} {input} in {region}: {answer}");
        let part = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        (part("__type"), part("message"))
    }

    /// A new key, by its ARN.
    pub(super) async fn key(&self, input: Value) -> String {
        text(&self.good("CreateKey", input).await["KeyMetadata"]["Arn"])
    }

    pub(super) async fn multi_region_key(&self) -> String {
        self.key(json!({"MultiRegion": true})).await
    }

    /// Replicates a key and waits until it can be used; answers the replica's ARN.
    pub(super) async fn replicate(&self, from: &str, key_id: &str, to: &str) -> String {
        let input = json!({"KeyId": key_id, "ReplicaRegion": to});
        let made = self.good_in(from, "ReplicateKey", input).await;
        scheduler::look(self.kms()).await;
        text(&made["ReplicaKeyMetadata"]["Arn"])
    }
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
