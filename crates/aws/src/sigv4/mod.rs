//! Signature version 4: read, verify, make.
//!
//! [`parse`] reads who claims to have signed; the server looks the secret up; [`verify`] decides.
//! Host and every `x-amz-*` header sent must be signed, Host must be one of the server's own names
//! (a request recorded elsewhere is refused), the clock may differ by five minutes either way, and
//! the signature is compared in constant time. This pair takes the header form alone, with the
//! whole body at hand: presigned URLs and chunked bodies are S3's, and are taken by its own pair,
//! [`parse_s3`] and [`verify_s3`].

mod body;
mod canonical;
mod chain;
mod chunked;
mod fault;
#[cfg(any(test, fuzzing))]
pub(crate) mod owned;
mod payload;
mod presigned;
mod s3;
mod s3_fault;
mod s3_signer;
mod signer;
#[cfg(test)]
mod tests;
mod trailer;

pub use body::{BodyCheck, BodyFault};
pub use fault::AuthFault;
pub use payload::Payload;
pub use presigned::MOST_EXPIRES_S;
pub use s3::{S3_SKEW_MS, S3Claim, S3Endpoint, S3Form, parse_s3, verify_s3};
pub use s3_signer::ChunkSigner;
pub use signer::{Signer, SigningKey};
pub use trailer::Trailers;

use aws_lc_rs::constant_time::verify_slices_are_equal;

/// The one algorithm.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The last part of every credential scope.
pub(crate) const TERMINATOR: &str = "aws4_request";
/// How far the caller's clock may be off, in milliseconds.
pub const SKEW_MS: i64 = 5 * 60 * 1000;

/// A request as it came in; header names are lower case.
#[derive(Debug, Clone, Copy)]
pub struct HttpRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, raw as sent.
    pub path: &'a str,
    /// The query without `?`, raw as sent.
    pub query: &'a str,
    /// Header names in lower case with their values, in order; a name may repeat.
    pub headers: &'a [(String, String)],
    /// The body; S3's pair does not look at it.
    pub body: &'a [u8],
}

impl<'a> HttpRequest<'a> {
    /// The value of a header that occurs exactly once.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// What the Authorization header, or a presigned URL, claims; nothing of it is proved before
/// [`verify`] or [`verify_s3`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Access key id (`AKIA…` or `ASIA…`).
    pub access_key_id: String,
    /// `yyyymmdd` of the credential scope.
    pub scope_date: String,
    /// Region of the scope.
    pub region: String,
    /// Service of the scope.
    pub service: String,
    /// Last part of the scope, as sent.
    pub terminator: String,
    /// Signed header names, as listed.
    pub signed_headers: Vec<String>,
    /// The signature, hexadecimal.
    pub signature: String,
    /// `x-amz-security-token`, in a presigned URL the parameter; the server compares it with the session's.
    pub session_token: Option<String>,
    /// `x-amz-date`, in a presigned URL the parameter; as sent.
    pub amz_date: String,
}

impl Presented {
    /// The credential scope: date, Region, service, terminator.
    fn scope(&self) -> String {
        format!("{}/{}/{}/{TERMINATOR}", self.scope_date, self.region, self.service)
    }
}

/// Reads the Authorization header.
pub fn parse(req: &HttpRequest<'_>) -> Result<Presented, AuthFault> {
    if !req.headers.iter().any(|(n, _)| n == "authorization") {
        return Err(AuthFault::MissingToken);
    }
    let header = req.header("authorization").ok_or_else(|| {
        AuthFault::Incomplete("Authorization header occurs more than once.".into())
    })?;
    let Some(rest) = header.trim().strip_prefix(ALGORITHM).filter(|r| r.starts_with([' ', '\t']))
    else {
        return Err(AuthFault::Incomplete(format!(
            "Unsupported Authorization header: the algorithm must be {ALGORITHM}."
        )));
    };
    let (mut credential, mut signed, mut signature) = (None, None, None);
    for part in rest.split(',') {
        let Some((name, value)) = part.trim().split_once('=') else { continue };
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed,
            "Signature" => &mut signature,
            _ => continue,
        };
        if slot.replace(value.trim()).is_some() {
            return Err(AuthFault::Incomplete(format!("Authorization header repeats '{name}'.")));
        }
    }
    let amz_date = req.header("x-amz-date");
    let mut missing = String::new();
    for (name, value) in
        [("Credential", credential), ("Signature", signature), ("SignedHeaders", signed)]
    {
        if value.is_none_or(str::is_empty) {
            missing.push_str(&format!("Authorization header requires '{name}' parameter. "));
        }
    }
    if amz_date.is_none() {
        missing.push_str(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
        );
    }
    let (Some(credential), Some(signed), Some(signature), Some(amz_date), true) =
        (credential, signed, signature, amz_date, missing.is_empty())
    else {
        return Err(AuthFault::Incomplete(missing.trim_end().to_owned()));
    };
    let Some([access_key_id, scope_date, region, service, terminator]) = split_scope(credential)
    else {
        return Err(AuthFault::Incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{}'",
            credential.chars().take(200).collect::<String>()
        )));
    };
    let session_token =
        match req.headers.iter().filter(|(n, _)| n == "x-amz-security-token").count() {
            0 => None,
            1 => req.header("x-amz-security-token").map(str::to_owned),
            _ => return Err(AuthFault::UnknownToken),
        };
    Ok(Presented {
        access_key_id: access_key_id.to_owned(),
        scope_date: scope_date.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
        terminator: terminator.to_owned(),
        signed_headers: signed.split(';').map(str::to_owned).collect(),
        signature: signature.to_owned(),
        session_token,
        amz_date: amz_date.to_owned(),
    })
}

/// Access key id, date, Region, service and terminator of a `Credential`.
fn split_scope(credential: &str) -> Option<[&str; 5]> {
    let parts: Vec<&str> = credential.split('/').collect();
    parts.try_into().ok()
}

/// Decides whether the request was signed with `secret`, now, for this server and as it stands.
/// `allowed_hosts` are the names (with port when it is not the default) that this server answers to.
pub fn verify(
    p: &Presented,
    req: &HttpRequest<'_>,
    secret: &str,
    now_ms: i64,
    allowed_hosts: &[String],
) -> Result<(), AuthFault> {
    let key = SigningKey::derive(secret, &p.scope_date, &p.region, &p.service);
    verify_with(p, req, &key, now_ms, allowed_hosts)
}

/// [`verify`] with a signing key that was derived before; the key must be that of the presented
/// scope (date, Region and service), else the signature does not match.
pub fn verify_with(
    p: &Presented,
    req: &HttpRequest<'_>,
    key: &SigningKey,
    now_ms: i64,
    allowed_hosts: &[String],
) -> Result<(), AuthFault> {
    check_scope(p)?;
    check_time(p, now_ms)?;
    check_headers(p, req, |host| allowed_hosts.iter().any(|h| h.eq_ignore_ascii_case(host)))?;
    let body_hash = canonical::hex_sha256(req.body);
    let declared = req.headers.iter().filter(|(n, _)| n == "x-amz-content-sha256");
    for (_, value) in declared {
        if *value != body_hash {
            return Err(AuthFault::Mismatch);
        }
    }
    check_signature(p, req, &body_hash, key)
}

/// Compares the signature of the request, with `body_hash` for its body, in constant time.
fn check_signature(
    p: &Presented,
    req: &HttpRequest<'_>,
    body_hash: &str,
    key: &SigningKey,
) -> Result<(), AuthFault> {
    let names: Vec<&str> = p.signed_headers.iter().map(String::as_str).collect();
    let text = canonical::string_to_sign(req, &names, body_hash, &p.amz_date, &p.scope());
    let ours = key.signature(text.as_bytes());
    // Compared as text: hexadecimal in another case is not what SigV4 sends.
    verify_slices_are_equal(ours.as_bytes(), p.signature.as_bytes())
        .map_err(|_| AuthFault::Mismatch)
}

fn check_scope(p: &Presented) -> Result<(), AuthFault> {
    if p.terminator != TERMINATOR {
        return Err(AuthFault::Terminator);
    }
    let region_fits = !p.region.is_empty()
        && p.region.len() <= 32
        && p.region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !region_fits {
        return Err(AuthFault::Region(p.region.clone()));
    }
    if p.amz_date.get(..8) != Some(p.scope_date.as_str()) {
        return Err(AuthFault::ScopeDate);
    }
    Ok(())
}

fn check_time(p: &Presented, now_ms: i64) -> Result<(), AuthFault> {
    let sent = canonical::parse_amz_date(&p.amz_date).ok_or_else(|| {
        AuthFault::Incomplete("Date must be in ISO-8601 'basic format'.".to_owned())
    })?;
    let limit = |ms: i64| canonical::amz_date(ms);
    if sent < now_ms - SKEW_MS {
        return Err(AuthFault::Expired {
            sent: p.amz_date.clone(),
            limit: limit(now_ms - SKEW_MS),
            now: limit(now_ms),
        });
    }
    if sent > now_ms + SKEW_MS {
        return Err(AuthFault::NotYet {
            sent: p.amz_date.clone(),
            limit: limit(now_ms + SKEW_MS),
            now: limit(now_ms),
        });
    }
    Ok(())
}

fn check_headers(
    p: &Presented,
    req: &HttpRequest<'_>,
    serves: impl Fn(&str) -> bool,
) -> Result<(), AuthFault> {
    // A sorted list without repeats: one request has one canonical form.
    if !p.signed_headers.is_sorted_by(|a, b| a < b) {
        return Err(AuthFault::Mismatch);
    }
    let signed = |name: &str| p.signed_headers.iter().any(|s| s == name);
    let sent = |name: &str| req.headers.iter().any(|(n, _)| n == name);
    if p.signed_headers.iter().any(|name| !sent(name)) {
        return Err(AuthFault::Mismatch);
    }
    let must = |name: &str| name == "host" || name.starts_with("x-amz-");
    if let Some((name, _)) = req.headers.iter().find(|(n, _)| must(n) && !signed(n)) {
        return Err(AuthFault::Unsigned(name.clone()));
    }
    let host = req.header("host").ok_or_else(|| AuthFault::Unsigned("host".to_owned()))?;
    if !serves(host.trim()) {
        return Err(AuthFault::Mismatch);
    }
    Ok(())
}
