//! The task that empties the queue: some keys at a time, each in its own order, for the queue names
//! a key once. What fails is tried again after one fixed, jittered period.

use super::carry::{Fault, Road};
use super::{Kind, Word};
use crate::index::queue::Queued;
use crate::store::Store;
use keystead_envelope::random;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Keys under way at a time.
const FLIGHTS: usize = 8;
/// What failed is tried again after this, whatever the length of the outage.
const AGAIN_MS: u64 = 700;
/// A closed gate is looked at so often.
const LOOK: Duration = Duration::from_millis(100);
/// An object that cannot be read here is looked at so often, unless it changes.
const UNREADABLE: Duration = Duration::from_secs(60);
/// Objects that wait by themselves; more, and all wait.
const ASIDE: usize = 1000;

/// Where the other Region's node takes replicas, and as whom.
pub struct Target {
    /// Host and port to connect to.
    pub address: String,
    /// What the Host header says.
    pub host: String,
    /// The Region that requests are signed for.
    pub region: String,
    /// The access key of role replicator.
    pub access_key_id: String,
    /// Its secret.
    pub secret: Zeroizing<String>,
}

/// Replication under way; dropped, it ends at once, and what was not confirmed stays queued.
pub struct Replicator {
    task: JoinHandle<()>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Replicator {
    /// Starts it. It sends only while the vault's gate is open.
    pub fn start(store: &Arc<Store>, target: Target, runtime: &tokio::runtime::Handle) -> Self {
        let trouble = Arc::<Mutex<Option<String>>>::default();
        let sender = Sender {
            store: store.clone(),
            road: Arc::new(Road::new(target)),
            trouble: trouble.clone(),
            under_way: HashSet::new(),
            held: Held::default(),
        };
        Self { task: runtime.spawn(sender.run()), trouble }
    }

    /// Why something does not move, if it does not.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Sender {
    store: Arc<Store>,
    road: Arc<Road>,
    trouble: Arc<Mutex<Option<String>>>,
    under_way: HashSet<u64>,
    held: Held,
}

/// Who waits until when.
#[derive(Default, Clone)]
struct Held {
    all: Option<Instant>,
    /// All but deletions.
    objects: Option<Instant>,
    buckets: HashMap<String, Instant>,
    /// By the number of the change: another one is another try.
    changes: HashMap<u64, Instant>,
}

impl Held {
    fn release(&mut self, now: Instant) {
        let over = |until: &mut Option<Instant>| until.take_if(|until| *until <= now);
        over(&mut self.all);
        over(&mut self.objects);
        self.buckets.retain(|_, until| *until > now);
        self.changes.retain(|_, until| *until > now);
    }

    fn may(&self, queued: &Queued) -> bool {
        let deletes = matches!(queued.row.kind, Kind::Delete | Kind::Emptied);
        (deletes || self.objects.is_none())
            && (queued.row.kind == Kind::Emptied || !self.buckets.contains_key(&queued.row.bucket))
            && !self.changes.contains_key(&queued.row.sequence)
    }

    /// The first that ends.
    fn next(&self) -> Option<Instant> {
        let ones = self.all.iter().chain(&self.objects);
        ones.chain(self.buckets.values()).chain(self.changes.values()).min().copied()
    }
}

/// The fixed period, a seventh more or less, so that nodes do not keep step.
fn again() -> Instant {
    let [byte] = random::array::<1>().unwrap_or([128]);
    Instant::now() + Duration::from_millis(AGAIN_MS - 100 + u64::from(byte) * 200 / 255)
}

type Landed = (Queued, Result<(), Fault>);

impl Sender {
    async fn run(mut self) {
        let mut flights = JoinSet::new();
        loop {
            if !self.store.vault().is_open() {
                flights.shutdown().await;
                self.under_way.clear();
                tokio::time::sleep(LOOK).await;
                continue;
            }
            self.held.release(Instant::now());
            if self.held.all.is_none() {
                self.take_off(&mut flights).await;
            }
            let wake = self.held.next().unwrap_or_else(|| Instant::now() + LOOK * 10);
            let wake = wake.min(Instant::now() + LOOK * 10);
            tokio::select! {
                Some(landed) = flights.join_next(), if !flights.is_empty() => {
                    match landed {
                        Ok(landed) => self.land(landed),
                        // Whose it was is not known any more: all are looked at again.
                        Err(_) => {
                            flights.shutdown().await;
                            self.under_way.clear();
                        }
                    }
                }
                () = self.store.queued(), if self.held.all.is_none() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    async fn take_off(&mut self, flights: &mut JoinSet<Landed>) {
        let free = FLIGHTS.saturating_sub(flights.len());
        if free == 0 {
            return;
        }
        let (under_way, held) = (self.under_way.clone(), self.held.clone());
        let may = move |one: &Queued| !under_way.contains(&one.place) && held.may(one);
        let next = match self.store.next_changes(free, may).await {
            Ok(next) => next,
            Err(error) => return self.pause(format!("the queue: {error}")),
        };
        if next.is_empty() && flights.is_empty() && self.held.next().is_none() {
            self.say(None);
        }
        for one in next {
            self.under_way.insert(one.place);
            let (store, road) = (self.store.clone(), self.road.clone());
            flights.spawn(async move {
                let carried = match road.carry(&store, one.place).await {
                    Ok(carried) => store.confirm(carried).await.map_err(Fault::from),
                    Err(Fault::OtherHistory { run, highest, why }) => {
                        match store.renumber(run, highest).await {
                            Ok(()) => Err(Fault::OtherHistory { run, highest, why }),
                            Err(error) => Err(Fault::from(error)),
                        }
                    }
                    Err(fault) => Err(fault),
                };
                (one, carried)
            });
        }
    }

    fn land(&mut self, (one, carried): Landed) {
        self.under_way.remove(&one.place);
        let fault = match carried {
            // It is gone from the queue, or its place is looked at again.
            Ok(()) | Err(Fault::Moot) => return,
            Err(fault) => fault,
        };
        let (bucket, change) = (one.row.bucket, one.row.sequence);
        match fault {
            Fault::Moot => {}
            // The gate tells when to go on; a single bucket's is told by its own proof.
            Fault::Fenced => drop(self.held.buckets.insert(bucket, again())),
            Fault::Unreadable(why) => {
                self.say(Some(format!("an object of bucket {bucket} is not readable: {why}")));
                self.aside(change, Instant::now() + UNREADABLE);
            }
            Fault::OtherHistory { why, .. } => {
                self.pause(format!("everything is sent anew to the other Region: {why}"));
            }
            Fault::Said(Word::BucketClosed, why) => {
                self.say(Some(format!("bucket {bucket} is not open in the other Region: {why}")));
                self.held.buckets.insert(bucket, again());
            }
            Fault::Said(Word::Foreign, why) => {
                self.say(Some(format!("the other Region refuses an object: {why}")));
                self.aside(change, again());
            }
            Fault::Said(Word::Full, why) => {
                self.say(Some(format!("the other Region's disk is full: {why}")));
                self.held.objects = Some(again());
            }
            Fault::Said(_, why) => self.pause(format!("the other Region takes nothing: {why}")),
            Fault::Down(why) => self.pause(format!("the other Region is not reached: {why}")),
        }
    }

    fn aside(&mut self, change: u64, until: Instant) {
        if self.held.changes.len() < ASIDE {
            self.held.changes.insert(change, until);
        } else {
            self.held.all = Some(again());
        }
    }

    fn pause(&mut self, why: String) {
        self.say(Some(why));
        self.held.all = Some(again());
    }

    fn say(&self, why: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *trouble != why {
            match &why {
                Some(why) => tracing::warn!(why, "objects are not replicated"),
                None => tracing::info!("every object is replicated"),
            }
            *trouble = why;
        }
    }
}
