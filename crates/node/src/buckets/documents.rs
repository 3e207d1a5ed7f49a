//! Documents: links are signed here, with a key whose secret never leaves the node, and what has
//! ended is removed.
//!
//! What is asked comes with the assignment, and the answer goes with the status. Nothing of a
//! document passes through control but its links and what the index has of it.

use super::shelf::{Shelf, Shop, State};
use crate::time::{SystemClock, boot};
use keystead_aws::sigv4::Signer;
use keystead_objects::{Entry, ListQuery, StoreError, WriteCondition};
use keystead_types::documents::{BUCKET, EXPIRING, LASTING};
use keystead_types::{
    Boot, Clock, DocumentAnswer, DocumentAsk, DocumentEntry, DocumentId, DocumentSaid,
    DocumentWish, LeaseWord, Link, Part, Region, S3Role,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// What has ended is looked for so often; it is not served from its moment on, whatever this is.
const SWEEP: Duration = Duration::from_secs(10);
/// So many are removed at a look. The bounds are small in tests, which then meet them.
const AT_A_LOOK: usize = if cfg!(test) { 4 } else { 100 };
/// Documents on a page. Each has a link of some 500 bytes, and the status carries them.
const PAGE: usize = 50;
/// Keys of the index that are read at once, and how often so for one answer or one look: what users of
/// S3 put beside documents costs no more than that.
const KEYS: usize = if cfg!(test) { 20 } else { 1000 };
const READS: usize = if cfg!(test) { 4 } else { 64 };

/// What a shelf knows of them.
pub(super) struct Documents {
    region: Option<Region>,
    asks: Vec<DocumentAsk>,
    /// Asks that a task is at.
    busy: BTreeSet<String>,
    sweep_at: Boot,
    sweeping: bool,
    /// Where the last look broke off, for what it read was not documents.
    sweep_from: Option<String>,
}

impl Documents {
    pub(super) fn new(now: Boot) -> Self {
        let (asks, busy) = (Vec::new(), BTreeSet::new());
        Self { region: None, asks, busy, sweep_at: now, sweeping: false, sweep_from: None }
    }

    #[cfg(test)]
    pub(super) fn look_now(&mut self) {
        self.sweep_at = boot();
    }
}

/// What a link is signed with, and where it leads.
struct Desk {
    region: String,
    endpoint: String,
    access_key_id: String,
    secret: Zeroizing<String>,
}

impl Desk {
    fn link(
        &self,
        method: &str,
        document: &DocumentId,
        headers: &[(String, String)],
        expires_s: u32,
    ) -> Link {
        let now = SystemClock.wall_ms();
        let host = self.endpoint.split_once("://").map_or(&*self.endpoint, |(_, host)| host);
        let mut signed = vec![("host".to_owned(), host.trim_end_matches('/').to_owned())];
        signed.extend_from_slice(headers);
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret: &self.secret,
            session_token: None,
            region: &self.region,
            service: "s3",
        };
        let path = format!("/{BUCKET}/{}", document.key());
        // Whoever gets it can check it; a header would have to be sent along.
        let query = if method == "PUT" { "" } else { "x-amz-checksum-mode=ENABLED" };
        let query = signer.presign(method, &path, query, &signed, expires_s, now);
        Link {
            method: method.to_owned(),
            url: format!("{}{path}?{query}", self.endpoint.trim_end_matches('/')),
            headers: headers.to_vec(),
            // What the signature has are whole seconds.
            expires_ms: now / 1000 * 1000 + i64::from(expires_s) * 1000,
        }
    }

    fn entry(&self, document: DocumentId, size: u64, at: i64, expires_s: u32) -> DocumentEntry {
        let head = self.link("HEAD", &document, &[], expires_s);
        DocumentEntry { document, size, modified_ms: at, head }
    }
}

/// What can be said of the bucket at this moment.
enum Ready {
    Yes(Shop, Desk),
    /// It is being opened.
    Soon,
    No(DocumentSaid),
}

impl State {
    fn documents_ready(&self, endpoint: Option<String>) -> Ready {
        if let Some(cause) = self.shut_for() {
            // A node that has just begun has proved nothing yet.
            return match self.view.word {
                LeaseWord::None | LeaseWord::Unproved => Ready::Soon,
                _ => Ready::No(DocumentSaid::Refused(cause)),
            };
        }
        let Some(bucket) = self.wanted.buckets.iter().find(|b| b.name == BUCKET) else {
            return Ready::No(DocumentSaid::NoBucket);
        };
        if let Some((cause, _)) = self.denied.get(BUCKET) {
            return Ready::No(DocumentSaid::Refused(*cause));
        }
        let mut keys = self.wanted.s3_keys.iter().filter(|k| k.role == S3Role::Links);
        let open = keys.find_map(|key| {
            let id = &key.access_key_id;
            let secret = self.access_keys.get(id)?.secret.clone()?;
            // One that is not on record yet may be taken back.
            key.sealed.as_ref().map(|_| (id.clone(), secret))
        });
        let desk = open.zip(endpoint).zip(self.documents.region.as_ref());
        match (desk, &self.shop) {
            (Some((((access_key_id, secret), endpoint), region)), Some(shop))
                if self.serves(bucket) =>
            {
                let region = region.to_string();
                Ready::Yes(shop.clone(), Desk { region, endpoint, access_key_id, secret })
            }
            _ => Ready::Soon,
        }
    }
}

impl Shelf {
    /// What users of documents wait for.
    pub(super) fn ask<'a>(&self, region: &Region, asks: impl Iterator<Item = &'a DocumentAsk>) {
        let asks: Vec<DocumentAsk> = asks.cloned().collect();
        let mut s = self.lock();
        s.documents.region = Some(region.clone());
        if s.documents.asks != asks {
            s.documents.asks = asks;
            s.fresh = true;
            self.came.notify_one();
        }
    }

    /// Answers what can be answered and removes what has ended; answers whether to look again soon.
    pub(super) fn tend_documents(self: &Arc<Self>, now: Boot) -> bool {
        self.sweep_if_due(now);
        let open: Vec<DocumentAsk> = {
            let s = self.lock();
            let idle = |a: &&DocumentAsk| {
                !s.documents.busy.contains(&a.ask) && !self.parts.board.has_document(&a.ask)
            };
            s.documents.asks.iter().filter(idle).cloned().collect()
        };
        let mut soon = false;
        for ask in open {
            let ready = self.lock().documents_ready(self.parts.board.where_s3_is());
            match ready {
                Ready::Soon => soon = true,
                Ready::No(said) => self.say(&ask, said),
                Ready::Yes(shop, desk) => {
                    self.lock().documents.busy.insert(ask.ask.clone());
                    let shelf = self.clone();
                    self.parts.runtime.spawn(async move {
                        let said = answer(&shop, &desk, &ask.wish).await;
                        shelf.say(&ask, said.unwrap_or_else(|error| failed(&error)));
                        shelf.with(|s| s.documents.busy.remove(&ask.ask));
                    });
                }
            }
        }
        soon
    }

    fn say(&self, ask: &DocumentAsk, said: DocumentSaid) {
        if let DocumentSaid::Failed(why) = &said {
            tracing::warn!(cluster = %self.cluster, wish = ?ask.wish, why, "documents");
        }
        let (id, cluster) = (ask.ask.clone(), self.cluster.clone());
        self.parts.board.document(DocumentAnswer { ask: id, cluster, said });
    }

    /// Frozen documents stay until the thaw: what is under a freeze is not changed.
    fn sweep_if_due(self: &Arc<Self>, now: Boot) {
        let (store, from) = {
            let mut s = self.lock();
            let there = s.registered.iter().any(|(_, name)| name == BUCKET);
            // What ends is removed where it was written; the removal is replicated.
            let live = s.view.word == LeaseWord::Live && s.wanted.part == Part::Primary;
            match &s.shop {
                Some(shop)
                    if live && there && !s.documents.sweeping && now >= s.documents.sweep_at =>
                {
                    let store = shop.store.clone();
                    s.documents.sweeping = true;
                    (store, s.documents.sweep_from.take())
                }
                _ => return,
            }
        };
        let shelf = self.clone();
        self.parts.runtime.spawn(async move {
            let done = sweep(&store, SystemClock.wall_ms(), from).await;
            if let Err(error) = &done {
                tracing::warn!(cluster = %shelf.cluster, %error, "ended documents stay for now");
            }
            let (gone, broke_off) = done.unwrap_or_default();
            if gone > 0 {
                tracing::info!(cluster = %shelf.cluster, gone, "ended documents removed");
            }
            // A full look has more behind it.
            let pause = if gone == AT_A_LOOK { Duration::ZERO } else { SWEEP };
            shelf.with(|s| {
                (s.documents.sweeping, s.documents.sweep_at) = (false, boot().plus(pause));
                s.documents.sweep_from = broke_off;
            });
        });
    }
}

fn failed(error: &StoreError) -> DocumentSaid {
    match error {
        StoreError::Refused(refused) => DocumentSaid::Refused(refused.cause),
        StoreError::NoSuchKey => DocumentSaid::NoDocument,
        StoreError::NoSuchBucket(_) => DocumentSaid::NoBucket,
        other => DocumentSaid::Failed(crate::kms::deepest(other)),
    }
}

async fn answer(shop: &Shop, desk: &Desk, wish: &DocumentWish) -> Result<DocumentSaid, StoreError> {
    let store = &shop.store;
    match wish {
        DocumentWish::Upload { document, headers, expires_s } => {
            Ok(DocumentSaid::Upload(desk.link("PUT", document, headers, *expires_s)))
        }
        DocumentWish::Show { document, expires_s } => {
            let (info, _) = store.head(BUCKET, &document.key(), Default::default()).await?;
            let (id, at) = (document.clone(), info.modified_ms);
            Ok(DocumentSaid::Shown {
                entry: desk.entry(id, info.size, at, *expires_s),
                download: desk.link("GET", document, &[], *expires_s),
            })
        }
        DocumentWish::Page { after, expires_s } => {
            page(shop, desk, after.as_ref(), *expires_s).await
        }
        DocumentWish::Remove { document } => {
            let over = document.is_over(SystemClock.wall_ms());
            let there = store.delete(BUCKET, &document.key(), WriteCondition::default()).await?;
            Ok(if there && !over { DocumentSaid::Removed } else { DocumentSaid::NoDocument })
        }
    }
}

/// Lasting ones by age, then those that end, the next first. Other objects of the bucket are passed
/// over: users of S3 may put what they like beside.
async fn page(
    shop: &Shop,
    desk: &Desk,
    after: Option<&DocumentId>,
    expires_s: u32,
) -> Result<DocumentSaid, StoreError> {
    let (mut entries, mut reads) = (Vec::<DocumentEntry>::new(), 0);
    let now = SystemClock.wall_ms();
    let behind = after.map(DocumentId::key);
    let ends = behind.as_deref().is_some_and(|key| key.starts_with(EXPIRING));
    for prefix in [LASTING, EXPIRING] {
        let mut from = behind.clone().filter(|key| key.starts_with(prefix));
        match prefix {
            LASTING if ends => continue,
            // What has ended is not even read.
            EXPIRING => from = from.max(Some(first_to_end_after(now))),
            _ => {}
        }
        loop {
            if reads == READS {
                let next = entries.last().map(|e| e.document.clone());
                return Ok(match next {
                    Some(_) => DocumentSaid::Page { entries, next },
                    None => too_many_others(),
                });
            }
            reads += 1;
            let found = shop.store.list(BUCKET, query(prefix, from.take(), KEYS)).await?;
            for Entry { key, size, modified_ms, .. } in found.entries {
                let Some(id) = DocumentId::of_key(&key).filter(|id| !id.is_over(now)) else {
                    continue;
                };
                if entries.len() == PAGE {
                    let next = entries.last().map(|e| e.document.clone());
                    return Ok(DocumentSaid::Page { entries, next });
                }
                entries.push(desk.entry(id, size, modified_ms, expires_s));
            }
            from = found.next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(DocumentSaid::Page { entries, next: None })
}

/// A page ends with a document: without one there is nothing to go on from.
fn too_many_others() -> DocumentSaid {
    DocumentSaid::Failed(format!(
        "{} keys in a row below `{LASTING}` or `{EXPIRING}` are no documents; move what users of S3 put \
         there elsewhere",
        READS * KEYS
    ))
}

fn query(prefix: &str, after: Option<String>, max_keys: usize) -> ListQuery {
    ListQuery { prefix: prefix.to_owned(), after, max_keys, ..ListQuery::default() }
}

/// Keys of documents that have ended are less than this, and those of the others are greater.
fn first_to_end_after(now_ms: i64) -> String {
    format!("{EXPIRING}{:010x}/", now_ms.div_euclid(1000).saturating_add(1).max(0))
}

/// Removes what has ended; answers how many, and where it broke off. Their keys stand in the order of
/// their ends, so a look reads one page of the index, however many documents there are.
async fn sweep(
    store: &Arc<keystead_objects::Store>,
    now_ms: i64,
    mut from: Option<String>,
) -> Result<(usize, Option<String>), StoreError> {
    let (mut gone, end) = (0, first_to_end_after(now_ms));
    for _ in 0..READS {
        let found = store.list(BUCKET, query(EXPIRING, from.take(), AT_A_LOOK)).await?;
        for entry in found.entries {
            if gone == AT_A_LOOK || entry.key >= end {
                return Ok((gone, None));
            }
            if DocumentId::of_key(&entry.key).is_some_and(|id| id.is_over(now_ms)) {
                let removed = store.delete(BUCKET, &entry.key, WriteCondition::default()).await?;
                gone += usize::from(removed);
            }
        }
        from = found.next;
        if from.is_none() {
            break;
        }
    }
    Ok((gone, from))
}
