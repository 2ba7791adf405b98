//! What SQLite's file has of its own.

use std::os::unix::fs::PermissionsExt;

use sqlx::Row;
use sqlx::SqlitePool;

use super::*;

/// The connections of a store that is SQLite's.
fn lite(db: &Db) -> &SqlitePool {
    match db {
        Db::Sqlite(pool) => pool,
        Db::Postgres(..) => unreachable!("a file"),
    }
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join(FILE), "a letter to my aunt, ".repeat(100)).unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::NotADatabase), "{error}: {error:?}");
    let error = Store::open(&dir.path().join("nowhere")).await.unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
}

#[tokio::test]
async fn only_its_owner_reads_the_files() {
    let house = House::sqlite().await;
    with_alice(&house).await;
    let Location::File(dir) = house.place.location() else { unreachable!("a file") };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        names.push(entry.file_name());
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    assert!(names.len() >= 2, "the write-ahead log too: {names:?}");
}

#[tokio::test]
async fn a_change_that_sqlite_took_back_is_the_end_of_no_other() {
    let house = House::sqlite().await;
    for taken_back in [true, false] {
        let mut tx = house.store.write.begin().await.unwrap();
        if taken_back {
            // As it does when its disk fails.
            tx.script("ROLLBACK").await.unwrap();
            tx.commit().await.unwrap_err();
        } else {
            drop(tx);
        }
        house.store.check().await.unwrap();
        house.store.write.begin().await.unwrap().commit().await.unwrap();
    }
}

#[tokio::test]
async fn each_connection_is_set_up() {
    let House { store, place: _kept } = House::sqlite().await;
    for pool in [lite(&store.read), lite(&store.write)] {
        let mut connection = pool.acquire().await.unwrap();
        for (pragma, wanted) in [
            ("PRAGMA foreign_keys", "1"),
            ("PRAGMA journal_mode", "wal"),
            ("PRAGMA busy_timeout", "5000"),
        ] {
            let row = sqlx::query(pragma).fetch_one(&mut *connection).await.unwrap();
            let found =
                row.try_get(0).unwrap_or_else(|_| row.get_unchecked::<i64, _>(0).to_string());
            assert_eq!(found, wanted, "{pragma}");
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_named() {
    let House { store, place: _kept } = House::sqlite().await;
    let mut connection = lite(&store.write).acquire().await.unwrap();
    let pages: i64 =
        sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *connection).await.unwrap();
    let full = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::raw_sql(full).execute(&mut *connection).await.unwrap();
    drop(connection);
    let big = event(Action::KillSwitch).detail("text", "x".repeat(1 << 20));
    let error = store.tell(&big).await.unwrap_err();
    assert!(matches!(error, StoreError::Full), "{error:?}");
    assert!(store.untold(10).await.unwrap().is_empty());
}
