//! The shapes of sessions, for the document. The engine makes what is sent and knows nothing of
//! documents; a test holds each shape to what is really sent.

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// How a session stands.
#[derive(ToSchema)]
#[schema(as = Status, rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
pub(crate) enum StatusShape {
    /// It is admitted, and its first program has not started yet.
    Starting,
    /// A program runs.
    Running,
    /// Its agent waits for a person.
    Waiting,
    /// It runs on without its person, or its runner is out of reach.
    Disconnected,
    /// Its end has begun.
    Ending,
    /// It is over.
    Ended,
    /// It is over and never was as it should have been.
    Failed,
}

/// Why a session ended.
#[derive(ToSchema)]
#[schema(as = EndReason, rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
pub(crate) enum EndReasonShape {
    Exited,
    Signalled,
    Closed,
    MaxRuntime,
    IdleTimeout,
    MaxOutput,
    MaxCost,
    EndedBy,
    LoginEnded,
    RunnerLost,
    Shutdown,
    Failed,
}

/// How a program ended: with a status, or by a signal.
#[derive(ToSchema)]
#[schema(as = Exit)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct ExitShape {
    code: Option<u32>,
    /// Its name without `SIG`.
    signal: Option<String>,
}

/// One session.
#[derive(ToSchema)]
#[schema(as = Session)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct SessionShape {
    #[schema(format = "uuid")]
    id: String,
    /// Whose it is; none at a honeypot, and for one started locally without a token.
    #[schema(required)]
    user: Option<String>,
    /// `ssh` or `web`.
    door: String,
    /// `shell`, or an agent's name.
    harness: String,
    /// The profile's name.
    profile: String,
    /// The runner's name.
    runner: String,
    /// The directory it was started in, where one was asked for.
    #[schema(required)]
    cwd: Option<String>,
    #[schema(inline = false)]
    status: StatusShape,
    /// Whether somebody holds it now.
    attached: bool,
    /// The reason its person gave.
    #[schema(required)]
    why: Option<String>,
    /// Words its person put on it.
    labels: BTreeMap<String, String>,
    /// When it was asked for.
    #[schema(format = "date-time")]
    created_at: String,
    /// When its first program started.
    #[schema(required, format = "date-time")]
    started_at: Option<String>,
    /// When everything of it was gone.
    #[schema(required, format = "date-time")]
    ended_at: Option<String>,
    /// How its program ended, if it did by itself.
    #[schema(required)]
    exit: Option<ExitShape>,
    /// Why it ended.
    #[schema(required)]
    end_reason: Option<EndReasonShape>,
    /// Who ended it, where a person did.
    ended_by: Option<String>,
    /// What they said, or what went wrong.
    end_detail: Option<String>,
    /// What its terminals had printed, where it is over and that is known.
    output_bytes: Option<u64>,
    limits: LimitsShape,
    /// How its lease stands; none before it starts and after it ended.
    #[schema(required)]
    lease: Option<LeaseShape>,
    /// How an agent's conversation can be taken up again; none for a shell.
    #[schema(required)]
    recovery: Option<RecoveryShape>,
    /// What it left in its sandbox, where that was kept.
    files: Option<FilesShape>,
    /// That its recordings were removed.
    recording_removed: Option<GoneShape>,
    /// How it was extended; only where one session is asked for.
    extensions: Option<Vec<ExtensionShape>>,
    /// Who looks on at it now, and does not drive.
    watched_by: Option<Vec<String>>,
    /// Where its text has what was looked for, and around it.
    found: Option<String>,
}

/// What a session is allowed; none is no limit.
#[derive(ToSchema)]
#[schema(as = Limits)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct LimitsShape {
    /// From when the first program starts.
    #[schema(required)]
    max_runtime_seconds: Option<f64>,
    /// Since something last happened.
    #[schema(required)]
    idle_timeout_seconds: Option<f64>,
    /// Bytes that terminals print.
    #[schema(required)]
    max_output_bytes: Option<u64>,
    /// What an agent may spend, in millionths of whatever it counts in; left out where there is none.
    max_cost_micros: Option<u64>,
}

/// How a lease stands.
#[derive(ToSchema)]
#[schema(as = Lease)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct LeaseShape {
    /// When the session ends; none: it may go on.
    #[schema(required, format = "date-time")]
    deadline: Option<String>,
    /// When it will have been idle for too long; none while it cannot be idle.
    #[schema(required, format = "date-time")]
    idle_deadline: Option<String>,
    /// Left until the deadline.
    #[schema(required)]
    remaining_seconds: Option<f64>,
    /// Since something last happened.
    idle_seconds: f64,
    /// What terminals have printed.
    output_bytes: u64,
}

/// How an agent's conversation can be taken up again.
#[derive(ToSchema)]
#[schema(as = Recovery)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct RecoveryShape {
    /// The agent's own name for the conversation.
    agent_session_id: String,
    /// Where it ran.
    cwd: String,
    /// Whether it can be.
    can_resume: bool,
}

/// What a session left in its sandbox.
#[derive(ToSchema)]
#[schema(as = Left)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct FilesShape {
    /// Entries that changed.
    entries: u64,
    /// Bytes that are kept of them.
    bytes: u64,
    /// Whether a bound cut it short.
    truncated: bool,
    /// That it was removed.
    removed: Option<GoneShape>,
}

/// That a session was extended.
#[derive(ToSchema)]
#[schema(as = Extension)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct ExtensionShape {
    /// When it was asked for.
    #[schema(format = "date-time")]
    at: String,
    /// Who did.
    by: String,
    /// How much later.
    seconds: f64,
    /// When it was to end from then on.
    #[schema(format = "date-time")]
    deadline: String,
    /// Why, as they said.
    #[schema(required)]
    why: Option<String>,
}

/// That something was removed.
#[derive(ToSchema)]
#[schema(as = Gone)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct GoneShape {
    #[schema(format = "date-time")]
    at: String,
    why: String,
}

/// A page of sessions.
#[derive(ToSchema)]
#[schema(as = Sessions)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct SessionsShape {
    items: Vec<SessionShape>,
    /// Where the next page begins; none: this is the last.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A session that was told to end.
#[derive(ToSchema)]
#[schema(as = Ending)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct EndingShape {
    #[schema(format = "uuid")]
    id: String,
    status: StatusShape,
}

/// A session whose deadline was moved.
#[derive(ToSchema)]
#[schema(as = Extended)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct ExtendedShape {
    #[schema(format = "uuid")]
    id: String,
    #[schema(format = "date-time")]
    deadline: String,
    /// Left until then.
    remaining_seconds: f64,
}

/// What the kill switch did.
#[derive(ToSchema)]
#[schema(as = EndedSessions)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct EndedSessionsShape {
    /// How many end.
    ended: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use sojourn_core::end::EndReason;
    use sojourn_core::status::Status;
    use sojourn_engine::view::FilesView;
    use sojourn_engine::view::LeaseView;
    use sojourn_engine::view::LimitsView;
    use sojourn_engine::view::RecoveryView;
    use sojourn_engine::view::SessionView;
    use utoipa::PartialSchema;

    use super::*;

    fn members<T: PartialSchema>() -> BTreeSet<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    fn sent(value: impl serde::Serialize) -> BTreeSet<String> {
        let value = serde_json::to_value(value).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn a_session_is_sent_as_the_document_has_it() {
        let session: SessionView = serde_json::from_value(serde_json::json!({
            "id": "0192a3b4-c5d6-7e8f-9a0b-1c2d3e4f5a6b", "user": null, "door": "ssh",
            "harness": "shell", "profile": "default", "runner": "local", "cwd": null,
            "status": "running", "attached": true, "why": null, "labels": {},
            "created_at": "2026-11-22T08:00:00Z", "started_at": null, "ended_at": null,
            "exit": null, "end_reason": null, "ended_by": "root", "end_detail": "lunch",
            "output_bytes": 7, "extensions": [{"at": "2026-11-22T08:00:00Z", "by": "root",
                "seconds": 60, "deadline": "2026-11-22T09:00:00Z", "why": null}],
            "limits": serde_json::to_value(LimitsView::default()).unwrap(),
            "lease": null, "recovery": null,
            "files": {"entries": 1, "bytes": 2, "truncated": false,
                "removed": {"at": "2026-11-22T08:00:00Z", "why": "its time was over"}},
            "recording_removed": {"at": "2026-11-22T08:00:00Z", "why": "its time was over"},
            "watched_by": ["bo"], "found": "ls -l",
        }))
        .unwrap();
        let files: &FilesView = session.files.as_ref().unwrap();
        assert_eq!(sent(files), members::<FilesShape>());
        assert_eq!(sent(files.removed.as_ref()), members::<GoneShape>());
        assert_eq!(sent(&session.extensions[0]), members::<ExtensionShape>());
        assert_eq!(sent(&session), members::<SessionShape>());
        assert_eq!(sent(LeaseView::default()), members::<LeaseShape>());
        let limits = LimitsView { max_cost_micros: Some(1), ..LimitsView::default() };
        assert_eq!(sent(limits), members::<LimitsShape>());
        let recovery =
            RecoveryView { agent_session_id: String::new(), cwd: String::new(), can_resume: true };
        assert_eq!(sent(recovery), members::<RecoveryShape>());
    }

    #[test]
    fn the_words_of_the_document_are_those_that_are_sent() {
        let words = |schema: Value| -> Vec<Value> { schema["enum"].as_array().unwrap().clone() };
        for word in words(serde_json::to_value(StatusShape::schema()).unwrap()) {
            assert!(word.as_str().unwrap().parse::<Status>().is_ok(), "{word}");
        }
        for word in words(serde_json::to_value(EndReasonShape::schema()).unwrap()) {
            assert!(serde_json::from_value::<EndReason>(word.clone()).is_ok(), "{word}");
        }
    }
}
