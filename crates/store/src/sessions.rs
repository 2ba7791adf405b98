//! Sessions: what each was, where it stands, how it ended.

use std::collections::BTreeMap;

use crate::db::Row;
use serde::de::DeserializeOwned;
use sojourn_core::audit::Event;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::ids::SHORTEST_ENDING;
use sojourn_core::ids::SessionId;
use sojourn_core::ids::UserId;
use sojourn_core::limits::Limits;
use sojourn_core::status::Status;
use sojourn_core::time::Wall;

use crate::Change;
use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::row::bounded;
use crate::row::size;
use crate::sql;

/// The most labels of one session.
pub const MAX_LABELS: usize = 32;

/// The longest of each text that comes from outside.
const LONGEST_TEXT: usize = 4096;
/// The most rows of one answer.
pub(crate) const MAX_ROWS: u32 = 1000;

/// A session to keep.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Whose it is; none is nobody's.
    pub user: Option<UserId>,
    /// Their name, as it was then.
    pub user_name: Option<String>,
    /// `ssh` or `web`.
    pub door: String,
    /// What runs in it.
    pub harness: String,
    /// The profile's name.
    pub profile: String,
    /// The directory an agent works in.
    pub cwd: Option<String>,
    /// The reason that was given.
    pub why: Option<String>,
    /// The labels that were given.
    pub labels: BTreeMap<String, String>,
    /// Its lease's limits.
    pub limits: Limits,
    /// The peer's address and port.
    pub peer: Option<String>,
    /// The client's own name.
    pub client: Option<String>,
    /// How its user was authenticated.
    pub auth_method: Option<String>,
    /// The fingerprint of the key that was used.
    pub auth_key: Option<String>,
    /// Their account's epoch then: what a password opened ends when it moves on.
    pub auth_epoch: Option<i64>,
    /// The login it was started by.
    pub login: Option<String>,
    /// The token it was started by.
    pub token: Option<String>,
    /// Now.
    pub created_at: Wall,
    /// The runner it is on, where that dials in; none: the built-in one.
    pub remote: Option<OnRunner>,
}

/// Where a session is that is on a runner that dials in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnRunner {
    /// The runner's id.
    pub runner: String,
    /// Its name, as it was then.
    pub name: String,
    /// The agent's model, where one was asked for.
    pub model: Option<String>,
    /// What becomes of its requests for permission.
    pub permission_mode: Option<String>,
}

/// A recording as it was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Its path below the recordings' directory.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest, in hexadecimal.
    pub sha256: String,
}

/// How a session ended.
#[derive(Clone, Debug)]
pub struct SessionEnd {
    /// When its process tree was gone.
    pub at: Wall,
    /// Why.
    pub reason: EndReason,
    /// How its first program ended.
    pub exit: Option<Exit>,
    /// Who ended it.
    pub by: Option<String>,
    /// What they said, or what went wrong.
    pub detail: Option<String>,
    /// What its terminals printed.
    pub output_bytes: u64,
    /// Its recording; none when there is none.
    pub recording: Option<Recording>,
}

/// A session as it is kept.
#[derive(Clone, Debug)]
pub struct Session {
    /// What it was asked for as.
    pub new: NewSession,
    /// Where it stands.
    pub status: Status,
    /// When its first program started.
    pub started_at: Option<Wall>,
    /// How it ended.
    pub end: Option<SessionEnd>,
}

/// Which sessions are asked for.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Those of this status.
    pub status: Option<Status>,
    /// Those of this user.
    pub user: Option<String>,
    /// Those with this harness.
    pub harness: Option<String>,
    /// Those older than this one.
    pub before: Option<SessionId>,
    /// Those that are not over.
    pub only_live: bool,
}

impl Store {
    /// Keeps a session that has begun, and tells of it: both or neither, so that none can end whose
    /// start is not on record.
    ///
    /// # Errors
    /// When a text is too long; [`StoreError::Taken`] when it is kept.
    pub async fn begin_session(
        &self,
        new: &NewSession,
        at: Wall,
        event: &Event,
    ) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        change.add_session(new).await?;
        change
            .tx
            .run(sql::START_SESSION, args![new.id.to_string(), Status::Running.name(), at.0])
            .await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// It stands elsewhere now, and is not over.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_session_status(
        &self,
        id: SessionId,
        status: Status,
    ) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        change.tx.run(sql::SET_STATUS, args![id.to_string(), status.name()]).await?;
        change.commit().await
    }

    /// It is over. False when it was before: the first end stands, and nothing is told twice.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_session(
        &self,
        id: SessionId,
        end: &SessionEnd,
        event: &Event,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        if !change.end_session(&id.to_string(), end).await? {
            return Ok(false);
        }
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// One session.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.read()
            .one(sql::SESSION, args![id.to_string()])
            .await?
            .as_ref()
            .map(session)
            .transpose()
    }

    /// Sessions, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sessions(
        &self,
        filter: &SessionFilter,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        let rows = self
            .read()
            .all(
                sql::SESSIONS,
                args![
                    filter.status.map(Status::name),
                    &filter.user,
                    &filter.harness,
                    filter.before.map(|id| id.to_string()),
                    i64::from(filter.only_live),
                    i64::from(limit.min(MAX_ROWS))
                ],
            )
            .await?;
        rows.iter().map(session).collect()
    }

    /// Sessions whose id ends as somebody typed it: the full id, or 4 characters or more of its
    /// end. More than one means that they must type more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sessions_ending_in(
        &self,
        typed: &str,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        let digits: String = typed.chars().filter(|c| *c != '-').collect();
        let is_ending = (SHORTEST_ENDING..=32).contains(&digits.len())
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_ending {
            return Ok(Vec::new());
        }
        let rows = self
            .read()
            .all(
                sql::SESSIONS_ENDING_IN,
                args![format!("%{}", digits.to_ascii_lowercase()), i64::from(limit.min(MAX_ROWS))],
            )
            .await?;
        rows.iter().map(session).collect()
    }

    /// The sessions that are not over, as a starting gateway has to take them up or end them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sessions_not_over(&self) -> Result<Vec<Session>, StoreError> {
        let mut all: Vec<Session> = Vec::new();
        loop {
            let after = all.last().map(|last| last.new.id.to_string()).unwrap_or_default();
            let args = args![after, i64::from(MAX_ROWS)];
            let page = self.read().all(sql::SESSIONS_NOT_OVER, args).await?;
            for row in &page {
                all.push(session(row)?);
            }
            if page.len() < usize::try_from(MAX_ROWS).unwrap_or(usize::MAX) {
                return Ok(all);
            }
        }
    }
}

impl Change {
    pub(crate) async fn add_session(&mut self, new: &NewSession) -> Result<(), StoreError> {
        check(new)?;
        let remote = new.remote.as_ref();
        self.tx
            .run(
                sql::ADD_SESSION,
                args![
                    new.id.to_string(),
                    new.user.map(|id| id.to_string()),
                    &new.user_name,
                    &new.door,
                    &new.harness,
                    &new.profile,
                    &new.cwd,
                    Status::Starting.name(),
                    &new.why,
                    to_json(&new.labels)?,
                    to_json(&new.limits)?,
                    &new.peer,
                    &new.client,
                    &new.auth_method,
                    &new.auth_key,
                    new.auth_epoch,
                    &new.login,
                    &new.token,
                    new.created_at.0,
                    remote.map(|remote| &remote.runner),
                    remote.map(|remote| &remote.name),
                    remote.and_then(|remote| remote.model.as_ref()),
                    remote.and_then(|remote| remote.permission_mode.as_ref())
                ],
            )
            .await
            .map(drop)
    }

    /// It is over. False when it was before.
    pub(crate) async fn end_session(
        &mut self,
        id: &str,
        end: &SessionEnd,
    ) -> Result<bool, StoreError> {
        let status = if end.reason == EndReason::Failed { Status::Failed } else { Status::Ended };
        let recording = end.recording.as_ref();
        let ended = self
            .tx
            .run(
                sql::END_SESSION,
                args![
                    id,
                    status.name(),
                    end.at.0,
                    end.exit.as_ref().map(to_json).transpose()?,
                    end.reason.name(),
                    &end.by,
                    &end.detail,
                    size(end.output_bytes),
                    recording.map(|recording| &recording.path),
                    recording.map(|recording| size(recording.bytes)),
                    recording.map(|recording| &recording.sha256)
                ],
            )
            .await?;
        Ok(ended > 0)
    }
}

fn check(new: &NewSession) -> Result<(), StoreError> {
    if new.labels.len() > MAX_LABELS {
        return Err(StoreError::TooMany { what: "labels", limit: MAX_LABELS });
    }
    let labels = new.labels.iter().flat_map(|(name, value)| [name, value]);
    for text in [&new.cwd, &new.why, &new.client].into_iter().flatten().chain(labels) {
        bounded("a text of the session", text, LONGEST_TEXT)?;
    }
    Ok(())
}

fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Other(Box::new(error)))
}

fn from_json<T: DeserializeOwned>(what: &'static str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|_| StoreError::Impossible(what))
}

pub(crate) fn session(row: &Row) -> Result<Session, StoreError> {
    let new = NewSession {
        id: row.parsed("id")?,
        user: row.maybe_parsed("user_id")?,
        user_name: row.maybe_text("user_name")?,
        door: row.text("door")?,
        harness: row.text("harness")?,
        profile: row.text("profile")?,
        cwd: row.maybe_text("cwd")?,
        why: row.maybe_text("why")?,
        labels: from_json("labels", &row.text("labels")?)?,
        limits: from_json("limits", &row.text("limits")?)?,
        peer: row.maybe_text("peer")?,
        client: row.maybe_text("client")?,
        auth_method: row.maybe_text("auth_method")?,
        auth_key: row.maybe_text("auth_key")?,
        auth_epoch: row.maybe_number("auth_epoch")?,
        login: row.maybe_text("login_id")?,
        token: row.maybe_text("token_id")?,
        created_at: row.time("created_at")?,
        remote: remote(row)?,
    };
    Ok(Session {
        new,
        status: row.parsed("status")?,
        started_at: row.maybe_time("started_at")?,
        end: end(row)?,
    })
}

fn remote(row: &Row) -> Result<Option<OnRunner>, StoreError> {
    let Some(runner) = row.maybe_text("runner_id")? else { return Ok(None) };
    Ok(Some(OnRunner {
        runner,
        name: row.maybe_text("runner")?.unwrap_or_default(),
        model: row.maybe_text("model")?,
        permission_mode: row.maybe_text("permission_mode")?,
    }))
}

fn end(row: &Row) -> Result<Option<SessionEnd>, StoreError> {
    let Some(at) = row.maybe_time("ended_at")? else {
        return Ok(None);
    };
    let reason = row.text("end_reason")?;
    let recording = match (row.maybe_text("recording_path")?, row.size("recording_bytes")?) {
        (Some(path), Some(bytes)) => {
            Some(Recording { path, bytes, sha256: row.text("recording_sha256")? })
        }
        _ => None,
    };
    Ok(Some(SessionEnd {
        at,
        reason: EndReason::from_name(&reason).ok_or(StoreError::Impossible("end_reason"))?,
        exit: row.maybe_text("exit")?.map(|json| from_json("exit", &json)).transpose()?,
        by: row.maybe_text("ended_by")?,
        detail: row.maybe_text("end_detail")?,
        output_bytes: row.size("output_bytes")?.unwrap_or(0),
        recording,
    }))
}
