//! Tokens of programs and runners. Only a token's digest is kept.

use std::fmt;
use std::time::Duration;

use sojourn_core::audit::Event;
use sojourn_core::authz::Role;
use sojourn_core::ids::SHORTEST_ENDING;
use sojourn_core::ids::TokenId;
use sojourn_core::ids::UserId;
use sojourn_core::scope::Scopes;
use sojourn_core::time::Wall;

use crate::Store;
use crate::StoreError;
use crate::db::Row;
use crate::db::args;
use crate::row::bounded;
use crate::sql;
use crate::users::counted;
use crate::users::unique;

/// The most tokens of one user that can be used.
pub const MAX_TOKENS: usize = 50;

/// The last of a user's tokens that cannot be used any more; older ones are forgotten.
const REMEMBERED: i64 = 50;
/// The longest name of a token, and of a runner.
const LONGEST_NAME: usize = 128;
/// The most rows of one answer.
const MAX_ROWS: u32 = 1000;
/// Uses of a token are noted no more often than this.
const BETWEEN_TOUCHES: Duration = Duration::from_secs(60);

/// A token to keep.
#[derive(Clone)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// The SHA-256 of the token, in hexadecimal.
    pub hash: String,
    /// Whose it is.
    pub user: UserId,
    /// What they call it.
    pub name: String,
    /// For which of their runners it is; none: for requests to the API.
    pub runner: Option<String>,
    /// What requests it may be used for.
    pub scopes: Scopes,
    /// Now.
    pub created_at: Wall,
    /// It is good until then.
    pub expires_at: Option<Wall>,
}

impl fmt::Debug for NewToken {
    /// Shows no digest: it is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("name", &self.name)
            .field("runner", &self.runner)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// A token as it is kept, with the account it is of as that is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// Their name.
    pub user_name: String,
    /// What they may do.
    pub user_role: Role,
    /// Since when their account is closed.
    pub user_disabled_at: Option<Wall>,
    /// What they call it.
    pub name: String,
    /// For which of their runners it is; none: for requests to the API.
    pub runner: Option<String>,
    /// What requests it may be used for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Wall,
    /// It is good until then.
    pub expires_at: Option<Wall>,
    /// When it was last used, give or take a minute.
    pub last_used_at: Option<Wall>,
    /// When it was revoked.
    pub revoked_at: Option<Wall>,
}

impl Token {
    /// Whether it may be used at `now`: not revoked, not expired, of an open account.
    #[must_use]
    pub fn is_good(&self, now: Wall) -> bool {
        self.revoked_at.is_none()
            && self.user_disabled_at.is_none()
            && self.expires_at.is_none_or(|end| now < end)
    }
}

/// How many tokens may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoodTokens {
    /// Those of programs.
    pub programs: u64,
    /// Those of runners.
    pub runners: u64,
}

impl Store {
    /// How many tokens may be used at this time.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn good_tokens(&self, now: Wall) -> Result<GoodTokens, StoreError> {
        let row = self.read().one(sql::COUNT_GOOD_TOKENS, args![now.0]).await?;
        let Some(row) = row else { return Ok(GoodTokens { programs: 0, runners: 0 }) };
        let count = |name| Ok::<_, StoreError>(u64::try_from(row.number(name)?).unwrap_or(0));
        let (all, runners) = (count("n")?, count("runners")?);
        Ok(GoodTokens { programs: all.saturating_sub(runners), runners })
    }

    /// Keeps a token.
    ///
    /// # Errors
    /// When its user has too many, or a runner of that name.
    pub async fn add_token(&self, new: &NewToken, event: &Event) -> Result<(), StoreError> {
        bounded("the token's name", &new.name, LONGEST_NAME)?;
        bounded("the runner's name", new.runner.as_deref().unwrap_or_default(), LONGEST_NAME)?;
        let (user, now) = (new.user.to_string(), new.created_at.0);
        let mut change = self.account_change().await?;
        let live = change.tx.one(sql::COUNT_TOKENS, args![&user, now]).await?;
        if counted(live)? >= MAX_TOKENS {
            return Err(StoreError::TooMany { what: "tokens of one user", limit: MAX_TOKENS });
        }
        if let Some(runner) = &new.runner {
            let taken = change.tx.one(sql::COUNT_RUNNER, args![&user, runner]).await?;
            if counted(taken)? > 0 {
                return Err(StoreError::Exists(format!("a runner {runner:?}")));
            }
        }
        change.tx.run(sql::FORGET_TOKENS, args![&user, now, REMEMBERED]).await?;
        let added = change
            .tx
            .run(
                sql::ADD_TOKEN,
                args![
                    new.id.to_string(),
                    &new.hash,
                    &user,
                    &new.name,
                    &new.runner,
                    new.scopes.to_string(),
                    now,
                    new.expires_at.map(|at| at.0)
                ],
            )
            .await;
        unique(added, || "this token".to_owned())?;
        change.tell(event).await?;
        change.commit().await
    }

    /// The token with this digest, whether or not it may be used.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token_by_hash(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        self.read().one(sql::TOKEN_BY_HASH, args![hash]).await?.as_ref().map(token).transpose()
    }

    /// One token.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token(&self, id: TokenId) -> Result<Option<Token>, StoreError> {
        let row = self.read().one(sql::TOKEN_BY_ID, args![id.to_string()]).await?;
        row.as_ref().map(token).transpose()
    }

    /// Tokens, the newest first: of one user or of all, older than `before`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tokens(
        &self,
        user: Option<UserId>,
        before: Option<TokenId>,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError> {
        let (user, before) = (user.map(|id| id.to_string()), before.map(|id| id.to_string()));
        let limit = i64::from(limit.min(MAX_ROWS));
        let rows = self.read().all(sql::TOKENS, args![user, before, limit]).await?;
        rows.iter().map(token).collect()
    }

    /// Tokens whose id ends as somebody typed it: the full id, or 4 characters or more of its end.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tokens_ending_in(
        &self,
        typed: &str,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError> {
        let digits: String = typed.chars().filter(|c| *c != '-').collect();
        let is_ending = (SHORTEST_ENDING..=32).contains(&digits.len())
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_ending {
            return Ok(Vec::new());
        }
        let pattern = format!("%{}", digits.to_ascii_lowercase());
        let limit = i64::from(limit.min(MAX_ROWS));
        let rows = self.read().all(sql::TOKENS_ENDING_IN, args![pattern, limit]).await?;
        rows.iter().map(token).collect()
    }

    /// Revokes a token. False when it was before.
    ///
    /// # Errors
    /// When there is no such token.
    pub async fn revoke_token(&self, id: TokenId, event: &Event) -> Result<bool, StoreError> {
        let mut change = self.account_change().await?;
        let args = args![id.to_string(), event.timestamp.0];
        if change.tx.run(sql::REVOKE_TOKEN, args).await? == 0 {
            let known = change.tx.one(sql::TOKEN_BY_ID, args![id.to_string()]).await?;
            return known.map(|_| false).ok_or_else(|| StoreError::Missing(format!("token {id}")));
        }
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Notes that a token was used, at most once a minute. Returns whether it did.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn touch_token(&self, id: TokenId, now: Wall) -> Result<bool, StoreError> {
        let before = now.before(BETWEEN_TOUCHES);
        let mut change = self.change().await?;
        let args = args![id.to_string(), now.0, before.0];
        let touched = change.tx.run(sql::TOUCH_TOKEN, args).await?;
        change.commit().await?;
        Ok(touched > 0)
    }
}

fn token(row: &Row) -> Result<Token, StoreError> {
    Ok(Token {
        id: row.parsed("id")?,
        user: row.parsed("user_id")?,
        user_name: row.text("user_name")?,
        user_role: row.parsed("user_role")?,
        user_disabled_at: row.maybe_time("user_disabled_at")?,
        name: row.text("name")?,
        runner: row.maybe_text("runner")?,
        scopes: row.parsed("scopes")?,
        created_at: row.time("created_at")?,
        expires_at: row.maybe_time("expires_at")?,
        last_used_at: row.maybe_time("last_used_at")?,
        revoked_at: row.maybe_time("revoked_at")?,
    })
}
