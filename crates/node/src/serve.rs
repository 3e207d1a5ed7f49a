//! Puts the node's parts together and runs them until a signal.

use crate::assignments::{self, Control};
use crate::buckets::Buckets;
use crate::config::{ConfigError, NodeConfig, read_secret};
use crate::fleet::{Fleet, Joint};
use crate::grants::Grants;
use crate::host::HostError;
use crate::keeper::second::{self, Seconds, Witness};
use crate::keeper::{self, Subject};
use crate::kms::{Everywhere, Kms};
use crate::provision::{self, Named};
use crate::status::Board;
use crate::{preflight, status};
use keystead_envelope::memory::MemoryError;
use keystead_types::{Assignment, Region};
use std::collections::BTreeSet;
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
    everywhere: Everywhere,
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
    let heard: BTreeSet<Region> = everywhere.others.keys().cloned().collect();
    let named = Arc::new(Named::default());
    let keepers = Keepers {
        config: &config,
        everywhere: &everywhere,
        board: &board,
        named: named.clone(),
        seconds: Arc::new(Seconds::load(&config.data).map_err(io("read second.json"))?),
    };
    let keeper = keepers.own(&joint, (&fleet, &buckets), subjects)?;
    let mut tasks = tokio::task::JoinSet::new();
    for region in everywhere.others.keys() {
        let (ended, hand_on) = keepers.other(region, assignment.clone())?;
        tasks.spawn(hand_on);
        tasks.spawn(async move {
            // Without it no refusal of that Region is heard: the node begins anew.
            let _ = ended.await;
        });
    }
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
    let kms = Arc::new(Kms::new(everywhere.own.clone()));
    tasks.spawn(preflight::run(config.clone(), kms.clone(), board.clone(), assignment.clone()));
    let parts = provision::Parts {
        config: config.clone(),
        kms,
        everywhere: everywhere.clone(),
        board: board.clone(),
        grants: grants.clone(),
        made: made.clone(),
        named,
    };
    tasks.spawn(provision::run(parts, assignment.clone()));

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
        failed = hand_on(assignment, (&grants, &heard), (&fleet, served), &send_subjects, &made) => {
            failed
        }
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
    (grants, heard): (&Grants, &BTreeSet<Region>),
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
        let wanted = keeper::subjects(&current, grants, heard).map_err(io("read the grants"))?;
        subjects.send_replace(Arc::new(wanted));
        tokio::select! {
            changed = assignment.changed() => if changed.is_err() { return Ok(()) },
            () = made.notified() => {}
        }
    }
}

/// What the keepers share: one for the node's own Region, whose leases open what is here, and one
/// for each other Region, which only hears refusals.
struct Keepers<'a> {
    config: &'a NodeConfig,
    everywhere: &'a Everywhere,
    board: &'a Arc<Board>,
    named: Arc<Named>,
    seconds: Arc<Seconds>,
}

impl Keepers<'_> {
    /// The own Region's; the receiver ends with it.
    fn own(
        &self,
        joint: &Arc<dyn Joint>,
        (fleet, buckets): (&Arc<Fleet>, &Arc<Buckets>),
        subjects: watch::Receiver<Arc<Vec<Subject>>>,
    ) -> Result<oneshot::Receiver<()>, NodeError> {
        let (joint, fleet, board) = (joint.clone(), fleet.clone(), self.board.clone());
        let (shut, one) = (buckets.clone(), buckets.clone());
        let named = self.named.clone();
        let parts = keeper::run::Parts {
            kms: Arc::new(Kms::new(self.everywhere.own.clone())),
            board: self.board.clone(),
            data: self.config.data.clone(),
            subjects,
            lease: Box::new(move |cluster, settings| joint.lease(cluster, settings)),
            tell: Box::new(move |cluster, view| {
                // Their gate is an atomic: first.
                shut.tell(cluster, view);
                fleet.tell(cluster, view);
            }),
            show: Box::new(move |cluster, lease| board.lease(cluster, lease)),
            named: Box::new(move |cluster| named.say(cluster)),
            seconds: self.seconds.clone(),
            tell_bucket: Box::new(move |cluster, bucket, said| {
                one.tell_bucket(cluster, bucket, said)
            }),
        };
        start("keeper".to_owned(), parts)
    }

    /// Another Region's; the receiver ends with it, the task hands it what it is to ask.
    fn other(
        &self,
        region: &Region,
        mut assignment: watch::Receiver<Arc<Assignment>>,
    ) -> Result<(oneshot::Receiver<()>, impl Future<Output = ()> + use<>), NodeError> {
        let (send, subjects) = watch::channel(Arc::new(Vec::new()));
        let (board, seconds) = (self.board.clone(), self.seconds.clone());
        let settings = &self.everywhere.others[region];
        let data = self.config.data.join("second").join(region.as_str());
        std::fs::create_dir_all(&data).map_err(io("make a folder for another Region"))?;
        let parts = keeper::run::Parts {
            kms: Arc::new(Kms::new(settings.clone())),
            board: self.board.clone(),
            data,
            subjects,
            lease: Box::new(|_, settings| Box::new(Witness::new(settings))),
            tell: Box::new(|_, _| {}),
            show: Box::new(move |cluster, lease| {
                seconds.saw(cluster, &lease);
                board.second(cluster, lease);
            }),
            named: Box::new(|_| {}),
            seconds: self.seconds.clone(),
            tell_bucket: Box::new(|_, _, _| {}),
        };
        let ended = start(format!("keeper {region}"), parts)?;
        let region = region.clone();
        let hand_on = async move {
            loop {
                let wanted = second::subjects(&assignment.borrow_and_update(), &region);
                send.send_replace(Arc::new(wanted));
                if assignment.changed().await.is_err() {
                    return;
                }
            }
        };
        Ok((ended, hand_on))
    }
}

/// A keeper's own thread and runtime; the receiver ends with it.
fn start(name: String, parts: keeper::run::Parts) -> Result<oneshot::Receiver<()>, NodeError> {
    let (alive, ended) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("make a keeper's runtime"))?;
    std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            let _alive = alive;
            if let Err(error) = runtime.block_on(keeper::run::run(parts)) {
                tracing::error!(%error, "a keeper");
            }
        })
        .map_err(io("start a keeper's thread"))?;
    Ok(ended)
}
