//! CloudTrail's LookupEvents over the AWS wire: a small signed client.

use crate::failure::Failure;
use anyhow::{Context, Result};
use keystead_aws::cloudtrail::TARGET_PREFIX;
use keystead_aws::sigv4::Signer;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const PAGE: usize = 50;
/// So many pages are turned for records that a filter of ours lets through.
const MOST_PAGES: usize = 400;

/// Whom to ask, and as whom.
pub(crate) struct Wire {
    endpoint: String,
    access_key_id: String,
    secret: String,
    session_token: Option<String>,
}

impl Wire {
    /// From the environment; `None` when it does not say both. AWS's own names come first, then
    /// the key owner's of the file that `keystead dev --env` wrote.
    pub(crate) fn find(env: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name: &str| env(name).filter(|v| !v.is_empty());
        let endpoint = set("KEYSTEAD_AWS_ENDPOINT").or_else(|| set("AWS_ENDPOINT_URL"))?;
        let pair = |prefix: &str| {
            let id = set(&format!("{prefix}AWS_ACCESS_KEY_ID"))?;
            Some((id, set(&format!("{prefix}AWS_SECRET_ACCESS_KEY"))?))
        };
        let ((access_key_id, secret), session_token) = match pair("") {
            Some(own) => (own, set("AWS_SESSION_TOKEN")),
            None => (pair("KEYSTEAD_CUSTOMER_")?, None),
        };
        Some(Self { endpoint, access_key_id, secret, session_token })
    }

    /// The newest `lines` records that fit, oldest first.
    pub(crate) async fn newest(
        &self,
        region: &str,
        filter: &super::audit::Filter,
        lines: usize,
    ) -> Result<VecDeque<Value>> {
        let mut found = VecDeque::new();
        let mut token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut ask = json!({ "MaxResults": PAGE.min(lines.max(1)) });
            // CloudTrail takes one attribute; the other is looked at here.
            let attribute = filter.key.as_ref().map(|key| ("ResourceName", key));
            let attribute = attribute.or(filter.name.as_ref().map(|name| ("EventName", name)));
            if let Some((key, value)) = attribute {
                ask["LookupAttributes"] = json!([{"AttributeKey": key, "AttributeValue": value}]);
            }
            if let Some(token) = &token {
                ask["NextToken"] = json!(token);
            }
            let answer = self.call(region, &ask.to_string()).await?;
            for event in answer["Events"].as_array().into_iter().flatten() {
                let text = event["CloudTrailEvent"].as_str().unwrap_or_default();
                let record: Value = serde_json::from_str(text).context("read an event")?;
                if filter.fits(&record) && found.len() < lines {
                    found.push_front(record);
                }
            }
            token = answer["NextToken"].as_str().map(str::to_owned);
            if token.is_none() || found.len() >= lines {
                break;
            }
        }
        Ok(found)
    }

    async fn call(&self, region: &str, body: &str) -> Result<Value> {
        let fix = "correct KEYSTEAD_AWS_ENDPOINT, or read the folder by --dir";
        let refuse = || Failure::new(format!("`{}` is no endpoint", self.endpoint)).fix(fix);
        let url = reqwest::Url::parse(&self.endpoint).map_err(|_| refuse())?;
        let name = url.host_str().ok_or_else(refuse)?;
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let target = format!("{TARGET_PREFIX}LookupEvents");
        let headers =
            [("host", host.as_str()), ("content-type", CONTENT_TYPE), ("x-amz-target", &target)]
                .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret: &self.secret,
            session_token: self.session_token.as_deref(),
            region,
            service: "cloudtrail",
        };
        let now = crate::clock::wall_ms();
        let signed = signer.sign("POST", "/", "", &headers, body.as_bytes(), now);
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("make an HTTP client")?;
        let mut request = http.post(url.join("/").unwrap_or(url));
        for (name, value) in headers.into_iter().skip(1).chain(signed) {
            request = request.header(name, value);
        }
        let answer = request.body(body.to_owned()).send().await.map_err(|e| {
            Failure::new(format!("{} does not answer", self.endpoint))
                .why(super::innermost(&e))
                .fix(fix)
        })?;
        let status = answer.status();
        let text = answer.text().await.context("read the answer to LookupEvents")?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() && value["Events"].is_array() {
            return Ok(value);
        }
        let word = |names: [&str; 2]| names.iter().find_map(|n| value[*n].as_str()).unwrap_or("-");
        let kind = word(["__type", "code"]).rsplit('#').next().unwrap_or_default();
        let message = word(["message", "Message"]);
        Err(Failure::new(format!("LookupEvents was refused ({})", status.as_u16()))
            .why(format!("{kind}: {message}"))
            .fix(format!(
                "the user of {} needs cloudtrail:LookupEvents; or read the folder by --dir",
                self.access_key_id
            ))
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(set: &[&str]) -> Option<Wire> {
        Wire::find(|name| set.contains(&name).then(|| format!("value of {name}")))
    }

    #[test]
    fn aws_names_come_before_the_env_files() {
        let customer =
            ["KEYSTEAD_CUSTOMER_AWS_ACCESS_KEY_ID", "KEYSTEAD_CUSTOMER_AWS_SECRET_ACCESS_KEY"];
        assert!(find(&customer).is_none(), "without an endpoint");
        assert!(find(&["KEYSTEAD_AWS_ENDPOINT", "AWS_ACCESS_KEY_ID"]).is_none(), "half a pair");
        let mut set = vec!["KEYSTEAD_AWS_ENDPOINT"];
        set.extend(customer);
        let wire = find(&set).expect("the owner's");
        assert_eq!(wire.access_key_id, format!("value of {}", customer[0]));
        set.extend(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]);
        let wire = find(&set).expect("AWS's own");
        assert_eq!(wire.access_key_id, "value of AWS_ACCESS_KEY_ID");
        assert!(wire.session_token.is_some());
    }
}
