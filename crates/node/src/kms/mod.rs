//! The node's client of KMS and STS: the official SDK, told never to retry.
//!
//! Each thread that asks owns its own [`Kms`], because a pooled connection lives on the runtime
//! that opened it: a stalled provisioning must not hold up a proof. No call here brings a data key
//! into this process but those of [`unwrap`], which use clients of their own.

pub(crate) mod answer;
pub(crate) mod tenant;
pub(crate) mod unwrap;

use crate::config::{ConfigError, Credentials, NodeConfig};
use answer::{DRY_RUN, Failure, Spoken, is_credential_fault, judge_kms, spoken};
use aws_credential_types::Credentials as SdkCredentials;
use aws_sdk_kms::config::{BehaviorVersion, Region, SharedHttpClient};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::operation::decrypt::DecryptOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{GrantConstraints, GrantOperation};
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keystead_types::{EncryptionContext, KeyArn, RoleArn, UserArn, WrappedKey};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tenant::{Purpose, Tenants};
use tracing::debug;

const CONNECT: Duration = Duration::from_millis(400);
const ATTEMPT: Duration = Duration::from_millis(1_500);

/// What every client of this node is made from.
pub(crate) struct Settings {
    pub(crate) endpoint: String,
    pub(crate) region: String,
    pub(crate) user_arn: UserArn,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) materials: Materials,
}

/// Which of a KMS key's materials each wrapped key of a bucket is under, as KMS said when it opened
/// it. Tells when the key has rotated since; forgotten with the process, said again at each opening.
#[derive(Clone, Default)]
pub(crate) struct Materials(Arc<Mutex<HashMap<String, String>>>);

impl Materials {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn learn(&self, wrapped: &WrappedKey, material: &str) {
        self.lock().insert(wrapped.ciphertext.clone(), material.to_owned());
    }
    /// The material's id, once the key was opened.
    pub(crate) fn of(&self, wrapped: &WrappedKey) -> Option<String> {
        self.lock().get(&wrapped.ciphertext).cloned()
    }
}

/// The settings for each Region's KMS and STS. A cluster of two Regions is asked about in both, each
/// at its own endpoint: one that is silent must not hold up the other.
#[derive(Clone)]
pub(crate) struct Everywhere {
    /// The node's own Region.
    pub(crate) own: Arc<Settings>,
    /// The others that the node's settings name.
    pub(crate) others: BTreeMap<keystead_types::Region, Arc<Settings>>,
}

impl Everywhere {
    pub(crate) fn load(config: &NodeConfig) -> Result<Self, ConfigError> {
        let credentials = Arc::new(Credentials::load(&config.credentials)?);
        let of = |region: &keystead_types::Region, endpoint: &str| {
            Arc::new(Settings {
                endpoint: endpoint.to_owned(),
                region: region.to_string(),
                user_arn: config.user_arn.clone(),
                credentials: credentials.clone(),
                materials: Materials::default(),
            })
        };
        let others = config.kms.iter().filter(|(region, _)| **region != config.region);
        Ok(Self {
            own: of(&config.region, config.endpoint()),
            others: others.map(|(region, url)| (region.clone(), of(region, url))).collect(),
        })
    }
}

impl Settings {
    fn user(&self) -> SdkCredentials {
        SdkCredentials::new(
            &self.credentials.access_key_id,
            self.credentials.secret_access_key.as_str(),
            None,
            None,
            "keystead-node",
        )
    }

    fn kms(&self, http: SharedHttpClient, as_whom: SdkCredentials) -> aws_sdk_kms::Client {
        aws_sdk_kms::Client::from_conf(
            aws_sdk_kms::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(self.region.clone()))
                .endpoint_url(&self.endpoint)
                .credentials_provider(as_whom)
                .http_client(http)
                .retry_config(RetryConfig::disabled())
                .timeout_config(timeouts())
                .build(),
        )
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(ATTEMPT)
        .build()
}

/// `idle`: how many connections may wait for another call; none around a key-bearing one.
fn http(idle: usize) -> SharedHttpClient {
    Builder::new()
        // Kept shortly: a restarted KMS must not be met through a dead connection.
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(idle)
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .build_https()
}

/// A made grant.
pub(crate) struct MadeGrant {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) request_id: Option<String>,
}

/// What DescribeKey says that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) symmetric: bool,
    pub(crate) encrypts: bool,
    pub(crate) enabled: bool,
    pub(crate) state: String,
    pub(crate) deletion_date_ms: Option<i64>,
    /// Id of the material that it encrypts under now.
    pub(crate) material: Option<String>,
    pub(crate) request_id: Option<String>,
}

/// One thread's clients.
pub(crate) struct Kms {
    pub(crate) settings: Arc<Settings>,
    http: SharedHttpClient,
    node: aws_sdk_kms::Client,
    tenants: Tenants,
}

type SdkResult<T, E> = Result<T, SdkErrorOf<E>>;

impl Kms {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let http = http(8);
        let node = settings.kms(http.clone(), settings.user());
        let tenants = Tenants::new(&settings, http.clone());
        Self { settings, http, node, tenants }
    }

    /// The clients' credentials, renewed ahead; called now and then, off the renewal path.
    pub(crate) async fn refresh_ahead(&self) {
        self.tenants.refresh_ahead().await;
    }

    /// Drops what is known of a role, so that the next call assumes it again.
    pub(crate) fn forget(&self, role: &RoleArn) {
        self.tenants.forget(role);
    }

    /// A call as the tenant role. Credentials that KMS no longer knows are replaced once.
    pub(crate) async fn as_tenant<T, E, F>(
        &self,
        role: &RoleArn,
        purpose: Purpose,
        call: impl Fn(aws_sdk_kms::Client) -> F,
    ) -> Result<T, CallFault>
    where
        E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::fmt::Debug,
        F: Future<Output = SdkResult<T, E>>,
    {
        let mut again = true;
        loop {
            let credentials =
                self.tenants.credentials(role, purpose).await.map_err(CallFault::Judged)?;
            let client = self.settings.kms(self.http.clone(), credentials);
            match call(client).await {
                Ok(answer) => return Ok(answer),
                Err(error) => match spoken(&error) {
                    Some(said) if again && is_credential_fault(&said.code) => {
                        self.tenants.forget(role);
                        again = false;
                    }
                    Some(said) => return Err(CallFault::Said(said)),
                    None => return Err(CallFault::Judged(silent(&error))),
                },
            }
        }
    }

    /// The cluster's proof: a real Decrypt of its canary as the tenant role. The plaintext
    /// protects nothing.
    pub(crate) async fn canary(&self, role: &RoleArn, wrapped: &WrappedKey) -> Result<(), Failure> {
        let answer = self.decrypt(role, wrapped, None).await?;
        debug!(key = %wrapped.key, request_id = answer.request_id(), "canary decrypted");
        Ok(())
    }

    async fn decrypt(
        &self,
        role: &RoleArn,
        wrapped: &WrappedKey,
        dry_run: Option<bool>,
    ) -> Result<DecryptOutput, CallFault> {
        let blob = decode(wrapped).map_err(CallFault::Judged)?;
        self.as_tenant(role, Purpose::Proof, |client| {
            client
                .decrypt()
                .key_id(wrapped.key.to_string())
                .ciphertext_blob(Blob::new(blob.clone()))
                .set_encryption_context(Some(pairs(&wrapped.context)))
                .set_dry_run(dry_run)
                .send()
        })
        .await
    }

    /// A store's proof: Decrypt with DryRun of its own wrapped key, as the node's user under its
    /// grant. No plaintext travels.
    pub(crate) async fn store(&self, wrapped: &WrappedKey, token: &str) -> Result<(), Failure> {
        let asked = self
            .node
            .decrypt()
            .key_id(wrapped.key.to_string())
            .ciphertext_blob(Blob::new(decode(wrapped)?))
            .set_encryption_context(Some(pairs(&wrapped.context)))
            .grant_tokens(token)
            .dry_run(true)
            .send()
            .await;
        match asked {
            // A server that ignores DryRun has proved as much.
            Ok(_) => Ok(()),
            Err(error) => match spoken(&error) {
                Some(said) if said.code == DRY_RUN => Ok(()),
                Some(said) => Err(judge_kms(said)),
                None => Err(silent(&error)),
            },
        }
    }

    /// A bucket's proof: Decrypt with DryRun of its own wrapped key, as the tenant role, which it is
    /// opened as. No plaintext travels.
    pub(crate) async fn bucket(&self, role: &RoleArn, wrapped: &WrappedKey) -> Result<(), Failure> {
        match self.decrypt(role, wrapped, Some(true)).await {
            Ok(_) => Ok(()),
            Err(CallFault::Said(said)) if said.code == DRY_RUN => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    /// Makes a wrapped key as the tenant role; its plaintext never leaves KMS here.
    pub(crate) async fn make(
        &self,
        role: &RoleArn,
        key: &KeyArn,
        context: &EncryptionContext,
        bytes: i32,
    ) -> Result<WrappedKey, Failure> {
        let answer = self
            .as_tenant(role, Purpose::Provision, |client| {
                client
                    .generate_data_key_without_plaintext()
                    .key_id(key.to_string())
                    .number_of_bytes(bytes)
                    .set_encryption_context(Some(pairs(context)))
                    .send()
            })
            .await?;
        let wrapped = wrapped(key, context, answer.ciphertext_blob())?;
        tracing::info!(%key, request_id = answer.request_id(), "wrapped key made");
        Ok(wrapped)
    }

    /// Makes the grant of a context as the tenant role. The same name answers the same grant.
    pub(crate) async fn create_grant(
        &self,
        role: &RoleArn,
        purpose: Purpose,
        key: &KeyArn,
        context: &EncryptionContext,
        name: &str,
    ) -> Result<MadeGrant, Failure> {
        let constraint = GrantConstraints::builder()
            .set_encryption_context_subset(Some(subset(context)))
            .build();
        let answer = self
            .as_tenant(role, purpose, |client| {
                client
                    .create_grant()
                    .key_id(key.to_string())
                    .grantee_principal(self.settings.user_arn.to_string())
                    .retiring_principal(role.to_string())
                    .operations(GrantOperation::Decrypt)
                    .constraints(constraint.clone())
                    .name(name)
                    .send()
            })
            .await?;
        match (answer.grant_id(), answer.grant_token()) {
            (Some(id), Some(token)) => Ok(MadeGrant {
                id: id.to_owned(),
                token: token.to_owned(),
                request_id: answer.request_id().map(str::to_owned),
            }),
            _ => Err(Failure::Silent { detail: "an answer without GrantId".into() }),
        }
    }

    /// Whether a grant is still there.
    pub(crate) async fn grant_present(
        &self,
        role: &RoleArn,
        key: &KeyArn,
        grant_id: &str,
    ) -> Result<bool, Failure> {
        let asked = self
            .as_tenant(role, Purpose::Diagnose, |client| {
                client.list_grants().key_id(key.to_string()).grant_id(grant_id).send()
            })
            .await;
        match asked {
            Ok(answer) => Ok(answer.grants().iter().any(|g| g.grant_id() == Some(grant_id))),
            // AWS refuses a grant id that the key does not have.
            Err(CallFault::Said(said))
                if said.code == "InvalidGrantIdException" || said.code == "NotFoundException" =>
            {
                Ok(false)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Takes a grant back as the tenant role.
    pub(crate) async fn revoke_grant(
        &self,
        role: &RoleArn,
        purpose: Purpose,
        key: &KeyArn,
        grant_id: &str,
    ) -> Result<Option<String>, Failure> {
        let answer = self
            .as_tenant(role, purpose, |client| {
                client.revoke_grant().key_id(key.to_string()).grant_id(grant_id).send()
            })
            .await?;
        Ok(answer.request_id().map(str::to_owned))
    }

    /// The key as the tenant role sees it.
    pub(crate) async fn describe(
        &self,
        role: &RoleArn,
        purpose: Purpose,
        key: &KeyArn,
    ) -> Result<Described, Failure> {
        use aws_sdk_kms::types::{KeySpec, KeyState, KeyUsageType};
        let answer = self
            .as_tenant(role, purpose, |client| client.describe_key().key_id(key.to_string()).send())
            .await?;
        let Some(meta) = answer.key_metadata() else {
            return Err(Failure::Silent { detail: "an answer without KeyMetadata".into() });
        };
        let state = meta.key_state();
        Ok(Described {
            symmetric: meta.key_spec() == Some(&KeySpec::SymmetricDefault),
            encrypts: meta.key_usage() == Some(&KeyUsageType::EncryptDecrypt),
            enabled: state == Some(&KeyState::Enabled),
            state: state.map_or("unknown", KeyState::as_str).to_owned(),
            deletion_date_ms: meta.deletion_date().and_then(|d| d.to_millis().ok()),
            material: meta.current_key_material_id().map(str::to_owned),
            request_id: answer.request_id().map(str::to_owned),
        })
    }
}

/// What a call as the tenant came to: the wire's words, or a judgement made earlier.
#[derive(Debug)]
pub(crate) enum CallFault {
    Said(Spoken),
    Judged(Failure),
}

impl From<CallFault> for Failure {
    fn from(found: CallFault) -> Self {
        match found {
            CallFault::Said(said) => judge_kms(said),
            CallFault::Judged(failure) => failure,
        }
    }
}

/// A ciphertext that KMS answered, with what it is under.
fn wrapped(
    key: &KeyArn,
    context: &EncryptionContext,
    blob: Option<&Blob>,
) -> Result<WrappedKey, Failure> {
    let blob = blob.map(Blob::as_ref).unwrap_or_default();
    if blob.is_empty() {
        return Err(Failure::Silent { detail: "an answer without CiphertextBlob".into() });
    }
    Ok(WrappedKey { key: key.clone(), ciphertext: STANDARD.encode(blob), context: context.clone() })
}

fn silent<E: std::fmt::Debug>(error: &SdkErrorOf<E>) -> Failure {
    use aws_smithy_runtime_api::client::result::SdkError;
    let detail = match error {
        SdkError::TimeoutError(_) => "no answer within 1.5 s".to_owned(),
        SdkError::DispatchFailure(e) => {
            format!("not reachable: {}", e.as_connector_error().map_or("?".into(), deepest))
        }
        SdkError::ResponseError(_) => "the answer broke off".to_owned(),
        _ => "the call could not be made".to_owned(),
    };
    Failure::Silent { detail }
}

type SdkErrorOf<E> = aws_smithy_runtime_api::client::result::SdkError<
    E,
    aws_smithy_runtime_api::client::orchestrator::HttpResponse,
>;

pub(crate) fn deepest(error: &(impl std::error::Error + 'static)) -> String {
    let mut last: &(dyn std::error::Error + 'static) = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// The context as the SDK wants it.
pub(crate) fn pairs(context: &EncryptionContext) -> HashMap<String, String> {
    context.pairs().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// What a grant is bound to: cluster and store.
fn subset(context: &EncryptionContext) -> HashMap<String, String> {
    use keystead_types::context::PURPOSE;
    pairs(context).into_iter().filter(|(k, _)| k != PURPOSE).collect()
}

fn decode(wrapped: &WrappedKey) -> Result<Vec<u8>, Failure> {
    STANDARD.decode(&wrapped.ciphertext).map_err(|_| Failure::Corrupt {
        detail: "the recorded ciphertext is not base64".into(),
        request_id: None,
    })
}
