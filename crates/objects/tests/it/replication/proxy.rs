//! A TCP proxy with faults in the direction of the backup.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to what goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Every connection is closed at once.
    Refuse,
    /// Each is closed after so many bytes.
    Cut(u64),
    /// Each falls silent after so many bytes.
    Stall(u64),
    /// One bit of that byte changes, in each.
    Flip(u64),
}

pub(crate) struct Proxy {
    pub(crate) at: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    passed: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let fault = Arc::new(Mutex::new(Fault::None));
        let passed = Arc::<AtomicU64>::default();
        let (shared, counter) = (fault.clone(), passed.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, to, shared.clone(), counter.clone()));
            }
        });
        Self { at, fault, passed }
    }

    /// From here on; connections that stand meet it, too.
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().expect("a fault") = fault;
    }

    /// Bytes that went through to the backup.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}

async fn carry(near: TcpStream, to: SocketAddr, fault: Arc<Mutex<Fault>>, passed: Arc<AtomicU64>) {
    if *fault.lock().expect("a fault") == Fault::Refuse {
        return;
    }
    let Ok(far) = TcpStream::connect(to).await else { return };
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let back = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut far_read, &mut near_write).await;
    });
    let mut gone = 0u64;
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n @ 1..) = near_read.read(&mut buffer).await {
        let (mut piece, now) = (buffer[..n].to_vec(), *fault.lock().expect("a fault"));
        match now {
            Fault::Refuse => break,
            Fault::Cut(at) if gone + n as u64 > at => break,
            Fault::Stall(at) if gone + n as u64 > at => {
                // Until whoever waits gives up.
                while let Ok(1..) = near_read.read(&mut buffer).await {}
                break;
            }
            Fault::Flip(at) if (gone..gone + n as u64).contains(&at) => {
                piece[(at - gone) as usize] ^= 0x10;
            }
            _ => {}
        }
        gone += n as u64;
        passed.fetch_add(n as u64, Ordering::SeqCst);
        if far_write.write_all(&piece).await.is_err() {
            break;
        }
    }
    back.abort();
}
