//! What the gateway keeps: accounts, keys, sessions, and audit events on their way to the log.
//!
//! A method is a question or a change, never a table. A change that belongs on the record takes its
//! audit event and writes both in one transaction; the engine's audit writer fetches the event from
//! the outbox from there. Only this crate names the database.

mod db;
mod error;
mod migrate;
mod outbox;
mod remains;
mod row;
mod sessions;
mod sql;
mod users;

#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::audit::Event;
use sqlx::Postgres;
use sqlx::Sqlite;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqliteJournalMode;
use sqlx::sqlite::SqliteSynchronous;
use tokio::sync::Notify;

use crate::db::Db;
use crate::db::Tx;
use crate::db::args;

pub use error::StoreError;
pub use outbox::Untold;
pub use remains::Gone;
pub use remains::KeptFiles;
pub use remains::Remains;
pub use sessions::MAX_LABELS;
pub use sessions::NewSession;
pub use sessions::Recording;
pub use sessions::Session;
pub use sessions::SessionEnd;
pub use sessions::SessionFilter;
pub use users::MAX_KEYS;
pub use users::MAX_USERS;
pub use users::NewUser;
pub use users::User;
pub use users::UserKey;

/// The file in the data directory.
pub const FILE: &str = "sojourn.db";

/// How long a statement waits for another program's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a connection. A little longer, so that the true cause is told.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(8);
/// Readers at the same time; each is a thread.
const READERS: u32 = 4;

/// Connections to PostgreSQL at the same time.
const CONNECTIONS: u32 = 8;

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location<'a> {
    /// A file in this data directory.
    File(&'a Path),
    /// A PostgreSQL database: `postgres://…`.
    Postgres(&'a str),
}

/// The store, whichever database is behind it. A clone is another handle of the same store.
#[derive(Clone, Debug)]
pub struct Store {
    /// A transaction of SQLite's that begins by reading and then writes fails at once when another
    /// wrote in between, whatever the busy timeout; so whoever may write says so at the beginning,
    /// on the one connection that does.
    write: Db,
    read: Db,
    told: Arc<Notify>,
}

impl Store {
    /// Opens the store in a data directory, makes it when there is none, and brings it to the
    /// newest schema.
    ///
    /// # Errors
    /// Says what is wrong with the file and what to do.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_at(Location::File(data_dir)).await
    }

    /// Opens the store where it is, and brings it to the newest schema.
    ///
    /// # Errors
    /// Says what is wrong with it and what to do.
    pub async fn open_at(location: Location<'_>) -> Result<Self, StoreError> {
        let (write, read) = match location {
            Location::File(data_dir) => Self::file(&data_dir.join(FILE)).await?,
            Location::Postgres(url) => Self::server(url).await?,
        };
        Ok(Self { write, read, told: Arc::new(Notify::new()) })
    }

    async fn file(path: &Path) -> Result<(Db, Db), StoreError> {
        // SQLite would make it readable by all; its -wal and -shm files follow this one's mode.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // An answered change survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let pool = |size| {
            PoolOptions::<Sqlite>::new()
                .max_connections(size)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let write = Db::Sqlite(pool(1).connect_with(options.clone()).await?);
        migrate::migrate(&write, migrate::STEPS).await?;
        let read = Db::Sqlite(pool(READERS).connect_with(options.read_only(true)).await?);
        Ok((write, read))
    }

    async fn server(url: &str) -> Result<(Db, Db), StoreError> {
        let pool = PoolOptions::<Postgres>::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect(url)
            .await?;
        let db = Db::Postgres(pool);
        migrate::migrate(&db, migrate::STEPS).await?;
        Ok((db.clone(), db))
    }

    /// Closes every connection. Later calls fail.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// A number that is another one after every change of an account or key, whichever program made
    /// it. Cheap enough to ask for each second.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn accounts_version(&self) -> Result<i64, StoreError> {
        let row = self.read().one(sql::META, args!["accounts"]).await?;
        row.map_or(Ok(0), |row| row.number("value"))
    }

    const fn read(&self) -> &Db {
        &self.read
    }

    /// Begins a change. Dropped before its end it did not happen.
    async fn change(&self) -> Result<Change, StoreError> {
        Ok(Change { tx: self.write.begin().await?, told: Arc::clone(&self.told), tells: false })
    }
}

/// A change under way, with the audit events that belong to it.
struct Change {
    tx: Tx,
    told: Arc<Notify>,
    tells: bool,
}

impl Change {
    /// Puts the change on the record.
    async fn tell(&mut self, event: &Event) -> Result<(), StoreError> {
        let payload =
            serde_json::to_string(event).map_err(|error| StoreError::Other(Box::new(error)))?;
        let (id, at) = (event.event_id.to_string(), event.timestamp.0);
        self.tx.run(sql::TELL, args![id, at, payload]).await?;
        self.tells = true;
        Ok(())
    }

    /// Lets every program that holds an account's standing in memory know that it is out of date.
    async fn accounts_changed(&mut self) -> Result<(), StoreError> {
        self.tx.run(sql::ACCOUNTS_CHANGED, args![]).await?;
        Ok(())
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await?;
        if self.tells {
            self.told.notify_one();
        }
        Ok(())
    }
}
