//! The signing key and the client's side.

use super::chain::Hex;
use super::{ALGORITHM, HttpRequest, TERMINATOR, canonical};
use aws_lc_rs::hmac;

/// The key of one (secret, date, Region, service).
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// Derives the key; `date` is `yyyymmdd`.
    pub fn derive(secret: &str, date: &str, region: &str, service: &str) -> Self {
        let step = |key: &[u8], text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
        };
        let first = step(format!("AWS4{secret}").as_bytes(), date);
        let region_key = step(first.as_ref(), region);
        let service_key = step(region_key.as_ref(), service);
        let last = step(service_key.as_ref(), TERMINATOR);
        Self(hmac::Key::new(hmac::HMAC_SHA256, last.as_ref()))
    }

    pub(super) fn signature(&self, string_to_sign: &[u8]) -> String {
        hex::encode(hmac::sign(&self.0, string_to_sign))
    }

    /// The signature of a text that comes in parts: nothing is put together for it.
    pub(super) fn signature_of_parts(&self, parts: &[&[u8]]) -> Hex {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        Hex::of(context.sign().as_ref())
    }
}

/// Signs requests of our own clients.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// Access key id.
    pub access_key_id: &'a str,
    /// Secret access key.
    pub secret: &'a str,
    /// Session token of temporary credentials.
    pub session_token: Option<&'a str>,
    /// Region of the scope.
    pub region: &'a str,
    /// Service of the scope: `kms`, `sts`, `iam`, `cloudtrail`, `s3`.
    pub service: &'a str,
}

impl Signer<'_> {
    /// The headers to add to a request. `headers` are all headers that the request will carry,
    /// names in any case, `host` among them; all are signed but `authorization` and `user-agent`.
    pub fn sign(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(String, String)],
        body: &[u8],
        now_ms: i64,
    ) -> Vec<(String, String)> {
        self.sign_hash(method, path, query, headers, &canonical::hex_sha256(body), now_ms)
    }

    /// [`Signer::sign`] by what stands for the body in the canonical request.
    pub(super) fn sign_hash(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(String, String)],
        body_hash: &str,
        now_ms: i64,
    ) -> Vec<(String, String)> {
        let date = canonical::amz_date(now_ms);
        let mut added = vec![("x-amz-date".to_owned(), date.clone())];
        if let Some(token) = self.session_token {
            added.push(("x-amz-security-token".to_owned(), token.to_owned()));
        }
        let skip = ["authorization", "user-agent", "x-amz-date", "x-amz-security-token"];
        let mut all: Vec<(String, String)> = headers
            .iter()
            .map(|(n, v)| (n.to_ascii_lowercase(), v.clone()))
            .filter(|(n, _)| !skip.contains(&n.as_str()))
            .collect();
        all.extend(added.iter().cloned());
        let mut names: Vec<&str> = all.iter().map(|(n, _)| n.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let day = date.get(..8).unwrap_or_default();
        let scope = self.scope(day);
        let req = HttpRequest { method, path, query, headers: &all, body: &[] };
        let text = canonical::string_to_sign(&req, &names, body_hash, &date, &scope);
        let key = self.key(day);
        added.push((
            "authorization".to_owned(),
            format!(
                "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={}",
                self.access_key_id,
                names.join(";"),
                key.signature(text.as_bytes())
            ),
        ));
        added
    }

    pub(super) fn scope(&self, day: &str) -> String {
        format!("{day}/{}/{}/{TERMINATOR}", self.region, self.service)
    }

    pub(super) fn key(&self, day: &str) -> SigningKey {
        SigningKey::derive(self.secret, day, self.region, self.service)
    }
}
