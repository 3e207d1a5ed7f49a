//! The typed client of the API; the command line and the console use nothing else. It retries
//! nothing, and an error keeps the problem document.

use crate::wire::*;
use keystead_types::{Assignment, ClusterId, DocumentId, NodeStatus, PreflightId, VolumeId};
use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, time::Duration};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Control said no.
    #[error("{} ({})", .0.detail, .0.status)]
    Problem(Box<Problem>),
    /// Control does not answer.
    #[error("{}", if .0.is_builder() { "the address of the API or the token cannot be used" } else { "control does not answer" })]
    Transport(#[from] reqwest::Error),
    /// It answered something else than its API says.
    #[error("control answered {status} with something that is not its API: {reason}")]
    Shape {
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// True when the address or the token is of a form that no call can be made with.
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::Transport(e) if e.is_builder())
    }
    /// The problem document, when control sent one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }
}

/// The client.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

impl Client {
    /// A client of the API at `base` (`http://127.0.0.1:7440`).
    pub fn new(base: &str, token: &str) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(75))
            .build()?;
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            token: token.trim().to_owned(),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let mut request =
            self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let bytes = answer.bytes().await?.to_vec();
        if status.is_success() {
            return Ok((status, bytes));
        }
        Err(match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(e) => ClientError::Shape { status: status.as_u16(), reason: e.to_string() },
        })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<T, ClientError> {
        let (status, bytes) = self.send(method, path, body).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| ClientError::Shape { status: status.as_u16(), reason: e.to_string() })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Who the token speaks for.
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.get("/v1/whoami").await
    }
    /// Makes an organization; platform token.
    pub async fn create_organization(&self, name: &str) -> Result<OrganizationView, ClientError> {
        let body = CreateOrganization { name: name.to_owned() };
        self.call(Method::POST, "/v1/organizations", Some(&body)).await
    }
    /// Every organization; platform token.
    pub async fn organizations(&self) -> Result<Vec<OrganizationView>, ClientError> {
        self.get("/v1/organizations").await
    }
    /// Makes a cluster.
    pub async fn create_cluster(&self, body: &CreateCluster) -> Result<ClusterView, ClientError> {
        self.call(Method::POST, "/v1/clusters", Some(body)).await
    }
    /// The organization's clusters.
    pub async fn clusters(&self) -> Result<Vec<ClusterView>, ClientError> {
        self.get("/v1/clusters").await
    }
    /// One cluster, by id or name.
    pub async fn cluster(&self, id_or_name: &str) -> Result<ClusterView, ClientError> {
        self.get(&format!("/v1/clusters/{}", segment(id_or_name))).await
    }
    /// Answers when the phase is `until`, or changes when `until` is absent, or after `wait`.
    pub async fn watch(
        &self,
        id_or_name: &str,
        until: Option<Phase>,
        wait: Duration,
    ) -> Result<ClusterView, ClientError> {
        let until = until.map(|p| format!("&until={p}")).unwrap_or_default();
        let ms = wait.as_millis().min(60_000);
        let id = segment(id_or_name);
        self.get(&format!("/v1/clusters/{id}/watch?timeout_ms={ms}{until}")).await
    }
    /// Has the node of the key's Region try it as the tenant role.
    pub async fn preflight(
        &self,
        id_or_name: &str,
        key_arn: &str,
    ) -> Result<PreflightView, ClientError> {
        let body = KeyArns { key_arns: vec![key_arn.to_owned()] };
        let path = format!("/v1/clusters/{}/preflights", segment(id_or_name));
        self.call(Method::POST, &path, Some(&body)).await
    }
    /// What the node found.
    pub async fn preflight_result(
        &self,
        id_or_name: &str,
        preflight: &PreflightId,
    ) -> Result<PreflightView, ClientError> {
        self.get(&format!("/v1/clusters/{}/preflights/{preflight}", segment(id_or_name))).await
    }
    /// Ties the cluster to its keys, once and for all.
    pub async fn associate(
        &self,
        id_or_name: &str,
        body: &Associate,
    ) -> Result<ClusterView, ClientError> {
        let path = format!("/v1/clusters/{}/binding", segment(id_or_name));
        self.call(Method::PUT, &path, Some(body)).await
    }
    /// The cluster's volumes.
    pub async fn volumes(&self, id_or_name: &str) -> Result<Vec<VolumeView>, ClientError> {
        self.get(&format!("/v1/clusters/{}/volumes", segment(id_or_name))).await
    }
    /// One volume.
    pub async fn volume(&self, volume: &VolumeId) -> Result<VolumeView, ClientError> {
        self.get(&format!("/v1/volumes/{volume}")).await
    }
    /// Asks for a new grant after the old one was revoked.
    pub async fn regrant(&self, volume: &VolumeId) -> Result<VolumeView, ClientError> {
        self.call(Method::POST, &format!("/v1/volumes/{volume}/regrant"), None::<&()>).await
    }
    /// The cluster's buckets.
    pub async fn buckets(&self, id_or_name: &str) -> Result<Vec<BucketView>, ClientError> {
        self.get(&format!("/v1/clusters/{}/buckets", segment(id_or_name))).await
    }
    /// The cluster's S3 access keys.
    pub async fn s3_keys(&self, id_or_name: &str) -> Result<Vec<S3KeyView>, ClientError> {
        self.get(&format!("/v1/clusters/{}/s3-keys", segment(id_or_name))).await
    }
    /// Makes an S3 access key; the answer alone has its secret.
    pub async fn create_s3_key(
        &self,
        id_or_name: &str,
        wanted: &CreateS3Key,
    ) -> Result<S3KeyView, ClientError> {
        let path = format!("/v1/clusters/{}/s3-keys", segment(id_or_name));
        self.call(Method::POST, &path, Some(wanted)).await
    }
    /// Makes a successor and ends the old key after the overlap.
    pub async fn rotate_s3_key(
        &self,
        id_or_name: &str,
        access_key_id: &str,
        wanted: &RotateS3Key,
    ) -> Result<S3KeyView, ClientError> {
        let (cluster, key) = (segment(id_or_name), segment(access_key_id));
        let path = format!("/v1/clusters/{cluster}/s3-keys/{key}/rotate");
        self.call(Method::POST, &path, Some(wanted)).await
    }
    /// Ends an S3 access key.
    pub async fn revoke_s3_key(
        &self,
        id_or_name: &str,
        access_key_id: &str,
    ) -> Result<(), ClientError> {
        let (cluster, key) = (segment(id_or_name), segment(access_key_id));
        let path = format!("/v1/clusters/{cluster}/s3-keys/{key}");
        self.send(Method::DELETE, &path, None::<&()>).await.map(drop)
    }
    /// A new document's id and a link to put it.
    pub async fn create_document(
        &self,
        id_or_name: &str,
        wanted: &CreateDocument,
    ) -> Result<DocumentView, ClientError> {
        let path = format!("/v1/clusters/{}/documents", segment(id_or_name));
        self.call(Method::POST, &path, Some(wanted)).await
    }
    /// A page of documents, behind one.
    pub async fn documents(
        &self,
        id_or_name: &str,
        after: Option<&DocumentId>,
    ) -> Result<DocumentPage, ClientError> {
        let after = after.map(|id| format!("?after={id}")).unwrap_or_default();
        self.get(&format!("/v1/clusters/{}/documents{after}", segment(id_or_name))).await
    }
    /// One document, with links to get it.
    pub async fn document(
        &self,
        id_or_name: &str,
        document: &DocumentId,
    ) -> Result<DocumentView, ClientError> {
        self.get(&format!("/v1/clusters/{}/documents/{document}", segment(id_or_name))).await
    }
    /// A link to get a document, to be passed on.
    pub async fn link_document(
        &self,
        id_or_name: &str,
        document: &DocumentId,
        wanted: &CreateLink,
    ) -> Result<LinkView, ClientError> {
        let path = format!("/v1/clusters/{}/documents/{document}/links", segment(id_or_name));
        self.call(Method::POST, &path, Some(wanted)).await
    }
    /// Removes a document.
    pub async fn remove_document(
        &self,
        id_or_name: &str,
        document: &DocumentId,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/clusters/{}/documents/{document}", segment(id_or_name));
        self.send(Method::DELETE, &path, None::<&()>).await.map(drop)
    }
    /// What is wrong and how it is repaired.
    pub async fn why(&self, id_or_name: &str) -> Result<WhyView, ClientError> {
        self.get(&format!("/v1/clusters/{}/why", segment(id_or_name))).await
    }
    /// The key policy to put on the owner's key.
    pub async fn key_policy(
        &self,
        id_or_name: &str,
        customer_account: &str,
    ) -> Result<serde_json::Value, ClientError> {
        let (id, account) = (segment(id_or_name), segment(customer_account));
        self.get(&format!("/v1/clusters/{id}/key-policy?customer_account={account}")).await
    }
    /// The node's desired state, when it is newer than `after`.
    pub async fn assignment(
        &self,
        region: &str,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<Option<Assignment>, ClientError> {
        let after = after.map(|g| format!("&after={g}")).unwrap_or_default();
        let (region, ms) = (segment(region), wait.as_millis().min(60_000));
        let path = format!("/v1/node/assignment?region={region}&wait_ms={ms}{after}");
        let (status, bytes) = self.send(Method::GET, &path, None::<&()>).await?;
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| ClientError::Shape { status: status.as_u16(), reason: e.to_string() })
    }
    /// Reports what the node observed.
    pub async fn put_status(&self, status: &NodeStatus) -> Result<(), ClientError> {
        self.send(Method::PUT, "/v1/node/status", Some(status)).await.map(drop)
    }
    /// Reads an id or name as a cluster id, for those who hold one.
    pub fn cluster_id(text: &str) -> Option<ClusterId> {
        text.parse().ok()
    }
}

/// One path segment or query value; everything but letters, digits, `-`, `.` and `_` is escaped.
fn segment(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}
