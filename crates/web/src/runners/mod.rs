//! `/api/runners`: machines that dial in, and the tokens they come with.

mod connect;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sojourn_core::authz::General;
use sojourn_core::authz::may_in_general;
use sojourn_core::ids::RunnerId;
use sojourn_core::scope::Scope;
use sojourn_core::scope::Scopes;
use sojourn_core::wire::relay;
use sojourn_engine::listing::StoreUnavailable;
use sojourn_engine::remote::RunnerView;
use sojourn_engine::tokens::Wanted;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::ONLY_A_PERSON;
use crate::caller::Who;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Fields;
use crate::request::Typed;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;
use crate::users::proved_lately;

/// A runner.
#[derive(Serialize, ToSchema)]
struct Runner {
    #[schema(format = "uuid")]
    id: String,
    name: String,
    /// Whose it is.
    owner: String,
    connected: bool,
    /// Whether no new session may start there.
    paused: bool,
    #[schema(format = "date-time")]
    created_at: String,
    /// When it was last heard of, give or take a minute.
    #[schema(format = "date-time")]
    last_seen_at: Option<String>,
    /// From where it came last.
    address: Option<String>,
    /// Sessions that have a slot there.
    sessions: usize,
    /// The most it may have at the same time.
    max_sessions: usize,
    /// What it said of itself when it came last.
    about: Option<About>,
}

/// What a runner says of itself.
#[derive(Serialize, ToSchema)]
struct About {
    /// Its build.
    build: String,
    /// Its machine's name.
    host: String,
    /// `linux`, `macos`.
    os: String,
    /// `x86_64`, `aarch64`.
    arch: String,
    /// What it can run.
    harnesses: Vec<Harness>,
    /// Where sessions may work, and in whatever is below.
    directories: Vec<String>,
}

/// Something that a runner can run, or could.
#[derive(Serialize, ToSchema)]
struct Harness {
    name: String,
    /// Whether its program was found.
    available: bool,
    version: Option<String>,
    /// Why it is not available, and what to do.
    note: Option<String>,
}

/// All runners one may see.
#[derive(Serialize, ToSchema)]
struct Runners {
    items: Vec<Runner>,
    /// Always none: there are no more than fit.
    next_cursor: Option<String>,
}

/// A runner to be enrolled.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct NewRunner {
    /// A lower-case letter or digit, then up to 31 of a-z 0-9 _ . -
    name: String,
}

/// A runner that was just enrolled.
#[derive(Serialize, ToSchema)]
struct MadeRunner {
    #[schema(format = "uuid")]
    id: String,
    name: String,
    /// What `sojourn runner --token-file` reads; shown this once.
    token: String,
}

/// Whether new sessions may start on a runner.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct Pause {
    /// Whether none may start; `true` where it is left out.
    paused: Option<bool>,
}

/// The routes of this directory.
pub(crate) fn routes() -> Vec<Route> {
    let (read, sessions) = (Access::Scope(Scope::Read), Access::Scope(Scope::Sessions));
    vec![
        Route::get(
            "/api/runners",
            read,
            Activity::Counts,
            list,
            Doc::of("listRunners", "One's own runners; everybody's for admins.")
                .gives::<Runners>(200, "They, by owner and name."),
        ),
        Route::post(
            "/api/runners",
            Access::Fresh,
            Activity::Counts,
            enrol,
            Doc::of("createRunner", "Enrols a runner: makes its token, which is shown this once.")
                .takes::<NewRunner>(Required::True)
                .gives::<MadeRunner>(201, "It may come.")
                .refuses(&[Code::Invalid, Code::Conflict, Code::AuditUnavailable]),
        )
        .creates(),
        Route::delete(
            "/api/runners/{id}",
            sessions,
            Activity::Counts,
            remove,
            Doc::of("removeRunner", "Revokes a runner's token: it is disconnected for good.")
                .gives_nothing(204, "It may not come any more.")
                .refuses(&[Code::NotFound, Code::ReauthRequired]),
        ),
        Route::post(
            "/api/runners/{id}/pause",
            sessions,
            Activity::Counts,
            pause,
            Doc::of("pauseRunner", "Lets no new session start on a runner, or lets them again.")
                .takes::<Pause>(Required::False)
                .gives::<Runner>(200, "As it is now.")
                .refuses(&[Code::NotFound, Code::Invalid]),
        ),
        connect::route(),
    ]
}

/// `GET /api/runners`
async fn list(State(gate): State<Gate>, caller: Caller) -> Result<Json<Runners>, Refused> {
    let owner = if sees_all(&caller) { None } else { caller.user() };
    let runners = gate.engine().remote().list(owner).await.map_err(StoreUnavailable::from)?;
    Ok(Json(Runners { items: runners.iter().map(shown).collect(), next_cursor: None }))
}

/// `POST /api/runners`
async fn enrol(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<(StatusCode, Json<MadeRunner>), Refused> {
    gate.admit_in_general(&caller, General::StartSession)?;
    fields.only(&["name"])?;
    let name = fields.needed("name")?;
    let login = caller.login().ok_or(Refused::Forbidden(ONLY_A_PERSON))?;
    let wanted = Wanted {
        name: format!("runner {}", name.chars().take(40).collect::<String>()),
        scopes: Scopes::default(),
        expires_at: None,
        runner: Some(name.to_owned()),
    };
    let made = gate.engine().tokens().create(login.user(), wanted, &caller.actor()).await;
    let (secret, view) = made.map_err(|error| match Refused::from(error) {
        Refused::Invalid { why, .. } => Refused::invalid("name", why),
        other => other,
    })?;
    let id = RunnerId::from(view.id).to_string();
    let made = MadeRunner { id, name: name.to_owned(), token: secret.expose().to_owned() };
    Ok((StatusCode::CREATED, Json(made)))
}

/// `DELETE /api/runners/{id}`
async fn remove(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(typed): Typed<String>,
) -> Result<StatusCode, Refused> {
    match caller.who() {
        Who::Token(_) => return Err(Refused::Forbidden(ONLY_A_PERSON)),
        Who::Login(_) | Who::Local { .. } => proved_lately(&gate, &caller)?,
    }
    let runner = named(&gate, &caller, &typed).await?;
    gate.engine().revoke_token(runner.id.into(), None, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/runners/{id}/pause`
async fn pause(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(typed): Typed<String>,
    fields: Fields,
) -> Result<Json<Runner>, Refused> {
    fields.only(&["paused"])?;
    let paused = fields.choice("paused")?.unwrap_or(true);
    let runner = named(&gate, &caller, &typed).await?;
    let remote = gate.engine().remote();
    match remote.pause(runner.id, paused).await.map_err(StoreUnavailable::from)? {
        true => Ok(Json(shown(&RunnerView { paused, ..runner }))),
        false => Err(no_such_runner()),
    }
}

/// The runner that a path names, when the caller may have to do with it. Another's is answered as one
/// that never was.
async fn named(gate: &Gate, caller: &Caller, typed: &str) -> Result<RunnerView, Refused> {
    let id: RunnerId = typed.parse().map_err(|_| no_such_runner())?;
    let found = gate.engine().remote().get(id).await.map_err(StoreUnavailable::from)?;
    let theirs = found.filter(|found| caller.user() == Some(found.owner) || sees_all(caller));
    theirs.ok_or_else(no_such_runner)
}

/// Whether everybody's runners are their business: admins, and tokens of theirs for that.
fn sees_all(caller: &Caller) -> bool {
    let may = may_in_general(caller.asker(), General::KillSwitch).is_allowed();
    may && match caller.who() {
        Who::Token(token) => token.has(Scope::Admin),
        Who::Login(_) | Who::Local { .. } => true,
    }
}

fn no_such_runner() -> Refused {
    Refused::NotFound("there is no such runner".to_owned())
}

fn shown(runner: &RunnerView) -> Runner {
    Runner {
        id: runner.id.to_string(),
        name: runner.name.clone(),
        owner: runner.owner_name.clone(),
        connected: runner.connected,
        paused: runner.paused,
        created_at: runner.created_at.to_rfc3339(),
        last_seen_at: runner.seen_at.map(|at| at.to_rfc3339()),
        address: runner.seen_from.clone(),
        sessions: runner.sessions,
        max_sessions: runner.max_sessions,
        about: runner.hello.as_ref().map(about),
    }
}

fn about(hello: &relay::Hello) -> About {
    let harness = |harness: &relay::Harness| Harness {
        name: harness.name.clone(),
        available: harness.available,
        version: harness.version.clone(),
        note: harness.note.clone(),
    };
    About {
        build: hello.build.clone(),
        host: hello.machine.host.clone(),
        os: hello.machine.os.clone(),
        arch: hello.machine.arch.clone(),
        harnesses: hello.harnesses.iter().map(harness).collect(),
        directories: hello.directories.clone(),
    }
}
