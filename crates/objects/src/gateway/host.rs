//! Which names the gateway answers to, and where the bucket stands in a request: in the path, or
//! before the base domain in Host.

use super::query::About;
use http::header::HOST;
use http::request::Parts;
use s3s::host::{S3Host, VirtualHost};
use s3s::{S3Error, S3ErrorCode, S3Result};
use std::net::IpAddr;
use std::sync::Arc;

/// The names of this endpoint: loopback always, and one domain if it has one.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    base: Option<Arc<str>>,
    addresses: Arc<[IpAddr]>,
}

/// What a Host header says.
#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    /// The bucket stands in the path.
    Path,
    /// The bucket stands before the base domain.
    Bucket(&'a str),
}

impl Hosts {
    /// `base` is the domain whose subdomains are buckets; `addresses` are those beside loopback
    /// that clients may use.
    pub fn new(base: Option<&str>, addresses: &[IpAddr]) -> Self {
        Self { base: base.map(|b| b.to_ascii_lowercase().into()), addresses: addresses.into() }
    }

    /// Whether a request that names `host` is meant for this endpoint: one that was recorded
    /// elsewhere is refused.
    pub(super) fn serves(&self, host: &str) -> bool {
        self.read(host).is_some()
    }

    /// What a request is about: a bucket may stand before the domain, or first in the path.
    pub(super) fn about(&self, head: &Parts) -> About {
        let host = head.headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        let path = head.uri.path().trim_start_matches('/');
        let bucket_in_path = !matches!(self.read(host.trim()), Some(Named::Bucket(_)));
        let key = match (bucket_in_path, path.split_once('/')) {
            (false, _) => path,
            (true, _) if path.is_empty() => return About::Service,
            (true, None) => "",
            (true, Some((_, key))) => key,
        };
        if key.is_empty() { About::Bucket } else { About::Object }
    }

    fn read<'a>(&self, host: &'a str) -> Option<Named<'a>> {
        let name = without_port(host)?;
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let ours = address.is_loopback() || self.addresses.contains(&address);
            return ours.then_some(Named::Path);
        }
        if name.eq_ignore_ascii_case("localhost") {
            return Some(Named::Path);
        }
        let base = self.base.as_deref()?;
        let cut = name.len().checked_sub(base.len())?;
        let (before, domain) = (name.get(..cut)?, name.get(cut..)?);
        if !domain.eq_ignore_ascii_case(base) {
            return None;
        }
        match before {
            "" => Some(Named::Path),
            _ => before.strip_suffix('.').filter(|b| !b.is_empty()).map(Named::Bucket),
        }
    }
}

/// The name of a Host header; `None` when what follows it is no port.
fn without_port(host: &str) -> Option<&str> {
    match host.rsplit_once(':') {
        // A bare IPv6 address is not in Host's grammar; in brackets it ends with one.
        Some((name, port)) if !port.ends_with(']') => port.parse::<u16>().ok().map(|_| name),
        _ => Some(host),
    }
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        match self.read(host) {
            Some(Named::Path) => Ok(VirtualHost::new(host)),
            Some(Named::Bucket(bucket)) => {
                Ok(VirtualHost::new(host).with_bucket(bucket.to_ascii_lowercase()))
            }
            None => Err(S3Error::with_message(S3ErrorCode::InvalidRequest, "unknown host")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_the_base_are_ours_and_nothing_else() {
        let outside: IpAddr = "192.0.2.7".parse().expect("an address");
        let hosts = Hosts::new(Some("s3.Example.com"), &[outside]);
        for path in [
            "localhost",
            "LOCALHOST:7490",
            "127.0.0.1:7490",
            "127.9.9.9",
            "[::1]:7490",
            "[::1]",
            "192.0.2.7:80",
            "s3.example.com",
            "S3.example.com:443",
        ] {
            assert_eq!(hosts.read(path), Some(Named::Path), "{path}");
        }
        assert_eq!(hosts.read("b.s3.example.com:80"), Some(Named::Bucket("b")));
        assert_eq!(hosts.read("a.b.s3.example.com"), Some(Named::Bucket("a.b")));
        for foreign in [
            "",
            ":80",
            "example.com",
            "s3.example.com.evil.org",
            "evils3.example.com",
            ".s3.example.com",
            "localhost:x",
            "localhost:99999",
            "bucket.localhost",
            "192.0.2.8",
        ] {
            assert_eq!(hosts.read(foreign), None, "{foreign}");
        }
        assert!(!Hosts::default().serves("s3.example.com"));
    }
}
