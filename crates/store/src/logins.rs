//! Logins at the web door. Only a token's digest is kept, and an ended login's row for a while, so
//! that a late use of it can be named.

use std::fmt;
use std::time::Duration;

use sojourn_core::audit::Event;
use sojourn_core::ids::LoginId;
use sojourn_core::ids::UserId;
use sojourn_core::login::LoginEnd;
use sojourn_core::time::Wall;
use sojourn_core::time::micros;

use crate::Change;
use crate::Store;
use crate::StoreError;
use crate::User;
use crate::db::Row;
use crate::db::args;
use crate::row::bounded;
use crate::row::size;
use crate::sql;
use crate::users;
use crate::users::counted;

/// The longest of each text of a login.
const LONGEST_TEXT: usize = 1024;
/// The most live logins of one user that are looked at; more are not let in.
const MOST_OF_ONE: i64 = 10_000;
/// The most rows of one answer.
const MAX_ROWS: u32 = 10_000;

/// How often a login that got into another's way is tried.
const TRIES: usize = 4;
/// PostgreSQL's own words for a row that nobody is changing.
const LOGIN_IF_FREE: &str = "SELECT id FROM logins WHERE id = $1 FOR UPDATE SKIP LOCKED";

/// A login as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The public id.
    pub id: LoginId,
    /// The SHA-256 of its token, in hexadecimal.
    pub token_hash: String,
    /// Whose it is.
    pub user: UserId,
    /// The account's epoch that they signed in under.
    pub epoch: i64,
    /// When they signed in.
    pub created_at: Wall,
    /// When they last proved who they are.
    pub authenticated_at: Wall,
    /// When they were last seen.
    pub last_seen_at: Wall,
    /// So long after that it ends.
    pub idle_timeout: Duration,
    /// It ends then in any case.
    pub lifetime_ends_at: Wall,
    /// How they proved who they are.
    pub methods: String,
    /// From which address.
    pub address: String,
    /// What their browser calls itself.
    pub device: String,
    /// How it ended.
    pub over: Option<LoginOver>,
}

impl fmt::Debug for Login {
    /// Shows no digest: it is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("last_seen_at", &self.last_seen_at)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginOver {
    /// When.
    pub at: Wall,
    /// Why.
    pub why: LoginEnd,
}

/// A login that is to begin, and what goes with it.
pub struct Beginning<'a> {
    /// The login.
    pub login: &'a Login,
    /// Goes on record with it.
    pub event: &'a Event,
    /// A login that ends in its favour, and what goes on record of that.
    pub replacing: Option<(LoginId, &'a Event)>,
    /// Logins the user may have, this one included.
    pub max: usize,
    /// When their other logins were last seen, where that is not written yet.
    pub seen: &'a [(LoginId, Wall)],
    /// What goes on record of one that makes room.
    pub evicted: &'a (dyn Fn(LoginId) -> Event + Send + Sync),
}

/// What has begun with a login.
#[derive(Debug)]
pub struct Begun {
    /// Whose it is, as the account was at that moment.
    pub user: User,
    /// Whether the one that was to be replaced was still live.
    pub replaced: bool,
    /// Those that made room.
    pub evicted: Vec<LoginId>,
}

/// A login's new token, and what it is good for from now on.
pub struct Rotated<'a> {
    /// Which login.
    pub id: LoginId,
    /// The account's epoch that it was proved under.
    pub epoch: i64,
    /// The SHA-256 of the new token, in hexadecimal.
    pub token_hash: &'a str,
    /// When they last proved who they are.
    pub authenticated_at: Wall,
    /// Now.
    pub last_seen_at: Wall,
    /// So long after that it ends.
    pub idle_timeout: Duration,
    /// It ends then in any case.
    pub lifetime_ends_at: Wall,
    /// How they proved who they are.
    pub methods: &'a str,
}

/// A password that is to be changed by its owner.
pub struct PasswordChange<'a> {
    /// Whose.
    pub user: UserId,
    /// The epoch that the current one was checked under.
    pub epoch: i64,
    /// The new one's hash.
    pub hash: &'a str,
    /// What goes on record, given how many logins and sessions end with it.
    pub event: &'a (dyn Fn(usize, usize) -> Event + Send + Sync),
}

/// What has ended with a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Logins, the one that asked for it too.
    pub logins: usize,
    /// Sessions that were started through a login, or by somebody who gave the password.
    pub sessions: usize,
}

impl Store {
    /// Logins that have not ended, by id, from after this one on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn live_logins(
        &self,
        after: Option<LoginId>,
        limit: u32,
    ) -> Result<Vec<Login>, StoreError> {
        let after = after.map(|id| id.to_string());
        let limit = i64::from(limit.min(MAX_ROWS));
        self.read().all(sql::LIVE_LOGINS, args![after, limit]).await?.iter().map(login).collect()
    }

    /// A user's logins that have not ended, the last seen first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn logins_of(&self, user: UserId) -> Result<Vec<Login>, StoreError> {
        let args = args![user.to_string(), MOST_OF_ONE];
        self.read().all(sql::LOGINS_OF, args).await?.iter().map(login).collect()
    }

    /// The login of this id, ended or not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn login(&self, id: LoginId) -> Result<Option<Login>, StoreError> {
        let row = self.read().one(sql::LOGIN_BY_ID, args![id.to_string()]).await?;
        row.as_ref().map(login).transpose()
    }

    /// The login whose token has this digest, ended or not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn login_by_token(&self, token_hash: &str) -> Result<Option<Login>, StoreError> {
        let row = self.read().one(sql::LOGIN_BY_TOKEN, args![token_hash]).await?;
        row.as_ref().map(login).transpose()
    }

    /// Begins a login, if the account is open and its epoch is still the one they signed in under.
    /// None: it is not, and nothing has happened.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_login(&self, new: &Beginning<'_>) -> Result<Option<Begun>, StoreError> {
        for _ in 1..TRIES {
            match self.try_to_begin_login(new).await {
                // Two people take each other's places: one goes first, and then it is this one's turn.
                Err(StoreError::Conflict) => {}
                done => return done,
            }
        }
        self.try_to_begin_login(new).await
    }

    async fn try_to_begin_login(&self, new: &Beginning<'_>) -> Result<Option<Begun>, StoreError> {
        let login = new.login;
        for text in [&login.methods, &login.address, &login.device] {
            bounded("a text of the login", text, LONGEST_TEXT)?;
        }
        let user_id = login.user.to_string();
        let mut change = self.change().await?;
        // Until the end of this, no other change of the account gets between.
        if change.tx.run(sql::HOLD_USER, args![&user_id, login.epoch]).await? == 0 {
            return Ok(None);
        }
        let Some(user) = change.tx.one(sql::USER_BY_ID, args![&user_id]).await? else {
            return Ok(None);
        };
        let at = login.created_at;
        let mut replaced = false;
        if let Some((id, event)) = new.replacing {
            replaced = end(&mut change, id, LoginEnd::Replaced, at, event).await?;
        }
        let mut seen = new.seen.to_vec();
        seen.sort_unstable();
        for (id, seen) in seen {
            change.tx.run(sql::TOUCH_LOGIN, args![id.to_string(), seen.0]).await?;
        }
        let evicted = live_ids(&mut change, login.user).await?;
        let mut evicted: Vec<LoginId> =
            evicted.into_iter().skip(new.max.saturating_sub(1)).collect();
        evicted.sort_unstable();
        for id in &evicted {
            end(&mut change, *id, LoginEnd::Evicted, at, &(new.evicted)(*id)).await?;
        }
        change
            .tx
            .run(
                sql::ADD_LOGIN,
                args![
                    &login.token_hash,
                    login.id.to_string(),
                    user_id,
                    login.epoch,
                    login.created_at.0,
                    login.authenticated_at.0,
                    login.last_seen_at.0,
                    span(login.idle_timeout),
                    login.lifetime_ends_at.0,
                    &login.methods,
                    &login.address,
                    &login.device
                ],
            )
            .await?;
        change.tell(new.event).await?;
        let user = users::user(&user)?;
        change.commit().await?;
        Ok(Some(Begun { user, replaced, evicted }))
    }

    /// Gives a login another token. False when it has ended meanwhile, or its account's epoch has
    /// moved on: then nothing has happened.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn rotate_login(
        &self,
        user: UserId,
        to: &Rotated<'_>,
        event: &Event,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        if change.tx.run(sql::HOLD_USER, args![user.to_string(), to.epoch]).await? == 0 {
            return Ok(false);
        }
        let args = args![
            to.id.to_string(),
            to.token_hash,
            to.authenticated_at.0,
            to.last_seen_at.0,
            span(to.idle_timeout),
            to.lifetime_ends_at.0,
            to.methods
        ];
        if change.tx.run(sql::ROTATE_LOGIN, args).await? == 0 {
            return Ok(false);
        }
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Writes when logins were last seen.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn touch_logins(&self, seen: &[(LoginId, Wall)]) -> Result<(), StoreError> {
        // Everybody takes rows in this order, so that nobody waits for somebody who waits for them.
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        let mut change = self.change().await?;
        for (id, at) in seen {
            // One that is being changed just now is seen there, and is not waited for: whoever changes
            // it may wait for another of these.
            if change.tx.is_free(LOGIN_IF_FREE, args![id.to_string()]).await? {
                change.tx.run(sql::TOUCH_LOGIN, args![id.to_string(), at.0]).await?;
            }
        }
        change.commit().await
    }

    /// Ends a login. False when it had ended: the first reason stands, and nothing is told twice.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_login(
        &self,
        id: LoginId,
        over: LoginOver,
        event: &Event,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        if !end(&mut change, id, over.why, over.at, event).await? {
            return Ok(false);
        }
        change.commit().await?;
        Ok(true)
    }

    /// Ends a login whose time is over, when it was last seen then and not later. False when it had
    /// ended, or was seen after that.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn expire_login(
        &self,
        id: LoginId,
        last_seen: Wall,
        over: LoginOver,
        event: &Event,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let args = args![id.to_string(), over.at.0, over.why.name(), last_seen.0];
        if change.tx.run(sql::EXPIRE_LOGIN, args).await? == 0 {
            return Ok(false);
        }
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Ends a user's logins but one. Which those were.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_logins_of(
        &self,
        user: UserId,
        but: Option<LoginId>,
        over: LoginOver,
        event: &(dyn Fn(LoginId) -> Event + Send + Sync),
    ) -> Result<Vec<LoginId>, StoreError> {
        let mut change = self.change().await?;
        // Whoever changes more than one login of a user has the user first.
        change.tx.run(sql::HOLD_ACCOUNT, args![user.to_string()]).await?;
        let ids = live_ids(&mut change, user).await?;
        let mut ids: Vec<LoginId> = ids.into_iter().filter(|id| Some(*id) != but).collect();
        ids.sort_unstable();
        for id in &ids {
            end(&mut change, *id, over.why, over.at, &event(*id)).await?;
        }
        change.commit().await?;
        Ok(ids)
    }

    /// Changes a password, and ends every login of its user with it; sessions follow. None: the
    /// account is closed, or its epoch has moved on since the current password was checked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn change_password(
        &self,
        new: &PasswordChange<'_>,
    ) -> Result<Option<Ended>, StoreError> {
        let user = new.user.to_string();
        let mut change = self.account_change().await?;
        if change.tx.run(sql::HOLD_USER, args![&user, new.epoch]).await? == 0 {
            return Ok(None);
        }
        let mut ids = live_ids(&mut change, new.user).await?;
        ids.sort_unstable();
        let sessions = change.tx.one(sql::COUNT_SESSIONS_BY_PASSWORD, args![&user]).await?;
        let ended = Ended { logins: ids.len(), sessions: counted(sessions)? };
        let event = (new.event)(ended.logins, ended.sessions);
        for id in ids {
            let why = LoginEnd::PasswordChange.name();
            change.tx.run(sql::END_LOGIN, args![id.to_string(), event.timestamp.0, why]).await?;
        }
        users::set_password(&mut change, new.user, Some(new.hash), false, event.timestamp).await?;
        change.tell(&event).await?;
        change.commit().await?;
        Ok(Some(ended))
    }

    /// Forgets logins that ended before this.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_logins(&self, before: Wall) -> Result<u64, StoreError> {
        let mut change = self.change().await?;
        let forgotten = change.tx.run(sql::FORGET_LOGINS, args![before.0]).await?;
        change.commit().await?;
        Ok(forgotten)
    }
}

/// Ends a user's logins as part of a change of their account, and says of each that it was that
/// event's doing.
pub(crate) async fn end_with(
    change: &mut Change,
    user: UserId,
    why: LoginEnd,
    cause: &Event,
) -> Result<(), StoreError> {
    let mut ids = live_ids(change, user).await?;
    ids.sort_unstable();
    for id in ids {
        let event = Event::new(cause.timestamp, why.action(), cause.actor.clone())
            .detail("login", id.to_string())
            .detail("reason", why.name());
        let event = match cause.details.get("user") {
            Some(user) => event.detail("user", user.clone()),
            None => event,
        };
        end(change, id, why, cause.timestamp, &event).await?;
    }
    Ok(())
}

async fn end(
    change: &mut Change,
    id: LoginId,
    why: LoginEnd,
    at: Wall,
    event: &Event,
) -> Result<bool, StoreError> {
    let ended = change.tx.run(sql::END_LOGIN, args![id.to_string(), at.0, why.name()]).await?;
    if ended == 0 {
        return Ok(false);
    }
    change.tell(event).await?;
    Ok(true)
}

/// A user's live logins, the last seen first.
async fn live_ids(change: &mut Change, user: UserId) -> Result<Vec<LoginId>, StoreError> {
    let rows = change.tx.all(sql::LOGINS_OF, args![user.to_string(), MOST_OF_ONE]).await?;
    rows.iter().map(|row| row.parsed("id")).collect()
}

/// A duration as a column holds it.
fn span(duration: Duration) -> i64 {
    size(micros(duration))
}

fn login(row: &Row) -> Result<Login, StoreError> {
    let over = match row.maybe_time("ended_at")? {
        Some(at) => Some(LoginOver { at, why: row.parsed("end_reason")? }),
        None => None,
    };
    Ok(Login {
        id: row.parsed("id")?,
        token_hash: row.text("token_hash")?,
        user: row.parsed("user_id")?,
        epoch: row.number("epoch")?,
        created_at: row.time("created_at")?,
        authenticated_at: row.time("authenticated_at")?,
        last_seen_at: row.time("last_seen_at")?,
        idle_timeout: Duration::from_micros(row.size("idle_timeout")?.unwrap_or(0)),
        lifetime_ends_at: row.time("lifetime_ends_at")?,
        methods: row.text("methods")?,
        address: row.text("address")?,
        device: row.text("device")?,
        over,
    })
}
