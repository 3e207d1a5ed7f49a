//! Sessions of the tenant roles: assumed once, kept, and assumed again at half their life, off
//! the renewal path. The session's name says what the call was for, so that the owner's trail does.

use super::answer::{Failure, judge_sts, spoken};
use super::{Settings, silent, timeouts};
use aws_credential_types::Credentials as SdkCredentials;
use aws_sdk_sts::config::{BehaviorVersion, Region, SharedHttpClient};
use aws_smithy_types::retry::RetryConfig;
use keystead_types::{Boot, RoleArn};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Proofs of a lease.
    Proof,
    /// Making canary, wrapped keys and grants.
    Provision,
    /// Opening buckets and S3 credentials.
    Open,
    /// Finding the cause of a refusal.
    Diagnose,
    /// Trying a key before it is associated.
    Preflight,
}

impl Purpose {
    fn session(self) -> &'static str {
        match self {
            Self::Proof => "keystead-proof",
            Self::Provision => "keystead-provision",
            Self::Open => "keystead-open",
            Self::Diagnose => "keystead-diagnose",
            Self::Preflight => "keystead-preflight",
        }
    }
}

const LIFE: Duration = Duration::from_secs(3600);

struct Session {
    credentials: SdkCredentials,
    taken: Boot,
}

/// The sessions of one thread.
pub(super) struct Tenants {
    sts: aws_sdk_sts::Client,
    sessions: Mutex<HashMap<(RoleArn, Purpose), Session>>,
}

impl Tenants {
    pub(super) fn new(settings: &Settings, http: SharedHttpClient) -> Self {
        let sts = aws_sdk_sts::Client::from_conf(
            aws_sdk_sts::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(settings.region.clone()))
                .endpoint_url(&settings.endpoint)
                .credentials_provider(settings.user())
                .http_client(http)
                .retry_config(RetryConfig::disabled())
                .timeout_config(timeouts())
                .build(),
        );
        Self { sts, sessions: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(RoleArn, Purpose), Session>> {
        // A panic while holding it leaves a whole map behind: nothing is half written.
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The kept session, or a new one.
    pub(super) async fn credentials(
        &self,
        role: &RoleArn,
        purpose: Purpose,
    ) -> Result<SdkCredentials, Failure> {
        let now = crate::time::boot();
        let kept = self.lock().get(&(role.clone(), purpose)).and_then(|s| {
            (now.since(s.taken) < LIFE - Duration::from_secs(60)).then(|| s.credentials.clone())
        });
        match kept {
            Some(credentials) => Ok(credentials),
            None => self.assume(role, purpose).await,
        }
    }

    async fn assume(&self, role: &RoleArn, purpose: Purpose) -> Result<SdkCredentials, Failure> {
        let taken = crate::time::boot();
        let asked = self
            .sts
            .assume_role()
            .role_arn(role.to_string())
            .role_session_name(purpose.session())
            .send()
            .await;
        let answer = asked.map_err(|error| match spoken(&error) {
            Some(said) => judge_sts(said),
            None => silent(&error),
        })?;
        let Some(given) = answer.credentials() else {
            return Err(Failure::Silent { detail: "an answer without Credentials".into() });
        };
        let credentials = SdkCredentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            None,
            "keystead-tenant",
        );
        let session = Session { credentials: credentials.clone(), taken };
        self.lock().insert((role.clone(), purpose), session);
        Ok(credentials)
    }

    pub(super) fn forget(&self, role: &RoleArn) {
        self.lock().retain(|(r, _), _| r != role);
    }

    /// Renews the proofs' sessions that are past half their life; a failure keeps the old one.
    pub(super) async fn refresh_ahead(&self) {
        let now = crate::time::boot();
        let old: Vec<_> = self
            .lock()
            .iter()
            .filter(|((_, p), s)| *p == Purpose::Proof && now.since(s.taken) > LIFE / 2)
            .map(|(k, _)| k.clone())
            .collect();
        for (role, purpose) in old {
            if let Err(error) = self.assume(&role, purpose).await {
                tracing::debug!(%role, %error, "the session is not renewed yet");
            }
        }
    }
}
