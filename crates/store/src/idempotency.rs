//! Requests that may be sent again: the second time they get the first one's answer.
//!
//! An owner is whose keys these are, a user's id or a name that stands for nobody in particular. What
//! a key was first used for is told by a digest of the request.

use std::fmt;
use std::time::Duration;

use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;

use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::row::bounded;
use crate::sql;
use crate::users::counted;

/// The longest key, in bytes.
pub const MAX_REQUEST_KEY: usize = 255;
/// The longest answer that is kept, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;
/// The most keys of one owner, give or take as many as come at the same moment.
pub const MAX_REQUESTS: usize = 10_000;

/// How long an answer is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// The status of a request that was not answered, and whose session is on record.
const MADE: u64 = 0;
/// The longest owner and digest.
const LONGEST_NAME: usize = 128;

/// What is known of a request that is sent with a key.
#[derive(Clone, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: it is to be worked on now, and then finished or dropped.
    Fresh,
    /// It is being worked on.
    InFlight,
    /// It was answered.
    Done {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
    /// The gateway before this one began to work on it and was not there to answer. This session it
    /// had started.
    Made(SessionId),
    /// The key was used for another request.
    Mismatch,
}

impl fmt::Debug for Asked {
    /// Shows no body: there may be a secret in it that is shown once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.write_str("Fresh"),
            Self::InFlight => f.write_str("InFlight"),
            Self::Done { status, .. } => {
                f.debug_struct("Done").field("status", status).finish_non_exhaustive()
            }
            Self::Made(session) => f.debug_tuple("Made").field(session).finish(),
            Self::Mismatch => f.write_str("Mismatch"),
        }
    }
}

impl Store {
    /// A request comes with a key. Of many at the same moment one is [`Asked::Fresh`]. If it starts a
    /// session, that is to be this one.
    ///
    /// # Errors
    /// When the key is too long, or its owner has used too many in a day.
    pub async fn begin_request(
        &self,
        owner: &str,
        key: &str,
        request_hash: &str,
        session: SessionId,
        now: Wall,
    ) -> Result<Asked, StoreError> {
        bounded("the idempotency key", key, MAX_REQUEST_KEY)?;
        bounded("the key's owner", owner, LONGEST_NAME)?;
        bounded("the request's digest", request_hash, LONGEST_NAME)?;
        let mut change = self.change().await?;
        let old = now.before(KEPT_FOR);
        change.tx.run(sql::PURGE_REQUEST, args![owner, key, old.0]).await?;
        let args = args![owner, key, request_hash, now.0, session.to_string()];
        if change.tx.run(sql::BEGIN_REQUEST, args).await? > 0 {
            let kept = change.tx.one(sql::COUNT_REQUESTS, args![owner, old.0]).await?;
            if counted(kept)? > MAX_REQUESTS {
                let what = "idempotency keys of one user in a day";
                return Err(StoreError::TooMany { what, limit: MAX_REQUESTS });
            }
            change.commit().await?;
            return Ok(Asked::Fresh);
        }
        let known = change.tx.one(sql::REQUEST, args![owner, key]).await?;
        change.commit().await?;
        // Dropped between the two questions: whoever did will be back, and so will this one.
        let Some(known) = known else { return Ok(Asked::InFlight) };
        if known.text("request_hash")? != request_hash {
            return Ok(Asked::Mismatch);
        }
        Ok(match (known.size("status")?, known.maybe_text("body")?) {
            (Some(MADE), Some(body)) => {
                Asked::Made(body.parse().map_err(|_| StoreError::Impossible("session"))?)
            }
            (Some(status), Some(body)) => {
                let status = status.try_into().map_err(|_| StoreError::Impossible("status"))?;
                Asked::Done { status, body }
            }
            _ => Asked::InFlight,
        })
    }

    /// A request is answered: who sends it again gets this.
    ///
    /// # Errors
    /// When the body is too long, or nobody works on such a request.
    pub async fn finish_request(
        &self,
        owner: &str,
        key: &str,
        status: u16,
        body: &str,
    ) -> Result<(), StoreError> {
        bounded("the answer", body, MAX_ANSWER)?;
        let mut change = self.change().await?;
        let args = args![owner, key, i64::from(status), body];
        if change.tx.run(sql::FINISH_REQUEST, args).await? == 0 {
            return Err(StoreError::Missing("such request under way".to_owned()));
        }
        change.commit().await
    }

    /// A request came to nothing, and may be sent again as if it had never come.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn drop_request(&self, owner: &str, key: &str) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        change.tx.run(sql::DROP_REQUEST, args![owner, key]).await?;
        change.commit().await
    }

    /// Nobody works on what was asked of the gateway before this one. What had made a session stays known.
    /// Returns how many there were that had not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn drop_unanswered_requests(&self) -> Result<u64, StoreError> {
        let mut change = self.change().await?;
        change.tx.run(sql::KEEP_MADE, args![]).await?;
        let dropped = change.tx.run(sql::DROP_UNANSWERED, args![]).await?;
        change.commit().await?;
        Ok(dropped)
    }

    /// Forgets what has been kept for long enough. Returns how many there were.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn purge_requests(&self, now: Wall) -> Result<u64, StoreError> {
        let old = now.before(KEPT_FOR);
        let mut change = self.change().await?;
        let purged = change.tx.run(sql::PURGE_REQUESTS, args![old.0]).await?;
        change.commit().await?;
        Ok(purged)
    }
}
