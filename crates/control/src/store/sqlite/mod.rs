//! The store on SQLite: WAL, `synchronous=FULL`, one connection, so that transactions stand in a
//! row and a commit is on disk before it is answered.

mod buckets;
mod records;
mod rows;

use super::buckets::{BUCKETS, S3_KEYS};
use super::*;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Connection, Row, Sqlite, Transaction};
use std::{
    fs::{self, DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// One step a version; a step that was released is never edited.
const STEPS: [&str; 3] = [
    include_str!("../schema_1.sql"),
    include_str!("../schema_2.sql"),
    include_str!("../schema_3.sql"),
];

/// The store of `DATA/control.sqlite`.
pub(crate) struct SqliteStore {
    folder: PathBuf,
    connections: SqlitePool,
    /// None once the folder could not be written, until it can be again.
    lock: tokio::sync::Mutex<Option<File>>,
}

type Tx = Transaction<'static, Sqlite>;

impl SqliteStore {
    /// Opens it, makes it when missing, brings it to this program's version.
    pub(crate) async fn open(folder: &Path) -> Result<Self, StoreError> {
        let fault = |source| StoreError::Folder { path: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
        let lock = lock(folder, File::options().write(true).create(true).truncate(false))?;
        let options = SqliteConnectOptions::new()
            .filename(folder.join("control.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let connections = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(Duration::from_secs(5))
            // A commit that met a full disk was rolled back by SQLite itself, which sqlx does not
            // learn: such a connection refuses every later transaction, so a new one is opened.
            .before_acquire(|connection, _| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            })
            .connect_with(options)
            .await?;
        let lock = tokio::sync::Mutex::new(Some(lock));
        let store = Self { folder: folder.to_owned(), connections, lock };
        store.keep_old(folder).await?;
        store.migrate().await?;
        // The names of a new file must last as well.
        File::open(folder).and_then(|f| f.sync_all()).map_err(fault)?;
        fs::write(folder.join("VERSION"), format!("{}\n", STEPS.len())).map_err(fault)?;
        Ok(store)
    }

    /// Ends it, whoever still holds it: later calls fail, the folder is free.
    pub(crate) async fn close(&self) {
        self.connections.close().await;
        drop(self.lock.lock().await.take());
    }

    /// The connections, while the folder can be written.
    ///
    /// A file system that an error made read-only comes back by an unmount and a mount alone, and
    /// open files forbid both. So nothing stays open once it is met: calls are refused, each looks
    /// again, and the first that finds the folder mended opens everything anew. Only what is there
    /// is opened: between unmount and mount an empty folder is no new store.
    async fn pool(&self) -> Result<&SqlitePool, StoreError> {
        let mut held = self.lock.lock().await;
        let usable = match held.take() {
            Some(lock) => Ok(lock),
            None => lock(&self.folder, File::options().write(true)),
        };
        let usable = usable.and_then(|lock| match lock.set_len(0) {
            // It is empty and stays so, but a file system that takes no change says so here.
            Ok(()) => Ok(lock),
            Err(source) => Err(StoreError::Folder { path: self.folder.clone(), source }),
        });
        match usable {
            Ok(lock) => *held = Some(lock),
            Err(error) => {
                if let Some(connection) = self.connections.try_acquire() {
                    // It may fail to tidy up on such a disk; it is closed all the same.
                    let _ = connection.close().await;
                }
                return Err(error);
            }
        }
        Ok(&self.connections)
    }

    /// Before an older file is brought forward, it is copied beside itself.
    async fn keep_old(&self, folder: &Path) -> Result<(), StoreError> {
        let found: i64 =
            sqlx::query("PRAGMA user_version").fetch_one(&self.connections).await?.try_get(0)?;
        let kept = folder.join(format!("control.sqlite.v{found}"));
        if found == 0 || found >= STEPS.len() as i64 || kept.exists() {
            return Ok(());
        }
        // Renamed when it is whole.
        let half = folder.join("control.sqlite.copy");
        let fault = |source| StoreError::Folder { path: kept.clone(), source };
        if half.exists() {
            fs::remove_file(&half).map_err(fault)?;
        }
        sqlx::query("VACUUM INTO ?")
            .bind(half.display().to_string())
            .execute(&self.connections)
            .await?;
        File::open(&half).and_then(|f| f.sync_all()).map_err(fault)?;
        fs::rename(&half, &kept).map_err(fault)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let known = STEPS.len() as i64;
        let mut tx = self.begin().await?;
        let found: i64 =
            sqlx::query("PRAGMA user_version").fetch_one(&mut *tx).await?.try_get(0)?;
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
            sqlx::raw_sql(*step).execute(&mut *tx).await?;
        }
        // The number is this program's own.
        let mark = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {known}"));
        sqlx::raw_sql(mark).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(self.pool().await?.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// The folder's lock, ours alone.
fn lock(folder: &Path, how: &fs::OpenOptions) -> Result<File, StoreError> {
    let fault = |source| StoreError::Folder { path: folder.to_owned(), source };
    let lock = how.open(folder.join("lock")).map_err(fault)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(fault(source)),
    }
}

async fn raise(tx: &mut Tx, region: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO regions (region, generation) VALUES (?, 1)
         ON CONFLICT (region) DO UPDATE SET generation = generation + 1",
    )
    .bind(region)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Raises the generation of its Regions, and the cluster's own when its spec changed.
async fn touched(tx: &mut Tx, id: &str, spec: bool) -> Result<(), StoreError> {
    let row = sqlx::query(
        "UPDATE clusters SET generation = generation + ? WHERE id = ?
         RETURNING region, backup_region",
    )
    .bind(i64::from(spec))
    .bind(id)
    .fetch_one(&mut **tx)
    .await?;
    raise(tx, &row.try_get::<String, _>(0)?).await?;
    match row.try_get::<Option<String>, _>(1)? {
        Some(backup) => raise(tx, &backup).await,
        None => Ok(()),
    }
}

/// Whole records.
async fn whole(tx: &mut Tx, rows: Vec<SqliteRow>) -> Result<Vec<Cluster>, StoreError> {
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut record = rows::cluster(row)?;
        record.volumes = sqlx::query("SELECT * FROM volumes WHERE cluster = ? ORDER BY rowid")
            .bind(record.id.as_str())
            .fetch_all(&mut **tx)
            .await?
            .iter()
            .map(rows::volume)
            .collect::<Result<_, _>>()?;
        buckets::complete(tx, &mut record).await?;
        found.push(record);
    }
    Ok(found)
}

/// The statements that read and write one value that is written once.
struct Once {
    /// Id of the cluster and the value.
    read: &'static str,
    /// Sets it: the value, then the id.
    write: &'static str,
    /// Whether the cluster's spec changes.
    spec: bool,
}

const ROLE: Once = Once {
    read: "SELECT id, tenant_role FROM clusters WHERE id = ?",
    write: "UPDATE clusters SET tenant_role = ? WHERE id = ?",
    spec: true,
};
const CANARY: Once = Once {
    read: "SELECT id, canary FROM clusters WHERE id = ?",
    write: "UPDATE clusters SET canary = ? WHERE id = ?",
    spec: false,
};
const SECOND_CANARY: Once = Once {
    read: "SELECT id, second_canary FROM clusters WHERE id = ?",
    write: "UPDATE clusters SET second_canary = ? WHERE id = ?",
    spec: false,
};
const WRAPPED: Once = Once {
    read: "SELECT cluster, wrapped FROM volumes WHERE id = ?",
    write: "UPDATE volumes SET wrapped = ? WHERE id = ?",
    spec: false,
};
const DIGEST: Once = Once {
    read: "SELECT cluster, key_digest FROM volumes WHERE id = ?",
    write: "UPDATE volumes SET key_digest = ? WHERE id = ?",
    spec: false,
};

impl SqliteStore {
    async fn once(&self, what: &Once, id: &str, value: &str) -> Result<Recorded, StoreError> {
        let mut tx = self.begin().await?;
        let Some(row) = sqlx::query(what.read).bind(id).fetch_optional(&mut *tx).await? else {
            return Ok(Recorded::Absent);
        };
        let (owner, there): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(there) = there {
            return Ok(if there == value { Recorded::Same } else { Recorded::Other });
        }
        sqlx::query(what.write).bind(value).bind(id).execute(&mut *tx).await?;
        touched(&mut tx, &owner, what.spec).await?;
        tx.commit().await?;
        Ok(Recorded::New)
    }

    async fn one(&self, sql: &'static str, id: &str) -> Result<Option<Cluster>, StoreError> {
        let mut tx = self.pool().await?.begin().await?;
        let rows = sqlx::query(sql).bind(id).fetch_all(&mut *tx).await?;
        Ok(whole(&mut tx, rows).await?.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_goes_on_after_sqlite_itself_rolled_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(folder.path()).await.expect("open");
        for digest in ["one", "two"] {
            // As when the disk is full.
            let mut tx = store.begin().await.expect("begun");
            sqlx::raw_sql("ROLLBACK").execute(&mut *tx).await.expect("rolled back");
            assert!(tx.commit().await.is_err());
            store.adopt_templates(digest).await.expect("the next transaction");
        }
    }
}
