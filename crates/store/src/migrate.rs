//! Brings a database to the newest schema, one numbered step after another, never back.

use crate::StoreError;
use crate::db::Db;
use crate::db::Tx;
use crate::db::args;
use crate::sql;

/// The steps, in SQL that both engines take; the first is schema 1.
pub(crate) const STEPS: &[&str] = &[
    include_str!("../migrations/0001_first.sql"),
    include_str!("../migrations/0002_remains.sql"),
    include_str!("../migrations/0003_gate.sql"),
    include_str!("../migrations/0004_runners.sql"),
    include_str!("../migrations/0005_agents.sql"),
    include_str!("../migrations/0006_page.sql"),
    include_str!("../migrations/0007_extensions.sql"),
];

/// Where the schema's number stands: made before the first step, so that it can be asked for.
const META: &str = "CREATE TABLE IF NOT EXISTS meta (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
)";

/// Does the steps that are missing.
pub(crate) async fn migrate(db: &Db, steps: &[&'static str]) -> Result<(), StoreError> {
    // All in one transaction: two programs that start together do each step once, and a crash in
    // between leaves the schema as it was.
    let mut tx = db.begin().await?;
    if let Tx::Postgres(..) = &tx {
        // Two that make the same table at the same moment would fail; the number is any.
        tx.one("SELECT pg_advisory_xact_lock(7366501) IS NULL AS locked", args![]).await?;
    }
    tx.script(META).await?;
    let found = tx.one(sql::META, args!["schema"]).await?;
    let found = found.map_or(Ok(0), |row| row.number("value"))?;
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    let done = usize::try_from(found).map_err(|_| StoreError::Impossible("schema"))?;
    for step in steps.iter().skip(done) {
        tx.script(step).await?;
    }
    if found < known {
        tx.run(sql::SET_META, args!["schema", known]).await?;
        tracing::debug!(from = found, to = known, "database migrated");
    }
    tx.commit().await
}
