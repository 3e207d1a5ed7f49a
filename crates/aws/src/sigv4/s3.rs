//! S3's way with version 4, where it differs from that of the other services:
//!
//! - the signature stands in the header or in the query, never in both;
//! - the head alone is verified, by what it says of the body (`x-amz-content-sha256`); the body is
//!   checked as it streams by, with the [`BodyCheck`] that [`verify_s3`] gives back;
//! - the clock may differ by a quarter of an hour;
//! - the path is signed as it was sent;
//! - the scope's Region must be the endpoint's own, and the refusal names it: clients then turn to
//!   the right one by themselves.
//!
//! Version 2, version 4A and whatever else stands in `Authorization` are refused by name.

use super::body::BodyCheck;
use super::chain::{Chain, Hex};
use super::chunked::Decoder;
use super::payload::{self, Payload};
use super::presigned;
use super::signer::SigningKey;
use super::trailer::{self, Reader};
use super::{ALGORITHM, AuthFault, HttpRequest, Presented, TERMINATOR};
use super::{canonical, check_headers, check_signature};
use std::sync::Arc;

/// How far the caller's clock may be off, in milliseconds.
pub const S3_SKEW_MS: i64 = 15 * 60 * 1000;
/// The scope's service.
const SERVICE: &str = "s3";

/// Where the signature stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Form {
    /// In `Authorization`.
    Header,
    /// In the query: a presigned URL, good for so long.
    Query {
        /// From the date on, in seconds.
        expires_s: u32,
    },
}

/// What a request claims; nothing of it is proved before [`verify_s3`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Claim {
    /// Who signed, when, for what scope.
    pub presented: Presented,
    /// Where the signature stood.
    pub form: S3Form,
    /// How the body is bound to the head.
    pub payload: Payload,
    /// Length of the body once decoded; always there for a chunked one.
    pub length: Option<u64>,
    /// Names of the trailers that will come, in lower case.
    pub trailers: Vec<String>,
}

/// Whom a request may speak to.
#[derive(Debug, Clone, Copy)]
pub struct S3Endpoint<'a> {
    /// Names that this server answers to, with port when it is not the default.
    pub hosts: &'a [String],
    /// Names below which each bucket has its own, `<bucket>.<name>`, with port likewise.
    pub bucket_domains: &'a [String],
    /// The Regions that it serves; the first is named to who asks for another.
    pub regions: &'a [String],
}

impl S3Endpoint<'_> {
    fn serves(&self, host: &str) -> bool {
        let below = |domain: &String| {
            let at = host.len().checked_sub(domain.len())?;
            let (bucket, rest) = host.split_at_checked(at)?;
            let bucket = bucket.strip_suffix('.')?;
            (!bucket.is_empty() && rest.eq_ignore_ascii_case(domain)).then_some(())
        };
        self.hosts.iter().any(|name| name.eq_ignore_ascii_case(host))
            || self.bucket_domains.iter().any(|domain| below(domain).is_some())
    }
}

/// Reads who claims to have signed, in the header or in the query. `body` of the request is not
/// looked at, here or in [`verify_s3`].
pub fn parse_s3(req: &HttpRequest<'_>) -> Result<S3Claim, AuthFault> {
    if presigned::is_version_2(req.query) {
        return Err(AuthFault::Mechanism("AWS".to_owned()));
    }
    let header = req.headers.iter().any(|(n, _)| n == "authorization");
    match (header, presigned::is_presigned(req.query)) {
        (true, true) => Err(AuthFault::TwoMechanisms),
        (false, true) => presigned::parse(req),
        (true, false) => parse_header(req),
        (false, false) => Err(AuthFault::MissingToken),
    }
}

fn parse_header(req: &HttpRequest<'_>) -> Result<S3Claim, AuthFault> {
    if let Some(header) = req.header("authorization") {
        refuse_other_mechanism(header.split_ascii_whitespace().next().unwrap_or_default())?;
    }
    let presented = super::parse(req)?;
    let payload = match req.header("x-amz-content-sha256") {
        Some(value) => Payload::read(value)?,
        None if req.headers.iter().any(|(n, _)| n == "x-amz-content-sha256") => {
            return Err(AuthFault::Invalid("x-amz-content-sha256 occurs more than once.".into()));
        }
        None => return Err(AuthFault::NoPayload),
    };
    Ok(S3Claim {
        presented,
        form: S3Form::Header,
        payload,
        length: payload::length(req, payload)?,
        trailers: trailer::declared(req, payload)?,
    })
}

/// Version 2 is `AWS`, version 4A `AWS4-ECDSA-P256-SHA256`.
pub(super) fn refuse_other_mechanism(name: &str) -> Result<(), AuthFault> {
    if name == ALGORITHM {
        return Ok(());
    }
    Err(AuthFault::Mechanism(name.chars().take(64).collect()))
}

/// Decides whether the head was signed with the secret of `key`, now, for this endpoint and as it
/// stands. `key` must be that of the claimed scope, else the signature does not match. The body is
/// genuine only if the [`BodyCheck`] says so at its end.
pub fn verify_s3(
    claim: &S3Claim,
    req: &HttpRequest<'_>,
    key: &Arc<SigningKey>,
    now_ms: i64,
    endpoint: &S3Endpoint<'_>,
) -> Result<BodyCheck, AuthFault> {
    let p = &claim.presented;
    let hash = claim.payload.text();
    match claim.form {
        S3Form::Header => {
            check_scope(p, endpoint)?;
            check_time(p, now_ms)?;
            check_headers(p, req, |host| endpoint.serves(host))?;
            check_signature(p, req, &hash, key)?;
        }
        S3Form::Query { expires_s } => {
            check_scope(p, endpoint).map_err(|fault| AuthFault::InQuery(Box::new(fault)))?;
            presigned::check_time(p, expires_s, now_ms)?;
            check_headers(p, req, |host| endpoint.serves(host))?;
            let query = presigned::without_signature(req.query);
            check_signature(p, &HttpRequest { query: &query, ..*req }, &hash, key)?;
        }
    }
    body_check(claim, key)
}

fn check_scope(p: &Presented, endpoint: &S3Endpoint<'_>) -> Result<(), AuthFault> {
    if p.terminator != TERMINATOR {
        return Err(AuthFault::Terminator);
    }
    if p.service != SERVICE {
        return Err(AuthFault::Service(SERVICE.to_owned()));
    }
    if !endpoint.regions.contains(&p.region) {
        return Err(AuthFault::ForeignRegion {
            given: p.region.chars().take(64).collect(),
            served: endpoint.regions.first().cloned().unwrap_or_default(),
        });
    }
    if p.amz_date.get(..8) != Some(p.scope_date.as_str()) {
        return Err(AuthFault::ScopeDate);
    }
    Ok(())
}

fn check_time(p: &Presented, now_ms: i64) -> Result<(), AuthFault> {
    let sent = canonical::parse_amz_date(&p.amz_date).ok_or_else(|| {
        AuthFault::Incomplete("x-amz-date must be in ISO-8601 'basic format'.".to_owned())
    })?;
    if sent.abs_diff(now_ms) > S3_SKEW_MS.unsigned_abs() {
        return Err(AuthFault::Skewed);
    }
    Ok(())
}

fn body_check(claim: &S3Claim, key: &Arc<SigningKey>) -> Result<BodyCheck, AuthFault> {
    let p = &claim.presented;
    let chain = || {
        let seed = Hex::read(p.signature.as_bytes()).ok_or(AuthFault::Mismatch)?;
        Ok(Chain::new(Arc::clone(key), &p.amz_date, &p.scope(), seed))
    };
    let (chain, signed_trailers) = match claim.payload {
        Payload::Sha256(sum) => return Ok(BodyCheck::whole(Some(sum), claim.length)),
        Payload::Unsigned => return Ok(BodyCheck::whole(None, claim.length)),
        Payload::SignedChunks => (Some(chain()?), false),
        Payload::SignedChunksTrailer => (Some(chain()?), true),
        Payload::UnsignedTrailer => (None, false),
    };
    let length = claim.length.ok_or(AuthFault::NoLength)?;
    let trailers = Reader::new(claim.trailers.clone(), signed_trailers);
    Ok(BodyCheck::chunked(Decoder::new(length, chain, trailers)))
}
