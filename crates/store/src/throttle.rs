//! Failed tries at a password or a second factor. What they are counted for comes as a keyed hash: who
//! reads the database learns no name that somebody tried.

use std::time::Duration;

use sojourn_core::audit::Event;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;

use crate::Change;
use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::row::bounded;
use crate::sql;

/// The most things that failures are kept for; beyond it goes what would be forgotten first.
pub const MAX_COUNTED: usize = 16 * 1024;

/// The longest hash as text.
const LONGEST_KEY: usize = 64;
/// The most times of one row: a bound for what is read, far beyond any window's number.
const MOST_RECENT: usize = 256;

/// How failures are counted.
#[derive(Clone, Copy, Debug)]
pub struct FailureRules {
    /// The wait after so many in a row.
    pub wait: fn(u32) -> Duration,
    /// How long after its wait a row is forgotten.
    pub memory: Duration,
    /// Over which an address's failures count.
    pub window: Duration,
    /// So many of an account's in a row, and its password opens nothing any more.
    pub disable_at: u32,
}

/// One failed try.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Whose account was tried, if there is one.
    pub user: Option<UserId>,
    /// Whose failures in a row it counts to, hashed; none: only to the account's.
    pub bucket: Option<&'a str>,
    /// From where, hashed.
    pub origin: &'a str,
    /// Now.
    pub at: Wall,
}

/// What is known of failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// So many in a row.
    pub count: u32,
    /// No try before this.
    pub until: Wall,
    /// When the last ones were, the oldest first.
    pub recent: Vec<Wall>,
}

impl Store {
    /// What is known of failures that are counted for this.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn failures(&self, key: &str, now: Wall) -> Result<Failures, StoreError> {
        let Some(row) = self.read().one(sql::FAILURES, args![key, now.0]).await? else {
            return Ok(Failures::default());
        };
        Ok(Failures {
            count: count(row.number("failures")?),
            until: row.time("next_allowed_at")?,
            recent: times(&row.text("recent")?),
        })
    }

    /// Counts a failure, and puts it on the record. When it was one too many in a row, the account's
    /// password is disabled, which `disabled` says; true, when that happened.
    ///
    /// # Errors
    /// When the database does not answer; then nothing was counted.
    pub async fn count_failure(
        &self,
        failure: &Failure<'_>,
        rules: &FailureRules,
        event: &Event,
        disabled: &Event,
    ) -> Result<bool, StoreError> {
        let now = failure.at;
        // The same work for a name that nobody has.
        let user = failure.user.map(|user| user.to_string()).unwrap_or_default();
        let before = self.read().one(sql::USER_FAILURES, args![&user]).await?;
        let before = before.map_or(Ok(0), |row| row.number("failures"))?;
        let is_last = count(before).saturating_add(1) >= rules.disable_at;
        let mut change = if is_last { self.account_change().await? } else { self.change().await? };
        if let Some(bucket) = failure.bucket {
            let (failures, _) = one_more(&mut change, bucket, now).await?;
            let until = now.after((rules.wait)(failures));
            let forgotten = until.after(rules.memory);
            change.tx.run(sql::SET_FAILURES, args![bucket, "", until.0, forgotten.0]).await?;
        }
        let (_, mut recent) = one_more(&mut change, failure.origin, now).await?;
        recent.retain(|at| at.after(rules.window) > now && *at <= now);
        recent.push(now);
        let kept = recent.iter().map(|at| at.0.to_string()).collect::<Vec<_>>().join(" ");
        let forgotten = now.after(rules.window);
        change.tx.run(sql::SET_FAILURES, args![failure.origin, kept, now.0, forgotten.0]).await?;
        let row = change.tx.one(sql::COUNT_USER_FAILURE, args![&user]).await?;
        let counted = row.map_or(Ok(0), |row| row.number("failures"))?;
        let is_disabled = is_last
            && count(counted) >= rules.disable_at
            && change.tx.run(sql::DISABLE_PASSWORD, args![&user, now.0]).await? > 0;
        change.tell(event).await?;
        if is_disabled {
            change.tell(disabled).await?;
        }
        change.commit().await?;
        Ok(is_disabled)
    }

    /// Forgets what has expired, and beyond [`MAX_COUNTED`] what would be next.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_failures(&self, now: Wall) -> Result<(), StoreError> {
        let most = i64::try_from(MAX_COUNTED).unwrap_or(i64::MAX);
        let mut change = self.change().await?;
        change.tx.run(sql::FORGET_FAILURES, args![now.0]).await?;
        change.tx.run(sql::CROWD_OUT_FAILURES, args![most, most]).await?;
        change.commit().await
    }

    /// Forgets the failures that are counted for this.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn clear_failures(&self, key: &str) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        change.tx.run(sql::CLEAR_FAILURES, args![key]).await?;
        change.commit().await
    }
}

/// Counts one more; how many that makes, and when the last ones were.
async fn one_more(
    change: &mut Change,
    key: &str,
    now: Wall,
) -> Result<(u32, Vec<Wall>), StoreError> {
    bounded("the key of a failure", key, LONGEST_KEY)?;
    let row = change.tx.one(sql::COUNT_FAILURE, args![key, now.0]).await?;
    let row = row.ok_or(StoreError::Impossible("count of failures"))?;
    Ok((count(row.number("failures")?), times(&row.text("recent")?)))
}

fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(if number < 0 { 0 } else { u32::MAX })
}

fn times(text: &str) -> Vec<Wall> {
    let times = text.split(' ').filter_map(|time| time.parse().ok());
    times.map(Wall).take(MOST_RECENT).collect()
}
