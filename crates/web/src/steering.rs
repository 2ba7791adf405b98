//! What is done to one session from outside: interrupt, resume, answers to prompts; and its events. What
//! is for agents alone is refused to a terminal in a clear line.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::authz::Asker;
use sojourn_core::authz::Deed;
use sojourn_core::ids::SessionId;
use sojourn_core::scope::Scope;
use sojourn_core::status::Status;
use sojourn_core::wire::relay::RequestId;
use sojourn_engine::agents::AnswerError;
use sojourn_engine::agents::Reply;
use sojourn_engine::agents::event_view;
use sojourn_engine::records::SHELL;
use sojourn_engine::view::SessionView;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Asked;
use crate::request::Fields;
use crate::request::Named;
use crate::request::Typed;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// Events of one page, when nobody says how many, and the most.
const USUAL_PAGE: u32 = 200;
const MOST_EVENTS: u32 = 1000;

/// Something was done to a session.
#[derive(Serialize, ToSchema)]
struct Done {
    #[schema(value_type = String, format = "uuid")]
    id: SessionId,
    #[schema(value_type = String)]
    status: Status,
}

/// A page of an agent's events.
#[derive(Serialize, ToSchema)]
struct Events {
    /// Each `{seq, epoch, at, event}`.
    items: Vec<Value>,
    /// `from` of the next page; none: there are no more yet.
    next_cursor: Option<String>,
}

/// An answer to a prompt.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct PromptAnswer {
    /// The hash of what was shown.
    input_hash: String,
    /// Whether it may be.
    allow: bool,
    /// Whether the answer is remembered for the session.
    remember: Option<bool>,
    /// Why.
    reason: Option<String>,
    /// The answer to a question.
    #[schema(value_type = Option<Object>)]
    answer: Option<Value>,
}

/// The routes of this file.
pub(crate) fn routes() -> Vec<Route> {
    let one = [Code::NotFound, Code::Conflict];
    let (sessions, counts) = (Access::Scope(Scope::Sessions), Activity::Counts);
    vec![
        Route::post(
            "/api/sessions/{id}/interrupt",
            sessions,
            counts,
            interrupt,
            Doc::of(
                "interruptSession",
                "Interrupts what runs in front as Ctrl-C does, or an agent's turn.",
            )
            .gives::<Done>(202, "It is interrupted, or has ended.")
            .refuses(&one)
            .refuses(&[Code::UnsupportedMediaType]),
        ),
        Route::post(
            "/api/sessions/{id}/resume",
            sessions,
            counts,
            resume,
            Doc::of("resumeSession", "Takes up an agent's conversation again.")
                .gives::<Done>(202, "It goes on; a shell that is over stays over.")
                .refuses(&one)
                .refuses(&[
                    Code::UnsupportedMediaType,
                    Code::RateLimited,
                    Code::LimitReached,
                    Code::RunnerUnavailable,
                    Code::AuditUnavailable,
                    Code::StoreUnavailable,
                ]),
        ),
        Route::get(
            "/api/sessions/{id}/events",
            Access::Scope(Scope::Read),
            counts,
            events,
            Doc::of("listSessionEvents", "What an agent said and did; a terminal has none.")
                .query::<u64>("from", "The first that is wanted.")
                .query::<u32>("limit", "At most so many.")
                .gives::<Events>(200, "A page.")
                .refuses(&one)
                .refuses(&[Code::Gone, Code::Invalid, Code::AuditUnavailable]),
        ),
        Route::post(
            "/api/sessions/{id}/prompts/{request_id}",
            sessions,
            counts,
            answer_prompt,
            Doc::of("answerPrompt", "Answers what an agent asked.")
                .takes::<PromptAnswer>(Required::True)
                .gives::<Done>(200, "It is answered.")
                .refuses(&one)
                .refuses(&[Code::Gone, Code::Invalid])
                .refuses(&[Code::AuditUnavailable, Code::StoreUnavailable]),
        ),
    ]
}

/// `POST /api/sessions/{id}/interrupt`
async fn interrupt(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
    fields: Fields,
) -> Result<(StatusCode, Json<Done>), Refused> {
    fields.only(&[])?;
    let session = gate.admit(&caller, Deed::Interrupt, &typed).await?;
    let (engine, id) = (gate.engine(), session.id);
    let told = match session.harness == SHELL {
        true => engine.interrupt(&caller.person(), id, None).await,
        false => engine.agents().interrupt(&caller.person(), id),
    };
    // Nothing happens to what is over, or ends just now.
    let goes_on = engine.session(id).is_some_and(|session| session.goes_on());
    let line = match session.harness == SHELL {
        true => "nothing runs in a terminal there",
        false => "the agent cannot be reached",
    };
    let is_over = session.status.is_over() || session.status == Status::Ending;
    match told || is_over || (session.harness == SHELL && !goes_on) {
        true => Ok((StatusCode::ACCEPTED, Json(Done { id, status: session.status }))),
        false => Err(Refused::Conflict(line.to_owned())),
    }
}

/// `POST /api/sessions/{id}/resume`
async fn resume(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
    fields: Fields,
) -> Result<(StatusCode, Json<Done>), Refused> {
    fields.only(&[])?;
    let is_local = caller.asker() == Asker::Local;
    // Root is told what it is: it may see it, and resumes nobody's conversation.
    let deed = if is_local { Deed::Read } else { Deed::Drive };
    let session = gate.admit(&caller, deed, &typed).await?;
    if session.harness == SHELL {
        // Only agents' conversations are taken up again; nothing happens to a shell that is over.
        return match session.status.is_over() {
            true => {
                Ok((StatusCode::ACCEPTED, Json(Done { id: session.id, status: session.status })))
            }
            false => Err(Refused::Conflict("the session goes on; attach to it".to_owned())),
        };
    }
    if is_local {
        return Err(Refused::Forbidden(
            "only the owner of the runner takes up a conversation there; set SOJOURN_TOKEN to a \
             token of theirs",
        ));
    }
    let admitted = gate
        .engine()
        .rates()
        .start(caller.user(), Some(caller.client().address()), &caller.actor())
        .map_err(|refused| Refused::RateLimited { retry_after: refused.retry_after })?;
    match gate.engine().resume_agent(&caller.person(), session.id).await {
        Ok(()) => {
            drop(admitted);
            let done = Done { id: session.id, status: Status::Starting };
            Ok((StatusCode::ACCEPTED, Json(done)))
        }
        Err(refusal) => {
            admitted.give_back();
            Err(refusal.into())
        }
    }
}

/// `GET /api/sessions/{id}/events`
async fn events(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
    asked: Asked,
) -> Result<Json<Events>, Refused> {
    let from: u64 = asked.parsed("from")?.unwrap_or(1);
    let limit: u32 = asked.parsed("limit")?.unwrap_or(USUAL_PAGE);
    if !(1..=MOST_EVENTS).contains(&limit) {
        return Err(Refused::invalid("limit", format_args!("not from 1 to {MOST_EVENTS}")));
    }
    let session = gate.admit(&caller, Deed::Read, &typed).await?;
    note_reading(&gate, &caller, &session, from).await?;
    let events = gate.engine().agents().events(session.id, from, limit).await?;
    if let Some(gone) = session.recording_removed.as_ref().filter(|_| events.is_empty()) {
        let at = gone.at.to_rfc3339();
        return Err(Refused::Gone(format!("what was said was removed on {at}: {}", gone.why)));
    }
    let is_full = events.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = events.last().filter(|_| is_full).map(|last| (last.seq + 1).to_string());
    let items = events.iter().map(event_view).collect::<Result<_, _>>();
    let items = items.map_err(|error| {
        tracing::error!(session = %session.id, %error, "an event is no JSON");
        Refused::Bug
    })?;
    Ok(Json(Events { items, next_cursor: next }))
}

/// Puts on record that somebody opens another's conversation, before they have any of it.
async fn note_reading(
    gate: &Gate,
    caller: &Caller,
    session: &SessionView,
    from: u64,
) -> Result<(), Refused> {
    let is_own = session.user.is_some() && session.user.as_deref() == caller.name();
    // A terminal has no events.
    if is_own || session.harness == SHELL {
        return Ok(());
    }
    let (clock, person) = (gate.engine().clock(), caller.name().unwrap_or_default());
    if gate.readings().goes_on(person, session.id, clock.mono()) {
        return Ok(());
    }
    let event = Event::new(clock.wall(), Action::RecordingRead, caller.actor())
        .session(session.id)
        .detail("what", "events")
        .detail("from", from);
    // Root reads the file whether or not the log can be written.
    if let Err(error) = gate.engine().audit().record(event).await {
        tracing::warn!(session = %session.id, "events are read and that is not on record");
        if caller.user().is_some() {
            return Err(Refused::Audit(error.to_string()));
        }
    }
    gate.readings().opened(person, session.id, clock.mono());
    Ok(())
}

/// `POST /api/sessions/{id}/prompts/{request_id}`
async fn answer_prompt(
    State(gate): State<Gate>,
    caller: Caller,
    Typed((typed, request)): Typed<(String, String)>,
    fields: Fields,
) -> Result<Json<Done>, Refused> {
    fields.only(&["input_hash", "allow", "remember", "reason", "answer"])?;
    let reply = Reply {
        input_hash: fields.text("input_hash")?.map(ToOwned::to_owned),
        allow: fields.flag("allow")?,
        remember: fields.flag("remember")?,
        reason: fields.text("reason")?.map(ToOwned::to_owned),
        answer: fields.value("answer").cloned(),
    };
    let session = gate.admit(&caller, Deed::Drive, &typed).await?;
    if session.harness == SHELL && session.status.is_over() {
        return Err(Refused::Gone("the session is over".to_owned()));
    }
    let unknown = || Refused::NotFound("this session has no such prompt".to_owned());
    let request = RequestId(request.parse().map_err(|_| unknown())?);
    if fields.choice("allow")?.is_none() && reply.answer.is_none() {
        return Err(Refused::invalid("allow", "say whether it may be"));
    }
    // An answer to a question says yes by itself.
    let allow = fields.choice("allow")?.unwrap_or(reply.answer.is_some());
    let reply = Reply { allow, ..reply };
    let agents = gate.engine().agents();
    agents.answer(&caller.person(), session.id, request, &reply).await?;
    Ok(Json(Done { id: session.id, status: session.status }))
}

impl From<AnswerError> for Refused {
    fn from(error: AnswerError) -> Self {
        let line = error.to_string();
        match error {
            AnswerError::Unknown | AnswerError::NoPrompt => Self::NotFound(line),
            AnswerError::Forbidden => {
                Self::Forbidden("only the owner of the runner answers what an agent asks there")
            }
            AnswerError::Answered { by, decision } => Self::Answered { by, decision },
            AnswerError::Gone(_) => Self::Gone(line),
            AnswerError::Invalid(field, why) => Self::invalid(field, why),
            AnswerError::Audit => Self::Audit(line),
            AnswerError::Store => Self::Store,
        }
    }
}
