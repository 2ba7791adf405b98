//! Brings a database to the newest schema, one numbered step after another, never back.

use sqlx::SqlitePool;

use crate::StoreError;
use crate::sql;

/// The steps for SQLite; the first is schema 1.
pub(crate) const SQLITE: &[&str] = &[
    include_str!("../migrations/sqlite/0001_first.sql"),
    include_str!("../migrations/sqlite/0002_remains.sql"),
];

/// Where the schema's number stands: made before the first step, so that it can be asked for.
const META: &str = "CREATE TABLE IF NOT EXISTS meta (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
)";

/// Does the steps that are missing.
pub(crate) async fn migrate(pool: &SqlitePool, steps: &[&'static str]) -> Result<(), StoreError> {
    // All in one transaction: two programs that start together do each step once, and a crash in
    // between leaves the schema as it was.
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(META).execute(&mut *tx).await?;
    let found: Option<i64> =
        sqlx::query_scalar(sql::META).bind("schema").fetch_optional(&mut *tx).await?;
    let found = found.unwrap_or(0);
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    let done = usize::try_from(found).map_err(|_| StoreError::Impossible("schema"))?;
    for step in steps.iter().skip(done) {
        sqlx::raw_sql(*step).execute(&mut *tx).await?;
    }
    if found < known {
        sqlx::query(sql::SET_META).bind("schema").bind(known).execute(&mut *tx).await?;
        tracing::debug!(from = found, to = known, "database migrated");
    }
    tx.commit().await?;
    Ok(())
}
