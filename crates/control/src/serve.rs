//! The server: parts made, loops started, the API served until SIGTERM or SIGINT.

mod listen;

use crate::api::{App, Shared, router, token_hash};
use crate::board::Board;
use crate::config::{ConfigError, ControlConfig, parse_span, token_file};
use crate::reconcile::Reconciler;
use crate::roles::{Iam, RoleError};
use crate::store::{SqliteStore, Store, StoreError};
use crate::templates::{TemplateError, Templates};
use crate::time::SystemClock;
use keystead_types::{Clock, LeaseSettings, Region, UserArn};
use listen::Limits;
use std::collections::BTreeMap;
use std::{io, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Why control does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The client of IAM.
    #[error("cannot reach IAM by this configuration: {0}")]
    Iam(String),
    /// The address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// Serving.
    #[error("the server ended")]
    Serve(#[source] io::Error),
}

impl From<RoleError> for ControlError {
    fn from(error: RoleError) -> Self {
        Self::Iam(error.to_string())
    }
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: ControlConfig) -> Result<(), ControlError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ControlError::Serve)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ControlError::Serve)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve_until(config, stop).await
}

/// Serves until `stop` returns.
pub(crate) async fn serve_until(
    config: ControlConfig,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ControlError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sqlite = Arc::new(SqliteStore::open(&config.data).await?);
    let store: Arc<dyn Store> = sqlite.clone();
    let board = Arc::new(Board::default());
    let app = App(Arc::new(shared(&config, &store, &board, &clock)?));
    store.adopt_templates(&app.templates.digest).await?;
    let reconciler = Reconciler {
        store,
        board: board.clone(),
        iam: iam(&config, clock)?,
        provider: config.provider_account.clone(),
    };
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| ControlError::Listen { address: config.listen, source })?;
    tracing::info!(listen = %config.listen, regions = config.node.len(), "control serves");
    let reconciling = tokio::spawn(reconciler.run());
    let bells = board.clone();
    let stopping = tokio::spawn(async move {
        stop.await;
        bells.stop();
    });
    listen::run(listener, router(app), &board, Limits::find()).await;
    stopping.abort();
    reconciling.abort();
    let _ = reconciling.await;
    sqlite.close().await;
    tracing::info!("control ends");
    Ok(())
}

fn shared(
    config: &ControlConfig,
    store: &Arc<dyn Store>,
    board: &Arc<Board>,
    clock: &Arc<dyn Clock>,
) -> Result<Shared, ControlError> {
    let evict_after_ms = match &config.evict_after {
        Some(text) => parse_span(text)
            .map_err(|reason| ConfigError::Content { path: config.data.clone(), reason })?,
        None => LeaseSettings::default().evict_after_ms,
    };
    let nodes = config
        .node
        .iter()
        .map(|n| Ok((n.clone(), token_hash(&token_file(&n.token_file)?))))
        .collect::<Result<_, ConfigError>>()?;
    Ok(Shared {
        store: store.clone(),
        board: board.clone(),
        clock: clock.clone(),
        templates: Templates::load()?,
        provider: config.provider_account.clone(),
        evict_after_ms,
        platform: token_hash(&token_file(&config.platform_token)?),
        nodes,
    })
}

fn iam(config: &ControlConfig, clock: Arc<dyn Clock>) -> Result<Iam, ControlError> {
    let mut nodes: BTreeMap<Region, Vec<UserArn>> = BTreeMap::new();
    for node in &config.node {
        nodes.entry(node.region.clone()).or_default().push(node.user_arn.clone());
    }
    Ok(Iam::new(&config.aws_endpoint, config.credentials()?, nodes, clock)?)
}

#[cfg(test)]
mod tests;
