//! Tenant roles over IAM: three calls, signed, each safe to repeat. A role that is there already
//! (a crash between IAM's answer and our record) is ours only if it trusts exactly our nodes.

use crate::config::Credentials;
use crate::policy;
use keystead_aws::query::{Form, IAM_VERSION, ReadError, error_of, text_of};
use keystead_aws::sigv4::Signer;
use keystead_types::{Clock, Region, RoleArn, UserArn};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// IAM is global; its signatures carry this Region.
const IAM_REGION: &str = "us-east-1";
const POLICY_NAME: &str = "keystead-kms";
const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Why a role was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoleError {
    #[error("IAM does not answer")]
    Transport(#[from] reqwest::Error),
    #[error("IAM refused {action}: {code}: {message}")]
    Refused { action: &'static str, code: String, message: String },
    #[error("IAM's answer to {action} cannot be read (status {status})")]
    Shape { action: &'static str, status: u16 },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a role {0} exists and does not trust exactly its Regions' nodes; it is left alone")]
    Foreign(RoleArn),
    #[error("no node serves {0}")]
    NoNode(Region),
    #[error("`{0}` is not an endpoint")]
    Endpoint(String),
}

/// The client of IAM.
pub(crate) struct Iam {
    http: reqwest::Client,
    url: String,
    host: String,
    credentials: Credentials,
    clock: Arc<dyn Clock>,
    nodes: BTreeMap<Region, Vec<UserArn>>,
}

impl Iam {
    pub(crate) fn new(
        endpoint: &str,
        credentials: Credentials,
        nodes: BTreeMap<Region, Vec<UserArn>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RoleError> {
        let refuse = || RoleError::Endpoint(endpoint.to_owned());
        let url = reqwest::Url::parse(endpoint).map_err(|_| refuse())?;
        let name = url.host_str().ok_or_else(refuse)?;
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let url = format!("{}/", url.as_str().trim_end_matches('/'));
        Ok(Self { http, url, host, credentials, clock, nodes })
    }

    /// Makes the role with both its policies; fine when it is there and ours.
    pub(crate) async fn make(&self, role: &RoleArn, regions: &[Region]) -> Result<(), RoleError> {
        let mut nodes = Vec::new();
        for region in regions {
            let of = self.nodes.get(region).ok_or_else(|| RoleError::NoNode(region.clone()))?;
            nodes.extend(of.iter().cloned());
        }
        let trust = policy::trust_policy(&nodes);
        let create = Form::new("CreateRole", IAM_VERSION)
            .with("RoleName", role.name())
            .with("AssumeRolePolicyDocument", &trust.to_string())
            .with("Description", "Keystead tenant role");
        match self.call("CreateRole", &create).await {
            Ok(xml) => expect_arn("CreateRole", &xml, role)?,
            Err(RoleError::Refused { code, .. }) if code == "EntityAlreadyExists" => {
                self.check(role, &trust).await?;
            }
            Err(other) => return Err(other),
        }
        let put = Form::new("PutRolePolicy", IAM_VERSION)
            .with("RoleName", role.name())
            .with("PolicyName", POLICY_NAME)
            .with("PolicyDocument", &policy::role_policy(regions).to_string());
        self.call("PutRolePolicy", &put).await.map(drop)
    }

    async fn check(&self, role: &RoleArn, trust: &Value) -> Result<(), RoleError> {
        let form = Form::new("GetRole", IAM_VERSION).with("RoleName", role.name());
        let xml = self.call("GetRole", &form).await?;
        expect_arn("GetRole", &xml, role)?;
        let document = text_of(&xml, "AssumeRolePolicyDocument")?.and_then(|d| percent_decoded(&d));
        let found: Option<Value> = document.and_then(|d| serde_json::from_str(&d).ok());
        if found.as_ref() == Some(trust) { Ok(()) } else { Err(RoleError::Foreign(role.clone())) }
    }

    async fn call(&self, action: &'static str, form: &Form) -> Result<String, RoleError> {
        let body = form.encode();
        let headers = [
            ("host".to_owned(), self.host.clone()),
            ("content-type".to_owned(), CONTENT_TYPE.to_owned()),
        ];
        let signer = Signer {
            access_key_id: &self.credentials.access_key_id,
            secret: &self.credentials.secret_access_key,
            session_token: None,
            region: IAM_REGION,
            service: "iam",
        };
        let now_ms = self.clock.wall_ms();
        let signed = signer.sign("POST", "/", "", &headers, body.as_bytes(), now_ms);
        let mut request = self.http.post(&self.url).header("content-type", CONTENT_TYPE);
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let answer = request.body(body).send().await?;
        let status = answer.status();
        let xml = answer.text().await?;
        if status.is_success() {
            return Ok(xml);
        }
        match error_of(&xml)? {
            Some((code, message)) => Err(RoleError::Refused { action, code, message }),
            None => Err(RoleError::Shape { action, status: status.as_u16() }),
        }
    }
}

fn expect_arn(action: &'static str, xml: &str, role: &RoleArn) -> Result<(), RoleError> {
    match text_of(xml, "Arn")? {
        Some(arn) if arn == role.to_string() => Ok(()),
        _ => Err(RoleError::Shape { action, status: 200 }),
    }
}

/// Undoes RFC 3986 escapes; `None` when it is not UTF-8 or an escape is broken.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let (digits, after) = tail.split_at_checked(2)?;
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            out.push(first);
            rest = tail;
        }
    }
    String::from_utf8(out).ok()
}
