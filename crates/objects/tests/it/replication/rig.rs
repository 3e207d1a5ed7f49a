//! The two Regions, and how they are compared.

use super::proxy::Proxy;
use crate::gateway::rig::{Cluster, READER, REGION, Real, Table, WRITER};
use crate::gateway::strangers::Client;
use crate::world::{read, text};
use bytes::Bytes;
use keystead_objects::gateway::{Gateway, Hosts, Settings, serve};
use keystead_objects::replicate::{Replicator, Target};
use keystead_objects::*;
use keystead_types::S3Role;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const BACKUP_REGION: &str = "eu-west-1";
pub(crate) const REPLICATOR: (&str, &str) = ("KSREPLICATOR00000001", "replicator-secret-of-one");

/// A Region: its store behind a gateway.
pub(crate) struct Region {
    pub(crate) cluster: Cluster,
    pub(crate) at: SocketAddr,
    gateway: Arc<Gateway>,
    served: tokio::task::JoinHandle<()>,
}

impl Region {
    async fn open(role: StoreRole, folder: &Path, port: u16) -> Self {
        let cluster = Cluster::open_as(role, folder, "cluster-one");
        let space = &cluster.space;
        let keys = Table(HashMap::from([
            (WRITER.0, (WRITER.1, S3Role::Writer, space.clone())),
            (READER.0, (READER.1, S3Role::Reader, space.clone())),
            (REPLICATOR.0, (REPLICATOR.1, S3Role::Replicator, space.clone())),
        ]));
        let region = if role == StoreRole::Backup { BACKUP_REGION } else { REGION };
        let settings = Settings { hosts: Hosts::default(), region: region.to_owned() };
        let gateway = Gateway::new(settings, Arc::new(keys), Arc::new(Real));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let served = tokio::spawn(serve(listener, gateway.clone()));
        Self { cluster, at, gateway, served }
    }

    /// Ends as a killed process does: whatever is under way is dropped.
    async fn end(self) {
        self.cluster.space.cut(keystead_types::Cause::NodeSilent);
        self.gateway.stop();
        self.served.abort();
        let _ = self.served.await;
        let store = Arc::downgrade(&self.cluster.store);
        drop((self.cluster, self.gateway));
        wait(|| store.strong_count() == 0).await;
    }
}

pub(crate) struct Two {
    _own: TempDir,
    pub(crate) folders: [PathBuf; 2],
    pub(crate) primary: Region,
    pub(crate) backup: Region,
    pub(crate) proxy: Proxy,
    pub(crate) sender: Option<Replicator>,
}

impl Two {
    /// Both Regions with the buckets `one` and `two`; nothing is sent yet.
    pub(crate) async fn quiet() -> Self {
        let own = tempfile::tempdir().expect("a folder");
        let backup = own.path().join("backup");
        Self::at(own, &backup).await
    }

    pub(crate) async fn at(own: TempDir, backup_folder: &Path) -> Self {
        let folders = [own.path().join("primary"), backup_folder.to_owned()];
        let primary = Region::open(StoreRole::Primary, &folders[0], 0).await;
        let backup = Region::open(StoreRole::Backup, &folders[1], 0).await;
        for region in [&primary, &backup] {
            for bucket in ["one", "two"] {
                region.cluster.bucket(bucket).await;
            }
        }
        let proxy = Proxy::start(backup.at).await;
        Self { _own: own, folders, primary, backup, proxy, sender: None }
    }

    pub(crate) async fn new() -> Self {
        let mut two = Self::quiet().await;
        two.send();
        two
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.primary.cluster.store
    }

    pub(crate) fn replica(&self) -> &Arc<Store> {
        &self.backup.cluster.store
    }

    /// Starts the sender, or another one in its place.
    pub(crate) fn send(&mut self) {
        self.send_with(REPLICATOR);
    }

    pub(crate) fn send_with(&mut self, key: (&str, &str)) {
        let target = Target {
            address: self.proxy.at.to_string(),
            host: self.proxy.at.to_string(),
            region: BACKUP_REGION.to_owned(),
            access_key_id: key.0.to_owned(),
            secret: key.1.to_owned().into(),
        };
        let runtime = tokio::runtime::Handle::current();
        self.sender = None;
        self.sender = Some(Replicator::start(self.store(), target, &runtime));
    }

    /// The backup's node dies and comes back.
    pub(crate) async fn restart_backup(&mut self) {
        self.restart_backup_after(|_| ()).await;
    }

    /// The same, with something done to its folder meanwhile.
    pub(crate) async fn restart_backup_after(&mut self, meanwhile: impl FnOnce(&Path)) {
        let port = self.backup.at.port();
        let elsewhere = tempfile::tempdir().expect("a folder");
        let other = Region::open(StoreRole::Backup, elsewhere.path(), 0).await;
        std::mem::replace(&mut self.backup, other).end().await;
        meanwhile(&self.folders[1]);
        let again = Region::open(StoreRole::Backup, &self.folders[1], port).await;
        std::mem::replace(&mut self.backup, again).end().await;
        self.backup.cluster.thaw().await;
    }

    /// The primary's node dies and comes back, with its sender.
    pub(crate) async fn restart_primary(&mut self) {
        self.restart_primary_after(|_| ()).await;
    }

    /// The same, with something done to its folder meanwhile.
    pub(crate) async fn restart_primary_after(&mut self, meanwhile: impl FnOnce(&Path)) {
        self.sender = None;
        let elsewhere = tempfile::tempdir().expect("a folder");
        let other = Region::open(StoreRole::Primary, elsewhere.path(), 0).await;
        std::mem::replace(&mut self.primary, other).end().await;
        meanwhile(&self.folders[0]);
        let again = Region::open(StoreRole::Primary, &self.folders[0], 0).await;
        std::mem::replace(&mut self.primary, again).end().await;
        self.primary.cluster.thaw().await;
        self.send();
    }

    pub(crate) async fn put(&self, bucket: &str, key: &str, data: &[u8]) {
        let mut put = self.store().put(bucket, key, PutOptions::default()).await.expect("begun");
        put.write(Bytes::copy_from_slice(data)).await.expect("written");
        put.commit(None).await.expect("stored");
    }

    pub(crate) async fn delete(&self, bucket: &str, key: &str) {
        self.store().delete(bucket, key, WriteCondition::default()).await.expect("deleted");
    }

    pub(crate) async fn tag(&self, bucket: &str, key: &str, value: &str) {
        let tags = Tags::from([("t".to_owned(), value.to_owned())]);
        self.store().set_tags(bucket, key, tags).await.expect("tagged");
    }

    pub(crate) async fn multipart(&self, bucket: &str, key: &str, last: usize) {
        let begun = self.store().create_upload(bucket, key, UploadOptions::default()).await;
        let id = begun.expect("begun").upload_id;
        let mut named = Vec::new();
        for (number, bytes) in [(2u16, 5 << 20), (7, last)] {
            let part = self.store().put_part(bucket, key, &id, number, PartOptions::default());
            let mut part = part.await.expect("begun");
            part.write(Bytes::from(text(bytes))).await.expect("written");
            let etag = part.commit(None).await.expect("stored").etag;
            named.push(CompletePart { number, etag, checksum: None });
        }
        let options = CompleteOptions::default();
        let done = self.store().complete_upload(bucket, key, &id, named, options).await;
        done.expect("completed");
    }

    /// What the backup gives out of a key.
    pub(crate) async fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        match self.replica().get(bucket, key, GetOptions::default()).await {
            Ok(got) => Some(read(got.body).await.expect("read")),
            Err(StoreError::NoSuchKey) => None,
            Err(error) => panic!("{key}: {error}"),
        }
    }

    pub(crate) async fn settled(&self) {
        wait(|| self.store().replication().expect("a queue").pending == 0).await;
    }

    /// The backup is the primary: every file, every entry of every listing, every key readable.
    pub(crate) async fn same(&self) {
        let folders = [0, 1].map(|n| self.folders[n].join("buckets"));
        // What was replaced is removed behind the requests' backs.
        wait(|| files(&folders[0]) == files(&folders[1])).await;
        let incoming = self.folders[1].join("incoming");
        wait(|| std::fs::read_dir(&incoming).expect("a folder").count() == 0).await;
        for bucket in self.store().list_buckets().await.expect("buckets") {
            let query = ListQuery { max_keys: 1000, ..ListQuery::default() };
            let ours = self.store().list(&bucket.name, query.clone()).await.expect("listed");
            let theirs = self.replica().list(&bucket.name, query).await.expect("listed");
            assert_eq!(ours, theirs);
        }
        for store in [self.store(), self.replica()] {
            let totals = store.scrub(|_| ()).await.expect("scrubbed");
            assert_eq!((totals.corrupt, totals.refused, totals.strays), (0, 0, 0));
        }
    }

    pub(crate) fn client(&self, key: (&'static str, &'static str)) -> Client {
        Client::new(self.backup.at, key).in_region(BACKUP_REGION)
    }
}

/// Every file below a folder, with its bytes.
pub(crate) fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        // A folder may go while it is looked at.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let inside = path.strip_prefix(root).expect("inside").to_owned();
                found.insert(inside, bytes);
            }
        }
    }
    found
}

/// Waits for a condition, with a deadline.
pub(crate) async fn wait(mut condition: impl FnMut() -> bool) {
    let from = Instant::now();
    while !condition() {
        assert!(from.elapsed() < Duration::from_secs(60), "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
