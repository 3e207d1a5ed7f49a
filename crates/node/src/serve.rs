//! Puts the node's parts together and runs them until a signal.

use crate::assignments::{self, Control};
use crate::buckets::Buckets;
use crate::config::{ConfigError, NodeConfig, read_secret};
use crate::fleet::{Fleet, Joint};
use crate::grants::Grants;
use crate::host::HostError;
use crate::keeper::{self, Subject};
use crate::kms::{Kms, Settings};
use crate::status::Board;
use crate::{preflight, provision, status};
use keystead_envelope::memory::MemoryError;
use keystead_types::Assignment;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot, watch};
use zeroize::Zeroizing;

/// An orderly end is over by then, or is left to the holder.
const END: Duration = Duration::from_secs(20);

/// Why the node does not serve.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its settings or secrets.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its own folder.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The HTTP client.
    #[error("the client of control: {0}")]
    Client(#[from] reqwest::Error),
    /// No key memory, or the process cannot be hardened.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Swap is on.
    #[error(
        "swap is on ({0}) and key material may reach it; turn it off, or set insecure_swap = true when it is encrypted"
    )]
    Swap(String),
    /// The holder is not to be found.
    #[error(transparent)]
    Holder(#[from] HostError),
    /// The holder went away; what it held is to be found anew by the next start.
    #[error("the holder is lost: {0}")]
    HolderLost(String),
    /// The keeper's thread ended: nothing renews the leases any more.
    #[error("the keeper ended; the leases run out")]
    KeeperEnded,
    /// A loop that has no end ended.
    #[error("a part of the node ended by itself; it begins anew")]
    TaskEnded,
}

pub(crate) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> NodeError {
    move |source| NodeError::Io { what, source }
}

/// Serves over a joint until SIGTERM or SIGINT, or until the holder is lost. The clusters' threads
/// end; then the joint does what is to be done at the end.
pub(crate) async fn serve_with(
    config: NodeConfig,
    settings: Arc<Settings>,
    board: Arc<Board>,
    grants: Grants,
    joint: Arc<dyn Joint>,
    buckets: Arc<Buckets>,
    lost: oneshot::Receiver<NodeError>,
) -> Result<(), NodeError> {
    let token = read_secret(&config.control_token)?;
    let control = Control {
        client: reqwest::Client::builder().connect_timeout(Duration::from_millis(500)).build()?,
        url: config.control_url.trim_end_matches('/').to_owned(),
        token: Arc::new(Zeroizing::new(token.trim().to_owned())),
    };
    let empty = Assignment {
        generation: 0,
        region: config.region.clone(),
        clusters: vec![],
        preflights: vec![],
        documents: Default::default(),
    };
    let last = assignments::last(&config).map_err(io("read the last assignment"))?;
    let (send, assignment) = watch::channel(Arc::new(last.unwrap_or(empty)));
    let config = Arc::new(config);
    let fleet = Arc::new(Fleet::new(joint.clone(), board.clone()));
    let (send_subjects, subjects) = watch::channel(Arc::new(Vec::new()));
    let made = Arc::new(Notify::new());
    let incarnation = uuid::Uuid::now_v7().to_string();

    let serves_s3 = config.s3.is_some();
    let keeper = start_keeper(&config, &settings, &board, &joint, (&fleet, &buckets), subjects)?;
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(s3) = &config.s3 {
        let listener = TcpListener::bind(s3.listen).await.map_err(io("listen for S3"))?;
        tasks.spawn(crate::buckets::serve(listener, s3, &config.region, buckets.clone(), &board)?);
    }
    tasks.spawn(assignments::run(config.clone(), control.clone(), send));
    tasks.spawn(status::run(
        config.clone(),
        control,
        board.clone(),
        assignment.clone(),
        incarnation,
    ));
    let kms = Arc::new(Kms::new(settings));
    tasks.spawn(preflight::run(config.clone(), kms.clone(), board.clone(), assignment.clone()));
    tasks.spawn(provision::run(
        config,
        kms,
        board,
        grants.clone(),
        assignment.clone(),
        made.clone(),
    ));

    // Without a port nobody asks for objects, and no key of theirs is opened.
    let served = serves_s3.then_some(&*buckets);
    let mut terminate = signal(SignalKind::terminate()).map_err(io("take SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("take SIGINT"))?;
    let mut keeper = keeper;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        // What follows leaves everything to the holder and to this node's next process.
        _ = &mut keeper => return Err(NodeError::KeeperEnded),
        gone = lost => {
            let silent = || NodeError::HolderLost("the heartbeat ended".to_owned());
            return Err(gone.unwrap_or_else(|_| silent()));
        }
        _ = tasks.join_next() => return Err(NodeError::TaskEnded),
        failed = hand_on(assignment, &grants, (&fleet, served), &send_subjects, &made) => failed,
    };
    // The keeper still renews meanwhile: an orderly end writes. A thread of its own, since the
    // runtime would wait for one of its pool whatever the deadline.
    let (done, end) = oneshot::channel();
    let ending = move || {
        buckets.end();
        fleet.stop();
        joint.end();
        // Nobody waits any more past the deadline.
        let _ = done.send(());
    };
    let thread = std::thread::Builder::new().name("end".to_owned());
    thread.spawn(ending).map_err(io("start the last thread"))?;
    if !matches!(tokio::time::timeout(END, end).await, Ok(Ok(()))) {
        tracing::error!("the orderly end did not come to its end; the holder keeps what is left");
    }
    ended
}

/// At each new assignment and each made grant: the threads first, then what the keeper guards.
async fn hand_on(
    mut assignment: watch::Receiver<Arc<Assignment>>,
    grants: &Grants,
    (fleet, buckets): (&Fleet, Option<&Buckets>),
    subjects: &watch::Sender<Arc<Vec<Subject>>>,
    made: &Notify,
) -> Result<(), NodeError> {
    loop {
        let current = assignment.borrow_and_update().clone();
        fleet.assign(&current, grants).map_err(io("start a cluster's thread"))?;
        if let Some(buckets) = buckets {
            buckets.assign(&current).map_err(io("start a thread of buckets"))?;
        }
        let wanted = keeper::subjects(&current, grants).map_err(io("read the grants"))?;
        subjects.send_replace(Arc::new(wanted));
        tokio::select! {
            changed = assignment.changed() => if changed.is_err() { return Ok(()) },
            () = made.notified() => {}
        }
    }
}

/// The keeper's own thread and runtime; the receiver ends with it.
fn start_keeper(
    config: &NodeConfig,
    settings: &Arc<Settings>,
    board: &Arc<Board>,
    joint: &Arc<dyn Joint>,
    (fleet, buckets): (&Arc<Fleet>, &Arc<Buckets>),
    subjects: watch::Receiver<Arc<Vec<Subject>>>,
) -> Result<oneshot::Receiver<()>, NodeError> {
    let (alive, ended) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("make the keeper's runtime"))?;
    let (joint, fleet) = (joint.clone(), fleet.clone());
    let (shut, one) = (buckets.clone(), buckets.clone());
    let parts = keeper::run::Parts {
        kms: Arc::new(Kms::new(settings.clone())),
        board: board.clone(),
        data: config.data.clone(),
        subjects,
        lease: Box::new(move |cluster, settings| joint.lease(cluster, settings)),
        tell: Box::new(move |cluster, view| {
            // Their gate is an atomic: first.
            shut.tell(cluster, view);
            fleet.tell(cluster, view);
        }),
        tell_bucket: Box::new(move |cluster, bucket, said| one.tell_bucket(cluster, bucket, said)),
    };
    std::thread::Builder::new()
        .name("keeper".to_owned())
        .spawn(move || {
            let _alive = alive;
            if let Err(error) = runtime.block_on(keeper::run::run(parts)) {
                tracing::error!(%error, "the keeper");
            }
        })
        .map_err(io("start the keeper's thread"))?;
    Ok(ended)
}
