//! `POST /api/sessions`: a session with a terminal, which waits for whoever attaches, or with an agent
//! on a runner that dials in.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sojourn_core::authz::General;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Lower;
use sojourn_core::scope::Scope;
use sojourn_core::status::Status;
use sojourn_core::wire::relay::PermissionMode;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::agents::AgentWish;
use sojourn_engine::door::Refusal;
use sojourn_engine::records::SHELL;
use sojourn_engine::remote::TerminalWish;
use sojourn_engine::view::BUILT_IN_RUNNER;
use sojourn_engine::visiting::Wish;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::Who;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Fields;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// The size of a terminal whose browser gives none.
const USUAL: WindowSize = WindowSize { cols: 80, rows: 24, width: 0, height: 0 };

/// The largest side of a terminal, in characters.
const LARGEST_SIDE: u64 = 1000;

/// The longest reason, and the longest label, in bytes.
const LONGEST_WHY: usize = 1000;
const LONGEST_LABEL: usize = 64;

/// The longest body: a long first message, with all its quotes and line ends escaped.
const LONGEST_BODY: usize = 256 << 10;

/// The most labels of one session.
const MOST_LABELS: usize = 32;

/// Longer than whoever makes a session may take: the runner has two minutes, its program half a minute.
/// So a start that fails is refused by them, on record and with the reason, and is never cut off here.
const STARTS_WITHIN: Duration = Duration::from_secs(180);

/// A session to start.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct NewSession {
    /// What runs in it: `shell`, or an agent that a runner has.
    harness: String,
    /// The profile's name; the default one where it is left out.
    profile: Option<String>,
    /// The runner's name. Left out: for a shell the built-in one, for an agent the only one of the
    /// caller's that is connected and has it.
    runner: Option<String>,
    /// Columns of the terminal.
    #[schema(minimum = 1, maximum = 1000)]
    cols: Option<u16>,
    /// Its rows.
    #[schema(minimum = 1, maximum = 1000)]
    rows: Option<u16>,
    /// Limits lower than the profile's.
    limits: Option<LowerLimits>,
    /// The reason, where the profile wants one.
    why: Option<String>,
    /// Words to put on it.
    labels: Option<std::collections::BTreeMap<String, String>>,
    /// For agents: where it works, within the directories that its runner allows.
    cwd: Option<String>,
    /// For agents: the first message.
    #[schema(min_length = 1, max_length = 100_000)]
    prompt: Option<String>,
    /// For agents.
    model: Option<String>,
    /// For agents: `relay`, `auto` or `deny`; `relay` where it is left out.
    permission_mode: Option<String>,
}

/// Limits that only lower.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct LowerLimits {
    /// From when it starts.
    #[schema(minimum = 0)]
    max_runtime_seconds: Option<f64>,
    /// Since something last happened.
    #[schema(minimum = 0)]
    idle_timeout_seconds: Option<f64>,
    /// Bytes that it prints.
    #[schema(minimum = 1)]
    max_output_bytes: Option<u64>,
    /// What an agent spends, in millionths of whatever it counts in.
    #[schema(minimum = 0)]
    max_cost_micros: Option<u64>,
}

/// A session that starts.
#[derive(Serialize, ToSchema)]
pub(crate) struct Started {
    #[schema(value_type = String, format = "uuid")]
    session_id: SessionId,
    #[schema(value_type = String)]
    status: Status,
    harness: String,
}

/// What somebody wants.
enum Wanted {
    Terminal(Wish),
    TerminalOn(Box<TerminalWish>),
    Agent(Box<AgentWish>),
}

/// The routes of this file.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::post(
            "/api/sessions",
            Access::Role(Scope::Sessions, General::StartSession),
            Activity::Counts,
            start,
            Doc::of("startSession", "Starts a session: a terminal or an agent.")
                .takes::<NewSession>(Required::True)
                .gives::<Started>(201, "It starts.")
                .refuses(&[
                    Code::Invalid,
                    Code::RateLimited,
                    Code::LimitReached,
                    Code::RunnerUnavailable,
                    Code::AuditUnavailable,
                    Code::StoreUnavailable,
                ]),
        )
        .creates()
        .bodies_of(LONGEST_BODY)
        .answers_within(STARTS_WITHIN),
    ]
}

async fn start(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<(StatusCode, Json<Started>), Refused> {
    let wish = match fields.text("harness")? {
        Some(SHELL) | None => match terminal_wish(&fields)? {
            (wish, None) => Wanted::Terminal(wish),
            (wish, Some(runner)) => Wanted::TerminalOn(Box::new(on(wish, runner, &fields)?)),
        },
        Some(_) => Wanted::Agent(Box::new(agent_wish(&fields)?)),
    };
    let engine = gate.engine();
    // Root's own are nobody's tries.
    let address = match caller.who() {
        Who::Local { .. } => None,
        Who::Login(_) | Who::Token(_) => Some(caller.client().address()),
    };
    let admitted = engine
        .rates()
        .start(caller.user(), address, &caller.actor())
        .map_err(|refused| Refused::RateLimited { retry_after: refused.retry_after })?;
    let (harness, started) = match wish {
        Wanted::Terminal(wish) => {
            (SHELL.to_owned(), engine.start_terminal(&caller.person(), wish).await)
        }
        Wanted::TerminalOn(wish) => {
            (SHELL.to_owned(), engine.start_terminal_on(&caller.person(), *wish).await)
        }
        Wanted::Agent(wish) => {
            (wish.harness.clone(), engine.start_agent(&caller.person(), *wish).await)
        }
    };
    match started {
        Ok(session_id) => {
            drop(admitted);
            Ok(answer(session_id, harness))
        }
        Err(refusal) => {
            admitted.give_back();
            Err(refusal.into())
        }
    }
}

/// What is said of a session that was started.
pub(crate) fn answer(session_id: SessionId, harness: String) -> (StatusCode, Json<Started>) {
    (StatusCode::CREATED, Json(Started { session_id, status: Status::Starting, harness }))
}

/// Every field there is.
const FIELDS: [&str; 12] = [
    "harness",
    "profile",
    "runner",
    "cols",
    "rows",
    "limits",
    "why",
    "labels",
    "cwd",
    "prompt",
    "model",
    "permission_mode",
];

pub(crate) fn agent_wish(fields: &Fields) -> Result<AgentWish, Refused> {
    fields.only(&FIELDS)?;
    for name in ["cols", "rows"] {
        if fields.whole(name, 0..=u64::MAX)?.is_some() {
            return Err(Refused::invalid(name, "an agent has no terminal"));
        }
    }
    if fields.text("runner")? == Some(BUILT_IN_RUNNER) {
        return Err(Refused::invalid(
            "runner",
            "agents run on runners that dial in, not on this one",
        ));
    }
    let permission_mode = match fields.text("permission_mode")? {
        None | Some("relay") => PermissionMode::Relay,
        Some("auto") => PermissionMode::Auto,
        Some("deny") => PermissionMode::Deny,
        Some(_) => return Err(Refused::invalid("permission_mode", "relay, auto or deny")),
    };
    let own = |name| Ok::<_, Refused>(fields.text(name)?.map(ToOwned::to_owned));
    Ok(AgentWish {
        harness: own("harness")?.unwrap_or_default(),
        runner: own("runner")?,
        profile: own("profile")?,
        cwd: own("cwd")?,
        prompt: own("prompt")?,
        model: own("model")?,
        permission_mode,
        lower: lower(fields)?,
        why: why(fields)?,
        labels: fields.words("labels", MOST_LABELS, LONGEST_LABEL)?,
    })
}

fn why(fields: &Fields) -> Result<Option<String>, Refused> {
    let why = fields.text("why")?;
    if why.is_some_and(|why| why.len() > LONGEST_WHY) {
        return Err(Refused::invalid("why", format_args!("longer than {LONGEST_WHY} bytes")));
    }
    Ok(why.map(ToOwned::to_owned))
}

/// A terminal, and the runner it is to be on, where that is not the built-in one.
pub(crate) fn terminal_wish(fields: &Fields) -> Result<(Wish, Option<String>), Refused> {
    fields.only(&FIELDS)?;
    if fields.text("harness")?.is_none() {
        let line = "say what is to run: \"shell\", or an agent that a runner of yours has";
        return Err(Refused::invalid("harness", line));
    }
    let runner = fields.text("runner")?.filter(|runner| *runner != BUILT_IN_RUNNER);
    for name in ["prompt", "model", "permission_mode"] {
        if fields.text(name)?.is_some() {
            return Err(Refused::invalid(name, "a shell takes none; it is for agents"));
        }
    }
    if runner.is_none() && fields.text("cwd")?.is_some() {
        return Err(Refused::invalid("cwd", "a shell here begins where its profile says"));
    }
    let side = |name, usual: u16| {
        let side = fields.whole(name, 1..=LARGEST_SIDE)?;
        Ok::<_, Refused>(side.and_then(|side| u16::try_from(side).ok()).unwrap_or(usual))
    };
    let (cols, rows) = (side("cols", USUAL.cols)?, side("rows", USUAL.rows)?);
    let wish = Wish {
        profile: fields.text("profile")?.map(ToOwned::to_owned),
        lower: lower(fields)?,
        why: why(fields)?,
        labels: fields.words("labels", MOST_LABELS, LONGEST_LABEL)?,
        size: WindowSize { cols, rows, ..USUAL },
    };
    Ok((wish, runner.map(ToOwned::to_owned)))
}

/// The same on a runner.
fn on(wish: Wish, runner: String, fields: &Fields) -> Result<TerminalWish, Refused> {
    let Wish { profile, lower, why, labels, size } = wish;
    let cwd = fields.text("cwd")?.map(ToOwned::to_owned);
    Ok(TerminalWish { runner, cwd, profile, lower, why, labels, size })
}

fn lower(fields: &Fields) -> Result<Lower, Refused> {
    let Some(limits) = fields.object("limits")? else { return Ok(Lower::default()) };
    let known = ["max_runtime_seconds", "idle_timeout_seconds", "max_output_bytes"];
    limits.only(&[known.as_slice(), &["max_cost_micros"]].concat())?;
    // As in the configuration: no limit is no wish to have one.
    let some = |time: Option<Duration>| time.filter(|time| !time.is_zero());
    Ok(Lower {
        max_runtime: some(limits.seconds("max_runtime_seconds")?),
        idle_timeout: some(limits.seconds("idle_timeout_seconds")?),
        max_output: limits.whole("max_output_bytes", 0..=u64::MAX)?.filter(|bytes| *bytes > 0),
        max_cost: limits.whole("max_cost_micros", 0..=u64::MAX)?.filter(|cost| *cost > 0),
    })
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let line = refusal.to_string();
        let full = |limit, max: usize| Self::LimitReached {
            limit,
            max_sessions: u64::try_from(max).unwrap_or(u64::MAX),
            line: line.clone(),
        };
        match refusal {
            Refusal::GatewayFull { max, .. } => full("max_concurrent_sessions", max),
            Refusal::UserFull { max, .. } => full("max_sessions_per_user", max),
            Refusal::PotFull { max } => full("max_sessions", max),
            Refusal::UnknownProfile { .. } => Self::Invalid { field: "profile", why: line },
            Refusal::WhyRequired => Self::invalid("why", "this profile wants a reason"),
            Refusal::Account => Self::Forbidden("your account may not start a session any more"),
            Refusal::MayNotType => Self::Forbidden("you may look on, and no more"),
            Refusal::Sandbox { .. } | Refusal::Start(_) | Refusal::ShuttingDown => {
                Self::Runner(line)
            }
            Refusal::NobodysRunner => {
                Self::Forbidden("a runner is one user's: come with a token or a login of theirs")
            }
            Refusal::Runner(_) => Self::Invalid { field: "runner", why: line },
            Refusal::Harness(_) => Self::Invalid { field: "harness", why: line },
            Refusal::Invalid(field, _) => Self::Invalid { field, why: line },
            Refusal::RunnerFull { max, .. } => full("max_sessions_per_runner", max),
            Refusal::RunnerAway(_) => Self::Runner(line),
            Refusal::Resume(_) => Self::Conflict(line),
            Refusal::Audit => Self::Audit(line),
            Refusal::Store => Self::Store,
            Refusal::NoSession(_)
            | Refusal::TakenOver(_)
            | Refusal::Over
            | Refusal::NoTerminal
            | Refusal::Watchers(_)
            | Refusal::Listen(_)
            | Refusal::Channels(_) => Self::Conflict(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::fields;

    #[tokio::test]
    async fn what_is_wished_for_is_bounded() {
        let read = async |body: &str| terminal_wish(&fields(Some("application/json"), body).await?);
        let wish = read(
            r#"{"harness": "shell", "cols": 100, "labels": {"ticket": "42"}, "why": "to see",
                "limits": {"max_runtime_seconds": 1.5, "max_output_bytes": 9}}"#,
        );
        let (wish, runner) = wish.await.unwrap();
        assert_eq!(runner, None);
        assert_eq!((wish.size.cols, wish.size.rows), (100, 24));
        assert_eq!(wish.lower.max_output, Some(9));
        assert_eq!(wish.labels["ticket"], "42");
        for (field, body) in [
            ("harness", r#"{}"#),
            ("cwd", r#"{"harness": "shell", "cwd": "/tmp"}"#),
            ("cwd", r#"{"harness": "shell", "runner": "local", "cwd": "/tmp"}"#),
            ("prompt", r#"{"harness": "shell", "prompt": "hello"}"#),
            ("cols", r#"{"harness": "shell", "cols": 0}"#),
            ("rows", r#"{"harness": "shell", "rows": 1001}"#),
            ("rows", r#"{"harness": "shell", "rows": "24"}"#),
            ("labels", r#"{"harness": "shell", "labels": {"a": 1}}"#),
            ("labels", r#"{"harness": "shell", "labels": []}"#),
            ("limits", r#"{"harness": "shell", "limits": 7}"#),
            ("max_output_bytes", r#"{"harness": "shell", "limits": {"max_output_bytes": -1}}"#),
        ] {
            match read(body).await {
                Err(Refused::Invalid { field: found, .. }) => assert_eq!(found, field, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }
}
