//! Runners on other machines: the tokens that were made for them, and what they said of themselves.

use sojourn_core::ids::RunnerId;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;

use crate::Store;
use crate::StoreError;
use crate::db::Row;
use crate::db::args;
use crate::row::bounded;
use crate::sql;

/// The most runners of one answer.
const MAX_ROWS: i64 = 10_000;
/// The longest that a runner says of itself.
const LONGEST_HELLO: usize = 1 << 20;
/// The longest address.
const LONGEST_ADDRESS: usize = 128;

/// A runner that may come: its token is not revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// Its id, which is its token's.
    pub id: RunnerId,
    /// What its owner calls it.
    pub name: String,
    /// Whose it is.
    pub owner: UserId,
    /// Their name.
    pub owner_name: String,
    /// When it was enrolled.
    pub created_at: Wall,
    /// Whether no new session may start there.
    pub paused: bool,
    /// When it was last heard of.
    pub seen_at: Option<Wall>,
    /// From where.
    pub seen_from: Option<String>,
    /// What it said when it came last, in JSON.
    pub hello: Option<String>,
}

impl Store {
    /// Runners, by owner and name: of one user or of all.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn runners(&self, owner: Option<UserId>) -> Result<Vec<Runner>, StoreError> {
        let (owner, any) = (owner.map(|id| id.to_string()), None::<String>);
        let rows = self.read().all(sql::RUNNERS, args![owner, any, MAX_ROWS]).await?;
        rows.iter().map(runner).collect()
    }

    /// One runner; none when its token was revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn runner(&self, id: RunnerId) -> Result<Option<Runner>, StoreError> {
        let (anybody, id) = (None::<String>, Some(id.to_string()));
        let row = self.read().one(sql::RUNNERS, args![anybody, id, 1_i64]).await?;
        row.as_ref().map(runner).transpose()
    }

    /// A runner came, and said this of itself. False when it may not come any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn runner_came(
        &self,
        id: RunnerId,
        now: Wall,
        from: &str,
        hello: &str,
    ) -> Result<bool, StoreError> {
        bounded("the runner's address", from, LONGEST_ADDRESS)?;
        bounded("what the runner says of itself", hello, LONGEST_HELLO)?;
        let mut change = self.change().await?;
        let args = args![id.to_string(), now.0, from, hello];
        let came = change.tx.run(sql::RUNNER_CAME, args).await?;
        change.commit().await?;
        Ok(came > 0)
    }

    /// A runner was heard of.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn runner_seen(&self, id: RunnerId, now: Wall) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        change.tx.run(sql::RUNNER_SEEN, args![id.to_string(), now.0]).await?;
        change.commit().await
    }

    /// New sessions may start on a runner, or not. False when there is no such runner.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn pause_runner(&self, id: RunnerId, paused: bool) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let args = args![id.to_string(), i64::from(paused)];
        let changed = change.tx.run(sql::PAUSE_RUNNER, args).await?;
        change.commit().await?;
        Ok(changed > 0)
    }
}

fn runner(row: &Row) -> Result<Runner, StoreError> {
    Ok(Runner {
        id: row.parsed("id")?,
        name: row.text("runner")?,
        owner: row.parsed("user_id")?,
        owner_name: row.text("user_name")?,
        created_at: row.time("created_at")?,
        paused: row.number("paused")? != 0,
        seen_at: row.maybe_time("seen_at")?,
        seen_from: row.maybe_text("seen_from")?,
        hello: row.maybe_text("hello")?,
    })
}
