//! Ports: as asked, or free ones that a folder keeps.

use super::folder::{Folder, write_private};
use crate::failure::Failure;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use std::{fs, io};

const DYING: Duration = Duration::from_secs(1);

/// Where the roles listen.
#[derive(Serialize, Deserialize, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) control: SocketAddr,
    pub(crate) kms: SocketAddr,
    pub(crate) s3: SocketAddr,
    #[serde(default)]
    pub(crate) second_s3: Option<SocketAddr>,
}

impl Ports {
    /// Decides, checks that they are free, and keeps them in `DIR/run/ports.json`.
    pub(crate) fn choose(folder: &Folder, asked: Self) -> Result<Self> {
        let path = folder.run("ports.json");
        let kept: Option<Self> =
            fs::read_to_string(&path).ok().and_then(|t| serde_json::from_str(&t).ok());
        // All probes are held until all are chosen: else two may get one port.
        let (control, first) = free("control", asked.control, kept.map(|k| k.control))?;
        let (kms, second) = free("kms", asked.kms, kept.map(|k| k.kms))?;
        let (s3, third) = free("s3", asked.s3, kept.map(|k| k.s3))?;
        let kept_second = kept.and_then(|k| k.second_s3);
        let fourth = match asked.second_s3 {
            Some(asked) => Some(free("second-s3", asked, kept_second)?),
            None => None,
        };
        // One that is not served this time is kept for the next.
        let second_s3 = fourth.as_ref().map(|(address, _)| *address);
        drop((first, second, third, fourth));
        let ports = Self { control, kms, s3, second_s3 };
        let noted = Self { second_s3: second_s3.or(kept_second), ..ports };
        write_private(&path, &serde_json::to_string(&noted)?)?;
        Ok(ports)
    }
}

fn free(
    role: &str,
    asked: SocketAddr,
    kept: Option<SocketAddr>,
) -> Result<(SocketAddr, TcpListener)> {
    let again = kept.filter(|k| asked.port() == 0 && k.ip() == asked.ip());
    let probe = again.unwrap_or(asked);
    let listener = bound(probe).map_err(|e| {
        Failure::new(format!("{role} cannot listen on {probe}"))
            .why(e.to_string())
            .fix(format!("stop what listens there, or choose another by --{role}-listen"))
    })?;
    let address = listener.local_addr().context("read the chosen port")?;
    Ok((address, listener))
}

/// The roles of a supervisor that was killed a moment ago may still be on their way out.
fn bound(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = Instant::now() + DYING;
    loop {
        match TcpListener::bind(address) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_kept_and_a_taken_one_is_refused() {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(&outer.path().join("data")).expect("it opens");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let asked = Ports { control: any, kms: any, s3: any, second_s3: Some(any) };
        let first = Ports::choose(&folder, asked).expect("free ports");
        assert!(first.control != first.kms && first.kms != first.s3 && first.s3 != first.control);
        let again = Ports::choose(&folder, asked).expect("the same ports");
        assert_eq!((first.control, first.kms, first.s3), (again.control, again.kms, again.s3));
        assert!(first.second_s3.is_some_and(|second| second != first.s3));
        let alone = Ports { second_s3: None, ..asked };
        assert_eq!(Ports::choose(&folder, alone).expect("free").second_s3, None);
        let again = Ports::choose(&folder, asked).expect("the same ports");
        assert_eq!(again.second_s3, first.second_s3, "kept while it was not served");
        let _taken = TcpListener::bind(first.kms).expect("it is free");
        assert!(Ports::choose(&folder, asked).is_err());
    }
}
