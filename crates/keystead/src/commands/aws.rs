//! The AWS wire as the owner's commands speak it: JSON calls, signed, each sent once.

use crate::failure::Failure;
use anyhow::{Context, Result};
use keystead_aws::sigv4::Signer;
use reqwest::StatusCode;
use serde_json::Value;
use std::time::Duration;

/// AWS's own KMS.
const AWS_KMS: &str = "https://kms.{region}.amazonaws.com";

/// Whom to ask, and as whom.
pub(crate) struct Wire {
    /// `{region}` in it stands for the Region of the call.
    endpoint: String,
    access_key_id: String,
    secret: String,
    session_token: Option<String>,
}

/// Which operation of which service.
pub(crate) struct Call<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    /// Value of X-Amz-Target.
    pub(crate) target: &'a str,
    pub(crate) content_type: &'a str,
    /// What to do when the endpoint cannot be used.
    pub(crate) fix: &'a str,
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

    /// The same for KMS, which AWS itself serves at one address a Region where nothing else is said.
    pub(crate) fn of_kms(env: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name: &str| env(name).filter(|v| !v.is_empty());
        Self::find(|name| match name {
            "KEYSTEAD_AWS_ENDPOINT" => set(name).or_else(|| set("AWS_ENDPOINT_URL_KMS")),
            "AWS_ENDPOINT_URL" => set(name).or_else(|| Some(AWS_KMS.to_owned())),
            _ => set(name),
        })
    }

    /// Whose key signs.
    pub(crate) fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// Status and document; an error when nothing was answered.
    pub(crate) async fn call(&self, call: &Call<'_>, ask: &Value) -> Result<(StatusCode, Value)> {
        let endpoint = self.endpoint.replace("{region}", call.region);
        let refuse = || Failure::new(format!("`{endpoint}` is no endpoint")).fix(call.fix);
        let url = reqwest::Url::parse(&endpoint).map_err(|_| refuse())?;
        let name = url.host_str().ok_or_else(refuse)?;
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let headers = [
            ("host", host.as_str()),
            ("content-type", call.content_type),
            ("x-amz-target", call.target),
        ]
        .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret: &self.secret,
            session_token: self.session_token.as_deref(),
            region: call.region,
            service: call.service,
        };
        let (body, now) = (ask.to_string(), crate::clock::wall_ms());
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
        let answer = request.body(body).send().await.map_err(|e| {
            Failure::new(format!("{endpoint} does not answer"))
                .why(super::innermost(&e))
                .fix(call.fix)
        })?;
        let status = answer.status();
        let text = answer.text().await.context("read the answer")?;
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }
}

/// AWS's code and words in a refusal.
pub(crate) fn refusal(answer: &Value) -> String {
    let word = |names: [&str; 2]| names.iter().find_map(|n| answer[*n].as_str()).unwrap_or("-");
    let kind = word(["__type", "code"]).rsplit('#').next().unwrap_or_default();
    format!("{kind}: {}", word(["message", "Message"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(set: &[&str]) -> Option<Wire> {
        Wire::find(|name| set.contains(&name).then(|| format!("value of {name}")))
    }

    #[test]
    fn awss_own_kms_is_asked_where_nothing_else_is_said() {
        let pair = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        let endpoint = |set: &[&str]| {
            let all = [&pair, set].concat();
            Wire::of_kms(|name| all.contains(&name).then(|| name.to_owned())).map(|w| w.endpoint)
        };
        assert_eq!(endpoint(&[]).as_deref(), Some(AWS_KMS));
        assert_eq!(endpoint(&["AWS_ENDPOINT_URL"]).as_deref(), Some("AWS_ENDPOINT_URL"));
        let both = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"];
        assert_eq!(endpoint(&both).as_deref(), Some("AWS_ENDPOINT_URL_KMS"));
        assert!(Wire::of_kms(|_| None).is_none(), "without a credential");
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
