//! Buckets and S3 access keys in SQLite.

use super::rows::{bucket, count, json, s3_key, store_key};
use super::*;
use keystead_types::{BucketId, S3Role};

/// The rest of a cluster's record.
pub(super) async fn complete(tx: &mut Tx, record: &mut Cluster) -> Result<(), StoreError> {
    let of = record.id.as_str().to_owned();
    let found = sqlx::query(
        "SELECT * FROM buckets WHERE cluster = ? AND removed_ms IS NULL ORDER BY rowid",
    )
    .bind(&of)
    .fetch_all(&mut **tx)
    .await?;
    record.buckets = found.iter().map(bucket).collect::<Result<_, _>>()?;
    // Keys of buckets that are gone stay on record, and are no business of a reader.
    let sql = "SELECT * FROM store_keys WHERE cluster = ?1 AND (store = ?2 OR store IN
               (SELECT id FROM buckets WHERE cluster = ?1 AND removed_ms IS NULL)) ORDER BY ordinal";
    let keys = sqlx::query(sql).bind(&of).bind(CREDENTIALS).fetch_all(&mut **tx).await?;
    for row in &keys {
        let (store, key) = store_key(row)?;
        if store == CREDENTIALS {
            record.credentials.push(key);
        } else if let Some(b) = record.buckets.iter_mut().find(|b| b.id.as_str() == store) {
            b.keys.push(key);
        }
    }
    let found = sqlx::query("SELECT * FROM s3_keys WHERE cluster = ? ORDER BY rowid")
        .bind(&of)
        .fetch_all(&mut **tx)
        .await?;
    record.s3_keys = found.iter().map(s3_key).collect::<Result<_, _>>()?;
    Ok(())
}

pub(super) async fn insert(
    tx: &mut Tx,
    cluster: &ClusterId,
    new: &Bucket,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO buckets (id, cluster, name, created_ms) VALUES (?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(new.id.as_str())
    .bind(cluster.as_str())
    .bind(&new.name)
    .bind(new.created_ms)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn insert_s3_key(
    tx: &mut Tx,
    cluster: &ClusterId,
    new: &S3Key,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO s3_keys (access_key_id, cluster, role, description, created_ms,
         sealed, expires_ms) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(&new.access_key_id)
    .bind(cluster.as_str())
    .bind(new.role.as_str())
    .bind(&new.description)
    .bind(new.created_ms)
    .bind(&new.sealed)
    .bind(new.expires_ms)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

impl BucketStore for SqliteStore {
    fn add_bucket<'a>(&'a self, cluster: &'a ClusterId, new: Bucket) -> Answer<'a, Added> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let sql = "SELECT COUNT(*) AS n FROM buckets WHERE cluster = ? AND removed_ms IS NULL";
            let row = sqlx::query(sql).bind(cluster.as_str()).fetch_one(&mut *tx).await?;
            if !insert(&mut tx, cluster, &new).await? {
                return Ok(Added::Taken);
            }
            if count(&row, "buckets", "n")? >= BUCKETS as u64 {
                return Ok(Added::Full);
            }
            touched(&mut tx, cluster.as_str(), true).await?;
            tx.commit().await?;
            Ok(Added::New)
        })
    }

    fn remove_bucket<'a>(
        &'a self,
        cluster: &'a ClusterId,
        bucket: &'a BucketId,
        now_ms: i64,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let done = sqlx::query(
                "UPDATE buckets SET removed_ms = ?
                 WHERE id = ? AND cluster = ? AND removed_ms IS NULL",
            )
            .bind(now_ms)
            .bind(bucket.as_str())
            .bind(cluster.as_str())
            .execute(&mut *tx)
            .await?;
            if done.rows_affected() == 0 {
                return Ok(false);
            }
            touched(&mut tx, cluster.as_str(), true).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    fn record_store_key<'a>(
        &'a self,
        cluster: &'a ClusterId,
        store: &'a str,
        key: &'a StoreKey,
    ) -> Answer<'a, Recorded> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let sql = "SELECT 1 FROM clusters c WHERE c.id = ?1 AND (?2 = ?3 OR EXISTS
                       (SELECT 1 FROM buckets b
                        WHERE b.id = ?2 AND b.cluster = c.id AND b.removed_ms IS NULL))";
            let there = sqlx::query(sql).bind(cluster.as_str()).bind(store).bind(CREDENTIALS);
            if there.fetch_optional(&mut *tx).await?.is_none() {
                return Ok(Recorded::Absent);
            }
            let rows = sqlx::query("SELECT * FROM store_keys WHERE cluster = ? AND store = ?")
                .bind(cluster.as_str())
                .bind(store)
                .fetch_all(&mut *tx)
                .await?;
            let there = rows.iter().map(store_key).collect::<Result<Vec<_>, _>>()?;
            if let Some((_, same)) = there.iter().find(|(_, k)| k.ordinal == key.ordinal) {
                return Ok(if same == key { Recorded::Same } else { Recorded::Other });
            }
            if key.ordinal as usize != there.len() {
                return Ok(Recorded::Other);
            }
            sqlx::query(
                "INSERT INTO store_keys (cluster, store, ordinal, key) VALUES (?, ?, ?, ?)",
            )
            .bind(cluster.as_str())
            .bind(store)
            .bind(i64::from(key.ordinal))
            .bind(json("store_keys", key)?)
            .execute(&mut *tx)
            .await?;
            touched(&mut tx, cluster.as_str(), false).await?;
            tx.commit().await?;
            Ok(Recorded::New)
        })
    }

    fn add_s3_key<'a>(&'a self, cluster: &'a ClusterId, new: S3Key) -> Answer<'a, Added> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let sql = "SELECT COUNT(*) AS n FROM s3_keys WHERE cluster = ? AND role <> ?";
            let users = sqlx::query(sql).bind(cluster.as_str()).bind(S3Role::Replicator.as_str());
            let row = users.fetch_one(&mut *tx).await?;
            if count(&row, "s3_keys", "n")? >= S3_KEYS as u64 {
                return Ok(Added::Full);
            }
            if !insert_s3_key(&mut tx, cluster, &new).await? {
                return Ok(Added::Taken);
            }
            touched(&mut tx, cluster.as_str(), true).await?;
            tx.commit().await?;
            Ok(Added::New)
        })
    }

    fn record_sealed<'a>(
        &'a self,
        cluster: &'a ClusterId,
        access_key_id: &'a str,
        sealed: &'a str,
    ) -> Answer<'a, Recorded> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let row =
                sqlx::query("SELECT sealed FROM s3_keys WHERE access_key_id = ? AND cluster = ?")
                    .bind(access_key_id)
                    .bind(cluster.as_str())
                    .fetch_optional(&mut *tx)
                    .await?;
            let Some(row) = row else { return Ok(Recorded::Absent) };
            if let Some(there) = row.try_get::<Option<String>, _>(0)? {
                return Ok(if there == sealed { Recorded::Same } else { Recorded::Other });
            }
            sqlx::query("UPDATE s3_keys SET sealed = ? WHERE access_key_id = ?")
                .bind(sealed)
                .bind(access_key_id)
                .execute(&mut *tx)
                .await?;
            touched(&mut tx, cluster.as_str(), false).await?;
            tx.commit().await?;
            Ok(Recorded::New)
        })
    }

    fn expire_s3_key<'a>(
        &'a self,
        cluster: &'a ClusterId,
        access_key_id: &'a str,
        at_ms: i64,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            let sql = "UPDATE s3_keys SET expires_ms = MIN(COALESCE(expires_ms, ?1), ?1)
                       WHERE access_key_id = ?2 AND cluster = ?3";
            self.on_s3_key(sqlx::query(sql).bind(at_ms), cluster, access_key_id).await
        })
    }

    fn remove_s3_key<'a>(
        &'a self,
        cluster: &'a ClusterId,
        access_key_id: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            let sql = "DELETE FROM s3_keys WHERE access_key_id = ? AND cluster = ?";
            self.on_s3_key(sqlx::query(sql), cluster, access_key_id).await
        })
    }
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>;

impl SqliteStore {
    /// A change of one key; its last two values are the key's id and the cluster's.
    async fn on_s3_key(
        &self,
        change: Query<'_>,
        cluster: &ClusterId,
        access_key_id: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let change = change.bind(access_key_id.to_owned()).bind(cluster.as_str().to_owned());
        if change.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        touched(&mut tx, cluster.as_str(), true).await?;
        tx.commit().await?;
        Ok(true)
    }
}
