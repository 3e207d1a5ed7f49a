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
}

impl Ports {
    /// Decides, checks that they are free, and keeps them in `DIR/run/ports.json`.
    pub(crate) fn choose(folder: &Folder, control: SocketAddr, kms: SocketAddr) -> Result<Self> {
        let path = folder.run("ports.json");
        let kept: Option<Self> =
            fs::read_to_string(&path).ok().and_then(|t| serde_json::from_str(&t).ok());
        // Both probes are held until both are chosen: else they may get one port.
        let (control, first) = free("control", control, kept.map(|k| k.control))?;
        let (kms, second) = free("kms", kms, kept.map(|k| k.kms))?;
        drop((first, second));
        let ports = Self { control, kms };
        write_private(&path, &serde_json::to_string(&ports)?)?;
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
        let first = Ports::choose(&folder, any, any).expect("free ports");
        assert_ne!(first.control, first.kms);
        let again = Ports::choose(&folder, any, any).expect("the same ports");
        assert_eq!((first.control, first.kms), (again.control, again.kms));
        let _taken = TcpListener::bind(first.kms).expect("it is free");
        assert!(Ports::choose(&folder, any, any).is_err());
    }
}
