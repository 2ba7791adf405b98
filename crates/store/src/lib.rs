//! What the gateway keeps: accounts, keys, sessions, and audit events on their way to the log.
//!
//! A method is a question or a change, never a table. A change that belongs on the record takes its
//! audit event and writes both in one transaction; the engine's audit writer fetches the event from
//! the outbox from there. Only this crate names the database.

mod agents;
mod ceremonies;
mod check;
mod db;
mod devices;
mod error;
mod extensions;
mod factors;
mod idempotency;
mod links;
mod logins;
mod migrate;
mod outbox;
mod push;
mod remains;
mod row;
mod runners;
mod server;
mod sessions;
mod sql;
mod throttle;
mod tokens;
mod users;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::audit::Event;
use sqlx::Connection;
use sqlx::Sqlite;
use sqlx::SqliteConnection;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqliteJournalMode;
use sqlx::sqlite::SqliteSynchronous;
use tokio::sync::Notify;

use crate::check::Place;
use crate::db::Db;
use crate::db::Tx;
use crate::db::args;
use crate::error::of_file;
use crate::server::Server;

pub use agents::AgentBatch;
pub use agents::AgentChange;
pub use agents::AgentEvent;
pub use agents::AgentInput;
pub use agents::AgentPrompt;
pub use agents::InputState;
pub use agents::MAX_EVENTS;
pub use agents::NewAnswer;
pub use agents::PromptState;
pub use ceremonies::Ceremony;
pub use ceremonies::MAX_CEREMONIES;
pub use ceremonies::NewCeremony;
pub use devices::MAX_DEVICES;
pub use devices::Success;
pub use error::StoreError;
pub use extensions::Extension;
pub use extensions::MAX_EXTENSIONS;
pub use factors::MAX_RECOVERY_CODES;
pub use factors::Totp;
pub use idempotency::Asked;
pub use idempotency::MAX_ANSWER;
pub use idempotency::MAX_REQUEST_KEY;
pub use idempotency::MAX_REQUESTS;
pub use logins::Beginning;
pub use logins::Begun;
pub use logins::Ended;
pub use logins::Login;
pub use logins::LoginOver;
pub use logins::PasswordChange;
pub use logins::Rotated;
pub use outbox::Untold;
pub use push::LONGEST_ENDPOINT;
pub use push::MAX_PUSH_DEVICES;
pub use push::PushDevice;
pub use remains::Gone;
pub use remains::KeptFiles;
pub use remains::Remains;
pub use runners::Runner;
pub use sessions::MAX_LABELS;
pub use sessions::NewSession;
pub use sessions::OnRunner;
pub use sessions::Recording;
pub use sessions::Session;
pub use sessions::SessionEnd;
pub use sessions::SessionFilter;
pub use throttle::Failure;
pub use throttle::FailureRules;
pub use throttle::Failures;
pub use throttle::MAX_COUNTED;
pub use tokens::GoodTokens;
pub use tokens::MAX_TOKENS;
pub use tokens::NewToken;
pub use tokens::Token;
pub use users::MAX_KEYS;
pub use users::MAX_USERS;
pub use users::NewUser;
pub use users::User;
pub use users::UserKey;
pub use words::MOST_WORDS;

/// The file in the data directory.
pub const FILE: &str = "sojourn.db";

/// How long a statement waits for another program's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a connection. A little longer, so that the true cause is told.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(8);
/// Readers at the same time; each is a thread.
const READERS: u32 = 4;

/// Where the store is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Location<'a> {
    /// A file in this data directory.
    File(&'a Path),
    /// A PostgreSQL database: `postgres://…`.
    Postgres(&'a str),
}

impl Location<'_> {
    /// Says what is wrong with it as it stands, without going there.
    ///
    /// # Errors
    /// When it is no address.
    pub fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::File(_) => Ok(()),
            Self::Postgres(url) => url.parse::<Server>().map(drop),
        }
    }
}

impl fmt::Debug for Location<'_> {
    /// Shows no address: there is a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(data_dir) => f.debug_tuple("File").field(data_dir).finish(),
            Self::Postgres(_) => f.debug_tuple("Postgres").finish_non_exhaustive(),
        }
    }
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
    changes: Arc<AtomicU64>,
    /// Which file it is in; none where it is on a server.
    place: Option<Arc<Place>>,
}

/// The right to be a database's only gateway. A data directory has its own lock, so there is nothing
/// to lose of a file in it.
pub struct Claim(Option<server::Claim>);

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claim").finish_non_exhaustive()
    }
}

impl Claim {
    /// Waits until another gateway has it, which can only be after the database was out of reach;
    /// says which one.
    pub async fn lost(&mut self) -> StoreError {
        match &mut self.0 {
            Some(claim) => claim.lost().await,
            None => std::future::pending().await,
        }
    }
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
            Location::Postgres(url) => Self::server(&url.parse()?).await?,
        };
        let place = match location {
            Location::File(data_dir) => {
                let path = data_dir.join(FILE);
                let place = Place::of(&path);
                Some(Arc::new(place.map_err(|source| StoreError::Open { path, source })?))
            }
            Location::Postgres(_) => None,
        };
        Ok(Self { write, read, told: Arc::default(), changes: Arc::default(), place })
    }

    /// The same for a gateway, which has the database for itself: before its schema is touched.
    ///
    /// # Errors
    /// Also when another gateway has it.
    pub async fn open_alone(location: Location<'_>) -> Result<(Self, Claim), StoreError> {
        let claim = match location {
            Location::File(_) => None,
            Location::Postgres(url) => Some(url.parse::<Server>()?.claim().await?),
        };
        Ok((Self::open_at(location).await?, Claim(claim)))
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
                .after_release(|connection, _| Box::pin(is_between_transactions(connection)))
        };
        let write = pool(1).connect_with(options.clone()).await.map_err(of_file)?;
        let write = Db::Sqlite(write);
        migrate::migrate(&write, migrate::STEPS).await?;
        let read = pool(READERS).connect_with(options.read_only(true)).await.map_err(of_file)?;
        Ok((write, Db::Sqlite(read)))
    }

    async fn server(server: &Server) -> Result<(Db, Db), StoreError> {
        server.probe().await?;
        let db = server.pool();
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

    /// How many changes of accounts, keys and tokens were made through this store and its clones. It
    /// moves before the change is answered, so whoever remembers something together with this number
    /// never uses it after a change of this process; [`Store::accounts_version`] knows of the others'.
    #[must_use]
    pub fn account_changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    const fn read(&self) -> &Db {
        &self.read
    }

    /// Begins a change. Dropped before its end it did not happen.
    async fn change(&self) -> Result<Change, StoreError> {
        let tx = self.write.begin().await?;
        let (told, changes) = (Arc::clone(&self.told), Arc::clone(&self.changes));
        Ok(Change { tx, told, changes, tells: false, concerns_accounts: false })
    }

    /// Begins a change of accounts, keys or tokens, and lets every program that holds an account's
    /// standing in memory know that it is out of date.
    ///
    /// With PostgreSQL changes run side by side. This one takes the version's row first of all, so
    /// those of accounts follow one another: what one has counted is still so when it writes, and two
    /// that lock the same rows in different orders cannot wait for each other.
    async fn account_change(&self) -> Result<Change, StoreError> {
        let mut change = self.change().await?;
        change.tx.run(sql::ACCOUNTS_CHANGED, args![]).await?;
        change.concerns_accounts = true;
        Ok(change)
    }
}

/// Whether a connection may be used again. A disk that fails at the end of a transaction makes SQLite
/// take it back by itself; whoever counts transactions here goes on waiting for its end, and refuses
/// every other on that connection.
async fn is_between_transactions(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // Behind whatever the last one has not been answered yet.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// A change under way, with the audit events that belong to it.
struct Change {
    tx: Tx,
    told: Arc<Notify>,
    changes: Arc<AtomicU64>,
    tells: bool,
    concerns_accounts: bool,
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

    async fn commit(self) -> Result<(), StoreError> {
        let committed = self.tx.commit().await;
        if self.concerns_accounts {
            // Also when the answer was lost: then nobody knows whether it happened.
            self.changes.fetch_add(1, Ordering::Release);
        }
        committed?;
        if self.tells {
            self.told.notify_one();
        }
        Ok(())
    }
}
