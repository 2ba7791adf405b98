//! What is kept of sessions that are over. Each change is told once, however often it is heard of.

use sojourn_core::audit::Event;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;

use crate::Change;
use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::row::bounded;
use crate::row::size;
use crate::sql;

/// The longest name and reason.
const LONGEST: usize = 1024;

/// What a session left in its sandbox, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFiles {
    /// Its directory's name.
    pub name: String,
    /// How many entries changed.
    pub entries: u64,
    /// How many bytes of them are kept.
    pub bytes: u64,
    /// Whether a bound cut it short.
    pub truncated: bool,
    /// When it was kept.
    pub at: Wall,
}

/// Something that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// When.
    pub at: Wall,
    /// Why.
    pub why: String,
}

/// What is known of a session's remains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// What it left in its sandbox; none: nothing was kept.
    pub files: Option<KeptFiles>,
    /// That those were removed, or could not be kept.
    pub files_gone: Option<Gone>,
    /// That its recordings were removed.
    pub recording_gone: Option<Gone>,
}

impl Store {
    /// What a session left is kept. False when that was known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keep_files(
        &self,
        id: SessionId,
        kept: &KeptFiles,
        event: &Event,
    ) -> Result<bool, StoreError> {
        bounded("the name of what is kept", &kept.name, LONGEST)?;
        let mut change = self.change().await?;
        let changed = change
            .tx
            .run(
                sql::KEEP_FILES,
                args![
                    id.to_string(),
                    &kept.name,
                    size(kept.entries),
                    size(kept.bytes),
                    i64::from(kept.truncated),
                    kept.at.0
                ],
            )
            .await?;
        if changed == 0 {
            return Ok(false);
        }
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// What a session left goes, or could not be kept. False when that was known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove_files(
        &self,
        id: SessionId,
        gone: &Gone,
        event: &Event,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let known = change.remove(sql::REMOVE_FILES, id, gone, event).await?;
        change.commit().await?;
        Ok(known)
    }

    /// A session's recordings go, and with them what an agent's conversation said: that is the same
    /// in other words. False when that was known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove_recording(
        &self,
        id: SessionId,
        gone: &Gone,
        event: &Event,
    ) -> Result<bool, StoreError> {
        // Also where the removal is known: a conversation may have gone on after one.
        let mut change = self.change().await?;
        for statement in [sql::FORGET_EVENTS, sql::FORGET_PROMPTS, sql::FORGET_INPUTS] {
            change.tx.run(statement, args![id.to_string()]).await?;
        }
        // What cannot be read any more cannot be found by what it said.
        change.tx.run(sql::NO_WORDS, args![id.to_string()]).await?;
        let known = change.remove(sql::REMOVE_RECORDING, id, gone, event).await?;
        change.commit().await?;
        Ok(known)
    }

    /// What is known of a session's remains.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remains(&self, id: SessionId) -> Result<Remains, StoreError> {
        let Some(row) = self.read().one(sql::REMAINS, args![id.to_string()]).await? else {
            return Ok(Remains::default());
        };
        let gone = |at, why| -> Result<Option<Gone>, StoreError> {
            let at = row.maybe_time(at)?;
            at.map(|at| Ok(Gone { at, why: row.maybe_text(why)?.unwrap_or_default() })).transpose()
        };
        let files = match (row.maybe_text("files_name")?, row.maybe_time("files_kept_at")?) {
            (Some(name), Some(at)) => Some(KeptFiles {
                name,
                entries: row.size("files_entries")?.unwrap_or(0),
                bytes: row.size("files_bytes")?.unwrap_or(0),
                truncated: row.number("files_truncated")? != 0,
                at,
            }),
            _ => None,
        };
        Ok(Remains {
            files,
            files_gone: gone("files_removed_at", "files_removed_why")?,
            recording_gone: gone("recording_removed_at", "recording_removed_why")?,
        })
    }
}

impl Change {
    /// Something goes, on record, unless that is known.
    async fn remove(
        &mut self,
        statement: &'static str,
        id: SessionId,
        gone: &Gone,
        event: &Event,
    ) -> Result<bool, StoreError> {
        let why = gone.why.get(..gone.why.floor_char_boundary(LONGEST)).unwrap_or_default();
        let changed = self.tx.run(statement, args![id.to_string(), gone.at.0, why]).await?;
        if changed == 0 {
            return Ok(false);
        }
        self.tell(event).await?;
        Ok(true)
    }
}
