//! A PostgreSQL server: what its address says, how it is connected to, and who has it for themselves.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::Postgres;
use sqlx::Row;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::time::MissedTickBehavior;

use crate::StoreError;
use crate::db::Db;
use crate::db::answered;

/// How an address begins.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// What may stand behind the `?` of an address.
const PARAMETERS: [&str; 11] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
];

/// Connections at the same time.
const CONNECTIONS: u32 = 8;

/// How long a caller waits for one, also while a server that is gone is tried again and again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How often it is looked whether the claim still holds, and a lost one is tried again.
const LOOK: Duration = Duration::from_secs(1);

/// A gateway that was killed is not gone for its server at once: so often is a claim tried.
const TRIES: u32 = 30;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// The lock that a claim is. The number is any.
const KEY: i64 = 7_366_502;

const CLAIM: &str = "SELECT pg_try_advisory_lock($1) AS taken, pg_backend_pid() AS pid";
const CLAIMED_BY: &str = "SELECT pid, COALESCE(application_name, '') AS name
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND classid = 0 AND objid = CAST($1 AS BIGINT)
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
const END: &str = "SELECT pg_terminate_backend($1)";

/// What every connection is set to, whatever the server's own defaults are.
const SETTINGS: [(&str, &str); 7] = [
    // What callers are told rests on rows being counted, not on snapshots that have to be retried.
    ("default_transaction_isolation", "read committed"),
    ("lock_timeout", "5s"),
    ("statement_timeout", "10s"),
    // A gateway whose machine is gone without a word holds nothing up.
    ("idle_in_transaction_session_timeout", "30s"),
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// A server and a database on it.
#[derive(Clone)]
pub(crate) struct Server {
    options: PgConnectOptions,
    at: Arc<str>,
}

impl fmt::Debug for Server {
    /// Shows where it is; the rest may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.at).finish()
    }
}

impl FromStr for Server {
    type Err = StoreError;

    fn from_str(url: &str) -> Result<Self, StoreError> {
        let bad = |why: String| StoreError::Address(why);
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(bad("it begins with postgres://".to_owned()));
        }
        let parameters = url.split_once('?').map(|(_, parameters)| parameters).unwrap_or_default();
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
            if !PARAMETERS.contains(&name) {
                // Not named: it may be a piece of a password with a question mark in it.
                let known = PARAMETERS.join(", ");
                return Err(bad(format!("what can stand behind its question mark is {known}")));
            }
        }
        let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
            // The parser's own words tell where it stumbled, and repeat nothing.
            bad(error.to_string())
        })?;
        let name = options.get_application_name().unwrap_or("sojourn").to_owned();
        let options = options.application_name(&name).options(SETTINGS);
        let at = match options.get_socket() {
            Some(directory) => directory.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        Ok(Self { options, at: at.into() })
    }
}

impl Server {
    /// Many connections, made when they are needed.
    pub(crate) fn pool(&self) -> Db {
        let pool = PoolOptions::<Postgres>::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(self.options.clone());
        Db::Postgres(pool, Arc::clone(&self.at))
    }

    /// One connection, at once or not at all.
    pub(crate) async fn connect(&self) -> Result<PgConnection, StoreError> {
        answered(&self.at, self.options.connect()).await
    }

    /// Says what is wrong with the way to the database. A pool would go on trying for a while.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        let connection = self.connect().await?;
        // Nothing hangs on its end.
        let _ended = connection.close().await;
        Ok(())
    }

    /// Takes the database for one gateway.
    pub(crate) async fn claim(&self) -> Result<Claim, StoreError> {
        let options = self.options.clone().application_name(&whose());
        let server = Self { options, at: Arc::clone(&self.at) };
        let connection = server.connect().await?;
        let mut claim = Claim { server, connection, pid: 0, held: false };
        for _ in 0..TRIES {
            match claim.take().await {
                Err(StoreError::InUse(_)) => tokio::time::sleep(BETWEEN_TRIES).await,
                done => return done.map(|()| claim),
            }
        }
        claim.take().await?;
        Ok(claim)
    }
}

/// The right of one gateway to a database. It holds while a connection does; when that breaks, it is
/// taken again.
pub(crate) struct Claim {
    server: Server,
    connection: PgConnection,
    /// Which of the server's processes holds it, or did; none is 0.
    pid: i32,
    held: bool,
}

impl Claim {
    /// Returns when another gateway has it.
    pub(crate) async fn lost(&mut self) -> StoreError {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let alive = answered(&self.server.at, self.connection.ping()).await.is_ok();
            if alive && self.held {
                continue;
            }
            self.held = false;
            if !alive {
                let Ok(connection) = self.server.connect().await else { continue };
                self.connection = connection;
            }
            if let Err(lost @ StoreError::InUse(_)) = self.take().await {
                return lost;
            }
        }
    }

    async fn take(&mut self) -> Result<(), StoreError> {
        let at = &self.server.at;
        let impossible = |_| StoreError::Impossible("claim");
        let tried = sqlx::query(CLAIM).bind(KEY).fetch_one(&mut self.connection);
        let tried = answered(at, tried).await?;
        if tried.try_get("taken").map_err(impossible)? {
            (self.pid, self.held) = (tried.try_get("pid").map_err(impossible)?, true);
            return Ok(());
        }
        let holder = sqlx::query(CLAIMED_BY).bind(KEY).fetch_optional(&mut self.connection);
        let Some(holder) = answered(at, holder).await? else {
            return Err(StoreError::InUse("somebody who is just going".to_owned()));
        };
        let by: String = holder.try_get("name").map_err(impossible)?;
        let pid: i32 = holder.try_get("pid").map_err(impossible)?;
        if pid == self.pid && Some(by.as_str()) == self.server.options.get_application_name() {
            // The server has not noticed yet that this connection of ours broke.
            let end = sqlx::query(END).bind(pid).execute(&mut self.connection);
            answered(at, end).await?;
            return Err(StoreError::Locked);
        }
        Err(StoreError::InUse(by))
    }
}

/// This process, as others at the same database are told of it.
fn whose() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("sojourn serve with pid {} on {}", std::process::id(), host.trim())
}
