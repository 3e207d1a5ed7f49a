//! Rows to records and back.

use crate::store::{Bucket, Cluster, Keys, Organization, Preflight, S3Key, StoreError, Volume};
use keystead_types::{Region, Revocation, S3Role, StoreKey};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, sqlite::SqliteRow};
use std::str::FromStr;

pub(super) fn damaged(table: &'static str, reason: impl ToString) -> StoreError {
    StoreError::Damaged { table, reason: reason.to_string() }
}

fn parsed<T>(row: &SqliteRow, table: &'static str, column: &str) -> Result<T, StoreError>
where
    T: FromStr<Err: ToString>,
{
    row.try_get::<String, _>(column)?.parse().map_err(|e: T::Err| damaged(table, e.to_string()))
}

fn maybe<T>(row: &SqliteRow, table: &'static str, column: &str) -> Result<Option<T>, StoreError>
where
    T: FromStr<Err: ToString>,
{
    let text: Option<String> = row.try_get(column)?;
    text.map(|t| t.parse().map_err(|e: T::Err| damaged(table, e.to_string()))).transpose()
}

fn decoded<T: DeserializeOwned>(
    row: &SqliteRow,
    table: &'static str,
    column: &str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|t| serde_json::from_str(&t).map_err(|e| damaged(table, e))).transpose()
}

pub(super) fn count(row: &SqliteRow, table: &'static str, column: &str) -> Result<u64, StoreError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|e| damaged(table, e))
}

/// A number for an INTEGER column.
pub(super) fn integer(table: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|e| damaged(table, e))
}

/// JSON for a TEXT column.
pub(super) fn json<T: Serialize>(table: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| damaged(table, e))
}

/// Where a Region's node serves S3.
pub(super) fn endpoint(row: &SqliteRow) -> Result<(Region, String), StoreError> {
    Ok((parsed(row, "regions", "region")?, row.try_get("s3_endpoint")?))
}

pub(super) fn organization(row: &SqliteRow) -> Result<Organization, StoreError> {
    Ok(Organization {
        id: parsed(row, "organizations", "id")?,
        name: row.try_get("name")?,
        created_ms: row.try_get("created_ms")?,
    })
}

fn keys(row: &SqliteRow) -> Result<Option<Keys>, StoreError> {
    const T: &str = "clusters";
    let Some(key) = maybe(row, T, "bound_key")? else { return Ok(None) };
    let revocation = match row.try_get::<Option<String>, _>("revocation")?.as_deref() {
        // A cluster of one Region has no word on it.
        None | Some("any") => Revocation::Any,
        Some("each") => Revocation::Each,
        Some(other) => return Err(damaged(T, format!("the revocation {other}"))),
    };
    Ok(Some(Keys { key, second: maybe(row, T, "second_key")?, revocation }))
}

/// Without its volumes, buckets and keys.
pub(super) fn cluster(row: &SqliteRow) -> Result<Cluster, StoreError> {
    const T: &str = "clusters";
    Ok(Cluster {
        id: parsed(row, T, "id")?,
        organization: parsed(row, T, "organization")?,
        name: row.try_get("name")?,
        region: parsed(row, T, "region")?,
        backup_region: maybe(row, T, "backup_region")?,
        template: row.try_get("template")?,
        evict_after_ms: count(row, T, "evict_after_ms")?,
        created_ms: row.try_get("created_ms")?,
        generation: count(row, T, "generation")?,
        tenant_role: maybe(row, T, "tenant_role")?,
        binding: keys(row)?,
        canary: decoded(row, T, "canary")?,
        second_canary: decoded(row, T, "second_canary")?,
        volumes: Vec::new(),
        buckets: Vec::new(),
        credentials: Vec::new(),
        s3_keys: Vec::new(),
    })
}

pub(super) fn volume(row: &SqliteRow) -> Result<Volume, StoreError> {
    const T: &str = "volumes";
    Ok(Volume {
        id: parsed(row, T, "id")?,
        disk: row.try_get("disk")?,
        size_bytes: count(row, T, "size_bytes")?,
        wrapped: decoded(row, T, "wrapped")?,
        key_digest: row.try_get("key_digest")?,
        grant_generation: count(row, T, "grant_generation")?,
    })
}

/// Without its keys.
pub(super) fn bucket(row: &SqliteRow) -> Result<Bucket, StoreError> {
    Ok(Bucket {
        id: parsed(row, "buckets", "id")?,
        name: row.try_get("name")?,
        created_ms: row.try_get("created_ms")?,
        keys: Vec::new(),
    })
}

/// A data key, and whose.
pub(super) fn store_key(row: &SqliteRow) -> Result<(String, StoreKey), StoreError> {
    const T: &str = "store_keys";
    let key = decoded(row, T, "key")?.ok_or_else(|| damaged(T, "no key"))?;
    Ok((row.try_get("store")?, key))
}

pub(super) fn s3_key(row: &SqliteRow) -> Result<S3Key, StoreError> {
    let role = match row.try_get::<String, _>("role")?.as_str() {
        "reader" => S3Role::Reader,
        "writer" => S3Role::Writer,
        "replicator" => S3Role::Replicator,
        "links" => S3Role::Links,
        other => return Err(damaged("s3_keys", format!("the role {other}"))),
    };
    Ok(S3Key {
        access_key_id: row.try_get("access_key_id")?,
        role,
        description: row.try_get("description")?,
        created_ms: row.try_get("created_ms")?,
        sealed: row.try_get("sealed")?,
        expires_ms: row.try_get("expires_ms")?,
    })
}

pub(super) fn preflight(row: &SqliteRow) -> Result<Preflight, StoreError> {
    const T: &str = "preflights";
    let recorded_ms: Option<i64> = row.try_get("recorded_ms")?;
    Ok(Preflight {
        id: parsed(row, T, "id")?,
        cluster: parsed(row, T, "cluster")?,
        key: parsed(row, T, "key_arn")?,
        created_ms: row.try_get("created_ms")?,
        report: decoded(row, T, "report")?.zip(recorded_ms),
    })
}
