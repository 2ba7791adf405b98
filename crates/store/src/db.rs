//! The two engines behind one question: a statement, its arguments, rows by column name.
//!
//! Both are asked with the same text and the same portable types; where sqlx has a type for each
//! engine, here is the one place that knows which it is; `error` makes one language of their errors.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::Postgres;
use sqlx::Sqlite;
use sqlx::SqlitePool;
use sqlx::Transaction;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::StoreError;
use crate::error::of_file;
use crate::error::of_server;

/// How long a server may take to answer; it ends statements itself before that.
const PATIENCE: Duration = Duration::from_secs(15);

/// An argument of a statement, in the types both engines have.
#[derive(Clone, Debug)]
pub(crate) enum Arg<'a> {
    /// TEXT, or NULL.
    Text(Option<Cow<'a, str>>),
    /// BIGINT, or NULL.
    Number(Option<i64>),
}

/// What can be an argument.
pub(crate) trait IntoArg<'a> {
    /// As one.
    fn into_arg(self) -> Arg<'a>;
}

impl<'a> IntoArg<'a> for &'a str {
    fn into_arg(self) -> Arg<'a> {
        Arg::Text(Some(Cow::Borrowed(self)))
    }
}

impl<'a> IntoArg<'a> for &'a String {
    fn into_arg(self) -> Arg<'a> {
        Arg::Text(Some(Cow::Borrowed(self)))
    }
}

impl<'a> IntoArg<'a> for String {
    fn into_arg(self) -> Arg<'a> {
        Arg::Text(Some(Cow::Owned(self)))
    }
}

impl<'a> IntoArg<'a> for Option<&'a str> {
    fn into_arg(self) -> Arg<'a> {
        Arg::Text(self.map(Cow::Borrowed))
    }
}

impl<'a> IntoArg<'a> for &'a Option<String> {
    fn into_arg(self) -> Arg<'a> {
        Arg::Text(self.as_deref().map(Cow::Borrowed))
    }
}

impl<'a> IntoArg<'a> for Option<&'a String> {
    fn into_arg(self) -> Arg<'a> {
        Arg::Text(self.map(|text| Cow::Borrowed(text.as_str())))
    }
}

impl<'a> IntoArg<'a> for Option<String> {
    fn into_arg(self) -> Arg<'a> {
        Arg::Text(self.map(Cow::Owned))
    }
}

impl<'a> IntoArg<'a> for i64 {
    fn into_arg(self) -> Arg<'a> {
        Arg::Number(Some(self))
    }
}

impl<'a> IntoArg<'a> for Option<i64> {
    fn into_arg(self) -> Arg<'a> {
        Arg::Number(self)
    }
}

impl<'a> IntoArg<'a> for bool {
    fn into_arg(self) -> Arg<'a> {
        Arg::Number(Some(i64::from(self)))
    }
}

/// The arguments of a statement, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        &[$($crate::db::IntoArg::into_arg($value)),*]
    };
}
pub(crate) use args;

/// A row of either engine.
pub(crate) enum Row {
    /// SQLite's.
    Sqlite(SqliteRow),
    /// PostgreSQL's.
    Postgres(PgRow),
}

/// Connections to one database for questions that change nothing.
#[derive(Clone, Debug)]
pub(crate) enum Db {
    /// SQLite.
    Sqlite(SqlitePool),
    /// PostgreSQL, and where its server is, as messages name it.
    Postgres(PgPool, Arc<str>),
}

/// A transaction.
pub(crate) enum Tx {
    /// SQLite's.
    Sqlite(Transaction<'static, Sqlite>),
    /// PostgreSQL's, and where its server is.
    Postgres(Transaction<'static, Postgres>, Arc<str>),
}

/// Binds every argument to a query of either engine.
macro_rules! bound {
    ($sql:expr, $args:expr) => {{
        let mut query = sqlx::query($sql);
        for arg in $args {
            query = match arg {
                Arg::Text(text) => query.bind(text.as_deref().map(without_nul)),
                Arg::Number(number) => query.bind(*number),
            };
        }
        query
    }};
}

impl Db {
    /// The row a question has, if any.
    pub(crate) async fn one(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Option<Row>, StoreError> {
        match self {
            Self::Sqlite(pool) => {
                let row = bound!(sql, args).fetch_optional(pool).await.map_err(of_file)?;
                Ok(row.map(Row::Sqlite))
            }
            Self::Postgres(pool, at) => {
                let row = answered(at, bound!(sql, args).fetch_optional(pool)).await?;
                Ok(row.map(Row::Postgres))
            }
        }
    }

    /// All rows a question has; the statement bounds how many.
    pub(crate) async fn all(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(pool) => {
                let rows = bound!(sql, args).fetch_all(pool).await.map_err(of_file)?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(pool, at) => {
                let rows = answered(at, bound!(sql, args).fetch_all(pool)).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Begins a change. SQLite's says at once that it will write, so that it waits for its turn.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite(pool) => {
                pool.begin_with("BEGIN IMMEDIATE").await.map(Tx::Sqlite).map_err(of_file)
            }
            Self::Postgres(pool, at) => {
                Ok(Tx::Postgres(answered(at, pool.begin()).await?, Arc::clone(at)))
            }
        }
    }

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool, _) => pool.close().await,
        }
    }
}

impl Tx {
    /// Runs a statement; how many rows it changed.
    pub(crate) async fn run(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(tx) => {
                let done = bound!(sql, args).execute(&mut **tx).await.map_err(of_file)?;
                Ok(done.rows_affected())
            }
            Self::Postgres(tx, at) => {
                let done = answered(at, bound!(sql, args).execute(&mut **tx)).await?;
                Ok(done.rows_affected())
            }
        }
    }

    /// The row a question has, if any.
    pub(crate) async fn one(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Option<Row>, StoreError> {
        match self {
            Self::Sqlite(tx) => {
                let row = bound!(sql, args).fetch_optional(&mut **tx).await.map_err(of_file)?;
                Ok(row.map(Row::Sqlite))
            }
            Self::Postgres(tx, at) => {
                let row = answered(at, bound!(sql, args).fetch_optional(&mut **tx)).await?;
                Ok(row.map(Row::Postgres))
            }
        }
    }

    /// All rows a question has; the statement bounds how many.
    pub(crate) async fn all(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(tx) => {
                let rows = bound!(sql, args).fetch_all(&mut **tx).await.map_err(of_file)?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(tx, at) => {
                let rows = answered(at, bound!(sql, args).fetch_all(&mut **tx)).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Whether a row can be changed without waiting for another's transaction, asked in PostgreSQL's own
    /// words; then it is this one's. SQLite's transactions that write follow one another.
    pub(crate) async fn is_free(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(true),
            Self::Postgres(..) => Ok(self.one(sql, args).await?.is_some()),
        }
    }

    /// Runs statements of a schema, which take no arguments.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => {
                sqlx::raw_sql(sql).execute(&mut **tx).await.map(drop).map_err(of_file)
            }
            Self::Postgres(tx, at) => {
                answered(at, sqlx::raw_sql(sql).execute(&mut **tx)).await.map(drop)
            }
        }
    }

    /// Makes it happen.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await.map_err(of_file),
            Self::Postgres(tx, at) => answered(&at, tx.commit()).await,
        }
    }
}

/// What a server answers. One that is gone without a word is not waited for until the network says so.
pub(crate) async fn answered<T>(
    at: &str,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    let late = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(late()));
    answer.map_err(|error| of_server(error, at))
}

/// What people send may hold a NUL, which PostgreSQL takes in no text; so neither engine gets one.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}
