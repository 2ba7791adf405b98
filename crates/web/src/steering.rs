//! What is done to one session from outside: interrupt, resume, answers to prompts; and its events. What
//! is for agents alone is refused to a terminal in a clear line.

use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use sojourn_core::authz::Deed;
use sojourn_core::ids::SessionId;
use sojourn_core::scope::Scope;
use sojourn_core::status::Status;
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
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

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
    items: Vec<Value>,
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
    answer: Option<String>,
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
            Doc::of("interruptSession", "Interrupts what runs in front, as Ctrl-C does.")
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
                .gives::<Done>(202, "It goes on.")
                .refuses(&one)
                .refuses(&[Code::UnsupportedMediaType]),
        ),
        Route::get(
            "/api/sessions/{id}/events",
            Access::Scope(Scope::Read),
            counts,
            events,
            Doc::of("listSessionEvents", "What an agent said and did; a terminal has none.")
                .query::<u64>("from", "The first that is wanted.")
                .gives::<Events>(200, "A page.")
                .refuses(&one)
                .refuses(&[Code::Invalid]),
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
                .refuses(&[Code::Gone, Code::Invalid]),
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
    let session = gate.admit(&caller, Deed::Drive, &typed).await?;
    gate.engine().interrupt(&caller.person(), session.id, None).await;
    Ok((StatusCode::ACCEPTED, Json(Done { id: session.id, status: session.status })))
}

/// `POST /api/sessions/{id}/resume`
async fn resume(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
    fields: Fields,
) -> Result<(StatusCode, Json<Done>), Refused> {
    fields.only(&[])?;
    let session = gate.admit(&caller, Deed::Drive, &typed).await?;
    let line = match session.status.is_over() {
        true => "a shell that has ended cannot be taken up again; start a new session",
        false => "the session goes on; attach to it",
    };
    Err(Refused::Conflict(line.to_owned()))
}

/// `GET /api/sessions/{id}/events`
async fn events(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
    asked: Asked,
) -> Result<Json<Events>, Refused> {
    let _from: Option<u64> = asked.parsed("from")?;
    gate.admit(&caller, Deed::Read, &typed).await?;
    Ok(Json(Events { items: Vec::new(), next_cursor: None }))
}

/// `POST /api/sessions/{id}/prompts/{request_id}`
async fn answer_prompt(
    State(gate): State<Gate>,
    caller: Caller,
    Path((typed, _request)): Path<(String, String)>,
    fields: Fields,
) -> Result<Json<Done>, Refused> {
    fields.only(&["input_hash", "allow", "remember", "reason", "answer"])?;
    let session = gate.admit(&caller, Deed::Drive, &typed).await?;
    match session.status.is_over() {
        true => Err(Refused::Gone("the session is over".to_owned())),
        false => Err(Refused::NotFound("this session has no such prompt".to_owned())),
    }
}
