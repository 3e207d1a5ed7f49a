//! A gateway on a free port, with the stores of two clusters behind it. The example `s3` is made of
//! the same: a server for the loader, never a product, for its keys are nobody's KMS's.

use keystead_envelope::lease::LeaseGate;
use keystead_envelope::memory::DataKey;
use keystead_envelope::message::Wrapped;
use keystead_objects::gateway::{
    Buckets, Found, Gateway, Hosts, Keys, Lookup, Settings, Space, serve,
};
use keystead_objects::{BucketKey, BucketSettings, Ring, Store, StoreError, StoreRole, Vault};
use keystead_types::{Boot, Cause, Clock, S3Role};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const KEY_ARN: &str =
    "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555";
/// The key of the cluster's other Region.
pub(crate) const SECOND_ARN: &str =
    "arn:aws:kms:eu-west-1:111122223333:key/66666666-2222-3333-4444-555555555555";
/// Access key id, secret.
pub(crate) const WRITER: (&str, &str) = ("KSWRITER000000000001", "writer-secret-of-cluster-one");
pub(crate) const READER: (&str, &str) = ("KSREADER000000000001", "reader-secret-of-cluster-one");
pub(crate) const OTHER: (&str, &str) = ("KSWRITER000000000002", "writer-secret-of-cluster-two");

pub(crate) struct Real;

impl Clock for Real {
    fn boot(&self) -> Boot {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Boot::since_boot(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0)))
    }

    #[allow(clippy::disallowed_methods)]
    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(0)
    }
}

/// One cluster: a store, a gate that is open, and who makes its buckets.
pub(crate) struct Cluster {
    pub(crate) space: Arc<Space>,
    pub(crate) store: Arc<Store>,
    gate: Arc<LeaseGate>,
    maker: Arc<Maker>,
}

impl Cluster {
    pub(crate) fn open(folder: &Path, name: &str) -> Self {
        Self::open_as(StoreRole::Alone, folder, name)
    }

    /// One of a cluster's two Regions.
    pub(crate) fn open_as(role: StoreRole, folder: &Path, name: &str) -> Self {
        let gate = Arc::new(LeaseGate::new());
        gate.publish(Some(Boot::since_boot(Duration::from_secs(1 << 40))));
        let clock: Arc<dyn Clock> = Arc::new(Real);
        let vault = Arc::new(Vault::new(gate.clone(), clock.clone(), Cause::KmsUnreachable));
        let store = opened(role, folder, &vault, &clock);
        let maker = Arc::new(Maker { store: store.clone() });
        let space = match role {
            StoreRole::Backup => Space::backup(store.clone(), maker.clone(), name, REGION),
            _ => Space::new(store.clone(), maker.clone(), name),
        };
        Self { space, store, gate, maker }
    }

    /// The freeze in the node's order: connections, gate, keys.
    pub(crate) fn freeze(&self, cause: Cause) -> usize {
        let cut = self.space.cut(cause);
        self.gate.publish(None);
        self.store.vault().close(cause);
        cut
    }

    /// Makes a bucket, as the node does when control records one.
    #[allow(dead_code)] // The example makes its buckets over S3.
    pub(crate) async fn bucket(&self, name: &str) {
        self.maker.create(name).await.expect("a bucket");
    }

    pub(crate) async fn thaw(&self) {
        for bucket in self.store.list_buckets().await.expect("buckets") {
            self.maker.unlock(&bucket.name);
        }
        self.gate.publish(Some(Boot::since_boot(Duration::from_secs(1 << 40))));
        self.space.open();
    }
}

/// A store that is being dropped elsewhere holds its folder for a moment.
fn opened(
    role: StoreRole,
    folder: &Path,
    vault: &Arc<Vault>,
    clock: &Arc<dyn Clock>,
) -> Arc<Store> {
    let from = std::time::Instant::now();
    loop {
        match Store::open_as(role, folder, vault.clone(), clock.clone()) {
            Ok(store) => return store,
            Err(StoreError::Index(error)) if from.elapsed() < Duration::from_secs(10) => {
                drop(error);
                std::thread::yield_now();
            }
            Err(error) => panic!("a store: {error}"),
        }
    }
}

/// Makes buckets with keys that it derives from their names.
struct Maker {
    store: Arc<Store>,
}

impl Maker {
    fn unlock(&self, name: &str) {
        let context = BTreeMap::from([("aws:s3:arn".to_owned(), format!("arn:aws:s3:::{name}"))]);
        let mut bytes = [0x5a; 32];
        for (at, byte) in name.bytes().enumerate() {
            bytes[at % 32] ^= byte;
        }
        let key = DataKey::from_slice_zeroizing(&mut bytes).expect("key memory");
        let wrapped = [KEY_ARN, SECOND_ARN].map(|arn| Wrapped {
            key_arn: arn.to_owned(),
            ciphertext: format!("no KMS: {name}").into_bytes(),
        });
        let wrapped = wrapped.to_vec();
        let keys = vec![BucketKey::new(wrapped, key)];
        self.store.vault().open(name, Ring::new(context, keys, 0).expect("a ring"));
    }
}

#[async_trait::async_trait]
impl Buckets for Maker {
    async fn create(&self, name: &str) -> Result<(), StoreError> {
        let settings = BucketSettings { key_arn: KEY_ARN.to_owned(), ..BucketSettings::default() };
        self.store.add_bucket(name, settings).await?;
        self.unlock(name);
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.store.remove_bucket(name).await?;
        self.store.vault().close_bucket(name, Cause::KeyDeleted);
        Ok(())
    }
}

pub(crate) struct Table(pub(crate) HashMap<&'static str, (&'static str, S3Role, Arc<Space>)>);

impl Keys for Table {
    fn find(&self, access_key_id: &str) -> Lookup {
        let Some((secret, role, space)) = self.0.get(access_key_id) else {
            return Lookup::Unknown;
        };
        let secret = (*secret).to_owned().into();
        Lookup::Found(Found { secret, role: *role, space: space.clone() })
    }
}

/// The gateway, serving.
pub(crate) struct World {
    pub(crate) at: SocketAddr,
    pub(crate) one: Cluster,
    #[allow(dead_code)] // Kept open behind its access key.
    pub(crate) two: Cluster,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) served: tokio::task::JoinHandle<()>,
}

impl World {
    pub(crate) async fn open(folder: &Path, port: u16) -> Self {
        let one = Cluster::open(&folder.join("one"), "cluster-one");
        let two = Cluster::open(&folder.join("two"), "cluster-two");
        let keys = Table(HashMap::from([
            (WRITER.0, (WRITER.1, S3Role::Writer, one.space.clone())),
            (READER.0, (READER.1, S3Role::Reader, one.space.clone())),
            (OTHER.0, (OTHER.1, S3Role::Writer, two.space.clone())),
        ]));
        let hosts = Hosts::new(Some("s3.keystead.test"), &[]);
        let settings = Settings { hosts, region: REGION.to_owned() };
        let gateway = Gateway::new(settings, Arc::new(keys), Arc::new(Real));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let served = tokio::spawn(serve(listener, gateway.clone()));
        Self { at, one, two, gateway, served }
    }
}
