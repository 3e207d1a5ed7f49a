//! The canonical request and the string to sign.

use super::{ALGORITHM, HttpRequest};
use aws_lc_rs::digest::{SHA256, digest};
use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode,
};

/// Everything but the unreserved characters of RFC 3986.
const ENCODE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same, with slashes kept.
const ENCODE_PATH: &AsciiSet = &ENCODE.remove(b'/');

pub(super) fn hex_sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// `yyyymmddThhmmssZ` of a moment.
pub(super) fn amz_date(ms: i64) -> String {
    let seconds = ms.div_euclid(1000).clamp(-62_135_596_800, 253_402_207_200);
    match jiff::Timestamp::from_second(seconds) {
        Ok(t) => t.strftime("%Y%m%dT%H%M%SZ").to_string(),
        Err(_) => "19700101T000000Z".to_owned(),
    }
}

/// The moment of a `yyyymmddThhmmssZ`, in milliseconds.
pub(super) fn parse_amz_date(text: &str) -> Option<i64> {
    let digits = |range: std::ops::Range<usize>| {
        text.get(range).is_some_and(|s| s.bytes().all(|b| b.is_ascii_digit()))
    };
    if text.len() != 16 || !digits(0..8) || !digits(9..15) {
        return None;
    }
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?.as_millisecond())
}

/// The string to sign of a request.
pub(super) fn string_to_sign(
    req: &HttpRequest<'_>,
    signed: &[&str],
    body_hash: &str,
    amz_date: &str,
    scope: &str,
) -> String {
    let service = scope.rsplit('/').nth(1).unwrap_or_default();
    let mut text = format!(
        "{}\n{}\n{}\n",
        req.method,
        canonical_path(req.path, service == "s3"),
        canonical_query(req.query)
    );
    for name in signed {
        text.push_str(name);
        text.push(':');
        let mut first = true;
        for (_, value) in req.headers.iter().filter(|(n, _)| n == name) {
            if !first {
                text.push(',');
            }
            first = false;
            push_collapsed(&mut text, value);
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed.join(";"));
    text.push('\n');
    text.push_str(body_hash);
    format!("{ALGORITHM}\n{amz_date}\n{scope}\n{}", hex_sha256(text.as_bytes()))
}

/// Trims a header value and makes one space of each run of spaces.
fn push_collapsed(out: &mut String, value: &str) {
    let mut gap = false;
    for c in value.trim_matches([' ', '\t']).chars() {
        if c != ' ' {
            out.push(c);
        } else if !gap {
            out.push(' ');
        }
        gap = c == ' ';
    }
}

/// S3 takes the path as sent; everybody else removes dot segments and encodes once more.
fn canonical_path(path: &str, s3: bool) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    if s3 {
        return path.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut normal = String::from("/");
    normal.push_str(&kept.join("/"));
    let folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if folder && !kept.is_empty() {
        normal.push('/');
    }
    utf8_percent_encode(&normal, ENCODE_PATH).to_string()
}

/// Pairs decoded, encoded one way, and sorted by encoded name, then value. Decoded to bytes, not to
/// text: two queries that differ in bytes which are no UTF-8 must not share one canonical form.
fn canonical_query(query: &str) -> String {
    let encode = |raw: &str| {
        let bytes: Vec<u8> = percent_decode_str(&raw.replace('+', " ")).collect();
        percent_encode(&bytes, ENCODE).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    pairs.join("&")
}

/// One name or value as a query carries it.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_encoded_twice() {
        assert_eq!(canonical_path("", false), "/");
        assert_eq!(canonical_path("//a/./b/../c%20d/", false), "/a/c%2520d/");
        assert_eq!(canonical_path("/a%20b", true), "/a%20b");
        assert_eq!(canonical_path("/../..", false), "/");
    }

    #[test]
    fn queries_sort_by_encoded_pair() {
        assert_eq!(canonical_query("b=2&a=x%20y&a=&c"), "a=&a=x%20y&b=2&c=");
        assert_eq!(canonical_query("&a=1+2&&=x&d=e=f"), "=x&a=1%202&d=e%3Df");
    }

    #[test]
    fn bytes_that_are_no_text_stay_apart() {
        assert_eq!(canonical_query("a=%ff"), "a=%FF");
        assert_ne!(canonical_query("a=%ff"), canonical_query("a=%fe"));
    }

    #[test]
    fn dates_are_strict() {
        let text = "20261124T080102Z";
        let ms = parse_amz_date(text).expect("a date");
        assert_eq!(amz_date(ms), text);
        for bad in
            ["", "20261124T080102", "2026-11-24T08:01:02Z", "20261324T080102Z", "2026112aT080102Z"]
        {
            assert_eq!(parse_amz_date(bad), None, "{bad}");
        }
    }
}
