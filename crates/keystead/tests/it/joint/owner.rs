//! The key owner as a client of the AWS wire, written for one purpose: to know the moment at which
//! KMS's answer arrived. The stock AWS CLI and boto3 have tests of their own.

use keystead_aws::sigv4::Signer;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) endpoint: SocketAddr,
    pub(crate) account: String,
    pub(crate) access_key_id: String,
    pub(crate) secret: String,
    pub(crate) region: String,
}

/// One answer of KMS.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) request_id: String,
    /// When it had arrived whole.
    pub(crate) at: Instant,
}

impl Owner {
    /// Calls an operation of KMS; `Err` is a transport fault.
    pub(crate) fn try_call(&self, operation: &str, input: &Value) -> std::io::Result<Answer> {
        let body = serde_json::to_vec(input).expect("JSON serializes");
        #[allow(clippy::disallowed_methods)] // the client's clock
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let mut headers = vec![
            ("host".to_owned(), self.endpoint.to_string()),
            ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target".to_owned(), format!("TrentService.{operation}")),
        ];
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret: &self.secret,
            session_token: None,
            region: &self.region,
            service: "kms",
        };
        let signed = signer.sign("POST", "/", "", &headers, &body, now as i64);
        headers.extend(signed);
        http(self.endpoint, "POST", "/", &headers, &body, Duration::from_secs(5))
    }

    /// Calls an operation that must succeed.
    pub(crate) fn call(&self, operation: &str, input: Value) -> Answer {
        let answer = self.try_call(operation, &input).expect("KMS answers");
        assert_eq!(answer.status, 200, "{operation} {input}: {}", answer.body);
        answer
    }

    /// The brief's key policy for this account and a tenant role; without the role when `None`.
    pub(crate) fn policy(&self, role: Option<&str>) -> String {
        let mut statements = vec![serde_json::json!({
            "Sid": "Enable IAM user permissions", "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{}:root", self.account)},
            "Action": "kms:*", "Resource": "*"
        })];
        if let Some(role) = role {
            statements.push(serde_json::json!({
                "Sid": "Allow Camunda tenant IAM Role basic key access", "Effect": "Allow",
                "Principal": {"AWS": role},
                "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:DescribeKey", "kms:GenerateDataKey*"],
                "Resource": "*"
            }));
            statements.push(serde_json::json!({
                "Sid": "Allow Camunda tenant IAM Role to create grants for provisioning encrypted EBS volumes",
                "Effect": "Allow", "Principal": {"AWS": role},
                "Action": ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"], "Resource": "*"
            }));
        }
        serde_json::json!({"Version": "2012-10-17", "Statement": statements}).to_string()
    }

    /// Makes a key that a tenant role may use; answers its ARN.
    pub(crate) fn make_key(&self, role: &str) -> String {
        let made = self.call(
            "CreateKey",
            serde_json::json!({"Policy": self.policy(Some(role)), "Description": "joint"}),
        );
        made.body["KeyMetadata"]["Arn"].as_str().expect("a key has an ARN").to_owned()
    }
}

/// One HTTP/1.1 exchange on a connection of its own.
pub(crate) fn http(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
    timeout: Duration,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, timeout)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()));
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    let at = Instant::now();
    let broken = || std::io::Error::new(std::io::ErrorKind::InvalidData, "no whole HTTP answer");
    let end = reply.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&reply[..end]).to_string();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(broken)?;
    let header = |name: &str| {
        head.lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim().to_owned())
    };
    let length = header("content-length").and_then(|l| l.parse::<usize>().ok());
    if length.is_some_and(|length| reply.len() - end - 4 < length) {
        return Err(broken());
    }
    let text = &reply[end + 4..];
    let body = serde_json::from_slice(text)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(text).to_string()));
    Ok(Answer { status, body, request_id: header("x-amzn-requestid").unwrap_or_default(), at })
}
