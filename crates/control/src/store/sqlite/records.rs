//! The calls of the store, a transaction each.

use super::rows::{cluster, damaged, endpoint, integer, json, organization, preflight};
use super::*;

impl Store for SqliteStore {
    fn add_organization(&self, new: Organization, token: TokenHash) -> Answer<'_, bool> {
        Box::pin(async move {
            let done = sqlx::query(
                "INSERT INTO organizations (id, name, token_sha256, created_ms)
                 VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
            )
            .bind(new.id.as_str())
            .bind(&new.name)
            .bind(&token[..])
            .bind(new.created_ms)
            .execute(self.pool().await?)
            .await?;
            Ok(done.rows_affected() == 1)
        })
    }

    fn organizations(&self) -> Answer<'_, Vec<Organization>> {
        Box::pin(async move {
            let rows = sqlx::query("SELECT * FROM organizations ORDER BY id")
                .fetch_all(self.pool().await?)
                .await?;
            rows.iter().map(organization).collect()
        })
    }

    fn organization_of(&self, token: TokenHash) -> Answer<'_, Option<Organization>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT * FROM organizations WHERE token_sha256 = ?")
                .bind(&token[..])
                .fetch_optional(self.pool().await?)
                .await?;
            row.as_ref().map(organization).transpose()
        })
    }

    fn add_cluster(&self, new: Cluster) -> Answer<'_, bool> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let done = sqlx::query(
                "INSERT INTO clusters (id, organization, name, region, backup_region, template,
                 evict_after_ms, created_ms, generation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (organization, name) DO NOTHING",
            )
            .bind(new.id.as_str())
            .bind(new.organization.as_str())
            .bind(&new.name)
            .bind(new.region.as_str())
            .bind(new.backup_region.as_ref().map(Region::as_str))
            .bind(&new.template)
            .bind(integer("clusters", new.evict_after_ms)?)
            .bind(new.created_ms)
            .bind(integer("clusters", new.generation)?)
            .execute(&mut *tx)
            .await?;
            if done.rows_affected() == 0 {
                return Ok(false);
            }
            for v in &new.volumes {
                sqlx::query(
                    "INSERT INTO volumes (id, cluster, disk, size_bytes, grant_generation)
                     VALUES (?, ?, ?, ?, ?)",
                )
                .bind(v.id.as_str())
                .bind(new.id.as_str())
                .bind(&v.disk)
                .bind(integer("volumes", v.size_bytes)?)
                .bind(integer("volumes", v.grant_generation)?)
                .execute(&mut *tx)
                .await?;
            }
            for b in &new.buckets {
                buckets::insert(&mut tx, &new.id, b).await?;
            }
            tx.commit().await?;
            Ok(true)
        })
    }

    fn cluster<'a>(&'a self, id: &'a ClusterId) -> Answer<'a, Option<Cluster>> {
        Box::pin(self.one("SELECT * FROM clusters WHERE id = ?", id.as_str()))
    }

    fn cluster_of_volume<'a>(&'a self, id: &'a VolumeId) -> Answer<'a, Option<Cluster>> {
        let sql = "SELECT * FROM clusters WHERE id = (SELECT cluster FROM volumes WHERE id = ?)";
        Box::pin(self.one(sql, id.as_str()))
    }

    fn clusters<'a>(&'a self, which: Select<'a>) -> Answer<'a, Vec<Cluster>> {
        Box::pin(async move {
            let mut tx = self.pool().await?.begin().await?;
            let query = match which {
                Select::Organization(id) => {
                    sqlx::query("SELECT * FROM clusters WHERE organization = ? ORDER BY id")
                        .bind(id.as_str())
                }
                Select::Region(region) => {
                    let sql = "SELECT * FROM clusters WHERE region = ?1 OR backup_region = ?1 ORDER BY id";
                    sqlx::query(sql).bind(region.as_str())
                }
                Select::WithoutRole => {
                    sqlx::query("SELECT * FROM clusters WHERE tenant_role IS NULL ORDER BY id")
                }
            };
            let rows = query.fetch_all(&mut *tx).await?;
            whole(&mut tx, rows).await
        })
    }

    fn record_role<'a>(&'a self, id: &'a ClusterId, role: &'a RoleArn) -> Answer<'a, Recorded> {
        Box::pin(async move { self.once(&ROLE, id.as_str(), &role.to_string()).await })
    }

    fn bind<'a>(
        &'a self,
        id: &'a ClusterId,
        keys: &'a Keys,
        replicator: Option<S3Key>,
        now_ms: i64,
    ) -> Answer<'a, Bound> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let row = sqlx::query("SELECT * FROM clusters WHERE id = ?")
                .bind(id.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            let Some(record) = row.as_ref().map(cluster).transpose()? else {
                return Ok(Bound::Absent);
            };
            if let Some(there) = record.binding {
                return Ok(Bound::Already(there));
            }
            for key in keys.all() {
                let elsewhere = sqlx::query(
                    "SELECT 1 FROM clusters
                     WHERE (bound_key = ?1 OR second_key = ?1) AND organization <> ?2",
                )
                .bind(key.to_string())
                .bind(record.organization.as_str())
                .fetch_optional(&mut *tx)
                .await?;
                if elsewhere.is_some() {
                    return Ok(Bound::Elsewhere(key.clone()));
                }
            }
            let second = keys.second.as_ref();
            sqlx::query(
                "UPDATE clusters SET bound_key = ?, second_key = ?, revocation = ?, bound_ms = ?
                 WHERE id = ?",
            )
            .bind(keys.key.to_string())
            .bind(second.map(ToString::to_string))
            .bind(second.map(|_| keys.revocation.as_str()))
            .bind(now_ms)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
            if let Some(new) = &replicator {
                buckets::insert_s3_key(&mut tx, id, new).await?;
            }
            touched(&mut tx, id.as_str(), true).await?;
            tx.commit().await?;
            Ok(Bound::Done)
        })
    }

    fn record_canary<'a>(
        &'a self,
        id: &'a ClusterId,
        part: Part,
        key: &'a WrappedKey,
    ) -> Answer<'a, Recorded> {
        let what = match part {
            Part::Primary => &CANARY,
            Part::Backup => &SECOND_CANARY,
        };
        Box::pin(async move { self.once(what, id.as_str(), &json("clusters", key)?).await })
    }

    fn record_wrapped<'a>(&'a self, id: &'a VolumeId, key: &'a WrappedKey) -> Answer<'a, Recorded> {
        Box::pin(async move { self.once(&WRAPPED, id.as_str(), &json("volumes", key)?).await })
    }

    fn record_digest<'a>(&'a self, id: &'a VolumeId, digest: &'a str) -> Answer<'a, Recorded> {
        Box::pin(self.once(&DIGEST, id.as_str(), digest))
    }

    fn regrant<'a>(&'a self, id: &'a VolumeId, seen: u64) -> Answer<'a, bool> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let row = sqlx::query(
                "UPDATE volumes SET grant_generation = grant_generation + 1
                 WHERE id = ? AND grant_generation = ? RETURNING cluster",
            )
            .bind(id.as_str())
            .bind(integer("volumes", seen)?)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(row) = row else { return Ok(false) };
            touched(&mut tx, &row.try_get::<String, _>(0)?, true).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    fn add_preflight(&self, new: Preflight, limit: usize) -> Answer<'_, bool> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let waiting: i64 =
                sqlx::query("SELECT COUNT(*) FROM preflights WHERE cluster = ? AND report IS NULL")
                    .bind(new.cluster.as_str())
                    .fetch_one(&mut *tx)
                    .await?
                    .try_get(0)?;
            if usize::try_from(waiting).map_err(|e| damaged("preflights", e))? >= limit {
                return Ok(false);
            }
            sqlx::query(
                "INSERT INTO preflights (id, cluster, key_arn, created_ms) VALUES (?, ?, ?, ?)",
            )
            .bind(new.id.as_str())
            .bind(new.cluster.as_str())
            .bind(new.key.to_string())
            .bind(new.created_ms)
            .execute(&mut *tx)
            .await?;
            sqlx::query(
                "DELETE FROM preflights WHERE cluster = ?1 AND report IS NOT NULL AND id NOT IN
                 (SELECT id FROM preflights WHERE cluster = ?1 AND report IS NOT NULL
                  ORDER BY id DESC LIMIT ?2)",
            )
            .bind(new.cluster.as_str())
            .bind(PREFLIGHTS_KEPT as i64)
            .execute(&mut *tx)
            .await?;
            touched(&mut tx, new.cluster.as_str(), false).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    fn preflight<'a>(&'a self, id: &'a PreflightId) -> Answer<'a, Option<Preflight>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT * FROM preflights WHERE id = ?")
                .bind(id.as_str())
                .fetch_optional(self.pool().await?)
                .await?;
            row.as_ref().map(preflight).transpose()
        })
    }

    fn preflights_of<'a>(&'a self, cluster: &'a ClusterId) -> Answer<'a, Vec<Preflight>> {
        Box::pin(async move {
            let rows = sqlx::query("SELECT * FROM preflights WHERE cluster = ? ORDER BY id")
                .bind(cluster.as_str())
                .fetch_all(self.pool().await?)
                .await?;
            rows.iter().map(preflight).collect()
        })
    }

    fn pending_preflights<'a>(&'a self, region: &'a Region) -> Answer<'a, Vec<Preflight>> {
        Box::pin(async move {
            // As `Cluster::tries` says: the backup Region tries keys of its own, the other one all
            // the rest.
            let rows = sqlx::query(
                "SELECT p.* FROM preflights p JOIN clusters c ON c.id = p.cluster
                 WHERE p.report IS NULL AND ?1 = CASE
                   WHEN p.key_arn LIKE 'arn:aws:kms:' || c.backup_region || ':%'
                   THEN c.backup_region ELSE c.region END
                 ORDER BY p.id",
            )
            .bind(region.as_str())
            .fetch_all(self.pool().await?)
            .await?;
            rows.iter().map(preflight).collect()
        })
    }

    fn record_report<'a>(
        &'a self,
        report: &'a PreflightReport,
        now_ms: i64,
    ) -> Answer<'a, Recorded> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let row = sqlx::query("SELECT * FROM preflights WHERE id = ?")
                .bind(report.preflight.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            let Some(record) = row.as_ref().map(preflight).transpose()? else {
                return Ok(Recorded::Absent);
            };
            if let Some((there, _)) = record.report {
                return Ok(if there == *report { Recorded::Same } else { Recorded::Other });
            }
            sqlx::query("UPDATE preflights SET report = ?, recorded_ms = ? WHERE id = ?")
                .bind(json("preflights", report)?)
                .bind(now_ms)
                .bind(report.preflight.as_str())
                .execute(&mut *tx)
                .await?;
            touched(&mut tx, record.cluster.as_str(), false).await?;
            tx.commit().await?;
            Ok(Recorded::New)
        })
    }

    fn generation<'a>(&'a self, region: &'a Region) -> Answer<'a, u64> {
        Box::pin(async move {
            let row = sqlx::query("SELECT generation FROM regions WHERE region = ?")
                .bind(region.as_str())
                .fetch_optional(self.pool().await?)
                .await?;
            let Some(row) = row else { return Ok(0) };
            u64::try_from(row.try_get::<i64, _>(0)?).map_err(|e| damaged("regions", e))
        })
    }

    fn record_endpoint<'a>(&'a self, region: &'a Region, endpoint: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let changed = sqlx::query(
                "INSERT INTO regions (region, generation, s3_endpoint) VALUES (?, 0, ?)
                 ON CONFLICT (region) DO UPDATE SET s3_endpoint = excluded.s3_endpoint
                 WHERE s3_endpoint IS NOT excluded.s3_endpoint",
            )
            .bind(region.as_str())
            .bind(endpoint)
            .execute(&mut *tx)
            .await?;
            if changed.rows_affected() == 0 {
                return Ok(false);
            }
            let others = sqlx::query(
                "SELECT backup_region FROM clusters
                 WHERE region = ?1 AND backup_region IS NOT NULL
                 UNION SELECT region FROM clusters WHERE backup_region = ?1",
            )
            .bind(region.as_str())
            .fetch_all(&mut *tx)
            .await?;
            for other in &others {
                raise(&mut tx, &other.try_get::<String, _>(0)?).await?;
            }
            tx.commit().await?;
            Ok(true)
        })
    }

    fn endpoints(&self) -> Answer<'_, BTreeMap<Region, String>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT region, s3_endpoint FROM regions WHERE s3_endpoint IS NOT NULL",
            )
            .fetch_all(self.pool().await?)
            .await?;
            rows.iter().map(endpoint).collect()
        })
    }

    fn adopt_templates<'a>(&'a self, digest: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let changed = sqlx::query(
                "INSERT INTO settings (name, value) VALUES ('templates', ?)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value
                 WHERE value <> excluded.value",
            )
            .bind(digest)
            .execute(&mut *tx)
            .await?;
            if changed.rows_affected() > 0 {
                sqlx::query("UPDATE regions SET generation = generation + 1")
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(tx.commit().await?)
        })
    }
}
