//! A request that owns its parts, for tests and the fuzz target.

use super::{
    AuthFault, BodyCheck, BodyFault, HttpRequest, Payload, Presented, S3Claim, S3Endpoint, Signer,
    SigningKey, Trailers, parse_s3, verify_s3,
};
use std::sync::Arc;

pub(crate) const ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const HOST: &str = "127.0.0.1:7480";
pub(crate) const NOW: i64 = 1_795_507_262_000;

#[derive(Debug, Clone)]
pub(crate) struct Owned {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Owned {
    pub(crate) fn view(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            body: &self.body,
        }
    }

    /// Of a text: `METHOD path?query`, header lines, an empty line, the body. `None` for what no HTTP server hands on: names that are no tokens, control characters.
    pub(crate) fn read(data: &[u8]) -> Option<Self> {
        let at = data.windows(2).position(|w| w == b"\n\n")?;
        let head = String::from_utf8_lossy(&data[..at]).into_owned();
        let mut lines = head.split('\n');
        let (method, target) = lines.next()?.split_once(' ')?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let token = |text: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            !text.is_empty() && text.bytes().all(fits)
        };
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            if !token(name) || value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
                return None;
            }
            let value = value.trim_matches([' ', '\t']);
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        if !token(method) || headers.len() > 100 || target.bytes().any(|b| b <= 0x20 || b == 0x7f) {
            return None;
        }
        Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: data[at + 2..].to_vec(),
        })
    }

    /// What S3's side says, under the Region and the names that the fixtures use.
    pub(crate) fn s3(
        &self,
        secret: &str,
        now_ms: i64,
        host: &str,
    ) -> Result<(S3Claim, BodyCheck), AuthFault> {
        let claim = parse_s3(&self.view())?;
        let Presented { scope_date, region, service, .. } = &claim.presented;
        let key = Arc::new(SigningKey::derive(secret, scope_date, region, service));
        let endpoint = S3Endpoint {
            hosts: &[host.to_owned()],
            bucket_domains: &["s3.kt.test:7480".to_owned()],
            regions: &["eu-central-1".to_owned(), "eu-west-3".to_owned()],
        };
        let check = verify_s3(&claim, &self.view(), &key, now_ms, &endpoint)?;
        Ok((claim, check))
    }
}

/// The client of the fixtures.
pub(crate) fn signer<'a>(service: &'a str, token: Option<&'a str>) -> Signer<'a> {
    let region = "eu-central-1";
    Signer { access_key_id: ID, secret: SECRET, session_token: token, region, service }
}

/// The frames of a chunked body, as a client whose head has this Authorization sends them.
pub(crate) fn frames<'a>(
    payload: Payload,
    authorization: &str,
    chunks: impl Iterator<Item = &'a [u8]>,
    trailer: (&str, &str),
) -> Vec<u8> {
    let mut signer = signer("s3", None).chunks(authorization, NOW).expect("a signature");
    let mut body = Vec::new();
    for chunk in chunks.filter(|c| !c.is_empty()).chain([&[][..]]) {
        match payload {
            Payload::UnsignedTrailer => body.extend(format!("{:x}\r\n", chunk.len()).bytes()),
            _ => body.extend(signer.head(chunk).bytes()),
        }
        body.extend_from_slice(chunk);
        if !chunk.is_empty() {
            body.extend(b"\r\n");
        }
    }
    match payload {
        Payload::SignedChunksTrailer => body.extend(signer.trailers(&[trailer]).bytes()),
        Payload::UnsignedTrailer => {
            body.extend(format!("{}:{}\r\n\r\n", trailer.0, trailer.1).bytes());
        }
        _ => body.extend(b"\r\n"),
    }
    body
}

/// What a body decodes to, pushed in slices that end at `cuts` (any numbers).
pub(crate) fn decoded(
    mut check: BodyCheck,
    body: &[u8],
    cuts: &[usize],
) -> Result<(Vec<u8>, Trailers), BodyFault> {
    let mut data = Vec::new();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    cuts.extend([0, body.len()]);
    cuts.sort_unstable();
    for pair in cuts.windows(2) {
        let slice = &body[pair[0]..pair[1]];
        let inside = slice.as_ptr_range();
        check.push(slice, &mut |part| {
            let part_at = part.as_ptr_range();
            assert!(!part.is_empty() && inside.start <= part_at.start && part_at.end <= inside.end);
            data.extend_from_slice(part);
        })?;
    }
    check.finish().map(|trailers| (data, trailers))
}
