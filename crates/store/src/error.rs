//! What can go wrong with the store, told so that an operator knows what to do.

use std::path::PathBuf;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made or opened.
    #[error("{path}: cannot be opened")]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is something else, or damaged.
    #[error("the database is damaged or not a database of this program; restore it from a backup")]
    NotADatabase,
    /// Made by a later version of the program.
    #[error(
        "the database has schema {found}, and this version knows up to {known}; \
         use the newer version of sojourn that made it"
    )]
    Newer {
        /// The schema's number.
        found: i64,
        /// The highest this build knows.
        known: i64,
    },
    /// The address says nothing that can be connected to.
    #[error("[store] url is not the address of a database: {0}")]
    Address(String),
    /// The database's server does not take connections, or does not answer.
    #[error(
        "the database server at {server} cannot be reached; \
         see whether it runs, and whether [store] url names it"
    )]
    Unreachable {
        /// Where it should be.
        server: String,
        /// What was heard instead.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another gateway works with it.
    #[error("the database is in use by {0}; stop that one, or give this one a database of its own")]
    InUse(String),
    /// The server refuses the account.
    #[error(
        "the database server at {server} does not let us in; \
         check the user and the password in [store] url"
    )]
    NotLetIn {
        /// Where it is.
        server: String,
        /// What it says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server has no such database.
    #[error(
        "the database server at {server} has no such database; \
         make it with createdb, or name another in [store] url"
    )]
    NoDatabase {
        /// Where it is.
        server: String,
        /// What it says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The account may not do what is needed.
    #[error("the account in [store] url may not do this; make it the owner of its database")]
    NotAllowed {
        /// What the server says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another program holds the database for too long.
    #[error("the database is locked by another program")]
    Locked,
    /// Two changes waited for each other, and this one gave way.
    #[error("the change got into the way of another; try again")]
    Conflict,
    /// No room left.
    #[error("the disk is full: the database cannot be written")]
    Full,
    /// The file or its directory cannot be written.
    #[error("the database cannot be written; check who owns it and its directory")]
    ReadOnly,
    /// A row with this key is there already.
    #[error("there is already one like it")]
    Taken,
    /// The name is taken.
    #[error("there is already {0}")]
    Exists(String),
    /// Nothing of that name or id.
    #[error("there is no {0}")]
    Missing(String),
    /// Without it there would be no admin.
    #[error("that is the last admin; make another one first: sojourn user role NAME admin")]
    LastAdmin,
    /// A bound is reached.
    #[error("there can be no more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there can be.
        limit: usize,
    },
    /// A text is longer than its column may hold.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// Which.
        what: &'static str,
        /// How long it may be.
        limit: usize,
    },
    /// A row holds what this program never writes.
    #[error("the database holds an impossible {0}")]
    Impossible(&'static str),
    /// Anything else the database says.
    #[error("the database does not answer")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Whether the request was at fault, and not the database.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Taken
                | Self::Exists(_)
                | Self::Missing(_)
                | Self::LastAdmin
                | Self::TooMany { .. }
                | Self::TooLong { .. }
        )
    }
}

/// What SQLite says.
pub(crate) fn of_file(error: sqlx::Error) -> StoreError {
    let code = match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => {
            return StoreError::Taken;
        }
        sqlx::Error::Database(database) => database.code().and_then(|code| code.parse().ok()),
        sqlx::Error::PoolTimedOut => return StoreError::Locked,
        _ => None,
    };
    // The low byte of an extended result code is the primary one: sqlite.org/rescode.html.
    match code.map(|code: u32| code & 0xff) {
        // The index of the write-ahead log cannot grow: said so where the disk has no room for it.
        Some(10) if code == Some(4874) => StoreError::Full,
        Some(5 | 6) => StoreError::Locked,
        Some(8) => StoreError::ReadOnly,
        Some(11 | 26) => StoreError::NotADatabase,
        Some(13) => StoreError::Full,
        _ => StoreError::Other(Box::new(error)),
    }
}

/// What the PostgreSQL server at this place says, or the way to it.
pub(crate) fn of_server(error: sqlx::Error, at: &str) -> StoreError {
    let server = || at.to_owned();
    let code = match &error {
        sqlx::Error::Database(database) => database.code(),
        // A pool tries for a while to reach a server that refuses connections.
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut => {
            return StoreError::Unreachable { server: server(), source: Box::new(error) };
        }
        _ => None,
    };
    // postgresql.org/docs/current/errcodes-appendix.html
    match code.as_deref().unwrap_or_default() {
        "23505" => StoreError::Taken,
        "25006" => StoreError::ReadOnly,
        "28000" | "28P01" => StoreError::NotLetIn { server: server(), source: Box::new(error) },
        "3D000" => StoreError::NoDatabase { server: server(), source: Box::new(error) },
        "40001" | "40P01" => StoreError::Conflict,
        "55P03" | "57014" => StoreError::Locked,
        "42501" => StoreError::NotAllowed { source: Box::new(error) },
        "53100" => StoreError::Full,
        // No more connections, and a server that starts or stops.
        "53300" | "57P01" | "57P02" | "57P03" => {
            StoreError::Unreachable { server: server(), source: Box::new(error) }
        }
        _ => StoreError::Other(Box::new(error)),
    }
}
