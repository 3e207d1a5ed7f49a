//! A server in a folder of its own, and a signed client.

use keystead_aws::sigv4::Signer;
use keystead_kms::{KmsConfig, Running};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Once;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const CUSTOMER: &str = "111122223333";
pub(crate) const PROVIDER: &str = "444455556666";

/// A user's access key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

pub(crate) fn user(n: u8) -> Key {
    let letter = char::from(b'A' + n);
    Key {
        id: format!("AKIA{}", letter.to_string().repeat(16)),
        secret: format!("{}-a-secret-of-a-test", letter.to_string().repeat(20)),
        token: None,
    }
}

/// Customer's administrator, provider's administrator, a node, a nobody.
pub(crate) const OWNER: u8 = 0;
pub(crate) const OPERATOR: u8 = 1;
pub(crate) const NODE: u8 = 2;
pub(crate) const NOBODY: u8 = 3;

fn statement(actions: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": actions, "Resource": "*"}
    ]})
    .to_string()
}

fn start_file() -> String {
    let one = |name: &str, n: u8, actions: Value| {
        let Key { id, secret, .. } = user(n);
        format!(
            "[[account.user]]\nname = \"{name}\"\naccess_key_id = \"{id}\"\nsecret_access_key = \"{secret}\"\npolicy = '''{}'''\n",
            statement(&actions)
        )
    };
    let nothing = json!(["s3:GetObject"]);
    let node = json!(["sts:AssumeRole", "keystead:Watch"]);
    [
        format!("[[account]]\nid = \"{CUSTOMER}\"\nname = \"customer\"\n"),
        one("administrator", OWNER, json!("*")),
        one("nobody", NOBODY, nothing),
        format!("[[account]]\nid = \"{PROVIDER}\"\nname = \"provider\"\n"),
        one("administrator", OPERATOR, json!("*")),
        one("node", NODE, node),
    ]
    .concat()
}

fn private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("private");
}

pub(crate) struct Rig {
    pub(crate) folder: Option<tempfile::TempDir>,
    config: Option<KmsConfig>,
    running: Option<Running>,
    pub(crate) at: SocketAddr,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The error's name; empty when there is none.
    pub(crate) fn code(&self) -> String {
        self.json()["__type"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn element(&self, name: &str) -> String {
        let found = self.text.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
        found
            .and_then(|rest| rest.split_once("</"))
            .map(|(text, _)| text.to_owned())
            .unwrap_or_default()
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::in_folder(tempfile::tempdir().expect("a folder")).await
    }

    /// A server whose data lies in `kms` of this folder.
    pub(crate) async fn in_folder(folder: tempfile::TempDir) -> Self {
        Self::of_regions(folder, &[]).await
    }

    /// A server that stands for these Regions; none at all stands for any.
    pub(crate) async fn of_regions(folder: tempfile::TempDir, regions: &[&str]) -> Self {
        let rig = Self::at(folder.path(), regions).await;
        Self { folder: Some(folder), ..rig }
    }

    /// The client of a server in another process.
    pub(crate) fn of_another(at: SocketAddr) -> Self {
        Self { folder: None, config: None, running: None, at }
    }

    /// A server in a folder that is kept.
    pub(crate) async fn at(folder: &Path, regions: &[&str]) -> Self {
        static ARENA: Once = Once::new();
        ARENA.call_once(|| {
            let mode = keystead_envelope::memory::ArenaMode::Mlock;
            keystead_envelope::memory::init_arena(mode, 1 << 20).expect("key memory");
        });
        private(&folder.join("principals.toml"), &start_file());
        private(&folder.join("root-key"), &"5a".repeat(32));
        let config = KmsConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data: folder.join("kms"),
            principals: folder.join("principals.toml"),
            insecure_plain_root_key: folder.join("root-key"),
            hosts: vec![],
            regions: regions.iter().map(|r| r.parse().expect("a Region")).collect(),
            arena: keystead_kms::Arena::Mlock,
            insecure_swap: false,
            insecure_scheduler_ahead: None,
        };
        let running = keystead_kms::start(&config).await.expect("it starts");
        let at = running.address;
        Self { folder: None, config: Some(config), running: Some(running), at }
    }

    /// Ends the server and starts another on the same folder, at another port.
    pub(crate) async fn restart(&mut self) {
        self.running.take().expect("running").stop().await;
        let running = keystead_kms::start(self.config.as_ref().expect("its own")).await;
        let running = running.expect("it starts again");
        self.at = running.address;
        self.running = Some(running);
    }

    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = tokio::net::TcpStream::connect(self.at).await.expect("connects");
        stream.write_all(bytes).await.expect("sent");
        let mut reply = Vec::new();
        let read = stream.read_to_end(&mut reply);
        let read = tokio::time::timeout(std::time::Duration::from_secs(20), read).await;
        read.expect("in time").expect("read");
        let text = String::from_utf8_lossy(&reply).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let headers = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Answer { status, text: body.to_owned(), headers }
    }

    /// A signed request, changed by `spoil` after it was signed.
    pub(crate) async fn send(
        &self,
        key: &Key,
        service: &str,
        headers: &[(&str, &str)],
        body: &str,
        at_ms: i64,
        spoil: impl FnOnce(String) -> String,
    ) -> Answer {
        let text = self.signed(key, REGION, service, headers, body, at_ms);
        self.raw(spoil(text).as_bytes()).await
    }

    fn signed(
        &self,
        key: &Key,
        region: &str,
        service: &str,
        headers: &[(&str, &str)],
        body: &str,
        at_ms: i64,
    ) -> String {
        let mut all = vec![("host".to_owned(), self.at.to_string())];
        all.extend(headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        let signer = Signer {
            access_key_id: &key.id,
            secret: &key.secret,
            session_token: key.token.as_deref(),
            region,
            service,
        };
        let signed = signer.sign("POST", "/", "", &all, body.as_bytes(), at_ms);
        all.extend(signed);
        let mut text = String::from("POST / HTTP/1.1\r\n");
        for (name, value) in &all {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!(
            "content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ));
        text
    }

    /// Sends a KMS operation and closes the connection.
    pub(crate) async fn send_and_hang_up(&self, key: &Key, operation: &str, input: &Value) {
        let target = format!("TrentService.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", &*target)];
        let text = self.signed(key, REGION, "kms", &headers, &input.to_string(), now_ms());
        let mut stream = tokio::net::TcpStream::connect(self.at).await.expect("connects");
        stream.write_all(text.as_bytes()).await.expect("sent");
    }

    /// A KMS operation.
    pub(crate) async fn kms(&self, key: &Key, operation: &str, input: Value) -> Answer {
        let target = format!("TrentService.{operation}");
        self.json(key, "kms", &target, &input).await
    }

    /// A KMS operation in a Region.
    pub(crate) async fn kms_in(
        &self,
        region: &str,
        key: &Key,
        operation: &str,
        input: &Value,
    ) -> Answer {
        self.json_in(region, key, "kms", &format!("TrentService.{operation}"), input).await
    }

    pub(crate) async fn json_in(
        &self,
        region: &str,
        key: &Key,
        service: &str,
        target: &str,
        input: &Value,
    ) -> Answer {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let body = input.to_string();
        let text = self.signed(key, region, service, &headers, &body, now_ms());
        self.raw(text.as_bytes()).await
    }

    /// An operation in a Region that must succeed.
    pub(crate) async fn good_in(&self, region: &str, operation: &str, input: Value) -> Value {
        let answer = self.kms_in(region, &user(OWNER), operation, &input).await;
        assert_eq!(answer.status, 200, "{operation} {input} in {region}: {}", answer.text);
        answer.json()
    }

    /// A multi-Region key of the customer's with a replica that can be used; their common id.
    pub(crate) async fn make_family(&self, replica_region: &str) -> String {
        let made = self.good_in(REGION, "CreateKey", json!({"MultiRegion": true})).await;
        let id = made["KeyMetadata"]["KeyId"].as_str().expect("an id").to_owned();
        let input = json!({"KeyId": id, "ReplicaRegion": replica_region});
        self.good_in(REGION, "ReplicateKey", input).await;
        self.until_enabled(replica_region, &id).await;
        id
    }

    /// A replica, and a key that changed places with its primary, is past that within a second.
    pub(crate) async fn until_enabled(&self, region: &str, id: &str) {
        for _ in 0..500 {
            let described = self.good_in(region, "DescribeKey", json!({"KeyId": id})).await;
            if described["KeyMetadata"]["KeyState"] == "Enabled" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{id} is not enabled in {region}");
    }

    pub(crate) async fn json(
        &self,
        key: &Key,
        service: &str,
        target: &str,
        input: &Value,
    ) -> Answer {
        self.json_in(REGION, key, service, target, input).await
    }

    /// An action of STS or IAM.
    pub(crate) async fn query(&self, key: &Key, service: &str, fields: &[(&str, &str)]) -> Answer {
        let version = if service == "iam" { "2010-05-08" } else { "2011-06-15" };
        let mut form = keystead_aws::query::Form::new(fields[0].1, version);
        for (name, value) in &fields[1..] {
            form = form.with(name, value);
        }
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        self.send(key, service, &headers, &form.encode(), now_ms(), |t| t).await
    }

    /// A KMS operation that must succeed.
    pub(crate) async fn good(&self, key: &Key, operation: &str, input: Value) -> Value {
        let answer = self.kms(key, operation, input.clone()).await;
        assert_eq!(answer.status, 200, "{operation} {input}: {}", answer.text);
        answer.json()
    }

    /// A key of the customer's with the default policy, or with one.
    pub(crate) async fn make_key(&self, policy: Option<Value>) -> String {
        let input = match policy {
            Some(policy) => json!({ "Policy": policy.to_string() }),
            None => json!({}),
        };
        let made = self.good(&user(OWNER), "CreateKey", input).await;
        made["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned()
    }

    /// A tenant role that the node may assume, with an identity policy for KMS.
    pub(crate) async fn make_role(&self, name: &str) -> String {
        let trust = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"AWS": format!("arn:aws:iam::{PROVIDER}:user/node")}
        }]});
        let operator = user(OPERATOR);
        let made = self
            .query(
                &operator,
                "iam",
                &[
                    ("Action", "CreateRole"),
                    ("RoleName", name),
                    ("AssumeRolePolicyDocument", &trust.to_string()),
                ],
            )
            .await;
        assert_eq!(made.status, 200, "{}", made.text);
        let put = self
            .query(
                &operator,
                "iam",
                &[
                    ("Action", "PutRolePolicy"),
                    ("RoleName", name),
                    ("PolicyName", "keys"),
                    ("PolicyDocument", &statement(&json!("kms:*"))),
                ],
            )
            .await;
        assert_eq!(put.status, 200, "{}", put.text);
        made.element("Arn")
    }

    /// The node as a role.
    pub(crate) async fn assume(&self, role: &str) -> Key {
        let answer = self
            .query(
                &user(NODE),
                "sts",
                &[("Action", "AssumeRole"), ("RoleArn", role), ("RoleSessionName", "test")],
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        Key {
            id: answer.element("AccessKeyId"),
            secret: answer.element("SecretAccessKey"),
            token: Some(answer.element("SessionToken")),
        }
    }
}

/// The brief's policy.
pub(crate) fn policy(role: Option<&str>) -> Value {
    let mut statements = vec![json!({
        "Sid": "Enable IAM user permissions", "Effect": "Allow",
        "Principal": {"AWS": format!("arn:aws:iam::{CUSTOMER}:root")},
        "Action": "kms:*", "Resource": "*"
    })];
    if let Some(role) = role {
        statements.push(json!({
            "Sid": "use", "Effect": "Allow", "Principal": {"AWS": role}, "Resource": "*",
            "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:DescribeKey", "kms:GenerateDataKey*"],
        }));
        statements.push(json!({
            "Sid": "grants", "Effect": "Allow", "Principal": {"AWS": role}, "Resource": "*",
            "Action": ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
        }));
    }
    json!({"Version": "2012-10-17", "Statement": statements})
}

#[allow(clippy::disallowed_methods)] // the client's clock
pub(crate) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.expect("after 1970").as_millis()).expect("fits")
}
