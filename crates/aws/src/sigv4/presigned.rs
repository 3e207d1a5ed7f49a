//! The query form: a URL that carries its own signature, for a time that it names.
//!
//! A URL signed at T for E seconds holds from T - 15 minutes (the signer's clock may be ahead) to
//! T + E, no second longer: who gave it out counts on its end. Each parameter may stand there once,
//! in whatever case: whoever reads the second one would read another than was checked.

use super::payload::{self, Payload};
use super::s3::{S3_SKEW_MS, S3Claim, S3Form, refuse_other_mechanism};
use super::{ALGORITHM, AuthFault, HttpRequest, Presented, canonical, split_scope};
use std::borrow::Cow;

/// Longest life of a presigned URL, in seconds: a week.
pub const MOST_EXPIRES_S: u32 = 604_800;

const SIGNATURE: &str = "X-Amz-Signature";
/// One of these makes a query a presigned one. A date or a token alone does not.
const TELLING: [&str; 5] =
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Expires", "X-Amz-SignedHeaders", SIGNATURE];

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

fn pairs(query: &str) -> impl Iterator<Item = Pair<'_>> {
    form_urlencoded::parse(query.as_bytes())
}

/// The query claims a signature of version 4.
pub(super) fn is_presigned(query: &str) -> bool {
    pairs(query).any(|(name, _)| TELLING.iter().any(|t| t.eq_ignore_ascii_case(&name)))
}

/// The query claims one of version 2.
pub(super) fn is_version_2(query: &str) -> bool {
    pairs(query).any(|(name, _)| matches!(name.as_ref(), "AWSAccessKeyId" | "Signature"))
}

/// The query that was signed: all of it but the signature.
pub(super) fn without_signature(query: &str) -> String {
    let is_signature = |raw: &&str| pairs(raw).any(|(name, _)| name == SIGNATURE);
    query.split('&').filter(|raw| !is_signature(raw)).collect::<Vec<_>>().join("&")
}

/// Reads who claims to have signed a URL.
pub(super) fn parse(req: &HttpRequest<'_>) -> Result<S3Claim, AuthFault> {
    let pairs: Vec<Pair<'_>> = pairs(req.query).collect();
    check_names(&pairs)?;
    let get = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_ref());
    if let Some(algorithm) = get("X-Amz-Algorithm") {
        refuse_other_mechanism(algorithm)?;
    }
    let (
        Some(_),
        Some(credential),
        Some(amz_date),
        Some(expires),
        Some(signed_headers),
        Some(signature),
    ) = (
        get("X-Amz-Algorithm"),
        get("X-Amz-Credential"),
        get("X-Amz-Date"),
        get("X-Amz-Expires"),
        get("X-Amz-SignedHeaders"),
        get(SIGNATURE),
    )
    else {
        return Err(query(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        ));
    };
    let Some([access_key_id, scope_date, region, service, terminator]) = split_scope(credential)
    else {
        return Err(query(
            "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
        ));
    };
    if canonical::parse_amz_date(amz_date).is_none() {
        return Err(query(
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
        ));
    }
    if req.headers.iter().any(|(n, _)| n == "x-amz-security-token") {
        return Err(query("The security token of a presigned URL must be in its query."));
    }
    let payload = payload_of(req, get("X-Amz-Content-Sha256"))?;
    Ok(S3Claim {
        presented: Presented {
            access_key_id: access_key_id.to_owned(),
            scope_date: scope_date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            terminator: terminator.to_owned(),
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature: signature.to_owned(),
            session_token: get("X-Amz-Security-Token").map(str::to_owned),
            amz_date: amz_date.to_owned(),
        },
        form: S3Form::Query { expires_s: expires_s(expires)? },
        payload,
        length: payload::length(req, payload)?,
        trailers: super::trailer::declared(req, payload)?,
    })
}

fn query(text: &str) -> AuthFault {
    AuthFault::Query(text.to_owned())
}

fn check_names(pairs: &[Pair<'_>]) -> Result<(), AuthFault> {
    let mut names: Vec<String> = pairs
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .filter(|name| name.starts_with("x-amz-"))
        .collect();
    names.sort();
    match names.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => {
            let name: String = two[0].chars().take(100).collect();
            Err(query(&format!("The query repeats the parameter {name}.")))
        }
        None => Ok(()),
    }
}

fn expires_s(text: &str) -> Result<u32, AuthFault> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(query("X-Amz-Expires should be a number"));
    }
    match text.parse() {
        Ok(0) => Err(query("X-Amz-Expires must be at least one second")),
        Ok(seconds) if seconds <= MOST_EXPIRES_S => Ok(seconds),
        _ => Err(query(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        )),
    }
}

/// Who gives a URL out seldom knows the body: it is unsigned, unless a parameter or a signed header
/// names its digest. A chain of chunks cannot begin with a signature that anybody may use.
fn payload_of(req: &HttpRequest<'_>, parameter: Option<&str>) -> Result<Payload, AuthFault> {
    let headers = req.headers.iter().filter(|(n, _)| n == "x-amz-content-sha256");
    let mut told = headers.map(|(_, value)| value.as_str()).chain(parameter);
    let Some(first) = told.next() else { return Ok(Payload::Unsigned) };
    let payload = Payload::read(first)?;
    match told.find(|other| *other != first) {
        Some(other) => Err(AuthFault::Payload(other.chars().take(100).collect())),
        None if payload.is_chunked() => Err(AuthFault::Payload(first.to_owned())),
        None => Ok(payload),
    }
}

/// Whether the URL's time is now; the rule is in this file's first lines.
pub(super) fn check_time(p: &Presented, expires_s: u32, now_ms: i64) -> Result<(), AuthFault> {
    let Some(signed) = canonical::parse_amz_date(&p.amz_date) else {
        return Err(query("X-Amz-Date is no date"));
    };
    if now_ms < signed - S3_SKEW_MS {
        return Err(AuthFault::NotBegun);
    }
    if now_ms > signed + i64::from(expires_s) * 1000 {
        return Err(AuthFault::Lapsed);
    }
    Ok(())
}

/// The parameters that a signer adds, but the signature, as they stand in the query.
pub(super) fn parameters(
    credential: &str,
    date: &str,
    expires_s: u32,
    signed_headers: &str,
    token: Option<&str>,
) -> String {
    let mut text = format!(
        "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date={date}&X-Amz-Expires={expires_s}&X-Amz-SignedHeaders={}",
        canonical::encode(credential),
        canonical::encode(signed_headers),
    );
    if let Some(token) = token {
        text.push_str(&format!("&X-Amz-Security-Token={}", canonical::encode(token)));
    }
    text
}
