//! The client's side of S3's forms.

use super::chain::{Chain, Hex};
use super::signer::Signer;
use super::{HttpRequest, Payload, canonical, presigned, trailer};
use aws_lc_rs::digest::{Context, SHA256, digest};
use std::sync::Arc;

impl Signer<'_> {
    /// [`Signer::sign`] as S3 wants it: `x-amz-content-sha256` is added, and says how the body is
    /// bound. For a chunked body `headers` tell its decoded length and its trailers, and
    /// [`Signer::chunks`] goes on with the body.
    pub fn sign_s3(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(String, String)],
        payload: Payload,
        now_ms: i64,
    ) -> Vec<(String, String)> {
        let declared = ("x-amz-content-sha256".to_owned(), payload.text().into_owned());
        let mut all = headers.to_vec();
        all.push(declared.clone());
        let mut added = self.sign_hash(method, path, query, &all, &declared.1, now_ms);
        added.push(declared);
        added
    }

    /// The query of a URL that needs no header but these: all of them are signed, `host` must be
    /// among them. The body is not bound.
    pub fn presign(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(String, String)],
        expires_s: u32,
        now_ms: i64,
    ) -> String {
        let date = canonical::amz_date(now_ms);
        let day = date.get(..8).unwrap_or_default();
        let scope = self.scope(day);
        let headers: Vec<(String, String)> =
            headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone())).collect();
        let mut names: Vec<&str> = headers.iter().map(|(n, _)| n.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let credential = format!("{}/{scope}", self.access_key_id);
        let ours = presigned::parameters(
            &credential,
            &date,
            expires_s,
            &names.join(";"),
            self.session_token,
        );
        let query = if query.is_empty() { ours } else { format!("{query}&{ours}") };
        let req = HttpRequest { method, path, query: &query, headers: &headers, body: &[] };
        let hash = Payload::Unsigned.text();
        let text = canonical::string_to_sign(&req, &names, &hash, &date, &scope);
        let signature = self.key(day).signature(text.as_bytes());
        format!("{query}&X-Amz-Signature={signature}")
    }

    /// Goes on with a chunked body, from the `authorization` that [`Signer::sign_s3`] made at the
    /// same moment; `None` if it ends in no signature.
    pub fn chunks(&self, authorization: &str, now_ms: i64) -> Option<ChunkSigner> {
        let (_, seed) = authorization.rsplit_once("Signature=")?;
        let seed = Hex::read(seed.as_bytes())?;
        let date = canonical::amz_date(now_ms);
        let day = date.get(..8)?;
        let chain = Chain::new(Arc::new(self.key(day)), &date, &self.scope(day), seed);
        Some(ChunkSigner { chain })
    }
}

/// Frames and signs the chunks of a body.
pub struct ChunkSigner {
    chain: Chain,
}

impl ChunkSigner {
    /// What goes before the next chunk's data; CR LF goes after it. The last chunk is empty, and
    /// after its head comes CR LF, or the trailers.
    pub fn head(&mut self, data: &[u8]) -> String {
        let signature = self.chain.chunk(&digest(&SHA256, data));
        let signature = String::from_utf8_lossy(signature.as_bytes()).into_owned();
        format!("{:x};chunk-signature={signature}\r\n", data.len())
    }

    /// The signed trailers, with the CR LF that ends the body.
    pub fn trailers(&mut self, trailers: &[(&str, &str)]) -> String {
        let mut lines = Context::new(&SHA256);
        let mut text = String::new();
        for (name, value) in trailers {
            lines.update(format!("{name}:{value}\n").as_bytes());
            text.push_str(&format!("{name}:{value}\r\n"));
        }
        let signature = self.chain.trailers(&lines.finish());
        let signature = String::from_utf8_lossy(signature.as_bytes());
        format!("{text}{}:{signature}\r\n\r\n", trailer::SIGNATURE)
    }
}
