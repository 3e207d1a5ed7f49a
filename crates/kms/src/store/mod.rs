//! Records in redb, live state in memory, and the durable sequence that watchers count by.
//!
//! A change is one transaction: the records, the sequence and the trail records that it owes. When
//! the server dies between that transaction and the trail's fsync, the next start writes what is
//! still owed, so no change stays without its record.

pub(crate) mod records;
pub(crate) mod state;

use crate::trail::Record;
use records::{RecordError, decode, encode};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use state::{Change, State, Touched};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;
const KEYS: Table = TableDefinition::new("keys");
const ALIASES: Table = TableDefinition::new("aliases");
const GRANTS: Table = TableDefinition::new("grants");
const ROLES: Table = TableDefinition::new("roles");
const META: Table = TableDefinition::new("meta");
/// Event id -> trail record that is not known to be on disk.
const OWED: Table = TableDefinition::new("owed");
/// Layout 2 has keys with several materials. Layout 1 is read as it stands and becomes layout 2 at
/// the first start: a build that knows layout 1 only would forget the older materials.
const LAYOUT: &str = "2";
const READ_TOO: &str = "1";

/// Why the store fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database.
    #[error("the key store's database")]
    Database(#[source] Box<redb::Error>),
    /// A folder or file.
    #[error("the key store's files")]
    Io(#[from] std::io::Error),
    /// Written by another version.
    #[error("the folder's VERSION is {0}; this build reads {READ_TOO} and {LAYOUT}")]
    Layout(String),
    /// A stored value.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The disk took a write that it had reported as failed.
    #[error("the key store is ahead of the running server: start it again")]
    Ahead,
}

macro_rules! from_redb {
    ($($error:ident),+) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                match error.into() {
                    // It does not name its source, and who starts it must see a read-only disk.
                    redb::Error::Io(error) => Self::Io(error),
                    other => Self::Database(Box::new(other)),
                }
            }
        })+
    };
}
from_redb!(DatabaseError, TransactionError, TableError, StorageError, CommitError);

/// The store of one KMS.
pub(crate) struct Store {
    path: PathBuf,
    /// None after a failed write: redb refuses everything until it is opened again.
    database: Mutex<Option<Database>>,
    state: RwLock<State>,
    /// Held from the look at the state to the commit: changes come one after another.
    writer: tokio::sync::Mutex<()>,
    /// Event ids of owed records that are on disk by now; removed with the next change.
    paid: Mutex<Vec<String>>,
    /// The store's own UUID: another store counts from another start.
    pub(crate) epoch: String,
    sequence: Mutex<u64>,
}

/// The right to commit.
pub(crate) struct Writer<'a> {
    store: &'a Store,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the store of a folder, made when missing; answers the trail records still owed.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<Record>), StoreError> {
        std::fs::create_dir_all(folder)?;
        check_layout(folder)?;
        let path = folder.join("store.redb");
        let database = Database::create(&path)?;
        let write = database.begin_write()?;
        for table in [KEYS, ALIASES, GRANTS, ROLES, META, OWED] {
            write.open_table(table)?;
        }
        {
            let mut meta = write.open_table(META)?;
            if meta.get("epoch")?.is_none() {
                let epoch = uuid::Uuid::new_v4().to_string();
                meta.insert("epoch", encode(&epoch).as_slice())?;
            }
        }
        write.commit()?;
        let read = database.begin_read()?;
        let mut state = State::default();
        for item in read.open_table(KEYS)?.iter()? {
            state.apply(Change::PutKey(decode(item?.1.value())?))?;
        }
        for item in read.open_table(ALIASES)?.iter()? {
            state.apply(Change::PutAlias(decode(item?.1.value())?))?;
        }
        for item in read.open_table(GRANTS)?.iter()? {
            state.apply(Change::PutGrant(decode(item?.1.value())?))?;
        }
        for item in read.open_table(ROLES)?.iter()? {
            state.apply(Change::PutRole(decode(item?.1.value())?))?;
        }
        let mut owed = Vec::new();
        for item in read.open_table(OWED)?.iter()? {
            owed.push(decode(item?.1.value())?);
        }
        let meta = read.open_table(META)?;
        let epoch = match meta.get("epoch")? {
            Some(value) => decode(value.value())?,
            None => return Err(RecordError::Damaged("no epoch".to_owned()).into()),
        };
        let sequence = match meta.get("sequence")? {
            Some(value) => decode(value.value())?,
            None => 0,
        };
        drop((meta, read));
        let store = Self {
            path,
            database: Mutex::new(Some(database)),
            state: RwLock::new(state),
            writer: tokio::sync::Mutex::default(),
            paid: Mutex::default(),
            epoch,
            sequence: Mutex::new(sequence),
        };
        Ok((store, owed))
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sequence(&self) -> u64 {
        *lock(&self.sequence)
    }

    pub(crate) async fn writer(&self) -> Writer<'_> {
        Writer { store: self, _turn: self.writer.lock().await }
    }

    /// These records are in the trail.
    pub(crate) fn paid(&self, event_ids: impl IntoIterator<Item = String>) {
        lock(&self.paid).extend(event_ids);
    }

    /// How long servers of this store have run, in milliseconds, as last noted.
    pub(crate) fn running_ms(&self) -> Result<u64, StoreError> {
        self.with_database(|database| {
            let read = database.begin_read()?;
            Ok(match read.open_table(META)?.get("running")? {
                Some(value) => decode(value.value())?,
                None => 0,
            })
        })
    }

    /// Notes the running time, and forgets which records were owed and are written.
    pub(crate) fn note_running(&self, ms: u64) -> Result<(), StoreError> {
        self.forgetting_paid(|database, paid| {
            let write = database.begin_write()?;
            write.open_table(META)?.insert("running", encode(&ms).as_slice())?;
            let mut owed = write.open_table(OWED)?;
            for id in paid {
                owed.remove(id.as_str())?;
            }
            drop(owed);
            Ok(write.commit()?)
        })
    }

    /// Writes with the ids of the records that are no longer owed.
    fn forgetting_paid(
        &self,
        write: impl FnOnce(&Database, &[String]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let paid = std::mem::take(&mut *lock(&self.paid));
        let written = self.with_database(|database| write(database, &paid));
        if written.is_err() {
            lock(&self.paid).extend(paid);
        }
        written
    }

    fn with_database<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut slot = lock(&self.database);
        let database = match slot.take() {
            Some(database) => database,
            None => self.reopen()?,
        };
        let result = work(&database);
        if result.is_ok() {
            *slot = Some(database);
        }
        result
    }

    /// Closes the file until the next write: a file system that an error made read-only cannot be
    /// mounted anew while it is open.
    pub(crate) fn let_go(&self) {
        drop(lock(&self.database).take());
    }

    fn reopen(&self) -> Result<Database, StoreError> {
        let database = Database::open(&self.path)?;
        let read = database.begin_read()?;
        let sequence = match read.open_table(META)?.get("sequence")? {
            Some(value) => decode(value.value())?,
            None => 0,
        };
        drop(read);
        if sequence == self.sequence() { Ok(database) } else { Err(StoreError::Ahead) }
    }
}

fn check_layout(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join("VERSION");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim() == LAYOUT => Ok(()),
        Ok(text) if text.trim() == READ_TOO => Ok(note_layout(folder)?),
        Ok(text) => Err(StoreError::Layout(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(note_layout(folder)?),
        Err(error) => Err(error.into()),
    }
}

/// Whole or not there at all: half a version would refuse every later start.
fn note_layout(folder: &Path) -> std::io::Result<()> {
    use std::io::Write as _;
    let new = folder.join("VERSION.new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(format!("{LAYOUT}\n").as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, folder.join("VERSION"))?;
    std::fs::File::open(folder)?.sync_all()
}

impl Writer<'_> {
    /// Makes changes durable, with the trail records they owe (event id, record), then visible.
    /// Answers the new sequence with what was touched.
    pub(crate) fn commit(
        &self,
        changes: Vec<Change>,
        owed: &[(String, Record)],
    ) -> Result<(u64, Vec<Touched>), StoreError> {
        let store = self.store;
        let touched: Vec<Touched> = changes.iter().filter_map(Change::touched).collect();
        let sequence = store.sequence() + u64::from(!touched.is_empty());
        store.forgetting_paid(|database, paid| {
            store.write(database, &changes, owed, paid, sequence)
        })?;
        let mut state = store.state.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            state.apply(change)?;
        }
        *lock(&store.sequence) = sequence;
        Ok((sequence, touched))
    }
}

impl Store {
    fn write(
        &self,
        database: &Database,
        changes: &[Change],
        owed: &[(String, Record)],
        paid: &[String],
        sequence: u64,
    ) -> Result<(), StoreError> {
        let write = database.begin_write()?;
        {
            let mut keys = write.open_table(KEYS)?;
            let mut aliases = write.open_table(ALIASES)?;
            let mut grants = write.open_table(GRANTS)?;
            let mut roles = write.open_table(ROLES)?;
            for change in changes {
                match change {
                    Change::PutKey(key) => {
                        keys.insert(key.arn.to_string().as_str(), encode(key).as_slice())?;
                    }
                    Change::RemoveKey(arn) => {
                        keys.remove(arn.to_string().as_str())?;
                        let state = self.state();
                        for grant in state.grants(arn) {
                            grants.remove(grant_key(&grant.key.to_string(), &grant.id).as_str())?;
                        }
                        for alias in state.aliases.values().filter(|a| a.target == *arn) {
                            aliases.remove(alias.arn.as_str())?;
                        }
                    }
                    Change::PutAlias(alias) => {
                        aliases.insert(alias.arn.as_str(), encode(alias).as_slice())?;
                    }
                    Change::RemoveAlias(alias) => {
                        aliases.remove(alias.arn.as_str())?;
                    }
                    Change::PutGrant(grant) => {
                        let at = grant_key(&grant.key.to_string(), &grant.id);
                        grants.insert(at.as_str(), encode(grant).as_slice())?;
                    }
                    Change::RemoveGrant(key, id) => {
                        grants.remove(grant_key(&key.to_string(), id).as_str())?;
                    }
                    Change::PutRole(role) => {
                        roles.insert(role.arn.as_str(), encode(role).as_slice())?;
                    }
                    Change::RemoveRole(arn) => {
                        roles.remove(arn.as_str())?;
                    }
                }
            }
            let mut table = write.open_table(OWED)?;
            for (id, record) in owed {
                table.insert(id.as_str(), encode(record).as_slice())?;
            }
            for id in paid {
                table.remove(id.as_str())?;
            }
            write.open_table(META)?.insert("sequence", encode(&sequence).as_slice())?;
        }
        Ok(write.commit()?)
    }
}

fn grant_key(key: &str, id: &str) -> String {
    format!("{key} {id}")
}
