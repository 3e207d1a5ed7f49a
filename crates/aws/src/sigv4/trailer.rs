//! Trailers: the few header lines after the last chunk.
//!
//! AWS's signers end a line with CR LF. minio-go (restic) ends each with LF alone and puts one CR LF
//! after the last of them, and AWS's own page shows it so. Both are read, each one way only: a line
//! with a bare LF owes one empty line more.

use super::body::BodyFault;
use super::chain::Hex;
use super::{AuthFault, HttpRequest, Payload};
use aws_lc_rs::digest::{Context, Digest, SHA256};

/// Most trailers of a request; S3 knows fewer kinds of checksum.
const MOST: usize = 8;
/// The line that signs the others.
pub(super) const SIGNATURE: &str = "x-amz-trailer-signature";

/// The trailers that came, in order; names are lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trailers(Vec<(String, String)>);

impl Trailers {
    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}

/// The names of `x-amz-trailer`. They are checksums and nothing else: a trailer is no way to bring a
/// header in after the decision on the head.
pub(super) fn declared(req: &HttpRequest<'_>, payload: Payload) -> Result<Vec<String>, AuthFault> {
    if !req.headers.iter().any(|(n, _)| n == "x-amz-trailer") {
        return Ok(Vec::new());
    }
    let invalid = |text: &str| AuthFault::Invalid(text.to_owned());
    let unsupported =
        || invalid("The value specified in the x-amz-trailer header is not supported");
    let header = req.header("x-amz-trailer").ok_or_else(unsupported)?;
    if !payload.has_trailers() {
        return Err(invalid("x-amz-trailer is sent, but x-amz-content-sha256 tells of no trailer"));
    }
    let mut names: Vec<String> = Vec::new();
    for name in header.split(',') {
        let name = name.trim().to_ascii_lowercase();
        let kind = name.strip_prefix("x-amz-checksum-").unwrap_or_default();
        let known = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric());
        if !known || names.len() == MOST || names.contains(&name) {
            return Err(unsupported());
        }
        names.push(name);
    }
    Ok(names)
}

/// Reads the lines one by one.
pub(super) struct Reader {
    declared: Vec<String>,
    signed: bool,
    came: Vec<(String, String)>,
    /// Of `name:value\n` of each line.
    lines: Context,
    signature: Option<Hex>,
    owes_empty: bool,
}

impl Reader {
    pub(super) fn new(declared: Vec<String>, signed: bool) -> Self {
        let (came, lines) = (Vec::new(), Context::new(&SHA256));
        Self { declared, signed, came, lines, signature: None, owes_empty: false }
    }

    /// Takes a line with its end; `true` after the last.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<bool, BodyFault> {
        const MALFORMED: BodyFault = BodyFault::Trailer("a line is not well-formed");
        if line == b"\r\n" {
            let last = !std::mem::take(&mut self.owes_empty);
            return if last { self.check_end().map(|()| true) } else { Ok(false) };
        }
        let line = line.strip_suffix(b"\n").ok_or(MALFORMED)?;
        let whole = line.strip_suffix(b"\r");
        self.owes_empty = whole.is_none();
        let line = std::str::from_utf8(whole.unwrap_or(line)).map_err(|_| MALFORMED)?;
        let (name, value) = line.split_once(':').ok_or(MALFORMED)?;
        let value = value.trim_start_matches(' ');
        if value.ends_with(' ') || !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(MALFORMED);
        }
        let name = name.to_ascii_lowercase();
        if self.signature.is_some() {
            return Err(BodyFault::Trailer("a line comes after the signature"));
        }
        if self.signed && name == SIGNATURE {
            self.signature = Some(Hex::read(value.as_bytes()).ok_or(MALFORMED)?);
            return Ok(false);
        }
        if !self.declared.contains(&name) {
            return Err(BodyFault::Trailer("one came that x-amz-trailer does not name"));
        }
        if self.came.iter().any(|(n, _)| *n == name) {
            return Err(BodyFault::Trailer("one came twice"));
        }
        for part in [&name, ":", value, "\n"] {
            self.lines.update(part.as_bytes());
        }
        self.came.push((name, value.to_owned()));
        Ok(false)
    }

    fn check_end(&self) -> Result<(), BodyFault> {
        // None comes undeclared or twice, so the number tells.
        if self.came.len() != self.declared.len() {
            return Err(BodyFault::Trailer("one that x-amz-trailer names did not come"));
        }
        if self.signed && self.signature.is_none() {
            return Err(BodyFault::Trailer("they are not signed"));
        }
        Ok(())
    }

    /// What was signed and the signature that came, where there is one.
    pub(super) fn signature(&self) -> Option<(Digest, Hex)> {
        self.signature.map(|signature| (self.lines.clone().finish(), signature))
    }

    pub(super) fn into_trailers(self) -> Trailers {
        Trailers(self.came)
    }
}
