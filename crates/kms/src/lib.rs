//! The key-management server: KMS, STS, IAM, CloudTrail's LookupEvents and `Keystead.Watch` on the
//! AWS wire, everything enforced. The only holder of key material.
//!
//! A request goes `server` -> `calls` -> `who` (signature) -> `ops` (what is answered, recorded and
//! changed) -> `store` (durable) -> `trail` (on record) -> the answer. `watch` tells who waits.

#![deny(unsafe_code)]

mod calls;
mod clock;
mod config;
mod ops;
mod principals;
mod recording;
mod regions;
mod scheduler;
mod server;
mod sessions;
mod store;
mod trail;
mod unique_id;
mod watch;
mod watching;
mod who;

pub use config::{Arena, ConfigError, KmsConfig};
pub use principals::PrincipalsError;
pub use store::StoreError;
pub use trail::TrailError;

use calls::Kms;
use keystead_aws::trail::TrailKey;
use keystead_envelope::memory;
use keystead_types::Clock;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use store::Store;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use trail::Trail;

/// The root key and the material of calls under way.
const ARENA_BYTES: usize = 1 << 20;

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// Its settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its store.
    #[error("use the key store in {}", path.display())]
    Store {
        /// Its folder.
        path: PathBuf,
        /// What failed.
        #[source]
        source: StoreError,
    },
    /// Its trail.
    #[error("use the trail in {}", path.display())]
    Trail {
        /// Its folder.
        path: PathBuf,
        /// What failed.
        #[source]
        source: TrailError,
    },
    /// The trail's signing key.
    #[error("the trail's signing key")]
    TrailKey(#[from] keystead_aws::trail::TrailKeyError),
    /// The process or its key memory.
    #[error("key memory")]
    Memory(#[from] memory::MemoryError),
    /// The port.
    #[error("listen on {at}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Signals.
    #[error("take signals")]
    Signal(#[source] std::io::Error),
}

/// A server that runs.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stop: tokio::sync::watch::Sender<bool>,
    server: JoinHandle<()>,
    scheduler: JoinHandle<()>,
}

impl Running {
    /// Ends it; everything answered is on disk.
    pub async fn stop(self) {
        self.scheduler.abort();
        let _ = self.stop.send(true);
        let _ = self.server.await;
        let _ = self.scheduler.await;
    }
}

/// Starts a server of these settings; answers once its port does.
pub async fn start(config: &KmsConfig) -> Result<Running, KmsError> {
    start_at(config, Arc::new(clock::SystemClock)).await
}

async fn start_at(config: &KmsConfig, clock: Arc<dyn Clock>) -> Result<Running, KmsError> {
    let at = config.listen;
    let listener = TcpListener::bind(at).await.map_err(|source| KmsError::Listen { at, source })?;
    let address = listener.local_addr().map_err(|source| KmsError::Listen { at, source })?;
    let kms = Arc::new(open(config, clock, address).await?);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let server = tokio::spawn(server::run(listener, kms.clone(), stopped));
    let scheduler = tokio::spawn(async move { scheduler::run(&kms).await });
    tracing::info!(%address, "kms serves");
    Ok(Running { address, stop, server, scheduler })
}

/// Reads everything in.
async fn open(
    config: &KmsConfig,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
) -> Result<Kms, KmsError> {
    let principals = config.principals()?;
    let root = config.root_key()?;
    let folder = config.data.join("trail");
    let of_store = |source| KmsError::Store { path: config.data.clone(), source };
    let of_trail = |source| KmsError::Trail { path: folder.clone(), source };
    let (store, owed) = Store::open(&config.data).map_err(of_store)?;
    let trail_key = TrailKey::from_seed(&*root.derive("trail signing key"))?;
    let trail = Trail::open(&folder, trail_key, clock.clone()).map_err(of_trail)?;
    pay(&store, &trail, owed).await.map_err(of_trail)?;
    let mut hosts = vec![address.to_string(), format!("localhost:{}", address.port())];
    hosts.extend(config.hosts.iter().cloned());
    let regions = regions::Regions::new(config.regions.clone());
    for key in store.state().keys.keys().filter(|key| !regions.serve(key.region())) {
        tracing::warn!(%key, "nobody can use this key: its Region is not among `regions`");
    }
    Ok(Kms {
        principals,
        regions,
        root,
        hub: watch::Hub::new(store.sequence()),
        gatekeeper: who::Gatekeeper::default(),
        hosts,
        ran_before: (store.running_ms().map_err(of_store)?, clock.boot()),
        ahead: scheduler::Ahead::of(config.insecure_scheduler_ahead.clone()),
        store,
        trail,
        clock,
    })
}

/// Writes the records that a killed server left owing.
async fn pay(store: &Store, trail: &Trail, owed: Vec<trail::Record>) -> Result<(), TrailError> {
    for record in owed {
        let Some(id) = record.get("eventID").and_then(|id| id.as_str()).map(str::to_owned) else {
            continue;
        };
        let query = trail::Query { contains: vec![id.clone()], most: 1, after: None };
        let there = trail.newest(&query, |other| other.get("eventID") == record.get("eventID"));
        if there.0.is_empty() {
            tracing::info!(event = %id, "a change of a killed server goes on record");
            trail.record_owed(vec![record]).await?;
        }
        store.paid([id]);
    }
    Ok(())
}

/// `keystead kms serve`: serves until SIGTERM or SIGINT.
pub async fn serve(config: KmsConfig) -> Result<(), KmsError> {
    use tokio::signal::unix::{SignalKind, signal};
    config.check_swap()?;
    server::raise_file_limit();
    memory::harden_process()?;
    let arena = memory::init_arena(config.arena.into(), ARENA_BYTES)?;
    tracing::info!(?arena, "key memory");
    let mut terminate = signal(SignalKind::terminate()).map_err(KmsError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(KmsError::Signal)?;
    let running = start(&config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    running.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests;
