//! The call of `Keystead.Watch`.

use crate::calls::Kms;
use crate::ops::Body;
use keystead_aws::{AwsError, error, watch};
use std::time::Duration;

impl Kms {
    /// Answers a caller who may watch.
    pub(crate) async fn watch(&self, body: &[u8]) -> Result<Body, AwsError> {
        let request: watch::WatchRequest = serde_json::from_slice(body)
            .map_err(|fault| error::serialization(Some(fault.to_string())))?;
        if request.watched.len() > watch::MAX_WATCHED {
            let most = watch::MAX_WATCHED;
            return Err(error::validation(format!("At most {most} keys can be watched.")));
        }
        let wait = Duration::from_millis(request.wait_millis.min(watch::MAX_WAIT_MILLIS));
        let (sequence, mut named) = self.hub.wait(request.since, &request.watched, wait).await;
        named.extend(self.time_driven(&request.watched));
        named.sort();
        named.dedup();
        let answer = watch::WatchResponse {
            sequence,
            epoch: self.store.epoch.clone(),
            named,
            scheduler_time_ms: self.scheduler_ms(),
            head: self.trail.head(),
        };
        serde_json::to_value(answer).map(Body::Json).map_err(|_| error::internal())
    }

    /// Keys whose answer may change with the clock alone: a policy looks at the time. Named every
    /// time, so that a proof finds out.
    fn time_driven(&self, watched: &[watch::Watched]) -> Vec<String> {
        let state = self.store.state();
        let mut found = Vec::new();
        for one in watched {
            let by_role = state.roles.get(&one.role_arn).is_some_and(|role| role.timed);
            let key = one.key_arn.parse().ok().and_then(|arn| state.keys.get(&arn));
            if by_role || key.is_some_and(|key| key.timed) {
                found.push(one.key_arn.clone());
            }
        }
        found
    }
}
