//! `/api/users`: accounts, for admins.

mod change;
mod links;
mod logins;
mod tokens;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sojourn_core::authz::General;
use sojourn_core::authz::Role;
use sojourn_core::scope::Scope;
use sojourn_engine::identity::User;
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
use links::Link;

/// Who may use these routes.
const ADMINS: Access = Access::Role(Scope::Admin, General::ManageUsers);

/// An account, as admins see it.
#[derive(Serialize, ToSchema)]
struct Account {
    #[schema(format = "uuid")]
    id: String,
    name: String,
    /// `admin`, `member` or `auditor`.
    role: &'static str,
    /// Whether it can sign in by a password.
    has_password: bool,
    /// Whether the password was made by the program and is to be changed.
    must_change: bool,
    disabled: bool,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    password_changed_at: Option<String>,
    #[schema(format = "date-time")]
    disabled_at: Option<String>,
}

/// A page of accounts.
#[derive(Serialize, ToSchema)]
struct Accounts {
    items: Vec<Account>,
    /// Always none: there are no more than fit.
    next_cursor: Option<String>,
}

/// An account to be made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct NewAccount {
    name: String,
    /// `admin`, `member` (without this) or `auditor`.
    role: Option<String>,
    /// Without, a one-time link is made.
    password: Option<String>,
    /// False: no link either; the account comes in by its keys only.
    link: Option<bool>,
}

/// An account that was just made.
#[derive(Serialize, ToSchema)]
struct MadeAccount {
    #[serde(flatten)]
    #[schema(inline)]
    account: Account,
    /// Where its person sets a password.
    link: Option<Link>,
}

/// The routes of this directory.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get(
            "/api/users",
            ADMINS,
            Activity::Counts,
            list,
            Doc::of("listUsers", "All accounts, by name.").gives::<Accounts>(200, "They."),
        ),
        Route::post(
            "/api/users",
            ADMINS,
            Activity::Counts,
            create,
            Doc::of("createUser", "Makes an account, with a password or a one-time link.")
                .takes::<NewAccount>(Required::True)
                .gives::<MadeAccount>(201, "It is made.")
                .refuses(&[Code::Invalid, Code::Conflict, Code::ReauthRequired])
                .refuses(&[Code::AuditUnavailable]),
        )
        .creates(),
    ];
    routes.extend(change::routes());
    routes.extend(links::routes());
    routes.extend(logins::routes());
    routes.extend(tokens::routes());
    routes
}

/// `GET /api/users`
async fn list(State(gate): State<Gate>, _: Caller) -> Result<Json<Accounts>, Refused> {
    let users = gate.engine().accounts().list().await?;
    Ok(Json(Accounts { items: users.iter().map(shown).collect(), next_cursor: None }))
}

/// `POST /api/users`
async fn create(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<(StatusCode, Json<MadeAccount>), Refused> {
    proved_lately(&gate, &caller)?;
    fields.only(&["name", "role", "password", "link"])?;
    let name = fields.needed("name")?;
    let role = fields.text("role")?.map(parsed_role).transpose()?;
    let password = fields.text("password")?;
    let wants_link = fields.choice("link")?.unwrap_or(password.is_none());
    if wants_link && password.is_some() {
        return Err(Refused::invalid("link", "who has a password needs no link to set one"));
    }
    let accounts = gate.engine().accounts();
    accounts.add(name, role.unwrap_or(Role::Member), password, caller.actor()).await?;
    let link = match wants_link {
        true => Some(links::issue(&gate, &caller, name).await?),
        false => None,
    };
    let account = shown(&accounts.get(name).await?);
    Ok((StatusCode::CREATED, Json(MadeAccount { account, link })))
}

fn parsed_role(role: &str) -> Result<Role, Refused> {
    role.parse().map_err(|error| Refused::invalid("role", error))
}

/// A person has to have proved who they are a short while ago; programs and the local socket are what
/// they are.
pub(crate) fn proved_lately(gate: &Gate, caller: &Caller) -> Result<(), Refused> {
    match caller.who() {
        Who::Login(login) if !login.is_fresh(gate.logins().now()) => Err(Refused::ReauthRequired),
        Who::Login(_) | Who::Token(_) | Who::Local { .. } => Ok(()),
    }
}

fn shown(user: &User) -> Account {
    Account {
        id: user.id.to_string(),
        name: user.name.clone(),
        role: user.role.name(),
        has_password: user.password.is_some(),
        must_change: user.must_change,
        disabled: user.disabled_at.is_some(),
        created_at: user.created_at.to_rfc3339(),
        password_changed_at: user.password_changed_at.map(|at| at.to_rfc3339()),
        disabled_at: user.disabled_at.map(|at| at.to_rfc3339()),
    }
}
