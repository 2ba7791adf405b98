//! A session as the API shows it, and as the command line reads it back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::status::Status;
use sojourn_core::time::Wall;
use sojourn_store::Extension;
use sojourn_store::Gone;

/// What the built-in runner is called where a runner is named.
pub const BUILT_IN_RUNNER: &str = "local";

/// One session, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Whose it is; none at a honeypot, and for one started locally without a token.
    pub user: Option<String>,
    /// `ssh` or `web`.
    pub door: String,
    /// `shell`, or an agent's name.
    pub harness: String,
    /// The profile's name.
    pub profile: String,
    /// The runner's name.
    pub runner: String,
    /// The directory it was started in, where one was asked for.
    pub cwd: Option<String>,
    /// How it stands.
    pub status: Status,
    /// Whether somebody holds it now.
    pub attached: bool,
    /// The reason its person gave.
    pub why: Option<String>,
    /// Words its person put on it.
    pub labels: BTreeMap<String, String>,
    /// When it was asked for.
    #[serde(with = "rfc3339")]
    pub created_at: Wall,
    /// When its first program started.
    #[serde(with = "rfc3339::option")]
    pub started_at: Option<Wall>,
    /// When everything of it was gone.
    #[serde(with = "rfc3339::option")]
    pub ended_at: Option<Wall>,
    /// How its program ended, if it did by itself.
    pub exit: Option<Exit>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// Who ended it, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// What they said, or what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_detail: Option<String>,
    /// What its terminals had printed, where it is over and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// What it is allowed.
    pub limits: LimitsView,
    /// How its lease stands; none before it starts and after it ended.
    pub lease: Option<LeaseView>,
    /// How an agent's conversation can be taken up again; none for a shell.
    pub recovery: Option<RecoveryView>,
    /// What it left in its sandbox, where that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesView>,
    /// That its recordings were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_removed: Option<GoneView>,
    /// How it was extended; only where one session is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<ExtensionView>,
    /// Who looks on at it now, and does not drive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched_by: Vec<String>,
    /// Where its text has what was looked for, and around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// What a session left in its sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesView {
    /// Entries that changed.
    pub entries: u64,
    /// Bytes that are kept of them.
    pub bytes: u64,
    /// Whether a bound cut it short.
    pub truncated: bool,
    /// That it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<GoneView>,
}

/// That a session was extended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionView {
    /// When it was asked for.
    #[serde(with = "rfc3339")]
    pub at: Wall,
    /// Who did.
    pub by: String,
    /// How much later.
    pub seconds: Seconds,
    /// When it was to end from then on.
    #[serde(with = "rfc3339")]
    pub deadline: Wall,
    /// Why, as they said.
    pub why: Option<String>,
}

impl From<Extension> for ExtensionView {
    fn from(kept: Extension) -> Self {
        let Extension { at, by, micros, deadline, why } = kept;
        Self { at, by, seconds: Seconds(Duration::from_micros(micros)), deadline, why }
    }
}

/// That something was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneView {
    /// When.
    #[serde(with = "rfc3339")]
    pub at: Wall,
    /// Why.
    pub why: String,
}

impl From<Gone> for GoneView {
    fn from(gone: Gone) -> Self {
        Self { at: gone.at, why: gone.why }
    }
}

/// What a session is allowed; none is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsView {
    /// From when the first program starts.
    pub max_runtime_seconds: Option<Seconds>,
    /// Since something last happened.
    pub idle_timeout_seconds: Option<Seconds>,
    /// Bytes that terminals print.
    pub max_output_bytes: Option<u64>,
    /// What an agent may spend, in millionths of whatever it counts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_micros: Option<u64>,
}

impl From<&Limits> for LimitsView {
    fn from(limits: &Limits) -> Self {
        Self {
            max_runtime_seconds: limits.max_runtime.map(Seconds),
            idle_timeout_seconds: limits.idle_timeout.map(Seconds),
            max_output_bytes: limits.max_output,
            max_cost_micros: limits.max_cost,
        }
    }
}

/// How a lease stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// When the session ends; none: it may go on.
    #[serde(with = "rfc3339::option")]
    pub deadline: Option<Wall>,
    /// When it will have been idle for too long; none while it cannot be idle.
    #[serde(with = "rfc3339::option")]
    pub idle_deadline: Option<Wall>,
    /// Left until the deadline.
    pub remaining_seconds: Option<Seconds>,
    /// Since something last happened.
    pub idle_seconds: Seconds,
    /// What terminals have printed.
    pub output_bytes: u64,
}

/// How an agent's conversation can be taken up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryView {
    /// The agent's own name for the conversation.
    pub agent_session_id: String,
    /// Where it ran.
    pub cwd: String,
    /// Whether it can be.
    pub can_resume: bool,
}

/// A duration in seconds, to the millisecond: a whole number where it is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = Duration::from_millis(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX));
        if whole.subsec_millis() == 0 {
            serializer.serialize_u64(whole.as_secs())
        } else {
            serializer.serialize_f64(whole.as_secs_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(serde::de::Error::custom)
    }
}

/// [`Wall`] as RFC 3339 text.
pub(crate) mod rfc3339 {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error;
    use sojourn_core::time::Wall;

    pub(crate) fn serialize<S: Serializer>(time: &Wall, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Wall, D::Error> {
        Wall::from_rfc3339(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    /// The same, where there may be none.
    pub(crate) mod option {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(
            time: &Option<Wall>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => serializer.collect_str(time),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Wall>, D::Error> {
            Option::<String>::deserialize(from)?
                .map(|text| Wall::from_rfc3339(&text).map_err(D::Error::custom))
                .transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_the_members_of_the_contract() {
        let view = SessionView {
            id: "01932b5e-7c1a-7f00-8000-00003f2a91c0".parse().unwrap(),
            user: Some("alice".to_owned()),
            door: "ssh".to_owned(),
            harness: "shell".to_owned(),
            profile: "default".to_owned(),
            runner: BUILT_IN_RUNNER.to_owned(),
            cwd: None,
            status: Status::Ended,
            attached: false,
            why: None,
            labels: BTreeMap::new(),
            created_at: Wall(1_795_345_331_532_000),
            started_at: Some(Wall(1_795_345_331_534_000)),
            ended_at: None,
            exit: Some(Exit::Code(7)),
            end_reason: Some(EndReason::Exited),
            ended_by: None,
            end_detail: None,
            output_bytes: None,
            limits: LimitsView {
                max_runtime_seconds: Some(Seconds(Duration::from_secs(3600))),
                idle_timeout_seconds: Some(Seconds(Duration::from_millis(500))),
                max_output_bytes: None,
                max_cost_micros: None,
            },
            lease: Some(LeaseView::default()),
            recovery: None,
            files: None,
            recording_removed: None,
            extensions: Vec::new(),
            watched_by: Vec::new(),
            found: None,
        };
        let json = serde_json::to_value(&view).unwrap();
        let wanted = serde_json::json!({
            "id": "01932b5e-7c1a-7f00-8000-00003f2a91c0", "user": "alice", "door": "ssh",
            "harness": "shell", "profile": "default", "runner": "local", "cwd": null,
            "status": "ended", "attached": false, "why": null, "labels": {},
            "created_at": "2026-11-22T11:02:11.532Z", "started_at": "2026-11-22T11:02:11.534Z",
            "ended_at": null, "exit": {"code": 7}, "end_reason": "exited",
            "limits": {"max_runtime_seconds": 3600, "idle_timeout_seconds": 0.5,
                       "max_output_bytes": null},
            "lease": {"deadline": null, "idle_deadline": null, "remaining_seconds": null,
                      "idle_seconds": 0, "output_bytes": 0},
            "recovery": null,
        });
        assert_eq!(json, wanted);
        assert_eq!(serde_json::from_value::<SessionView>(json).unwrap(), view);
    }
}
