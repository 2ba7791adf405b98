//! What sessions that are over can be found by: their words, kept once and bounded.

use std::collections::HashSet;

use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;

use crate::Session;
use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::row::bounded;
use crate::sessions::session;
use crate::sql;

/// The most words of one session, in bytes; more are not found.
pub const MOST_WORDS: usize = 32 << 10;

/// The most sessions of one answer.
const MAX_ROWS: u32 = 1000;

impl Store {
    /// Sessions that were over after `since` and have no words yet, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sessions_without_words(
        &self,
        since: Wall,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        let args = args![since.0, i64::from(limit.min(MAX_ROWS))];
        self.read().all(sql::WITHOUT_WORDS, args).await?.iter().map(session).collect()
    }

    /// A session has these words; it keeps those that it has.
    ///
    /// # Errors
    /// When there are too many, or the database does not answer.
    pub async fn keep_words(&self, id: SessionId, words: &str) -> Result<(), StoreError> {
        bounded("a session's words", words, MOST_WORDS)?;
        let mut change = self.change().await?;
        change.tx.run(sql::KEEP_WORDS, args![id.to_string(), words]).await?;
        change.commit().await
    }

    /// Of the sessions from `oldest` to `newest`, those whose words have this text in them, which is in
    /// lower case.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sessions_with_words(
        &self,
        oldest: SessionId,
        newest: SessionId,
        text: &str,
    ) -> Result<HashSet<SessionId>, StoreError> {
        let mut like = String::from("%");
        for letter in text.chars() {
            if matches!(letter, '\\' | '%' | '_') {
                like.push('\\');
            }
            like.push(letter);
        }
        like.push('%');
        let args = args![oldest.to_string(), newest.to_string(), like, i64::from(MAX_ROWS)];
        let rows = self.read().all(sql::WITH_WORDS, args).await?;
        rows.iter().map(|row| row.parsed("session_id")).collect()
    }

    /// A session's words; none where nobody has looked for them yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn words(&self, id: SessionId) -> Result<Option<String>, StoreError> {
        let row = self.read().one(sql::WORDS, args![id.to_string()]).await?;
        row.map(|row| row.text("words")).transpose()
    }
}
